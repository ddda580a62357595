//! Following directories for as long as a site lives: at their time, when something else is wanted, and
//! for whoever stands at the door.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::RngExt as _;
use sekisho_certs::{TrustDomain, members::Members};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{
    client::{Status, SyncError, Wanted},
    combined::Directories,
    continuity::SignedStatement,
    gossip::{Gossip, Neighbour},
    membership::Shown,
};

/// Between two syncs; a tenth more or less, so that sites do not come all at once. With a host that signs
/// every ten minutes, who is expelled is cut off within fifteen.
pub const POLL: Duration = Duration::from_secs(240);
/// After a sync that failed, the first time; then twice as long each time, up to [`POLL`].
const AGAIN: Duration = Duration::from_secs(15);
/// Members that are fetched for those at the door: so many at once, and then so many a second.
const AT_ONCE: f64 = 32.0;
const A_SECOND: f64 = 4.0;
/// The longest that a sync of one directory may take: they are followed at a time.
const LONGEST: Duration = Duration::from_secs(180);
/// Somebody at the door who is no member makes us look again, where the last sync is so long ago: it may
/// be one since.
const NEWCOMERS: Duration = Duration::from_secs(60);
/// How many may wait at the door.
const WAITING: usize = 256;

/// What is asked of a task that follows.
#[derive(Debug)]
enum Order {
    Want(TrustDomain),
    Refresh(oneshot::Sender<Vec<Result<(), String>>>),
    Rekey(
        TrustDomain,
        String,
        oneshot::Sender<Result<bool, SyncError>>,
    ),
    Rollback(TrustDomain, oneshot::Sender<Result<bool, SyncError>>),
    Quiet,
    Hear(Box<Gossip>),
    Say(Vec<SignedStatement>),
    Own(String, u64, u64),
}

/// What others have of directories that are followed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    orders: mpsc::Sender<Order>,
    wanted: watch::Sender<Wanted>,
    members: watch::Receiver<Members>,
    status: watch::Receiver<Arc<Vec<Status>>>,
    gossip: watch::Receiver<Arc<Gossip>>,
    proofs: watch::Receiver<Arc<Proofs>>,
    endpoints: watch::Receiver<Arc<Vec<Neighbour>>>,
    strangers: Strangers,
}

/// What hosts have signed about their last snapshots.
type Proofs = BTreeMap<u64, Vec<String>>;

/// Those who were found to be no members, until the next sync.
type Strangers = Arc<Mutex<BTreeMap<String, Instant>>>;
/// How many of them are remembered.
const STRANGERS: usize = 4096;

/// The directories are not followed any more: the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the directories are not followed any more")]
pub struct Ended;

impl Handle {
    /// The members, each time that something of them changes.
    #[must_use]
    pub fn members(&self) -> watch::Receiver<Members> {
        self.members.clone()
    }

    /// What may be told of each directory.
    #[must_use]
    pub fn status(&self) -> Arc<Vec<Status>> {
        Arc::clone(&self.status.borrow())
    }

    /// What we tell other sites.
    #[must_use]
    pub fn gossip(&self) -> Arc<Gossip> {
        Arc::clone(&self.gossip.borrow())
    }

    /// What hosts have signed about a snapshot of this number, for a site that has heard another thing.
    #[must_use]
    pub fn proof(&self, snapshot: u64) -> Option<Gossip> {
        let timestamps = self.proofs.borrow().get(&snapshot)?.clone();
        Some(Gossip {
            timestamps,
            ..Gossip::default()
        })
    }

    /// Members that may be asked what they have heard.
    #[must_use]
    pub fn endpoints(&self) -> Arc<Vec<Neighbour>> {
        Arc::clone(&self.endpoints.borrow())
    }

    /// From now on, this is wanted. What is new in it is fetched at once.
    pub fn set_wanted(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|before| {
            let differs = *before != wanted;
            *before = wanted;
            differs
        });
    }

    /// Whether this trust domain was found to be no member since the last sync, and not long ago.
    #[must_use]
    pub fn is_stranger(&self, domain: &TrustDomain) -> bool {
        let strangers = self
            .strangers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let found = strangers.get(domain.as_str());
        found.is_some_and(|at| at.elapsed() < NEWCOMERS)
    }

    /// Somebody of this trust domain stands at the door. Forgotten where too many do.
    pub fn want(&self, domain: TrustDomain) {
        let _ = self.orders.try_send(Order::Want(domain));
    }

    /// Follows at once; the answer is how it went, for each directory.
    ///
    /// # Errors
    /// When the process ends.
    pub async fn refresh(&self) -> Result<Vec<Result<(), String>>, Ended> {
        self.order(Order::Refresh).await
    }

    /// Takes the keys of a member that wait (`Directories::accept_rekey`).
    ///
    /// # Errors
    /// When the process ends; within, when it cannot be kept.
    pub async fn accept_rekey(
        &self,
        member: TrustDomain,
        fingerprint: String,
    ) -> Result<Result<bool, SyncError>, Ended> {
        self.order(|answer| Order::Rekey(member, fingerprint, answer))
            .await
    }

    /// Lets the bundle of a member go back, once (`Directories::accept_rollback`).
    ///
    /// # Errors
    /// When the process ends; within, when it cannot be kept.
    pub async fn accept_rollback(
        &self,
        member: TrustDomain,
    ) -> Result<Result<bool, SyncError>, Ended> {
        self.order(|answer| Order::Rollback(member, answer)).await
    }

    /// Ends the alarms.
    pub async fn quiet(&self) {
        let _ = self.orders.send(Order::Quiet).await;
    }

    /// Takes what another site has told.
    pub async fn hear(&self, gossip: Gossip) {
        let _ = self.orders.send(Order::Hear(Box::new(gossip))).await;
    }

    /// What other sites are told of our own from now on.
    pub async fn say(&self, all: Vec<SignedStatement>) {
        let _ = self.orders.send(Order::Say(all)).await;
    }

    /// The directory at an address has taken this version of what we say ourselves, at this time in seconds
    /// since 1970: where it goes on to show an older one, that is told.
    pub async fn own_word(&self, address: &str, version: u64, time: u64) {
        let _ = self
            .orders
            .send(Order::Own(address.into(), version, time))
            .await;
    }

    /// What the directory at an address shows of us, if it has just been followed.
    #[must_use]
    pub fn shown(&self, address: &str) -> Option<Shown> {
        let all = self.status.borrow();
        let one = all.iter().find(|one| one.source == address)?;
        one.shown.clone().filter(|_| one.fault.is_none())
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, Ended> {
        let (sender, answer) = oneshot::channel();
        self.orders.send(order(sender)).await.map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }
}

/// The task that follows directories.
#[derive(Debug)]
pub struct Following {
    directories: Directories,
    orders: mpsc::Receiver<Order>,
    wanted: watch::Receiver<Wanted>,
    members: watch::Sender<Members>,
    status: watch::Sender<Arc<Vec<Status>>>,
    gossip: watch::Sender<Arc<Gossip>>,
    proofs: watch::Sender<Arc<Proofs>>,
    endpoints: watch::Sender<Arc<Vec<Neighbour>>>,
    /// What may be fetched for those at the door, and since when it is counted.
    tokens: f64,
    counted: Instant,
    failures: u32,
    strangers: Strangers,
    synced: Option<Instant>,
}

impl Following {
    /// Of these; nothing happens before [`Self::run`].
    #[must_use]
    pub fn new(directories: Directories) -> (Self, Handle) {
        let (order, orders) = mpsc::channel(WAITING);
        let (want, wanted) = watch::channel(Wanted::default());
        let (members, known) = watch::channel(directories.members().clone());
        let (status, told) = watch::channel(Arc::new(directories.status()));
        let (gossip, heard) = watch::channel(Arc::new(directories.gossip()));
        let (proofs, proven) = watch::channel(Arc::new(directories.proofs()));
        let (endpoints, asked) = watch::channel(Arc::new(directories.neighbours()));
        let handle = Handle {
            orders: order,
            wanted: want,
            members: known,
            status: told,
            gossip: heard,
            proofs: proven,
            endpoints: asked,
            strangers: Strangers::default(),
        };
        let strangers = Arc::clone(&handle.strangers);
        let following = Self {
            directories,
            orders,
            wanted,
            members,
            status,
            gossip,
            proofs,
            endpoints,
            tokens: AT_ONCE,
            counted: Instant::now(),
            failures: 0,
            strangers,
            synced: None,
        };
        (following, handle)
    }

    /// Follows for as long as somebody has its handle.
    pub async fn run(mut self) {
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = sleep_until(next) => {
                    self.sync().await;
                    next = Instant::now() + self.pause();
                }
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let wanted = self.wanted.borrow_and_update().clone();
                    self.directories.fetch(&wanted).await;
                    self.publish();
                }
                order = self.orders.recv() => {
                    let Some(order) = order else { return };
                    if self.obey(order).await {
                        next = Instant::now() + self.pause();
                    }
                }
            }
        }
    }

    /// Until the next sync.
    fn pause(&self) -> Duration {
        let spread = rand::rng().random_range(0.9..1.1);
        let pause = match self.failures {
            0 => POLL,
            failures => (AGAIN * 2_u32.saturating_pow(failures.min(8) - 1)).min(POLL),
        };
        pause.mul_f64(spread)
    }

    async fn sync(&mut self) -> Vec<Result<(), String>> {
        let wanted = self.wanted.borrow_and_update().clone();
        // A host that is slow on purpose must not keep us from what else there is to do.
        let all = self.directories.sync(&wanted, LONGEST).await;
        self.strangers().clear();
        self.synced = Some(Instant::now());
        let mut told = Vec::with_capacity(all.len());
        let mut failed = false;
        for synced in all {
            told.push(match synced {
                Ok(synced) => {
                    let (bytes, members) = (synced.traffic.bytes, synced.fetched.len());
                    tracing::debug!(bytes, members, "directory followed");
                    Ok(())
                }
                Err(error) => {
                    failed = true;
                    tracing::warn!(%error, reason = error.reason(), "directory not followed");
                    Err(error.to_string())
                }
            });
        }
        self.failures = if failed {
            self.failures.saturating_add(1)
        } else {
            0
        };
        self.publish();
        told
    }

    fn publish(&self) {
        self.members
            .send_replace(self.directories.members().clone());
        self.status
            .send_replace(Arc::new(self.directories.status()));
        self.gossip
            .send_replace(Arc::new(self.directories.gossip()));
        self.proofs
            .send_replace(Arc::new(self.directories.proofs()));
        self.endpoints
            .send_replace(Arc::new(self.directories.neighbours()));
    }

    /// Whether it was a sync.
    async fn obey(&mut self, order: Order) -> bool {
        match order {
            Order::Want(domain) => {
                let mut domains = BTreeSet::new();
                self.at_the_door(domain, &mut domains);
                // Those who wait behind it come with it, as far as the rate lets them.
                while self.tokens_left() > domains.len()
                    && let Ok(order) = self.orders.try_recv()
                {
                    let Order::Want(domain) = order else {
                        self.fetch(domains).await;
                        return Box::pin(self.obey(order)).await;
                    };
                    self.at_the_door(domain, &mut domains);
                }
                self.fetch(domains).await;
            }
            Order::Refresh(answer) => {
                let _ = answer.send(self.sync().await);
                return true;
            }
            Order::Rekey(member, fingerprint, answer) => {
                let taken = self.directories.accept_rekey(&member, &fingerprint);
                let _ = answer.send(taken);
                self.sync().await;
                return true;
            }
            Order::Rollback(member, answer) => {
                let _ = answer.send(self.directories.accept_rollback(&member));
                self.sync().await;
                return true;
            }
            Order::Quiet => self.directories.quiet(),
            Order::Hear(gossip) => {
                if self.directories.hear(&gossip) {
                    self.publish();
                }
                return false;
            }
            Order::Say(all) => self.directories.say(&all),
            Order::Own(address, version, time) => {
                self.directories.own_word(&address, version, time);
            }
        }
        self.publish();
        false
    }

    /// Whoever is known already has come while it waited.
    fn at_the_door(&self, domain: TrustDomain, domains: &mut BTreeSet<String>) {
        let known = self.directories.members().get(&domain);
        if known.is_none_or(|member| member.bundle().is_none()) {
            domains.insert(domain.to_string());
        }
    }

    fn tokens_left(&mut self) -> usize {
        let now = Instant::now();
        let passed = now.duration_since(self.counted).as_secs_f64();
        self.counted = now;
        self.tokens = passed.mul_add(A_SECOND, self.tokens).min(AT_ONCE);
        // It is between nothing and a few dozen.
        (0..=WAITING)
            .take_while(|count| self.tokens >= *count as f64)
            .last()
            .unwrap_or_default()
    }

    async fn fetch(&mut self, domains: BTreeSet<String>) {
        if domains.is_empty() {
            return;
        }
        if self.tokens_left() < domains.len() {
            // They knock again.
            return;
        }
        self.tokens -= domains.len() as f64;
        let wanted = Wanted {
            domains,
            ..Wanted::default()
        };
        let mut strangers = self.directories.fetch(&wanted).await;
        if !strangers.is_empty() && self.synced.is_none_or(|at| at.elapsed() >= NEWCOMERS) {
            // It may have been admitted since the last sync.
            self.sync().await;
            strangers = self.directories.fetch(&wanted).await;
        }
        let mut known = self.strangers();
        for domain in strangers {
            tracing::debug!(%domain, "no member of the directory");
            if known.len() < STRANGERS {
                known.insert(domain.to_string(), Instant::now());
            }
        }
    }

    fn strangers(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.strangers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
