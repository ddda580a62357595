//! A new directory: drafts of its root, its bins and its marks, for those who have to sign them.

use std::{
    collections::HashMap,
    num::NonZeroU64,
    time::{Duration, SystemTime},
};

use super::{DraftState, Repository, RepositoryError, draft::Draft, target_file};
use crate::directory::{
    continuity::KeySet,
    key::{PublicKey, Signer},
    marks::Marks,
    metadata::{
        self, Decoded, DelegatedRole, Delegations, Hex, Key, PathHashPrefix, PathPattern, PathSet,
        Role, RoleKeys, RoleType, Root, SPEC, Signed, Target, TargetName, Targets,
    },
    names,
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long what institutions sign is valid.
pub(super) const INSTITUTIONS: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long what registrars sign is valid: neglect must not end a federation.
pub(super) const REGISTRARS: Duration = Duration::from_secs(180 * 24 * 3600);

/// Who keeps a new directory.
#[derive(Clone, Debug)]
pub struct Init {
    /// The keys of the institutions, and how many of them sign root and targets.
    pub institutions: KeySet,
    /// The keys of the registrars, and how many of them admit, suspend and expel.
    pub registrars: KeySet,
    /// The key of the host: online.
    pub host: PublicKey,
    /// How many bins: 1, 16 or 256.
    pub bins: usize,
}

pub(super) fn role_keys(set: &KeySet) -> RoleKeys {
    RoleKeys {
        keyids: set.keys().iter().map(PublicKey::keyid).collect(),
        threshold: set.threshold(),
        _extra: HashMap::new(),
    }
}

/// A root of which these are the keys.
pub(super) fn root(
    version: NonZeroU64,
    institutions: &KeySet,
    host: &PublicKey,
    now: SystemTime,
) -> Root {
    let all = institutions.keys().iter().chain([host]);
    let keys: HashMap<Decoded<Hex>, Key> = all.map(|key| (key.keyid(), key.0.clone())).collect();
    let online = RoleKeys {
        keyids: vec![host.keyid()],
        threshold: NonZeroU64::MIN,
        _extra: HashMap::new(),
    };
    Root {
        spec_version: SPEC.into(),
        consistent_snapshot: true,
        version,
        expires: metadata::until(now, INSTITUTIONS),
        keys,
        roles: [
            (RoleType::Root, role_keys(institutions)),
            (RoleType::Targets, role_keys(institutions)),
            (RoleType::Snapshot, online.clone()),
            (RoleType::Timestamp, online),
        ]
        .into(),
        _extra: HashMap::new(),
    }
}

/// The role `targets`: it has no targets of its own, and delegates bins and marks to the registrars.
pub(super) fn targets(
    version: NonZeroU64,
    registrars: &KeySet,
    bins: usize,
    now: SystemTime,
) -> Result<Targets, RepositoryError> {
    let (keys, _) = registrars.delegation(names::MARKS);
    let delegated = |name: &str, paths| DelegatedRole {
        name: name.into(),
        keyids: registrars.keys().iter().map(PublicKey::keyid).collect(),
        threshold: registrars.threshold(),
        paths,
        terminating: true,
        targets: None,
    };
    // Before the bins, whose prefixes it would be under too.
    let mut roles = vec![delegated(names::MARKS, exactly(names::MARKS_TARGET)?)];
    for (name, prefixes) in names::bins(bins) {
        if bins == 1 {
            roles.push(delegated(&name, exactly(names::ALL_MEMBERS)?));
            continue;
        }
        let prefixes = prefixes.into_iter().map(PathHashPrefix::new);
        let prefixes = prefixes.collect::<Result<_, _>>().map_err(refused)?;
        roles.push(delegated(&name, PathSet::PathHashPrefixes(prefixes)));
    }
    let mut targets = Targets::new(SPEC.into(), version, metadata::until(now, INSTITUTIONS));
    targets.delegations = Some(Delegations { keys, roles });
    Ok(targets)
}

/// Exactly this target.
pub(super) fn exactly(target: &str) -> Result<PathSet, RepositoryError> {
    Ok(PathSet::Paths(vec![
        PathPattern::new(target).map_err(refused)?,
    ]))
}

pub(super) fn refused(error: impl ToString) -> RepositoryError {
    RepositoryError::Refused(error.to_string())
}

/// A role of targets that has this one.
pub(super) fn exactly_one(
    mut role: Targets,
    name: &str,
    bytes: &[u8],
) -> Result<Targets, RepositoryError> {
    let (hashes, length) = metadata::hashes(bytes);
    let target = Target {
        length,
        hashes,
        custom: HashMap::new(),
        _extra: HashMap::new(),
    };
    role.targets = [(TargetName::new(name).map_err(refused)?, target)].into();
    Ok(role)
}

impl Repository {
    /// Whether there is no directory here yet.
    ///
    /// # Errors
    /// When there is one, or the folder cannot be read.
    pub fn may_begin(&self) -> Result<(), RepositoryError> {
        if self.newest("root", 0) > 0 || self.draft("root")?.is_some() {
            return Err(RepositoryError::Exists(format!(
                "{}: there is a directory already",
                self.folder.display()
            )));
        }
        Ok(())
    }

    /// Drafts a new directory in an empty folder, and signs what these keys may sign. What is complete
    /// is published at once; the rest is for the others to sign.
    ///
    /// # Errors
    /// When there is a directory already, or the folder cannot be written.
    pub fn init(
        &self,
        init: &Init,
        signers: &[&dyn Signer],
        now: SystemTime,
    ) -> Result<Vec<DraftState>, RepositoryError> {
        self.may_begin()?;
        if !names::BINS.contains(&init.bins) {
            return Err(RepositoryError::Refused("1, 16 or 256 bins".into()));
        }
        let one = NonZeroU64::MIN;
        let unsigned = |signed| Signed {
            signed,
            signatures: Vec::new(),
        };
        let root = root(one, &init.institutions, &init.host, now);
        let root = Signed {
            signed: root,
            signatures: Vec::new(),
        };
        self.save_draft("root", &Draft::Root(root))?;
        let targets = targets(one, &init.registrars, init.bins, now)?;
        self.save_draft("targets", &Draft::Targets(unsigned(targets)))?;
        for (name, _) in names::bins(init.bins) {
            let bin = empty_bin(one, now);
            self.save_draft(&name, &Draft::Targets(unsigned(bin)))?;
        }
        let text = Marks::default().to_json();
        let marks = Targets::new(SPEC.into(), one, metadata::until(now, REGISTRARS));
        let marks = exactly_one(marks, names::MARKS_TARGET, &text)?;
        self.publish(
            &target_file(&metadata::sha256(&text), names::MARKS_TARGET),
            &text,
        )?;
        self.save_draft(names::MARKS, &Draft::Targets(unsigned(marks)))?;
        let mut roles = vec!["root".to_owned(), "targets".into(), names::MARKS.into()];
        roles.extend(names::bins(init.bins).into_iter().map(|(name, _)| name));
        for role in &roles {
            self.sign_what_may_be(role, signers)?;
        }
        let states = self.drafts()?;
        for role in &roles {
            self.publish_if_complete(role)?;
        }
        Ok(states)
    }

    /// Signs by those of the keys that may.
    pub(super) fn sign_what_may_be(
        &self,
        role: &str,
        signers: &[&dyn Signer],
    ) -> Result<(), RepositoryError> {
        match self.sign_draft(role, signers) {
            Ok(_) | Err(RepositoryError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// A bin without members.
pub(super) fn empty_bin(version: NonZeroU64, now: SystemTime) -> Targets {
    let mut bin = Targets::new(SPEC.into(), version, metadata::until(now, REGISTRARS));
    bin.delegations = Some(Delegations {
        keys: HashMap::new(),
        roles: Vec::new(),
    });
    bin
}

/// When a role is to be signed again: a third of its life before its end.
pub(super) fn is_due<T: Role>(role: &T, life: Duration, now: SystemTime) -> bool {
    let end: SystemTime = role.expires().into();
    end.duration_since(now).unwrap_or_default() < (life / 3).max(DAY)
}
