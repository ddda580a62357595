//! upstream: a target, and where it has one, its TLS and who it is.

use std::sync::Arc;

use sekisho_certs::{Reason, VerifyError};
use tokio::io::AsyncWriteExt as _;

use super::{
    Refusal, lane,
    way::{At, Way},
};
use crate::{
    endpoint::{Snapshot, spec::Forward},
    error::HandshakeError,
    handshake::{self, alert},
    lanes::{self, dial::Dialler},
    peer::{Answerer, Peers},
    proxy_protocol,
    stream::Stream,
};

impl Way<'_> {
    /// Dials. Where a session was resumed whose peer does not verify any more, once more, with a
    /// full handshake: it may have another SVID by now.
    pub(super) async fn dial(
        &mut self,
        at: &At,
        peers: &mut Peers,
    ) -> Result<(Stream, crate::upstream::Held), Refusal> {
        match self.dial_once(at, peers).await? {
            Some(dialled) => Ok(dialled),
            None => match self.dial_once(at, peers).await? {
                Some(dialled) => Ok(dialled),
                // The one reason does not keep the other from being the next.
                None => self.dial_once(at, peers).await?.ok_or_else(|| {
                    let detail = "a session was resumed that was forgotten";
                    Refusal::new(Reason::TlsFailed, detail)
                }),
            },
        }
    }

    /// `None`: a session was resumed in vain, and all were forgotten; or the target is a stock one that
    /// does not even bear to be offered `sekisho/1`, which is known now.
    async fn dial_once(
        &mut self,
        at: &At,
        peers: &mut Peers,
    ) -> Result<Option<(Stream, crate::upstream::Held)>, Refusal> {
        let Snapshot {
            spec,
            material,
            upstream,
            ..
        } = &*at.snapshot;
        let upstream = match &self.wanted {
            Some(service) => &upstream.of_service(spec, service, material.members()),
            None => upstream,
        };
        if let Forward::Mtls { expect, .. } = &spec.forward {
            for service in upstream.missing() {
                material.want(expect, &service.domain);
            }
        }
        let connected = upstream
            .connect(spec.timeouts.connect)
            .await
            .map_err(|error| Refusal::new(error.reason(), error))?;
        let crate::upstream::Connected {
            mut transport,
            target,
            address,
            server_name,
            expected,
            path,
            far,
            held,
        } = connected;
        {
            let mut details = self.live.details();
            details.upstream = Some(address.clone());
            details.forward_path = path;
        }
        if let Some(far) = far.filter(|far| !far.suffices()) {
            tracing::debug!(
                upstream = address,
                round_trip = ?far.round_trip,
                window = far.window,
                "a long path, and windows here are too small for it"
            );
        }
        match &spec.forward {
            Forward::Plain { .. } => {
                if spec.proxy_protocol.send {
                    let id = peers.client.id();
                    let header =
                        proxy_protocol::header(self.facts.source, self.facts.destination, id);
                    let unreachable = |detail: &dyn ToString| {
                        Refusal::new(Reason::UpstreamUnreachable, detail.to_string())
                    };
                    let header =
                        header.ok_or_else(|| unreachable(&"the PROXY header cannot be built"))?;
                    transport
                        .write_all(&header)
                        .await
                        .map_err(|error| unreachable(&error))?;
                }
                // Known to be unverified: a configuration that comes to expect somebody must not
                // take this for a connection that has not been dialled.
                peers.upstream = Some(Answerer {
                    target,
                    verified: None,
                });
                Ok(Some((Stream::plain(transport, &at.memory), held)))
            }
            Forward::Mtls { expect, .. } => {
                let failed = |error: HandshakeError| {
                    self.want(material, expect, &error);
                    let detail = format!("{address}: {error}");
                    Refusal {
                        detail,
                        ..Refusal::handshake(&error)
                    }
                };
                let clock = &self.shared.context.clock;
                let config = match &expected {
                    // Whom the list does not let answer is not asked.
                    Some(id) if !expect.contains_among(id, material.members()) => {
                        let id = id.clone();
                        return Err(failed(VerifyError::NotExpected { id }.into()));
                    }
                    Some(id) => material.client_expecting(id),
                    None => material.client(clock.now()).cloned(),
                };
                let mut config = config.map_err(|error| failed(error.into()))?;
                let layer = self.layer(at);
                let peer_address = transport.peer_address();
                let own = layer.backend.is_some() && !held.is_stock();
                let wanted = peer_address.filter(|_| own);
                let wanted = wanted.zip(lanes::wanted(spec, far));
                if wanted.is_some() {
                    config = handshake::with_lanes(&config);
                }
                let secured = handshake::connect(
                    transport,
                    server_name.as_deref(),
                    config,
                    spec.timeouts.handshake,
                    &layer,
                )
                .await;
                let secured = match secured {
                    Err(HandshakeError::Alert(alert))
                        if wanted.is_some() && alert == handshake::NO_APPLICATION_PROTOCOL =>
                    {
                        // A stock peer that insists on a protocol of its own, if any is offered.
                        held.set_stock();
                        return Ok(None);
                    }
                    secured => secured.map_err(failed)?,
                };
                let handshake::Secured { stream, chain } = secured;
                let peer = match handshake::peer(&chain, material, clock.now()) {
                    Ok(peer) => peer,
                    Err(error) => {
                        let resumed = stream.tls().is_some_and(|tls| tls.resumed);
                        if resumed {
                            material.forget_sessions();
                        }
                        alert::tell(stream, alert::CERTIFICATE_UNKNOWN).await;
                        if resumed {
                            return Ok(None);
                        }
                        return Err(failed(error));
                    }
                };
                // Verified by what held when the dial began; a change since then is seen by the
                // permit, which compares revisions.
                self.facts.trust_revision = material.trust_revision();
                let answerer = Answerer {
                    target: target.clone(),
                    verified: Some(peer.clone()),
                };
                let tls = stream.tls();
                if tls.as_ref().is_some_and(|tls| tls.resumed) {
                    self.shared.metrics.session_resumed();
                }
                let mut details = self.live.details();
                details.set_upstream(&answerer);
                if details.tls.is_none() {
                    details.tls = tls;
                }
                drop(details);
                peers.upstream = Some(answerer);
                let stream = match (stream, wanted) {
                    (Stream::Wire(wire), Some((peer_address, wanted))) if wire.speaks_lanes() => {
                        let dialler = Dialler {
                            shared: Arc::clone(self.shared),
                            changes: at.changes.clone(),
                            layer,
                            address: peer_address,
                            server_name,
                            target,
                            client: peers.client.clone(),
                            facts: self.facts.clone(),
                            peer: peer.id().clone(),
                            stream: lanes::new_stream()
                                .map_err(|error| Refusal::new(Reason::TlsFailed, error))?,
                            most: wanted.most(),
                        };
                        let count = wanted.count(far.map(|far| far.round_trip));
                        lane::begin(wire, peer, dialler, count, &at.memory)
                    }
                    (stream, _) => stream,
                };
                Ok(Some((stream, held)))
            }
        }
    }
}
