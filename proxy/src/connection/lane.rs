//! lane: a connection that speaks `sekisho/1` begins a stream, or joins one that is there.

use std::{sync::Arc, time::Duration};

use sekisho_certs::Reason;
use sekisho_lanes::frame::Purpose;
use sekisho_record::Alert;

use super::{
    Refusal,
    way::{At, Way},
};
use crate::{
    handshake::alert,
    lanes::{
        self, Admitted, Arrival, Lanes, NO_NAME,
        open::{self, OpenError, Opening},
        streams::JoinError,
    },
    path,
    peer::Peers,
    stream::Stream,
    wire::Wire,
};

impl Way<'_> {
    /// Reads what the lane is for, which has `time`, once its peer has its permit. `None`: it was
    /// brought to its stream.
    pub(super) async fn lane(
        &self,
        at: &mut At,
        mut wire: Wire,
        peers: &Peers,
        time: Duration,
    ) -> Result<Option<Box<Lanes>>, Refusal> {
        let opened = tokio::time::timeout(time, open::read(&mut wire)).await;
        let (opening, rest) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                let reason = error.reason();
                if matches!(error, OpenError::Io(_)) {
                    wire.transport.abort_on_close();
                } else {
                    alert::deny(Stream::Wire(wire), reason).await;
                }
                return Err(Refusal::new(reason, error));
            }
            Err(_) => {
                alert::tell(Stream::Wire(wire), Alert::ACCESS_DENIED).await;
                let detail = "no OPEN came on a lane in time";
                return Err(Refusal::new(Reason::HandshakeTimeout, detail));
            }
        };
        match self.place(at, &opening, peers) {
            Ok(Placed::First(registered, place)) => {
                let peer = peers.client.verified().cloned();
                let memory = &at.memory;
                let lanes = peer.map(|peer| {
                    Box::new(Lanes::accepted(wire, rest, peer, place, registered, memory))
                });
                // Lanes are mTLS, so there is a peer.
                lanes.map(Some).ok_or_else(|| {
                    Refusal::new(Reason::NoCertificate, "a lane without a verified peer")
                })
            }
            Ok(Placed::Further(arrival, most)) => self
                .bring(at, wire, rest, peers, (arrival, most))
                .await
                .map(|()| None),
            Err(error) => {
                // All are answered alike: a peer does not learn which streams there are.
                alert::deny(Stream::Wire(wire), Reason::NotAccepted).await;
                Err(Refusal::new(error.reason(), error))
            }
        }
    }

    fn place(&self, at: &At, opening: &Opening, peers: &Peers) -> Result<Placed, JoinError> {
        let spec = &at.snapshot.spec;
        let streams = &self.shared.streams;
        let peer = peers.client.id().ok_or(JoinError::Unknown)?;
        // As the handshake chose the endpoint.
        if opening.endpoint != self.facts.sni.as_deref().unwrap_or(NO_NAME) {
            return Err(JoinError::Endpoint);
        }
        let limit = spec.limits.lanes;
        let most = lanes::most_of_listen(spec).unwrap_or(1).min(opening.lanes);
        match opening.purpose {
            Purpose::New => {
                let entered = streams.enter(opening.stream, &spec.name, peer, most);
                entered.map(|(registered, place)| Placed::First(registered, place))
            }
            Purpose::Join => {
                let most = spec.limits.connections;
                let place = at.place.as_ref();
                if place.is_some_and(|place| !place.leaves_a_quarter_of(most)) {
                    return Err(JoinError::Connections(most));
                }
                let joined = streams.join(opening.stream, &spec.name, peer, limit);
                joined.map(|(place, sender, most)| Placed::Further((place, sender), most))
            }
        }
    }

    /// Answers a lane that joins, and brings it to its stream, wherever that is.
    async fn bring(
        &self,
        at: &mut At,
        mut wire: Wire,
        rest: Vec<u8>,
        peers: &Peers,
        ((place, sender), most): (Further, u8),
    ) -> Result<(), Refusal> {
        let lost = |error: &dyn std::fmt::Display| {
            Refusal::new(
                Reason::TlsFailed,
                format!("a lane was lost before it began: {error}"),
            )
        };
        let mut path = wire.transport.look_at_path();
        let side = at.snapshot.spec.listening();
        path::side(&wire.transport, &side.socket, &side.path, &mut path);
        let mut word = Vec::new();
        sekisho_lanes::Frame::Accept { lanes: most }.encode(&mut word);
        wire.send(&word).await.map_err(|error| lost(&error))?;
        let peer = peers.client.verified().cloned();
        let peer = peer.ok_or_else(|| lost(&"it has no verified peer"))?;
        let admitted = Admitted {
            peer,
            place: Some(place),
            path,
            facts: Some(self.facts.clone()),
            connection: at.place.take(),
        };
        let arrival = Arrival {
            wire: wire.detach().map_err(|error| lost(&error))?,
            rest,
            admitted,
        };
        // A stream that has ended meanwhile takes none.
        sender
            .send(arrival)
            .await
            .map_err(|_| lost(&"its stream is over"))
    }
}

/// What an opening comes to.
enum Placed {
    First(lanes::streams::Registered, lanes::streams::Place),
    Further(Further, u8),
}

/// A lane's place, and where it is to be brought.
type Further = (lanes::streams::Place, tokio::sync::mpsc::Sender<Arrival>);

impl JoinError {
    const fn reason(&self) -> Reason {
        if self.is_limit() {
            Reason::Limit
        } else {
            Reason::NotAccepted
        }
    }
}

impl OpenError {
    const fn reason(&self) -> Reason {
        match self {
            Self::Io(_) => Reason::TlsFailed,
            Self::Frame(_) | Self::Other => Reason::BadFrame,
        }
    }
}

/// The dialling side's first lane.
pub(super) fn begin(
    wire: Wire,
    peer: sekisho_certs::VerifiedPeer,
    dialler: lanes::dial::Dialler,
    count: sekisho_lanes::Count,
    memory: &Arc<crate::held::Memory>,
) -> Stream {
    Stream::Lanes(Box::new(Lanes::dialled(wire, peer, dialler, count, memory)))
}
