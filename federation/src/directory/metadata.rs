//! TUF metadata: read, checked, signed. The only place that knows `tough`, whose schema and
//! verification these are.

mod written;

use std::{
    num::NonZeroU64,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA256, digest};
use olpc_cjson::CanonicalFormatter;
use sekisho_certs::hex;
use serde::{Serialize, de::DeserializeOwned};
pub(crate) use tough::{
    TargetName,
    schema::{
        DelegatedRole, Delegations, Hashes, Metafile, PathHashPrefix, PathPattern, PathSet, Role,
        RoleKeys, RoleType, Root, Signature, Signed, Snapshot, Target, Targets, Timestamp,
        decoded::{Decoded, Hex},
        key::Key,
    },
};

use super::{
    key::{KeyError, PublicKey, Signer},
    names,
};

pub(crate) use written::snapshot_signed_by_root;

/// The version of the TUF specification that is followed.
pub(crate) const SPEC: &str = "1.0.31";

/// Why a file of a directory is refused. It names the file, which names its role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Its time is over.
    #[error("{file}: expired at {at}")]
    Expired {
        /// Which.
        file: String,
        /// When, by RFC 3339.
        at: String,
    },
    /// It is not what was announced.
    #[error("{file}: its SHA-256 or length is not what was announced")]
    Hash {
        /// Which.
        file: String,
    },
    /// It is no metadata of this role.
    #[error("{file}: {problem}")]
    Json {
        /// Which.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// It is not signed by those who have to.
    #[error("{file}: {problem}")]
    Signatures {
        /// Which.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// It is longer than it may be.
    #[error("{file}: longer than {limit} bytes")]
    TooLarge {
        /// Which.
        file: String,
        /// The bound.
        limit: usize,
    },
    /// It says that it is another version than it was asked for as, or is older than one that was seen.
    #[error("{file}: has version {found}, {expected} was expected")]
    Version {
        /// Which.
        file: String,
        /// What it says.
        found: u64,
        /// What was to be.
        expected: String,
    },
}

impl MetadataError {
    /// The word for it in log, metric and status.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "expired",
            Self::Hash { .. } => "hash",
            Self::Json { .. } => "malformed",
            Self::Signatures { .. } => "signatures",
            Self::TooLarge { .. } => "too_large",
            Self::Version { .. } => "version",
        }
    }
}

/// Reads a file.
pub(crate) fn parse<T: DeserializeOwned>(
    file: &str,
    bytes: &[u8],
) -> Result<Signed<T>, MetadataError> {
    serde_json::from_slice(bytes).map_err(|error| MetadataError::Json {
        file: file.into(),
        problem: error.to_string(),
    })
}

/// Reads metadata of a role as a client does that checks it: its form, its canonical form, and for a root
/// its own signatures. The version that it says it has.
///
/// # Errors
/// When it is none, or a root that its own keys have not signed.
pub fn look_at(role: &str, bytes: &[u8]) -> Result<u64, MetadataError> {
    fn form<T: DeserializeOwned + Dated>(role: &str, bytes: &[u8]) -> Result<u64, MetadataError> {
        let signed = parse::<T>(role, bytes)?;
        let json = |error: serde_json::Error| MetadataError::Json {
            file: role.into(),
            problem: error.to_string(),
        };
        canonical(&signed.signed).map_err(json)?;
        Ok(signed.signed.number())
    }
    match role {
        "root" => {
            let root = parse::<Root>(role, bytes)?;
            signed_by_root(role, &root.signed, &root)?;
            Ok(root.signed.number())
        }
        "timestamp" => form::<Timestamp>(role, bytes),
        "snapshot" => form::<Snapshot>(role, bytes),
        _ => form::<Targets>(role, bytes),
    }
}

/// What every role has.
pub(crate) trait Dated: Role + Serialize {
    /// Its version.
    fn number(&self) -> u64 {
        self.version().get()
    }

    /// When its time is over.
    fn end(&self) -> SystemTime {
        self.expires().into()
    }
}

impl<T: Role + Serialize> Dated for T {}

/// Refuses what has expired at `now`.
pub(crate) fn fresh<T: Dated>(file: &str, role: &T, now: SystemTime) -> Result<(), MetadataError> {
    if now < role.end() {
        return Ok(());
    }
    Err(MetadataError::Expired {
        file: file.into(),
        at: role.expires().to_string(),
    })
}

/// Refuses a version other than this one.
pub(crate) fn is_version<T: Dated>(
    file: &str,
    role: &T,
    expected: u64,
) -> Result<(), MetadataError> {
    if role.number() == expected {
        return Ok(());
    }
    Err(MetadataError::Version {
        file: file.into(),
        found: role.number(),
        expected: expected.to_string(),
    })
}

/// Checks a top-level role against the keys and the threshold that the root has for it.
pub(crate) fn signed_by_root<T: Dated>(
    file: &str,
    root: &Root,
    role: &Signed<T>,
) -> Result<(), MetadataError> {
    root.verify_role(role)
        .map_err(|error| signatures(file, &error))
}

/// Checks a delegated role against the keys and the threshold that its delegator has for it.
pub(crate) fn signed_by_delegates(
    file: &str,
    delegations: &Delegations,
    role: &Signed<Targets>,
    name: &str,
) -> Result<(), MetadataError> {
    delegations
        .verify_role(role, name)
        .map_err(|error| signatures(file, &error))
}

fn signatures(file: &str, error: &impl ToString) -> MetadataError {
    MetadataError::Signatures {
        file: file.into(),
        problem: error.to_string(),
    }
}

/// A value as it is signed: OLPC's canonical JSON (TUF §4.2).
pub(crate) fn canonical<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    let formatter = CanonicalFormatter::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer)?;
    Ok(bytes)
}

/// Adds the signature of each key, in place of one that it has made before.
///
/// # Errors
/// When a key does not sign.
pub(crate) fn sign<T: Serialize>(
    role: &mut Signed<T>,
    signers: &[&dyn Signer],
) -> Result<(), KeyError> {
    let message = canonical(&role.signed)?;
    for signer in signers {
        let keyid = signer.public().keyid();
        let sig = signer.sign(&message)?.into();
        role.signatures.retain(|one| one.keyid != keyid);
        role.signatures.push(Signature { keyid, sig });
    }
    Ok(())
}

/// The SHA-256 and length of a file, as another names it.
pub(crate) fn hashes(bytes: &[u8]) -> (Hashes, u64) {
    let hashes = Hashes {
        sha256: digest(&SHA256, bytes).as_ref().to_vec().into(),
        _extra: Default::default(),
    };
    (hashes, bytes.len() as u64)
}

/// Refuses a file that is not what another has named.
pub(crate) fn is_what_was_named(
    file: &str,
    bytes: &[u8],
    hashes: Option<&Hashes>,
    length: Option<u64>,
) -> Result<(), MetadataError> {
    let same_length = length.is_none_or(|length| length == bytes.len() as u64);
    let same_hash =
        hashes.is_none_or(|named| digest(&SHA256, bytes).as_ref() == named.sha256.as_ref());
    if same_length && same_hash {
        return Ok(());
    }
    Err(MetadataError::Hash { file: file.into() })
}

/// The SHA-256 of bytes, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// Whole seconds, as TUF has them: `now` and so much more.
pub(crate) fn until(now: SystemTime, life: Duration) -> jiff::Timestamp {
    let end = now + life;
    let seconds = end
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX)
}

/// Whether a key has signed a root.
pub(crate) fn has_signed_root(key: &PublicKey, signed: &Signed<Root>) -> bool {
    let mut alone = signed.signed.clone();
    let keyid = key.keyid();
    alone.keys = [(keyid.clone(), key.0.clone())].into();
    let role = RoleKeys {
        keyids: vec![keyid],
        threshold: NonZeroU64::MIN,
        _extra: Default::default(),
    };
    alone.roles = [(RoleType::Root, role)].into();
    alone.verify_role(signed).is_ok()
}

/// Whether a key has signed a role of targets.
pub(crate) fn has_signed_targets(key: &PublicKey, signed: &Signed<Targets>) -> bool {
    let keyid = key.keyid();
    let delegations = Delegations {
        keys: [(keyid.clone(), key.0.clone())].into(),
        roles: vec![DelegatedRole {
            name: "one".into(),
            keyids: vec![keyid],
            threshold: NonZeroU64::MIN,
            paths: PathSet::Paths(Vec::new()),
            terminating: true,
            targets: None,
        }],
    };
    delegations.verify_role(signed, "one").is_ok()
}

/// A target of a role.
pub(crate) fn target<'a>(role: &'a Targets, name: &str) -> Option<&'a Target> {
    let found = role.targets.iter().find(|(one, _)| one.raw() == name);
    found.map(|(_, target)| target)
}

/// Whether a delegated role has the members' targets whose hash this is.
pub(crate) fn has_prefix(role: &DelegatedRole, hash: &str) -> bool {
    match &role.paths {
        PathSet::PathHashPrefixes(all) => all.iter().any(|prefix| hash.starts_with(prefix.value())),
        PathSet::Paths(all) => matches!(all.as_slice(), [one] if one.value() == names::ALL_MEMBERS),
    }
}

/// Whether a delegated role has exactly this target, and no other.
pub(crate) fn is_exactly(role: &DelegatedRole, target: &str) -> bool {
    match &role.paths {
        PathSet::Paths(all) => matches!(all.as_slice(), [one] if one.value() == target),
        PathSet::PathHashPrefixes(_) => false,
    }
}

/// Refuses a root that does not follow another: by one version, signed by the keys of both (TUF §5.3).
pub(crate) fn next_root(
    file: &str,
    before: &Root,
    next: &Signed<Root>,
) -> Result<(), MetadataError> {
    is_version(file, &next.signed, before.number().saturating_add(1))?;
    signed_by_root(file, before, next)?;
    signed_by_root(file, &next.signed, next)
}
