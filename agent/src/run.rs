//! The agent's life: turn after turn it brings what it knows up to date.

mod members;
mod node;
mod turn;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use rustls::crypto::CryptoProvider;
use sekisho_certs::{Clock, SpiffeId, TrustDomain, id};
use sekisho_spire_api::types::permission_denied_details::Reason;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tonic::transport::Channel;

use crate::{
    attest::{AttestError, NodeAttestor},
    bundle::Bundle,
    cache::{Cache, CacheError, Kept, SealKind},
    introducer::Introducer,
    members::{
        Desk,
        ask::{Asked, kept},
    },
    pace::Pace,
    server::Servers,
    state::State,
    sync::SyncError,
};
pub use node::Node;
pub use turn::TurnError;

/// Whom the agent believes before it knows any bundle.
#[derive(Clone, Debug)]
pub enum Bootstrap {
    /// A file with the site's bundle, PEM or SPIFFE bundle JSON. Once a bundle is known it is not looked
    /// at again: a CA in it may have been revoked since.
    File(PathBuf),
    /// What whoever started the agent says, asked when no bundle is known.
    Asked(Arc<dyn Introducer>),
    /// Whoever says it is the site's server, once. On the command line only.
    Insecure,
}

/// What an agent keeps to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The site.
    pub domain: TrustDomain,
    /// Where authorities are, `HOST:PORT`; tried in this order.
    pub servers: Vec<String>,
    /// Whom it believes at first.
    pub bootstrap: Bootstrap,
    /// How this node proves which one it is.
    pub attestor: NodeAttestor,
    /// For so long the site is to work without an authority: SVIDs are replaced early enough, where
    /// they live long enough. Default: none, and they are replaced half through their life.
    pub availability: Option<Duration>,
    /// The folder of the cache.
    pub data: PathBuf,
    /// What seals it.
    pub seal: SealKind,
}

/// Why an agent has ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its folder cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The server's ID cannot be made.
    #[error(transparent)]
    Id(#[from] id::IdError),
    /// Nothing is left to serve, and the authority does not take this node.
    #[error("this node is not taken: {0}")]
    Refused(AttestError),
    /// An administrator has banned this agent: everything is forgotten.
    #[error("this agent is banned")]
    Banned,
}

/// How the agent is doing.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Its own ID and when its certificate ends.
    pub node: Option<(SpiffeId, SystemTime)>,
    /// Its own certificates, DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// When it was last brought up to date.
    pub synced: Option<SystemTime>,
    /// What keeps it from that, where something does.
    pub problem: Option<String>,
    /// What seals its cache.
    pub seal: SealKind,
    /// Turns that have ended, well or not: for those who wait for one.
    pub turns: u64,
}

/// What others see of a running agent.
#[derive(Clone, Debug)]
pub struct Shared {
    /// What it knows.
    pub state: watch::Receiver<Arc<State>>,
    /// How it is doing.
    pub health: watch::Receiver<Health>,
    /// The connection to the authority, while there is one.
    pub channel: watch::Receiver<Option<Channel>>,
    /// SVIDs that are made only when they are asked for.
    pub wanted: Arc<Wanted>,
    /// What proxies want to know of other sites, and what is known.
    pub(crate) desk: Arc<Desk>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// When it was started.
    pub started: SystemTime,
}

impl Shared {
    /// Has the agent replace all SVIDs now, however fresh they are.
    pub fn renew(&self) {
        self.wanted.renew.store(true, Ordering::Relaxed);
        self.hurry();
    }

    /// Has the agent bring itself up to date now.
    pub fn hurry(&self) {
        self.wanted.notify.notify_one();
    }
}

/// What was asked of the agent: SVIDs on demand, or all anew.
#[derive(Debug, Default)]
pub struct Wanted {
    names: Mutex<BTreeSet<String>>,
    renew: AtomicBool,
    notify: Notify,
}

impl Wanted {
    /// Asks for the SVID of an entry; it comes with the state.
    pub fn ask(&self, entry: &str) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.insert(entry.to_owned()) {
            self.notify.notify_one();
        }
    }

    /// What was asked for, of the entries that there are: the others are asked for again if they come back.
    fn names(&self, is_there: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.retain(|name| is_there(name));
        names.clone()
    }
}

/// An agent.
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    servers: Servers,
    cache: Cache,
    clock: Arc<dyn Clock>,
    provider: Arc<CryptoProvider>,
    node: Option<Node>,
    /// The authority has put this node out; what it serves is withdrawn if it does not come back.
    put_out: bool,
    /// The authority wants everything shown again, however long the certificate lives.
    reattest: bool,
    /// The address to begin with, counted on when one fails.
    first: usize,
    /// What is served has been verified by this bundle.
    verified_by: Option<Arc<Bundle>>,
    /// The connection is that of this certificate, and verified by this bundle.
    connected: Option<(String, Arc<Bundle>)>,
    state: watch::Sender<Arc<State>>,
    health: watch::Sender<Health>,
    channel: watch::Sender<Option<Channel>>,
    wanted: Arc<Wanted>,
    desk: Arc<Desk>,
    /// What the authority was asked of other sites.
    asked: Asked,
    /// When what is known of them was last kept.
    members_kept: SystemTime,
    started: SystemTime,
}

impl Agent {
    /// Opens the folder and takes up what was kept there.
    ///
    /// # Errors
    /// When the folder cannot be used. What cannot be read in it is set aside, and told.
    pub fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, AgentError> {
        let cache = Cache::open(&settings.data, settings.domain.clone(), settings.seal)?;
        let server = id::id_below(&settings.domain, "/spire/server")?;
        let servers = Servers::new(
            settings.servers.clone(),
            server,
            Arc::clone(&provider),
            Arc::clone(&clock),
        );
        let health = Health {
            seal: cache.seal(),
            ..Health::default()
        };
        let mut agent = Self {
            state: watch::Sender::new(Arc::new(State::empty(settings.domain.clone()))),
            started: clock.now(),
            health: watch::Sender::new(health),
            channel: watch::Sender::new(None),
            wanted: Arc::default(),
            desk: Arc::default(),
            asked: Asked::default(),
            members_kept: SystemTime::UNIX_EPOCH,
            settings,
            servers,
            cache,
            clock,
            provider,
            node: None,
            put_out: false,
            reattest: false,
            verified_by: None,
            first: 0,
            connected: None,
        };
        match agent.cache.load() {
            Ok(Some(kept)) => agent.take_up(kept),
            Ok(None) => {}
            Err(error) => {
                // One that only cannot be read now is left where it is.
                let aside = error.is_of_the_content().then(|| agent.cache.set_aside());
                let aside = aside.and_then(Result::ok);
                let aside = aside.map(|at| at.display().to_string());
                tracing::error!(%error, aside, "what was kept cannot be used; begins anew");
            }
        }
        Ok(agent)
    }

    /// What others see of it.
    #[must_use]
    pub fn shared(&self) -> Shared {
        Shared {
            state: self.state.subscribe(),
            health: self.health.subscribe(),
            channel: self.channel.subscribe(),
            wanted: Arc::clone(&self.wanted),
            desk: Arc::clone(&self.desk),
            clock: Arc::clone(&self.clock),
            started: self.started,
        }
    }

    /// Runs until `stop` is done, or this node may not serve any more.
    ///
    /// # Errors
    /// [`AgentError::Banned`] and [`AgentError::Refused`]: nothing is served then.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) -> Result<(), AgentError> {
        let mut stop = std::pin::pin!(stop);
        let mut pace = Pace::default();
        loop {
            let turned = tokio::select! {
                turned = self.turn() => turned,
                () = &mut stop => return Ok(()),
            };
            let wait = match turned {
                Ok(()) => {
                    self.told(None);
                    pace.well()
                }
                Err(error) => {
                    self.react(error)?;
                    pace.failed()
                }
            };
            let turn_at = Instant::now() + wait;
            loop {
                let (wanted, desk) = (Arc::clone(&self.wanted), Arc::clone(&self.desk));
                tokio::select! {
                    () = tokio::time::sleep_until(turn_at) => break,
                    () = wanted.notify.notified() => break,
                    () = desk.wanted() => {}
                    () = &mut stop => return Ok(()),
                }
                // A proxy has met somebody new: that is asked at once, and not so often that strangers
                // could have the authority asked all the time.
                tokio::select! {
                    () = self.ask_for_members() => {}
                    () = &mut stop => return Ok(()),
                }
                tokio::select! {
                    () = tokio::time::sleep(members::PAUSE) => {}
                    () = &mut stop => return Ok(()),
                }
            }
        }
    }

    fn told(&self, problem: Option<String>) {
        let now = self.clock.now();
        let node = self.node.as_ref();
        self.health.send_modify(|health| {
            health.turns += 1;
            health.node = node.map(|node| (node.signed.id.clone(), node.signed.not_after));
            health.chain = node.map_or_else(Vec::new, |node| node.signed.held.chain.clone());
            if problem.is_none() {
                health.synced = Some(now);
            }
            if problem != health.problem {
                match &problem {
                    Some(problem) => tracing::warn!(problem, "not up to date"),
                    None => tracing::info!("up to date again"),
                }
                health.problem = problem;
            }
        });
    }

    /// What follows from a turn that failed.
    fn react(&mut self, error: TurnError) -> Result<(), AgentError> {
        if error.is_of_the_connection() {
            // The next turn begins with a connection of its own, to the next address.
            self.disconnect();
            self.first = self.first.wrapping_add(1);
        }
        if let TurnError::Attest(refused @ AttestError::Refused(_)) = error {
            if self.put_out || refused.is_denial() {
                self.forget();
                return Err(AgentError::Refused(refused));
            }
            if !self.serves() {
                // What is kept stays: a clock that was wrong may be right at the next start.
                return Err(AgentError::Refused(refused));
            }
            let error = TurnError::Attest(refused);
            self.told(Some(error.to_string()));
            return Ok(());
        }
        match error.denied() {
            Some(Reason::AgentBanned) => {
                self.forget();
                return Err(AgentError::Banned);
            }
            Some(Reason::AgentNotAttested) => {
                self.node = None;
                self.put_out = true;
                self.save();
            }
            Some(Reason::AgentExpired | Reason::AgentNotActive) => self.node = None,
            Some(Reason::AgentMustReattest) => self.reattest = true,
            Some(Reason::Unknown) | None => {}
        }
        self.told(Some(error.to_string()));
        Ok(())
    }

    fn serves(&self) -> bool {
        let now = self.clock.now();
        let state = self.state.borrow();
        let mut all = state.identities.values();
        all.any(|identity| identity.valid(now).is_some())
    }

    /// Withdraws and forgets everything.
    fn forget(&mut self) {
        self.node = None;
        let mut empty = State::empty(self.settings.domain.clone());
        empty.known = true;
        self.state.send_replace(Arc::new(empty));
        self.desk.forget();
        if let Err(error) = self.cache.clear() {
            tracing::error!(%error, "what was kept is still there");
        }
    }

    fn disconnect(&mut self) {
        self.connected = None;
        self.channel.send_replace(None);
    }

    fn save(&self) {
        let state = Arc::clone(&self.state.borrow());
        let kept = Kept {
            node: self.node.as_ref().map(Node::kept),
            put_out: self.put_out,
            members: kept::keep(&self.desk.known().borrow().members),
            ..node::kept(&state)
        };
        if let Err(error) = self.cache.save(&kept) {
            tracing::error!(%error, "not kept: a restart without the authority would serve less");
        }
    }
}

impl From<SyncError> for TurnError {
    fn from(error: SyncError) -> Self {
        Self::Sync(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_forgotten_with_its_entry() {
        let wanted = Wanted::default();
        wanted.ask("a");
        wanted.ask("b");
        assert_eq!(wanted.names(|name| name == "b"), ["b".to_owned()].into());
        assert_eq!(wanted.names(|_| true), ["b".to_owned()].into());
        wanted.ask("a");
        assert_eq!(wanted.names(|_| true).len(), 2);
    }
}
