//! A client of a directory: one for each site, in the process that owns the site's CA, and never one for
//! each proxy.
//!
//! It is lazy: it fetches what says which versions there are, and then only the members that are wanted
//! or known. What is wrong with one member stays with that one, which keeps what it last said until that
//! is too old. And it has a memory: keys that it has seen once are a member's until these keys, or its
//! recovery key, or the operator of this site say otherwise.

mod folder;
mod record;
mod source;
mod status;
mod sync;
#[cfg(test)]
mod tests;
mod told;
mod trusted;
mod web;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use sekisho_certs::{
    Clock, TrustDomain,
    members::{MAX_MARKS, Mark, Member, MemberError, Members, Source as Vouches},
};

use super::{
    continuity::{KeySet, SignedStatement},
    descriptor::MAX_STALE,
    marks::Marks,
    membership::Shown,
    metadata::{MetadataError, Root, Signed, Targets},
    names,
    possession::Owners,
};
pub use folder::folder_of;
pub use record::{Fault, Standing};
use record::{Folder, Known, seconds, time};
pub(super) use source::unpacked;
pub use source::{Source, SourceError, Traffic};
pub use status::{MemberStatus, Status};
use trusted::Trusted;
pub use web::Web;

/// Most members that a mark brings with it; the others come when they are asked for.
pub const MOST_BY_MARK: usize = 256;

/// For so long what is remembered counts while the operator's root has not been met: a host that is away for a
/// moment, or a network, is no reason to let go of everybody.
const UNMET: Duration = Duration::from_secs(24 * 3600);

/// Most statements that are kept of one member by what other sites tell.
const HEARD: usize = 8;

/// Why a directory could not be followed. What was known before stays, and gets older.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The folder of this client cannot be used.
    #[error("{}: {error}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file is refused.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A file that has to be there is not.
    #[error("{0} is missing in the directory")]
    Missing(String),
    /// The root that the operator has given is of another directory than the one that was followed.
    #[error("the root {file} is not of the directory that was followed until now: give a root of that one, or, if another is meant, remove {}, and with it what was seen of its members' keys", folder.display())]
    OtherDirectory {
        /// The operator's.
        file: String,
        /// Of this client.
        folder: PathBuf,
    },
    /// The host says something older than before.
    #[error("the directory went back: its {what} is {found}, and was {known} before")]
    Rollback {
        /// `timestamp` or `snapshot`.
        what: &'static str,
        /// What it is.
        found: u64,
        /// What it was.
        known: u64,
    },
    /// It took longer than it may.
    #[error("not followed within {0:?}")]
    TooLate(Duration),
    /// A file was not fetched.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The host has signed two statements that cannot both be true: it shows one thing to one, and
    /// another to another.
    #[error(
        "the host of the directory has two faces: it has signed two different statements about snapshot {snapshot}"
    )]
    SplitView {
        /// The snapshot of the first.
        snapshot: u64,
        /// The two timestamps, as evidence.
        statements: Box<[Vec<u8>; 2]>,
    },
}

impl SyncError {
    /// The word for it in log, metric and status.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "folder",
            Self::Metadata(error) => error.reason(),
            Self::Missing(_) => "missing",
            Self::OtherDirectory { .. } => "other_directory",
            Self::Rollback { .. } => "rollback",
            Self::Source(_) | Self::TooLate(_) => "unreachable",
            Self::SplitView { .. } => "split_view",
        }
    }
}

/// What a client is given.
#[derive(Debug)]
pub struct Settings {
    /// Our own trust domain, of which nobody tells us.
    pub own: TrustDomain,
    /// Where the directory is.
    pub source: Source,
    /// A root of it that the operator vouches for; the first, or a later one.
    pub root: PathBuf,
    /// The folder of this client.
    pub data: PathBuf,
    /// For so long a member is believed at most without a new word of it, whatever it says itself.
    pub max_stale: Option<Duration>,
    /// If set, new keys without a word of the old ones are taken after so long in public without a
    /// veto. Counted are the times between two looks that are no further apart than three polls: a veto
    /// would have been seen. Default: never.
    pub rekey_wait: Option<Duration>,
}

/// The version of the root in a file.
///
/// # Errors
/// When it cannot be read, or is none that its own keys have signed.
pub fn root_version(path: &Path) -> Result<u64, SyncError> {
    sync::vouched(path).map(|trusted| trusted.root_version())
}

/// What is wanted of a directory, beside the members that are known already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Each that there is.
    pub all: bool,
    /// These.
    pub domains: BTreeSet<String>,
    /// Those with one of these marks, up to [`MOST_BY_MARK`] each.
    pub marks: BTreeSet<Mark>,
}

/// What a sync has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// What it has cost.
    pub traffic: Traffic,
    /// The members of which something was fetched.
    pub fetched: Vec<TrustDomain>,
    /// Those that were wanted and are no members.
    pub strangers: Vec<TrustDomain>,
}

/// What is known of a bin.
#[derive(Clone, Debug)]
struct Bin {
    version: u64,
    end: SystemTime,
}

/// A client of one directory.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    clock: Arc<dyn Clock>,
    folder: Folder,
    trusted: Trusted,
    /// A root that the operator vouches for, and that was not met yet.
    vouched: Option<Signed<Root>>,
    /// Since when that is so.
    unmet: Option<SystemTime>,
    bins: HashMap<Box<str>, Bin>,
    /// Bins that could not be had in the last sync, and why.
    broken: HashMap<Box<str>, Fault>,
    marks: Marks,
    marks_version: u64,
    /// When what registrars have signed of them ends.
    marks_end: SystemTime,
    known: BTreeMap<String, Known>,
    /// Of which something was known that cannot be read any more: not to be seen as for the first time.
    lost: BTreeMap<String, Option<KeySet>>,
    /// The names of the keys that the operator has accepted of those.
    accepted: BTreeMap<String, String>,
    /// Which member has a CA key.
    owners: Owners,
    /// When the directory was last in force.
    confirmed: SystemTime,
    /// What was wrong with the last sync.
    fault: Option<Fault>,
    /// What is remembered is of another directory than the operator vouches for.
    is_other: bool,
    /// What the host said that cannot both be true: until the operator has looked at it.
    alarm: Option<Fault>,
    members: Members,
    /// What we have said ourselves.
    own: Vec<SignedStatement>,
    /// As which version this directory has taken our last word as a member, and when, in seconds since 1970.
    own_word: Option<(u64, u64)>,
    /// What the directory has of us; `None`: that is not known.
    admitted: Option<Shown>,
}

impl Client {
    /// One that goes on from what its folder knows.
    ///
    /// # Errors
    /// When the folder cannot be used, or the root is none, or of another directory.
    pub fn open(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, SyncError> {
        let in_folder = |error| SyncError::Folder {
            path: settings.data.clone(),
            error,
        };
        let folder = Folder::open(&settings.data).map_err(in_folder)?;
        let (trusted, vouched) = sync::first_root(&settings, &folder)?;
        let (members, lost) = folder.members().map_err(in_folder)?;
        for domain in &lost {
            tracing::error!(
                domain,
                "what was known of this member cannot be read: it is not believed until its keys are accepted anew (sekisho federation accept-rekey)"
            );
        }
        let now = clock.now();
        let confirmed = folder.read("confirmed").map_err(in_folder)?;
        let confirmed =
            confirmed.and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse().ok());
        // What is said to have been confirmed tomorrow was confirmed by a clock that was wrong.
        let confirmed = confirmed.map_or(SystemTime::UNIX_EPOCH, time).min(now);
        let mut client = Self {
            settings,
            clock,
            folder,
            trusted,
            vouched,
            unmet: None,
            bins: HashMap::new(),
            broken: HashMap::new(),
            marks: Marks::default(),
            marks_version: 0,
            marks_end: SystemTime::UNIX_EPOCH,
            known: members
                .into_iter()
                .map(|one| (one.domain.to_string(), one))
                .collect(),
            lost: lost.into_iter().map(|domain| (domain, None)).collect(),
            accepted: BTreeMap::new(),
            owners: Owners::default(),
            confirmed,
            fault: None,
            is_other: false,
            alarm: None,
            members: Members::default(),
            own: Vec::new(),
            own_word: None,
            admitted: None,
        };
        client.remember_unmet(now);
        client.load();
        client.remember_alarm();
        client.publish(now);
        Ok(client)
    }

    /// The members, as they are known now.
    #[must_use]
    pub const fn members(&self) -> &Members {
        &self.members
    }

    /// What may be told of it.
    #[must_use]
    pub fn status(&self) -> Status {
        status::of(self)
    }

    /// After how long a member is not believed any more, if it is known.
    #[must_use]
    pub fn stale_after(&self, member: &TrustDomain) -> Option<Duration> {
        self.known
            .get(member.as_str())
            .map(|known| self.max_stale(known))
    }

    fn fault_of(&self, reason: &str, problem: &impl ToString) -> Fault {
        Fault {
            reason: reason.into(),
            problem: problem.to_string(),
            since: seconds(self.clock.now()),
        }
    }

    /// Takes the keys that the directory says are a member's, though nobody who could know has confirmed
    /// them: by the operator, who has compared the beginning of their name by other means. From the
    /// next sync on they are its keys. False where no keys of this name wait.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn accept_rekey(
        &mut self,
        member: &TrustDomain,
        fingerprint: &str,
    ) -> Result<bool, SyncError> {
        let is_it = |keys: &KeySet| {
            super::continuity::fingerprint(keys) == fingerprint || keys.id() == fingerprint
        };
        if self
            .lost
            .get(member.as_str())
            .and_then(Option::as_ref)
            .is_some_and(is_it)
        {
            let keys = self.lost.remove(member.as_str()).flatten();
            let keys = keys.map(|keys| keys.id()).unwrap_or_default();
            self.accepted.insert(member.to_string(), keys);
            self.broken.remove(member.as_str());
            return Ok(true);
        }
        let Some(known) = self.known.get_mut(member.as_str()) else {
            return Ok(false);
        };
        let waits = known
            .record
            .pending
            .as_ref()
            .is_some_and(|pending| is_it(&pending.keys));
        if !waits {
            return Ok(false);
        }
        if let Some(pending) = known.record.pending.take() {
            known.record.keys = pending.keys;
            known.record.recovery = None;
            known.record.heard.clear();
            known.record.revoked = None;
            known.record.bin_version = 0;
            known.record.standing = Standing::Member;
        }
        let known = known.clone();
        self.keep(&known, None)?;
        Ok(true)
    }

    /// Lets the bundle of a member go back, once. False if it is not known.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn accept_rollback(&mut self, member: &TrustDomain) -> Result<bool, SyncError> {
        let Some(known) = self.known.get_mut(member.as_str()) else {
            return Ok(false);
        };
        known.record.rollback = true;
        known.record.bin_version = 0;
        let known = known.clone();
        self.keep(&known, None)?;
        Ok(true)
    }

    fn keep(&self, known: &Known, descriptor: Option<&[u8]>) -> Result<(), SyncError> {
        let kept = self.folder.keep(known, descriptor);
        kept.map_err(|error| SyncError::Folder {
            path: self.settings.data.clone(),
            error,
        })
    }

    /// For how long a member is believed without a new word.
    fn max_stale(&self, known: &Known) -> Duration {
        let own = known.descriptor.max_stale;
        self.settings.max_stale.map_or(own, |most| most.min(own))
    }

    /// Makes the members anew of what is known.
    fn publish(&mut self, now: SystemTime) {
        let mut all = Vec::with_capacity(self.known.len());
        // What the operator vouches for may be another directory than the one that is remembered.
        let is_unmet = self
            .unmet
            .is_some_and(|since| now.duration_since(since).unwrap_or_default() >= UNMET);
        let is_other = self.is_other || is_unmet;
        for known in self.known.values().filter(|_| !is_other) {
            if known.record.standing != Standing::Member {
                continue;
            }
            match self.member(known, now) {
                Ok(member) => all.push(Arc::new(member)),
                Err(error) => {
                    let domain = &known.domain;
                    tracing::error!(%domain, %error, "member left out");
                }
            }
        }
        match Members::new(&self.settings.own, all) {
            Ok(members) => self.members = members,
            // It was never taken up.
            Err(error) => tracing::error!(%error, "members not published"),
        }
    }

    fn member(&self, known: &Known, now: SystemTime) -> Result<Member, MemberError> {
        let confirmed = self.confirmed_at(known);
        // As long as a member that has not signed again: then they count no more.
        let neglected = now.duration_since(self.marks_end).unwrap_or_default() > MAX_STALE;
        let mut marks = match neglected {
            true => BTreeSet::new(),
            false => self.marks.of(&known.domain),
        };
        while marks.len() > MAX_MARKS {
            marks.pop_last();
        }
        let member = Member::new(known.domain.clone(), Vouches::Directory, confirmed)
            .with_marks(marks)?
            .with_services(known.descriptor.services.iter().cloned())?;
        let age = now.duration_since(confirmed).unwrap_or_default();
        // A CA key that another has shown to be its own: by this bundle nobody is verified.
        if age > self.max_stale(known) || self.owners.is_displaced(&known.descriptor.bundle) {
            return Ok(member);
        }
        member.with_bundle(Arc::clone(&known.descriptor.bundle))
    }

    /// When the directory last confirmed a member.
    fn confirmed_at(&self, known: &Known) -> SystemTime {
        if known.record.fault.is_none() {
            return self.confirmed;
        }
        time(known.record.confirmed)
    }

    /// Whether somebody may be a member at all.
    fn may_be(&self, domain: &TrustDomain) -> bool {
        *domain != self.settings.own && names::fits(domain)
    }
}

/// Bins as they were read in one sync, or why they were not: word and text.
type Read = HashMap<Box<str>, Result<Arc<Targets>, (&'static str, String)>>;
