//! What a client knows of a member, and keeps: its keys as they were first seen, what it last said,
//! and what is wrong.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use sekisho_certs::{TrustDomain, id::parse_trust_domain, persist};
use serde::{Deserialize, Serialize};

use crate::directory::{
    continuity::{KeySet, SignedStatement},
    descriptor::Descriptor,
    following::POLL,
};

/// How a member stands with us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is believed.
    Member,
    /// The registrars say that it is none for now.
    Suspended,
    /// The registrars say that it is none any more.
    Expelled,
    /// It has itself said that its keys are not to be trusted.
    Revoked,
}

impl Standing {
    /// The word for it in status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Suspended => "suspended",
            Self::Expelled => "expelled",
            Self::Revoked => "revoked",
        }
    }
}

/// What is wrong with a member, and with nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Fault {
    /// The word for it, which stays the same: `expired`, `hash`, `malformed`, `signatures`, `too_large`,
    /// `version`, `rollback`, `missing`, `unreachable`, `descriptor`, `rekey`, `vetoed`, `shared_key`,
    /// `revoked`, `delegation`, `lost`; of what is said of ourselves `behind`.
    pub reason: String,
    /// What it is, for people.
    pub problem: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

/// Two looks that are no further apart than this have missed nothing that matters: three polls.
const CLOSE: Duration = POLL.saturating_mul(3);

/// Keys that the directory says are a member's, and that nobody who could know has confirmed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Pending {
    pub(super) keys: KeySet,
    /// Since when they are seen, in seconds since 1970.
    pub(super) since: u64,
    /// When they were last seen, the same way.
    #[serde(default)]
    pub(super) last: u64,
    /// For so long, in seconds, somebody has looked: without the times in which a veto could not have been seen.
    #[serde(default)]
    pub(super) watched: u64,
}

impl Pending {
    /// Keys that are seen at `now`, after these were.
    pub(super) fn seen(keys: &KeySet, before: Option<&Self>, now: SystemTime) -> Self {
        let now = seconds(now);
        let Some(before) = before.filter(|before| before.keys.id() == keys.id()) else {
            return Self {
                keys: keys.clone(),
                since: now,
                last: now,
                watched: 0,
            };
        };
        let passed = now.saturating_sub(before.last);
        let is_watched = passed <= CLOSE.as_secs();
        Self {
            keys: keys.clone(),
            since: before.since,
            last: now,
            watched: before.watched + if is_watched { passed } else { 0 },
        }
    }
}

/// As it is kept.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Record {
    pub(super) keys: KeySet,
    /// The ID of its recovery key, as it was first named.
    pub(super) recovery: Option<String>,
    /// The version of its role, and of its bin, that this comes from.
    pub(super) version: u64,
    pub(super) bin_version: u64,
    /// When what it has signed ends, in seconds since 1970.
    pub(super) end: u64,
    /// When the directory last confirmed it, in seconds since 1970. Where nothing is wrong, it is the
    /// time of the last sync that counts.
    pub(super) confirmed: u64,
    pub(super) standing: Standing,
    pub(super) pending: Option<Pending>,
    /// What other sites have told that it has said.
    #[serde(default)]
    pub(super) heard: Vec<SignedStatement>,
    /// The name of its keys, if they have revoked themselves: whatever becomes of the member, these keys
    /// never count again.
    #[serde(default)]
    pub(super) revoked: Option<String>,
    /// The bin that this comes from.
    #[serde(default)]
    pub(super) bin: String,
    /// Its bundle may go back once: the operator has said so.
    pub(super) rollback: bool,
    pub(super) fault: Option<Fault>,
}

impl Record {
    /// Whether its keys have revoked themselves.
    pub(super) fn is_revoked(&self) -> bool {
        self.revoked
            .as_ref()
            .is_some_and(|keys| *keys == self.keys.id())
    }
}

/// A member that is known.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) domain: TrustDomain,
    pub(super) record: Record,
    pub(super) descriptor: Arc<Descriptor>,
    /// The bin that it is in; empty: to be found.
    pub(super) bin: Box<str>,
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

pub(super) fn time(seconds: u64) -> SystemTime {
    // What a file says may be more than there is.
    let most = u64::from(u32::MAX) * 2;
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(most))
}

/// The folder in which a client keeps what it knows.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

/// Most bytes of a file that we have written.
const MOST: u64 = 16 * 1024 * 1024;

impl Folder {
    /// Makes it, of its owner alone.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        for folder in [
            path.to_owned(),
            path.join("members"),
            path.join("roots"),
            path.join("bins"),
        ] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        Ok(Self(path.to_owned()))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        use io::Read as _;
        let mut bytes = Vec::new();
        match fs::File::open(self.path(name)) {
            Ok(file) => file.take(MOST).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(bytes))
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        persist::replace(&self.path(name), bytes, false)
    }

    /// The version of the newest root that was checked; `None`: none was.
    pub(super) fn newest_root(&self) -> io::Result<Option<u64>> {
        let mut newest = None;
        for entry in fs::read_dir(self.path("roots"))? {
            let name = entry?.file_name();
            let version = name
                .to_str()
                .and_then(|name| name.strip_suffix(".json")?.parse().ok());
            newest = newest.max(version);
        }
        Ok(newest)
    }

    /// What is known of members. Those of whom a file cannot be read are the second: who was
    /// seen once must not be seen as for the first time.
    pub(super) fn members(&self) -> io::Result<(Vec<Known>, Vec<String>)> {
        let (mut members, mut lost) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(self.path("members"))? {
            let name = entry?.file_name();
            let Some(domain) = name
                .to_str()
                .and_then(|name| name.strip_suffix(".member"))
                .and_then(|name| parse_trust_domain(name).ok())
            else {
                continue;
            };
            match self.member(&domain) {
                Some(known) => members.push(known),
                None => lost.push(domain.to_string()),
            }
        }
        Ok((members, lost))
    }

    fn member(&self, domain: &TrustDomain) -> Option<Known> {
        let record = self.read(&record_of(domain)).ok()??;
        let record: Record = serde_json::from_slice(&record).ok()?;
        let descriptor = self.read(&descriptor_of(domain)).ok()??;
        let descriptor = Descriptor::read(domain, &descriptor).ok()?;
        Some(Known {
            domain: domain.clone(),
            record,
            descriptor: Arc::new(descriptor),
            bin: "".into(),
        })
    }

    /// Keeps what is known of a member; its descriptor where it is new, first.
    pub(super) fn keep(&self, known: &Known, descriptor: Option<&[u8]>) -> io::Result<()> {
        if let Some(descriptor) = descriptor {
            self.write(&descriptor_of(&known.domain), descriptor)?;
        }
        let record = serde_json::to_vec(&known.record).map_err(io::Error::other)?;
        self.write(&record_of(&known.domain), &record)
    }
}

fn record_of(domain: &TrustDomain) -> String {
    format!("members/{domain}.member")
}

fn descriptor_of(domain: &TrustDomain) -> String {
    format!("members/{domain}.descriptor")
}
