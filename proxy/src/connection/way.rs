//! accept → handshake → peer → permit → upstream → permit → relay.

use std::{net::SocketAddr, sync::Arc};

use sekisho_certs::{IdList, Material, Reason, VerifyError};
use tokio::sync::watch;

use super::Refusal;
use crate::{
    Shared,
    accept::Table,
    connect,
    endpoint::{
        Endpoint, Place, Snapshot,
        spec::{Forward, Listen, SiteService},
    },
    error::{HandshakeError, LocalError},
    handshake::{self, Hello, Layer, alert, gate::Handshaking},
    held::Memory,
    lanes,
    live::Live,
    local::LocalUsers,
    path,
    peer::{Client, Peers},
    permit::{Facts, Permit},
    proxy_protocol,
    stream::Stream,
    transport::Transport,
};

/// A connection that may relay.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) decided: Decided,
    pub(super) client: Stream,
    pub(super) upstream: Stream,
}

/// What it is beside its sockets.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) at: At,
    pub(super) facts: Facts,
    pub(super) peers: Peers,
    pub(super) permit: Permit,
    pub(super) _held: crate::upstream::Held,
}

/// What the stages of one connection share.
pub(super) struct Way<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) live: &'a Live,
    pub(super) facts: Facts,
    /// What the client has asked for, where it asks by CONNECT.
    pub(super) wanted: Option<SiteService>,
}

/// The endpoint a connection is for: its place there, and what holds.
#[derive(Debug)]
pub(super) struct At {
    pub(super) memory: Arc<Memory>,
    pub(super) changes: watch::Receiver<Option<Arc<Snapshot>>>,
    pub(super) snapshot: Arc<Snapshot>,
    /// `None`: a lane has it, and with it goes on where its stream is.
    pub(super) place: Option<Place>,
}

impl At {
    /// Takes over what holds now.
    ///
    /// # Errors
    /// When the endpoint is gone.
    pub(super) fn refresh(&mut self) -> Result<(), Refusal> {
        match self.changes.borrow_and_update().clone() {
            Some(snapshot) => {
                self.snapshot = snapshot;
                Ok(())
            }
            None => Err(Refusal::new(Reason::Drained, "the endpoint was removed")),
        }
    }
}

/// Decides, for the first time or again, and notes the policy that did.
pub(super) fn decide(
    live: &Live,
    snapshot: &Snapshot,
    facts: &mut Facts,
    peers: &Peers,
) -> Result<Permit, Refusal> {
    let permit = Permit::renew(snapshot, facts, peers).map_err(Refusal::denied)?;
    live.details().policy_revision = permit.policy_revision().cloned();
    Ok(permit)
}

impl<'a> Way<'a> {
    pub(super) fn new(
        shared: &'a Arc<Shared>,
        live: &'a Live,
        source: Option<SocketAddr>,
        destination: Option<SocketAddr>,
    ) -> Self {
        Self {
            shared,
            live,
            facts: Facts {
                source,
                destination,
                ..Facts::default()
            },
            wanted: None,
        }
    }

    /// From here on the connection is one of `endpoint`'s, and hears of every change.
    fn enter(&self, endpoint: &Arc<Endpoint>) -> Result<At, Refusal> {
        let mut details = self.live.details();
        details.endpoint = Some(endpoint.name().to_owned());
        let mut changes = endpoint.subscribe();
        let snapshot = changes
            .borrow_and_update()
            .clone()
            .ok_or_else(|| Refusal::new(Reason::Drained, "the endpoint was removed"))?;
        details.direction = Some(match snapshot.spec.direction() {
            sekisho_policy::Direction::Inbound => "inbound",
            sekisho_policy::Direction::Outbound => "outbound",
        });
        let own = snapshot.material.latest_svid();
        details.own_id = own.map(|svid| svid.id().to_string());
        let memory = endpoint.memory();
        if memory.refuses() {
            let (held, most) = (memory.held(), memory.most());
            let detail = format!(
                "connections hold {held} bytes here for slow receivers and lanes, and all together {most} (`buffers`)"
            );
            return Err(Refusal::new(Reason::Limit, detail));
        }
        let limit = snapshot.spec.limits.connections;
        let place = endpoint.enter(limit).ok_or_else(|| {
            let detail = format!("{limit} connections are open (`limits.connections`)");
            Refusal::new(Reason::Limit, detail)
        })?;
        Ok(At {
            memory: Arc::clone(memory),
            changes,
            snapshot,
            place: Some(place),
        })
    }

    async fn claims(&mut self, table: &Table, transport: &mut Transport) -> Result<(), Refusal> {
        let Some(source) = self.facts.source else {
            return Ok(());
        };
        if !table.expects_header(source.ip()) {
            return Ok(());
        }
        let refuse =
            |detail: &dyn ToString| Refusal::new(Reason::ProxyProtocol, detail.to_string());
        match tokio::time::timeout(table.handshake_time, proxy_protocol::read(transport)).await {
            Ok(Ok(claimed)) => {
                self.facts.claimed = claimed;
                Ok(())
            }
            Ok(Err(error)) => Err(refuse(&error)),
            Err(_) => Err(refuse(&"no PROXY header in time")),
        }
    }

    /// The receiving side: nothing is dialled before the permit.
    ///
    /// `None`: it has become a lane of a stream that was there.
    pub(super) async fn inbound(
        mut self,
        table: &Table,
        mut transport: Transport,
        handshaking: Handshaking,
    ) -> Result<Option<Box<Established>>, Refusal> {
        self.claims(table, &mut transport).await?;
        let failed = |error| Refusal::handshake(&error);
        let hello = handshake::read_hello(transport, table.handshake_time)
            .await
            .map_err(failed)?;
        self.facts.sni.clone_from(&hello.server_name);
        self.live.details().sni.clone_from(&hello.server_name);
        let Some(endpoint) = table.choose(hello.server_name.as_deref()) else {
            let name = hello
                .server_name
                .clone()
                .unwrap_or_else(|| "no name".into());
            hello.refuse(handshake::UNRECOGNIZED_NAME).await;
            // Counted for no endpoint: none was meant.
            self.live.details().endpoint = Some(crate::metrics::NO_ENDPOINT.to_owned());
            return Err(failed(HandshakeError::UnknownName(name)));
        };
        let mut at = match self.enter(endpoint) {
            Ok(at) => at,
            Err(refusal) => {
                hello.refuse(handshake::INTERNAL_ERROR).await;
                return Err(refusal);
            }
        };
        let side = at.snapshot.spec.listening();
        if side != *table.side() {
            hello.set_socket(&side);
        }
        let now = self.shared.context.clock.now();
        let lanes = hello.offers_lanes && lanes::most_of_listen(&at.snapshot.spec).is_some();
        let config = match at.snapshot.material.server(now) {
            Ok(config) if lanes => Hello::with_lanes(config),
            Ok(config) => Arc::clone(config),
            Err(not_ready) => {
                hello.refuse(handshake::INTERNAL_ERROR).await;
                return Err(failed(not_ready.into()));
            }
        };
        // What reading the ClientHello took is part of it.
        let time = at.snapshot.spec.timeouts.handshake;
        let left = time.saturating_sub(self.live.counters.age());
        let layer = self.layer(&at);
        let material = &at.snapshot.material;
        let secured = hello
            .accept(config, left, &layer)
            .await
            .map_err(|error| match error {
                HandshakeError::Timeout(_) => failed(HandshakeError::Timeout(time)),
                other => {
                    if let Listen::Mtls { accept, .. } = &at.snapshot.spec.listen {
                        self.want(material, accept, &other);
                    }
                    failed(other)
                }
            })?;
        let handshake::Secured { stream, chain } = secured;
        let now = self.shared.context.clock.now();
        let peer = match handshake::peer(&chain, material, now) {
            Ok(peer) => peer,
            Err(error) => {
                if stream.tls().is_some_and(|tls| tls.resumed) {
                    material.forget_sessions();
                }
                alert::tell(stream, alert::CERTIFICATE_UNKNOWN).await;
                return Err(failed(error));
            }
        };
        drop(chain);
        handshaking.succeeded();
        self.shared.metrics.handshake_done(self.live.counters.age());
        self.facts.trust_revision = material.trust_revision();
        let peers = Peers {
            client: Client::Workload(peer),
            upstream: None,
        };
        {
            let mut details = self.live.details();
            details.tls = stream.tls();
            if details.tls.as_ref().is_some_and(|tls| tls.resumed) {
                self.shared.metrics.session_resumed();
            }
            details.set_client(&peers.client);
        }
        // What changed during the handshake counts.
        let permit = at
            .refresh()
            .and_then(|()| self.decide(&at.snapshot, &peers));
        let permit = match permit {
            Ok(permit) => permit,
            Err(refusal) => {
                alert::deny(stream, refusal.reason).await;
                return Err(refusal);
            }
        };
        let stream = match stream {
            Stream::Wire(wire) if wire.speaks_lanes() => {
                let left = time.saturating_sub(self.live.counters.age());
                match self.lane(&mut at, wire, &peers, left).await? {
                    Some(lanes) => Stream::Lanes(lanes),
                    None => return Ok(None),
                }
            }
            other => other,
        };
        self.onward(at, stream, peers, Some(permit)).await.map(Some)
    }

    /// The sending side: may dial before the permit, and moves no byte before it.
    pub(super) async fn outbound(
        mut self,
        table: &Table,
        mut transport: Transport,
    ) -> Result<Box<Established>, Refusal> {
        let Some(endpoint) = table.likely() else {
            return Err(Refusal::new(Reason::Drained, "the endpoint was removed"));
        };
        let at = self.enter(endpoint)?;
        self.claims(table, &mut transport).await?;
        if let Listen::Connect { .. } = at.snapshot.spec.listen {
            return self.requested(at, transport).await;
        }
        let client = match self.client(&at.snapshot, &transport).await {
            Ok(client) => client,
            Err(error) => {
                transport.abort_on_close();
                return Err(Refusal::new(error.reason(), error));
            }
        };
        self.live.details().set_client(&client);
        let peers = Peers {
            client,
            upstream: None,
        };
        self.facts.trust_revision = at.snapshot.material.trust_revision();
        let checked = match &at.snapshot.spec.forward {
            Forward::Plain { .. } => self.decide(&at.snapshot, &peers).map(Some),
            // Who answers is for the permit to know, but nobody else's process makes us dial.
            Forward::Mtls { .. } => Permit::may_dial(&at.snapshot, &peers)
                .map(|()| None)
                .map_err(Refusal::denied),
        };
        match checked {
            Ok(permit) => {
                let stream = Stream::plain(transport, &at.memory);
                self.onward(at, stream, peers, permit).await
            }
            Err(refusal) => {
                transport.abort_on_close();
                Err(refusal)
            }
        }
    }

    pub(super) async fn client(
        &self,
        snapshot: &Snapshot,
        transport: &Transport,
    ) -> Result<Client, LocalError> {
        let users = &self.shared.users;
        match (transport, self.facts.source, self.facts.destination) {
            (Transport::Unix(stream), ..) => {
                let user = users.of_unix(stream).await.map_err(LocalError::Unknown)?;
                Ok(Client::Local(user))
            }
            (Transport::Tcp(_), Some(source), Some(own)) => {
                // Loopback or not: a process of this host that comes by another of its addresses
                // is one of this host.
                match users.of_tcp(source, own).await {
                    Ok(user) => return Ok(Client::Local(user)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(LocalError::Unknown(error)),
                }
                let ip = source.ip().to_canonical();
                if LocalUsers::is_own_address(ip) {
                    return Ok(Client::Unknown);
                }
                match &snapshot.spec.listen {
                    Listen::Tcp { from, .. } if from.iter().any(|net| net.contains(&ip)) => {
                        Ok(Client::Remote)
                    }
                    _ => Err(LocalError::Source(ip)),
                }
            }
            (Transport::Tcp(_), ..) => {
                Err(LocalError::Unknown(std::io::ErrorKind::NotConnected.into()))
            }
        }
    }

    fn decide(&mut self, snapshot: &Snapshot, peers: &Peers) -> Result<Permit, Refusal> {
        decide(self.live, snapshot, &mut self.facts, peers)
    }

    /// A peer whose site is not known was refused: the site is asked for, where `list` could let
    /// such a peer in, and its next try may succeed.
    pub(super) fn want(&self, material: &Material, list: &IdList, error: &HandshakeError) {
        if let HandshakeError::Verify(VerifyError::UnknownTrustDomain { id }) = error {
            material.want(list, id.trust_domain());
        }
    }

    /// Who protects the records of this endpoint's connections.
    pub(super) fn layer(&self, at: &At) -> Layer {
        Layer {
            backend: at.snapshot.spec.record_backend(self.shared.aead.chosen),
            limits: self.shared.limits,
            memory: Arc::clone(&at.memory),
        }
    }

    /// Dials, decides once more where somebody answered who can be verified, and relays.
    pub(super) async fn onward(
        mut self,
        mut at: At,
        mut client: Stream,
        mut peers: Peers,
        permit: Option<Permit>,
    ) -> Result<Box<Established>, Refusal> {
        let (upstream, held) = match self.dial(&at, &mut peers).await {
            Ok(dialled) => dialled,
            Err(refusal) => {
                self.turn_away(client, &refusal).await;
                return Err(refusal);
            }
        };
        let unchanged = !at.changes.has_changed().unwrap_or(true);
        let permit = match permit {
            // Nobody who answered can be verified, and nothing changed: it stands.
            Some(permit) if unchanged && upstream.is_plain() => Ok(permit),
            _ => at
                .refresh()
                .and_then(|()| self.decide(&at.snapshot, &peers)),
        };
        match permit {
            Ok(permit) => {
                if self.wanted.is_some() {
                    connect::accept(&mut client).await;
                }
                let spec = &at.snapshot.spec;
                path::open(spec, self.live, &client, &upstream);
                Ok(Box::new(Established {
                    decided: Decided {
                        at,
                        facts: self.facts,
                        peers,
                        permit,
                        _held: held,
                    },
                    client,
                    upstream,
                }))
            }
            Err(refusal) => {
                let reason = refusal.reason;
                tokio::join!(self.deny(client, &refusal), alert::deny(upstream, reason));
                Err(refusal)
            }
        }
    }

    /// Ends a client whose way led nowhere.
    async fn turn_away(&self, client: Stream, refusal: &Refusal) {
        if self.wanted.is_some() || matches!(client, Stream::Lanes(_)) {
            self.deny(client, refusal).await;
        } else {
            client.abort_on_close();
        }
    }

    /// Tells a client why, as its side knows it: by HTTP, by an alert, by a reset.
    async fn deny(&self, client: Stream, refusal: &Refusal) {
        match client {
            Stream::Wire(wire) if self.wanted.is_some() => {
                let status = connect::status(refusal.reason);
                connect::refuse(wire.transport, status, refusal.reason).await;
            }
            other => alert::deny(other, refusal.reason).await,
        }
    }
}
