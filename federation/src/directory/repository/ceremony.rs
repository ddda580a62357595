//! What institutions change together: the root, the registrars, the number of bins.

use std::{num::NonZeroU64, time::SystemTime};

use super::{
    DraftState, Repository, RepositoryError,
    draft::{Draft, of_root},
    init::{empty_bin, root, targets},
};
use crate::directory::{
    continuity::KeySet,
    key::PublicKey,
    metadata::{self, Dated as _, RoleType, Signed},
    names,
};

/// What a new root, or new targets, change. What is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct RootChange {
    /// The keys of the institutions, and how many of them sign.
    pub institutions: Option<KeySet>,
    /// The key of the host.
    pub host: Option<PublicKey>,
    /// The keys of the registrars, and how many of them sign.
    pub registrars: Option<KeySet>,
    /// How many bins there are: members are sorted into them anew, and the registrars sign each.
    pub bins: Option<usize>,
}

impl Repository {
    /// Drafts the next root, valid for a year from `now`: the same keys, but for what changes.
    ///
    /// # Errors
    /// When there is no directory, or it cannot be written.
    pub fn propose_root(
        &self,
        change: &RootChange,
        now: SystemTime,
    ) -> Result<DraftState, RepositoryError> {
        let before = self.root()?.signed.signed;
        let version = next(before.number())?;
        let institutions = match &change.institutions {
            Some(set) => set.clone(),
            None => of_root(&before, RoleType::Root)?,
        };
        let host = match &change.host {
            Some(key) => key.clone(),
            None => self.host_key()?,
        };
        let draft = Signed {
            signed: root(version, &institutions, &host, now),
            signatures: Vec::new(),
        };
        self.save_draft("root", &Draft::Root(draft))?;
        self.draft_state("root")
    }

    /// The key of the host, by the root.
    ///
    /// # Errors
    /// When there is no directory.
    pub fn host_key(&self) -> Result<PublicKey, RepositoryError> {
        let set = of_root(&self.root()?.signed.signed, RoleType::Timestamp)?;
        let first = set.keys().first().cloned();
        first.ok_or_else(|| RepositoryError::Missing("the root names no key of the host".into()))
    }

    /// The keys of the institutions, by the root.
    ///
    /// # Errors
    /// When there is no directory.
    pub fn institutions_keys(&self) -> Result<KeySet, RepositoryError> {
        of_root(&self.root()?.signed.signed, RoleType::Root)
    }

    /// The keys of the registrars, by the targets.
    ///
    /// # Errors
    /// When there is no directory.
    pub fn registrars_keys(&self) -> Result<KeySet, RepositoryError> {
        let targets = self.targets_there("targets")?.signed.signed;
        let keys = targets.delegations.as_ref().and_then(|all| {
            let marks = all.roles.iter().find(|one| one.name == names::MARKS)?;
            KeySet::of_role(all, marks)
        });
        keys.ok_or_else(|| RepositoryError::Missing("the targets name no registrars".into()))
    }

    /// The names of the bins, by the targets.
    ///
    /// # Errors
    /// When there is no directory.
    pub fn bin_names(&self) -> Result<Vec<String>, RepositoryError> {
        let targets = self.targets_there("targets")?.signed.signed;
        let roles = targets.delegations.map(|all| all.roles).unwrap_or_default();
        let names = roles.into_iter().map(|role| role.name);
        Ok(names.filter(|name| name != names::MARKS).collect())
    }

    /// Drafts the next targets, valid for a year from `now`: the registrars and bins of before, but for
    /// what changes. Where the number of bins changes, each new bin is drafted too, with the members
    /// that belong there.
    ///
    /// # Errors
    /// When there is no directory, or it cannot be written.
    pub fn propose_targets(
        &self,
        change: &RootChange,
        now: SystemTime,
    ) -> Result<Vec<DraftState>, RepositoryError> {
        let before = self.targets_there("targets")?.signed.signed;
        let version = next(before.number())?;
        let registrars = match &change.registrars {
            Some(set) => set.clone(),
            None => self.registrars_keys()?,
        };
        let old = self.bin_names()?;
        let bins = change.bins.unwrap_or(old.len());
        if !names::BINS.contains(&bins) {
            return Err(RepositoryError::Refused("1, 16 or 256 bins".into()));
        }
        let draft = Signed {
            signed: targets(version, &registrars, bins, now)?,
            signatures: Vec::new(),
        };
        self.save_draft("targets", &Draft::Targets(draft))?;
        let mut states = vec![self.draft_state("targets")?];
        let is_changed = bins != old.len() || change.registrars.is_some();
        if !is_changed {
            return Ok(states);
        }
        // Of registrars who have changed, the new ones sign what the old ones had signed.
        let marks = self.targets_there(names::MARKS)?.signed.signed;
        self.redraft(names::MARKS, marks, now)?;
        let members = self.all_members(&old)?;
        for (name, prefixes) in names::bins(bins) {
            let known = self.targets(&name)?;
            let version = next(known.map_or(0, |found| found.signed.signed.number()))?;
            let mut bin = empty_bin(version, now);
            for one in &members {
                let hash = names::path_hash(&one.target);
                if prefixes.iter().any(|prefix| hash.starts_with(prefix)) {
                    one.put(&mut bin);
                }
            }
            let draft = Signed {
                signed: bin,
                signatures: Vec::new(),
            };
            self.save_draft(&name, &Draft::Targets(draft))?;
            states.push(self.draft_state(&name)?);
        }
        Ok(states)
    }

    /// Drafts the next version of a role that registrars sign, the same but for its end.
    ///
    /// # Errors
    /// When there is no such role.
    pub fn propose_again(
        &self,
        role: &str,
        now: SystemTime,
    ) -> Result<DraftState, RepositoryError> {
        let before = self.targets_there(role)?.signed.signed;
        self.redraft(role, before, now)
    }

    fn redraft(
        &self,
        role: &str,
        mut signed: metadata::Targets,
        now: SystemTime,
    ) -> Result<DraftState, RepositoryError> {
        signed.version = next(signed.number())?;
        signed.expires = metadata::until(now, super::init::REGISTRARS);
        let draft = Signed {
            signed,
            signatures: Vec::new(),
        };
        self.save_draft(role, &Draft::Targets(draft))?;
        self.draft_state(role)
    }

    pub(super) fn draft_state(&self, role: &str) -> Result<DraftState, RepositoryError> {
        let states = self.drafts()?;
        let found = states.into_iter().find(|state| state.role == role);
        found.ok_or_else(|| RepositoryError::Missing(format!("there is no draft of {role}")))
    }
}

pub(super) fn next(version: u64) -> Result<NonZeroU64, RepositoryError> {
    let next = version.checked_add(1).and_then(NonZeroU64::new);
    next.ok_or_else(|| RepositoryError::Refused("there is no version after this one".into()))
}
