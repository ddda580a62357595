//! Further lanes, at the side that dialled: each a connection of its own to certificates, lists and
//! policy.

use std::{fmt, net::SocketAddr, sync::Arc};

use sekisho_certs::SpiffeId;
use sekisho_lanes::{Frame, StreamId, frame::Purpose};
use tokio::sync::watch;

use super::{Admitted, Arrival, Dialled, NO_NAME, open};
use crate::{
    Shared,
    endpoint::{Snapshot, spec::Forward},
    handshake::{self, Layer},
    path,
    peer::{Answerer, Client, Peers},
    permit::{Facts, Permit},
    stream::Stream,
    transport::Transport,
    upstream,
};

/// What the lanes of one stream have in common.
pub(crate) struct Dialler {
    pub(crate) shared: Arc<Shared>,
    pub(crate) changes: watch::Receiver<Option<Arc<Snapshot>>>,
    pub(crate) layer: Layer,
    /// Where the first one goes: another address of the same name may be another proxy.
    pub(crate) address: SocketAddr,
    pub(crate) server_name: Option<String>,
    /// The target, as in the file.
    pub(crate) target: String,
    /// Who came, as the permit knows it.
    pub(crate) client: Client,
    pub(crate) facts: Facts,
    /// Who answered on the first one.
    pub(crate) peer: SpiffeId,
    pub(crate) stream: StreamId,
    /// Most lanes that the stream may have here.
    pub(crate) most: u8,
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialler")
            .field("stream", &self.stream)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Dialler {
    pub(super) const fn stream(&self) -> StreamId {
        self.stream
    }

    /// Appends the frame that opens a lane.
    pub(super) fn open(&self, purpose: Purpose, out: &mut Vec<u8>) {
        let name = self.server_name.as_deref().map(str::to_ascii_lowercase);
        Frame::Open {
            stream: self.stream,
            purpose,
            lanes: self.most,
            endpoint: name.as_deref().unwrap_or(NO_NAME),
        }
        .encode(out);
    }

    /// Opens one more lane.
    pub(super) async fn dial(&self) -> Dialled {
        match self.attempt().await {
            Ok(dialled) => dialled,
            Err(why) => Dialled::Failed(why),
        }
    }

    async fn attempt(&self) -> Result<Dialled, String> {
        let refused = |why: &str| Err(why.to_owned());
        // What holds now: a rotated SVID, another list.
        let Some(snapshot) = self.changes.borrow().clone() else {
            return refused("the endpoint was removed");
        };
        let Snapshot { spec, material, .. } = &*snapshot;
        let Forward::Mtls { expect, .. } = &spec.forward else {
            return refused("the forwarding side changed its kind");
        };
        if !expect.contains_among(&self.peer, material.members()) {
            return refused("its peer is not expected any more");
        }
        let text = |error: &dyn fmt::Display| error.to_string();
        let side = spec.forwarding();
        let connect = upstream::redial(self.address, &side);
        let connected = tokio::time::timeout(spec.timeouts.connect, connect).await;
        let stream = connected.map_err(|late| text(&late))?;
        let stream = stream.map_err(|error| text(&error))?;
        let config = material.client_expecting(&self.peer);
        let config = config.map_err(|error| text(&error))?;
        let time = spec.timeouts.handshake;
        let secured = handshake::connect(
            Transport::Tcp(stream),
            self.server_name.as_deref(),
            handshake::with_lanes(&config),
            time,
            &self.layer,
        )
        .await
        .map_err(|error| text(&error))?;
        let handshake::Secured { stream, chain } = secured;
        let now = self.shared.context.clock.now();
        let peer = handshake::peer(&chain, material, now).map_err(|error| text(&error))?;
        if *peer.id() != self.peer {
            return refused("somebody else answered");
        }
        let mut facts = self.facts.clone();
        facts.trust_revision = material.trust_revision();
        let peers = Peers {
            client: self.client.clone(),
            upstream: Some(Answerer {
                target: self.target.clone(),
                verified: Some(peer.clone()),
            }),
        };
        if let Err(denied) = Permit::decide(&snapshot, &facts, &peers) {
            return Err(denied.detail);
        }
        let Stream::Wire(mut wire) = stream else {
            return refused("its records are rustls'");
        };
        if !wire.speaks_lanes() {
            return refused("another proxy answered, or it speaks no sekisho/1 any more");
        }
        let mut path = wire.transport.look_at_path();
        path::side(&wire.transport, &side.socket, &side.path, &mut path);
        let mut word = Vec::new();
        self.open(Purpose::Join, &mut word);
        let asked = async {
            wire.send(&word).await?;
            open::answer(&mut wire).await
        };
        let answer = tokio::time::timeout(time, asked).await;
        let answer = answer.map_err(|late| text(&late))?;
        let (answer, rest) = answer.map_err(|error| text(&error))?;
        match answer {
            Ok(most) => {
                let wire = wire.detach().map_err(|error| text(&error))?;
                let admitted = Admitted {
                    peer,
                    place: None,
                    path,
                    facts: None,
                    connection: None,
                };
                let arrival = Arrival {
                    wire,
                    rest,
                    admitted,
                };
                Ok(Dialled::Lane(Box::new(arrival), most))
            }
            Err(reason) => Ok(Dialled::Denied(reason)),
        }
    }
}
