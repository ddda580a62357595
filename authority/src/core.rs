//! What all services of the authority share.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls_pki_types::CertificateDer;
use sekisho_certs::{Clock, SpiffeId, TrustDomain};
use sekisho_federation::client::WebRoots;
use sekisho_spire_api::types::permission_denied_details::Reason;
use tokio::sync::Mutex;
use tonic::Status;

use sekisho_federation::directory::following::Handle;

use crate::{
    api::{LogLevel, status},
    attest::Attestors,
    authorized::Arrangement,
    ca::Ca,
    caller::{Caller, denied},
    directory::MemberSettings,
    entry::Entry,
    federation::{Federation, FederationSettings},
    limit::Limits,
    members::MemberSource,
    store::{By, EntryFilter, Store, StoreError},
};

/// How many connections the TCP door bears, so that nobody shuts the others out. Those above are
/// closed at once. A network is a /24 of IPv4 or a /64 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Established ones; default 10,000.
    pub connections: usize,
    /// Established ones from one network, which may be a NAT with many agents behind it; default
    /// 4,000.
    pub connections_of_one: usize,
    /// Handshakes that run at a time; default 256. Whoever comes then waits.
    pub handshakes: usize,
    /// Handshakes from one network; default 64.
    pub handshakes_of_one: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_of_one: 4000,
            handshakes: 256,
            handshakes_of_one: 64,
        }
    }
}

/// What an authority keeps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The site.
    pub domain: TrustDomain,
    /// Lifetime of X.509-SVIDs whose entry does not say; SPIRE's and our default: an hour.
    pub x509_ttl: Duration,
    /// The same of JWT-SVIDs: five minutes.
    pub jwt_ttl: Duration,
    /// Lifetime of agents' own SVIDs: an hour.
    pub agent_ttl: Duration,
    /// `iss` of JWT-SVIDs, where there is to be one.
    pub jwt_issuer: Option<String>,
    /// How nodes come in.
    pub attestors: Attestors,
    /// Who may administer it from afar, beside those whose entry says so. May be of other domains.
    pub admin_ids: Vec<SpiffeId>,
    /// Attestations a second from one address, excess waits. Default, and SPIRE's: 1. Not in the
    /// configuration file.
    pub attestations: u32,
    /// How many connections the TCP door bears.
    pub connections: ConnectionLimits,
    /// By what bundle endpoints of the profile `https_web` are verified; default: the host's roots.
    pub web_roots: WebRoots,
    /// With whom it is federated, and how.
    pub federation: FederationSettings,
    /// How it speaks to the directories that it is a member of. Default: not at all.
    pub member: Option<MemberSettings>,
}

impl Settings {
    /// With the defaults.
    #[must_use]
    pub fn new(domain: TrustDomain) -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            domain,
            x509_ttl: HOUR,
            jwt_ttl: Duration::from_secs(300),
            agent_ttl: HOUR,
            jwt_issuer: None,
            attestors: Attestors::default(),
            admin_ids: Vec::new(),
            attestations: 1,
            connections: ConnectionLimits::default(),
            web_roots: WebRoots::default(),
            federation: FederationSettings::default(),
            member: None,
        }
    }
}

/// The state of an authority.
#[derive(Debug)]
pub struct Core {
    /// What it keeps to.
    pub settings: Settings,
    /// What it remembers.
    pub store: Arc<Store>,
    /// What it signs with.
    pub ca: Arc<Ca>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How often who may call.
    pub limits: Limits,
    /// What fetches the bundles of others.
    pub federation: Federation,
    /// How much the process logs; without it the service `Logger` is not there.
    pub log: Option<Arc<dyn LogLevel>>,
    /// The certificate that the TCP door shows, the leaf first; empty before it serves.
    pub own_chain: ArcSwap<Vec<CertificateDer<'static>>>,
    /// Who knows the members of a directory, where the site is in one.
    pub directory: Option<Arc<dyn MemberSource>>,
    /// The directories themselves.
    pub(crate) followed: Option<Handle>,
    /// The entries as they were at a version.
    arranged: Mutex<(u64, Arc<Arrangement>)>,
}

impl Core {
    /// With an empty arrangement, which the first question fills.
    #[must_use]
    pub fn new(settings: Settings, store: Arc<Store>, ca: Arc<Ca>, clock: Arc<dyn Clock>) -> Self {
        Self {
            limits: Limits::new(settings.attestations),
            federation: Federation::new(
                settings.web_roots.clone(),
                settings.federation.allowed.clone(),
                Arc::clone(&clock),
            ),
            settings,
            store,
            ca,
            clock,
            log: None,
            directory: None,
            followed: None,
            own_chain: ArcSwap::default(),
            arranged: Mutex::default(),
        }
    }

    /// The same, whose log can be changed by administrators of this host.
    #[must_use]
    pub fn with_log(mut self, log: Arc<dyn LogLevel>) -> Self {
        self.log = Some(log);
        self
    }

    /// The same, with somebody who knows the members of a directory.
    #[must_use]
    pub fn with_directory(mut self, directory: Arc<dyn MemberSource>) -> Self {
        self.directory = Some(directory);
        self
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// A change by `caller`, now.
    #[must_use]
    pub fn by(&self, caller: &str) -> By {
        By {
            caller: caller.into(),
            at: self.now(),
        }
    }

    /// The entries, arranged; as new as the last change.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn arranged(&self) -> Result<Arc<Arrangement>, StoreError> {
        let mut arranged = self.arranged.lock().await;
        let (version, changed) = self.store.changes_since(arranged.0);
        if arranged.0 != version {
            let domain = &self.settings.domain;
            let new = match changed {
                Some(names) => {
                    let now = self.store.entries_named(names.clone()).await?;
                    arranged.1.with(&names, now, domain)
                }
                None => Arrangement::new(self.all_entries().await?, domain),
            };
            // A change in between raises the version again.
            *arranged = (version, Arc::new(new));
        }
        Ok(Arc::clone(&arranged.1))
    }

    /// The domains that `*` stands for: those of which there is a bundle, but our own.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn federated_domains(&self) -> Result<Vec<TrustDomain>, StoreError> {
        let mut all = self.store.bundle_domains().await?;
        all.retain(|domain| *domain != self.settings.domain);
        Ok(all)
    }

    /// The entries that an agent may have, and the domains that `*` stands for.
    ///
    /// # Errors
    /// The answer, where it cannot be told.
    pub async fn authorized(
        &self,
        caller: &Caller,
    ) -> Result<(Vec<Arc<Entry>>, Vec<TrustDomain>), Status> {
        let failed = |error: StoreError| status::store("failed to fetch entries", &error);
        let id = caller.agent_id();
        let id = id.ok_or_else(|| Status::internal("caller ID missing from request context"))?;
        let node = self.store.node(id.clone()).await.map_err(failed)?;
        let node = node.ok_or_else(|| Status::not_found("agent not found"))?;
        // It may have been banned while its call has waited.
        if node.banned {
            return Err(denied("agent is banned".into(), Reason::AgentBanned));
        }
        let ends = node.active.as_ref().map(|own| own.not_after);
        let expired = ends.is_none_or(|ends| ends <= self.now());
        let arranged = self.arranged().await.map_err(failed)?;
        let domains = self.federated_domains().await.map_err(failed)?;
        Ok((arranged.of_node(&node, expired), domains))
    }

    /// Writes down that something was signed for an administrator or a server below: before it is
    /// handed out.
    ///
    /// # Errors
    /// The answer, where it cannot be written down.
    pub async fn minted(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &SpiffeId,
    ) -> Result<(), Status> {
        let written = self
            .store
            .note(self.by(caller.name()), action, id.to_string())
            .await;
        written.map_err(|error| status::store("failed to write the audit log", &error))
    }

    /// Puts away what has ended.
    pub async fn prune(&self) {
        if let Err(error) = self.store.prune_entries(self.by("authority")).await {
            tracing::error!(%error, "entries not pruned");
        }
        if let Err(error) = self.ca.prune(self.by("authority")).await {
            tracing::error!(%error, "authorities not pruned");
        }
        if let Err(error) = self.store.prune_tokens(self.by("authority")).await {
            tracing::error!(%error, "join tokens not pruned");
        }
    }

    async fn all_entries(&self) -> Result<Vec<Entry>, StoreError> {
        let page = self.store.entries(EntryFilter::default(), 0, usize::MAX);
        Ok(page.await?.items)
    }
}

#[cfg(test)]
mod tests;
