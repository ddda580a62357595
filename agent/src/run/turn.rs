//! One turn: to be known to the authority, to know what it knows, to have what it signs.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use prost::Message as _;
use sekisho_certs::{Trust, TrustBundle, TrustDomain};
use sekisho_spire_api::{
    rpc,
    server::agent::{
        AgentX509svidParams, PostStatusRequest, RenewAgentRequest, agent_client::AgentClient,
    },
    types::{PermissionDeniedDetails, permission_denied_details::Reason},
};
use tonic::{Code, Status, transport::Channel};

use super::{Agent, Bootstrap, Node};
use crate::{
    attest::{self, AttestError},
    bundle::Bundle,
    server::{ConnectError, ServerTrust},
    sign::{self, Stale},
    state::{Identity, State},
    svid::{self, Signed, SignedError},
    sync::{self, Entries, SyncError},
};

/// How often a bundle is asked for after an attestation, and the time between.
const TRIES: u32 = 5;
const AGAIN: Duration = Duration::from_millis(500);

/// Why a turn has not come to its end; what was known before stays.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// Nobody is reached.
    #[error("no authority: {0}")]
    Connect(#[from] ConnectError),
    /// This node is not known.
    #[error("attestation: {0}")]
    Attest(#[from] AttestError),
    /// The authority's answers.
    #[error("{0}")]
    Sync(SyncError),
    /// The agent's own certificate.
    #[error("the agent's own certificate: {0}")]
    Own(#[from] SignedError),
    /// The bundle to begin with.
    #[error("bootstrap: {0}")]
    Bootstrap(String),
}

impl TurnError {
    /// Why the authority refuses this agent, where it does.
    #[must_use]
    pub fn denied(&self) -> Option<Reason> {
        match self {
            Self::Sync(SyncError::Call { status, .. })
            | Self::Attest(AttestError::Refused(status) | AttestError::Failed(status)) => {
                denial(status)
            }
            _ => None,
        }
    }

    fn is_denial(&self) -> bool {
        matches!(self, Self::Attest(error) if error.is_denial())
    }

    /// Whether another connection, to another address, may do better.
    pub(super) fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Connect(_) => true,
            Self::Attest(AttestError::Refused(_)) => true,
            Self::Attest(AttestError::Failed(status))
            | Self::Sync(SyncError::Call { status, .. }) => !matches!(
                status.code(),
                Code::Internal | Code::NotFound | Code::InvalidArgument | Code::ResourceExhausted
            ),
            _ => false,
        }
    }
}

/// The reason in the details of a refusal (spire-api.md §3).
fn denial(status: &Status) -> Option<Reason> {
    const NAME: &str = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";
    if status.code() != Code::PermissionDenied {
        return None;
    }
    let whole = rpc::Status::decode(status.details()).ok()?;
    let mut details = whole.details.iter();
    let detail = details.find(|detail| detail.type_url == NAME)?;
    let decoded = PermissionDeniedDetails::decode(detail.value.as_slice());
    decoded.ok().map(|details| details.reason())
}

/// The bundle after an attestation: the token is used up, so that one failure must not be the end.
async fn first_bundle(channel: Channel, domain: &TrustDomain) -> Result<Bundle, SyncError> {
    for _ in 1..TRIES {
        match sync::own_bundle(channel.clone(), domain).await {
            Ok(bundle) => return Ok(bundle),
            Err(error) => tracing::warn!(%error, "no bundle after the attestation; asks again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
    sync::own_bundle(channel, domain).await
}

impl Agent {
    pub(super) async fn turn(&mut self) -> Result<(), TurnError> {
        self.be_known().await?;
        let channel = self.connection().await?;
        let domain = self.settings.domain.clone();
        let before = Arc::clone(&self.state.borrow());
        let own = sync::own_bundle(channel.clone(), &domain).await?;
        let known: Entries = before
            .identities
            .iter()
            .map(|(name, one)| (name.clone(), Arc::clone(&one.entry)))
            .collect();
        let entries = sync::entries(channel.clone(), &domain, &known).await?;
        let mut bundles = sync::federated(channel.clone(), &entries, &before.bundles).await?;
        let own = match before.own_bundle() {
            Some(same) if **same == own => Arc::clone(same),
            _ => Arc::new(own),
        };
        let verified = self.verified_by.as_ref();
        let verified = verified.is_some_and(|by| Arc::ptr_eq(by, &own));
        let Some(trust) = own.trust(&domain).ok().and_then(|own| self.trust_of(own)) else {
            return Err(SyncError::Protocol("with an unusable bundle").into());
        };
        if let Some(node) = &self.node
            && !node.reattestable
            && own.taints(&node.signed.held.certificates())
        {
            // Before anything else is replaced: once the CA is revoked, nobody listens to its certificates.
            self.renew(channel.clone(), &trust).await?;
        }
        bundles.insert(domain.to_string(), Arc::clone(&own));
        let mut state = State {
            known: true,
            bundles,
            identities: BTreeMap::new(),
            domain,
        };
        let now = self.clock.now();
        for (name, entry) in entries {
            let kept = before
                .identities
                .get(&name)
                .and_then(|one| one.svid.clone());
            // An entry may have come back under its name for somebody else, and a CA may have gone. What this
            // very bundle has verified is not verified again: there may be a thousand.
            let kept = kept.filter(|svid| {
                svid.signed.id.to_string() == entry.spiffe_id
                    && (verified || svid.signed.has_path(&trust, now))
            });
            state
                .identities
                .insert(name, Identity { entry, svid: kept });
        }
        let signed = self.sign(channel, &mut state, &trust).await;
        self.publish(state, &before);
        // What has been signed was verified by it too, whatever came after.
        self.verified_by = Some(own);
        self.ask_for_members().await;
        signed?;
        if std::mem::take(&mut self.put_out) {
            self.save();
        }
        Ok(())
    }

    async fn sign(
        &self,
        channel: Channel,
        state: &mut State,
        trust: &Trust,
    ) -> Result<(), TurnError> {
        let there = |name: &str| state.identities.contains_key(name);
        let wanted = self.wanted.names(there);
        let now = self.clock.now();
        let all = self.wanted.renew.swap(false, Ordering::Relaxed);
        let renewal = |signed: &Signed| if all { now } else { self.renewal(signed) };
        let stale: Stale = sign::stale(state, &wanted, &renewal, now);
        let mut each = |answer: sign::Answer| match answer.outcome {
            Ok(signed) => sign::put(state, &answer.entry, signed),
            Err(error) => {
                tracing::warn!(entry = answer.entry.id, %error, "no new SVID");
            }
        };
        let signed = sign::sign(channel, &stale, trust, &self.provider, now, &mut each).await;
        if all && signed.is_err() {
            self.wanted.renew.store(true, Ordering::Relaxed);
        }
        Ok(signed?)
    }

    fn publish(&self, state: State, before: &State) {
        let same = before.known
            && before.bundles == state.bundles
            && before.identities == state.identities;
        if !same {
            self.state.send_replace(Arc::new(state));
            self.save();
        }
    }

    /// Has a certificate that is good, and not half through its life if that can be helped.
    async fn be_known(&mut self) -> Result<(), TurnError> {
        let now = self.clock.now();
        let Some(node) = &self.node else {
            return self.attest().await;
        };
        if !node.signed.is_valid_at(now) {
            return self.attest().await;
        }
        if self.reattest {
            return self.attest().await;
        }
        let chain = node.signed.held.certificates();
        let tainted = |own: &Arc<Bundle>| own.taints(&chain);
        let tainted = self.state.borrow().own_bundle().is_some_and(tainted);
        if !tainted && now < self.renewal(&node.signed) {
            return Ok(());
        }
        let renewed = if node.reattestable {
            self.attest().await
        } else {
            self.renew_own().await
        };
        match renewed {
            Err(error) if error.denied().is_none() && !error.is_denial() => {
                // It is good for a while: everything else goes on, and this is tried again.
                tracing::warn!(%error, "the agent's own certificate is not renewed");
                Ok(())
            }
            renewed => renewed,
        }
    }

    async fn renew_own(&mut self) -> Result<(), TurnError> {
        let channel = self.connection().await?;
        let trust = self.own_trust()?;
        self.renew(channel, &trust).await
    }

    async fn renew(&mut self, channel: Channel, trust: &Trust) -> Result<(), TurnError> {
        let request = svid::Request::new(None)?;
        let params = Some(AgentX509svidParams {
            csr: request.csr.clone(),
        });
        let answer = AgentClient::new(channel)
            .renew_agent(RenewAgentRequest { params })
            .await;
        let answer = answer.map_err(SyncError::call("RenewAgent"))?.into_inner();
        let chain = answer.svid.map(|svid| svid.cert_chain).unwrap_or_default();
        let wanted = self.node.as_ref().map(|node| node.signed.id.clone());
        let now = self.clock.now();
        let held = request.signed(chain);
        let signed = Signed::check(held, wanted.as_ref(), trust, now, &self.provider)?;
        self.become_node(Node {
            signed,
            reattestable: false,
        });
        Ok(())
    }

    /// On a connection of its own: while this goes on, or fails, calls go by the one that there is.
    async fn attest(&mut self) -> Result<(), TurnError> {
        let trust = self.server_trust().await?;
        self.attest_by(trust).await
    }

    async fn attest_by(&mut self, trust: ServerTrust) -> Result<(), TurnError> {
        let channel = self.servers.connect(&trust, None, self.first).await?;
        let attested = attest::attest(
            channel.clone(),
            &self.settings.attestor,
            &self.settings.domain,
        )
        .await?;
        let domain = self.settings.domain.clone();
        // On the same connection: there is no other by which the first bundle could be believed.
        let own = first_bundle(channel, &domain).await?;
        let bundle = own.trust(&domain).map_err(|error| {
            let problem = error.to_string();
            TurnError::Bootstrap(problem)
        })?;
        let Some(trust) = self.trust_of(bundle) else {
            return Err(SyncError::Protocol("with an unusable bundle").into());
        };
        let now = self.clock.now();
        let signed = Signed::check(attested.held, None, &trust, now, &self.provider)?;
        self.state.send_modify(|state| {
            let state = Arc::make_mut(state);
            state.bundles.insert(domain.to_string(), Arc::new(own));
        });
        tracing::info!(id = %signed.id, "attested");
        self.become_node(Node {
            signed,
            reattestable: attested.reattestable,
        });
        Ok(())
    }

    fn become_node(&mut self, node: Node) {
        self.node = Some(node);
        self.reattest = false;
        self.disconnect();
        self.save();
    }

    /// A connection with our certificate.
    async fn connection(&mut self) -> Result<Channel, TurnError> {
        let Some(node) = &self.node else {
            return Err(AttestError::Protocol("no certificate").into());
        };
        let serial = node.signed.serial.clone();
        let own = self.state.borrow().own_bundle().cloned();
        let own =
            own.ok_or_else(|| TurnError::Bootstrap("no bundle of the site is known".into()))?;
        let now = Some((serial, own));
        let open = self.channel.borrow().clone();
        if let Some(channel) = open.filter(|_| self.connected == now) {
            return Ok(channel);
        }
        let held = Arc::clone(&node.signed.held);
        let trust = self.server_trust().await?;
        let channel = self
            .servers
            .connect(&trust, Some(&held), self.first)
            .await?;
        self.greet(channel.clone()).await;
        self.connected = now;
        self.channel.send_replace(Some(channel.clone()));
        Ok(channel)
    }

    /// Says what we are. An authority that does not want to know is no worse.
    async fn greet(&self, channel: Channel) {
        let request = PostStatusRequest {
            current_bundle_serial: 0,
            agent_version: concat!("sekisho ", env!("CARGO_PKG_VERSION")).into(),
        };
        if let Err(error) = AgentClient::new(channel).post_status(request).await {
            tracing::debug!(%error, "status not taken");
        }
    }

    fn own_trust(&self) -> Result<Arc<Trust>, TurnError> {
        let own = self.state.borrow().own_bundle().cloned();
        let own = own.and_then(|own| own.trust(&self.settings.domain).ok());
        let trust = own.and_then(|own| self.trust_of(own));
        trust.ok_or_else(|| TurnError::Bootstrap("no bundle of the site is known".into()))
    }

    /// By what servers are verified now.
    async fn server_trust(&self) -> Result<ServerTrust, TurnError> {
        if self.state.borrow().own_bundle().is_some() {
            return Ok(ServerTrust::Bundle(self.own_trust()?));
        }
        self.bootstrap().await
    }

    async fn bootstrap(&self) -> Result<ServerTrust, TurnError> {
        let (name, text) = match &self.settings.bootstrap {
            Bootstrap::Insecure => return Ok(ServerTrust::NameOnly),
            Bootstrap::Asked(introducer) => (None, introducer.bundle().await),
            Bootstrap::File(path) => {
                let read = std::fs::read(path);
                (Some(path), read.map_err(|error| error.to_string()))
            }
        };
        let wrong = |error: &dyn std::fmt::Display| {
            let name = name.map(|path| format!("{}: ", path.display()));
            TurnError::Bootstrap(format!("{}{error}", name.unwrap_or_default()))
        };
        let text = text.map_err(|error| wrong(&error))?;
        let domain = self.settings.domain.clone();
        let bundle = TrustBundle::from_file(domain, &text).map_err(|error| wrong(&error))?;
        let trust = self.trust_of(bundle);
        let trust = trust.ok_or_else(|| wrong(&"no usable bundle"))?;
        Ok(ServerTrust::Bundle(trust))
    }
}
