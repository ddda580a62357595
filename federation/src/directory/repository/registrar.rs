//! What registrars do: admit, suspend and expel members, and give marks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::SystemTime,
};

use sekisho_certs::{TrustDomain, members::Mark};

use super::{
    DraftState, Repository, RepositoryError, Submission,
    ceremony::next,
    draft::Draft,
    init::{REGISTRARS, exactly, exactly_one},
    placed::{Admitted, Placed, bin_in, insert, members_of, remove, set_suspended, suspended},
    target_file,
};
use crate::directory::{
    continuity::KeySet,
    key::{KeyError, Signer},
    marks::{self, Marks},
    metadata::{self, Dated as _, Signed, Targets},
    names,
};

/// Where the suspended members of a bin stand in it: of no meaning to other programs, for which they
/// are not there.
pub(crate) const SUSPENDED: &str = "suspended";

/// How a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It is one.
    Member,
    /// It is one whose keys count for nothing for now.
    Suspended,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Member => "member",
            Self::Suspended => "suspended",
        })
    }
}

impl Repository {
    /// The members in these bins.
    pub(super) fn all_members(&self, bins: &[String]) -> Result<Vec<Placed>, RepositoryError> {
        let mut all = Vec::new();
        for bin in bins {
            if let Some(found) = self.targets(bin)? {
                all.extend(members_of(&found.signed.signed));
            }
        }
        Ok(all)
    }

    /// The bin that a member is in, or would be.
    ///
    /// # Errors
    /// When there is no directory.
    pub fn bin_of(&self, member: &TrustDomain) -> Result<String, RepositoryError> {
        bin_in(&self.targets_there("targets")?.signed.signed, member)
    }

    /// What is published of a role that registrars sign, by those who have to: not whatever lies in the
    /// folder.
    fn published(&self, role: &str) -> Result<Targets, RepositoryError> {
        let root = self.root()?.signed.signed;
        let targets = self.targets_there("targets")?;
        metadata::signed_by_root(&targets.file, &root, &targets.signed)?;
        let found = self.targets_there(role)?;
        let by = targets.signed.signed.delegations.unwrap_or_default();
        metadata::signed_by_delegates(&found.file, &by, &found.signed, role)?;
        Ok(found.signed.signed)
    }

    /// Drafts a change of a role that registrars sign, and signs it by these keys. Where the same
    /// change is drafted already, its signatures stay, and these come to them.
    fn change(
        &self,
        role: &str,
        signers: &[&dyn Signer],
        now: SystemTime,
        edit: impl FnOnce(&mut Targets) -> Result<(), RepositoryError>,
    ) -> Result<DraftState, RepositoryError> {
        let published = self.published(role)?;
        let version = next(published.number())?;
        let draft = match self.draft(role)? {
            Some(Draft::Targets(draft)) if draft.signed.version == version => Some(draft),
            _ => None,
        };
        // What we have signed ourselves we have agreed to: this comes to it. Whatever else stands in a draft
        // was put there by somebody whom nobody has asked.
        let ours = |draft: &Signed<Targets>| {
            let mut signers = signers.iter();
            signers.any(|one| metadata::has_signed_targets(&one.public(), draft))
        };
        let mut after = match &draft {
            Some(draft) if ours(draft) => draft.signed.clone(),
            _ => Targets {
                version,
                expires: metadata::until(now, REGISTRARS),
                ..published.clone()
            },
        };
        let base = published;
        if let Some(draft) = &draft {
            after.expires = draft.signed.expires;
        }
        edit(&mut after)?;
        let unchanged = Targets {
            version: after.version,
            expires: after.expires,
            ..base
        };
        if draft.is_none() && after == unchanged {
            // It is so already: there is nothing for anybody to sign.
            return Ok(DraftState {
                role: role.into(),
                version: unchanged.version.get().saturating_sub(1),
                signatures: Vec::new(),
            });
        }
        let next = match draft {
            // The next registrar says the same.
            Some(draft) if draft.signed == after => draft,
            Some(draft) if !ours(&draft) => {
                return Err(RepositoryError::Refused(format!(
                    "the draft of the role {role} has other changes than this one, which you have not signed: look at it (sekisho directory root show --of {role}), then sign it whole (root sign --of {role}), or discard it (root discard --of {role})"
                )));
            }
            _ => Signed {
                signed: after,
                signatures: Vec::new(),
            },
        };
        let next = Draft::Targets(next);
        // Nothing is left behind by somebody who has no say.
        self.able(role, &next, signers)?;
        self.save_draft(role, &next)?;
        self.sign_draft(role, signers)?;
        self.publish_if_complete(role)
    }

    /// Admits a member, or takes its new keys: by one registrar. The next one does the same, and when as
    /// many have as have to, it is published, with what the member has sent.
    ///
    /// # Errors
    /// When what was sent does not hold, or a key is none of a registrar's.
    pub fn admit(
        &self,
        sent: &Submission,
        signers: &[&dyn Signer],
        now: SystemTime,
    ) -> Result<DraftState, RepositoryError> {
        let states = self.admit_all(&[sent], signers, now)?;
        let state = states.into_iter().next();
        state.ok_or_else(|| RepositoryError::Missing("there is no bin".into()))
    }

    /// The same for several at a time: each bin is signed once.
    ///
    /// # Errors
    /// When what one has sent does not hold, or does not follow what is there: then nothing is done.
    pub fn admit_all(
        &self,
        sent: &[&Submission],
        signers: &[&dyn Signer],
        now: SystemTime,
    ) -> Result<Vec<DraftState>, RepositoryError> {
        let targets = self.targets_there("targets")?.signed.signed;
        let mut by_bin: BTreeMap<String, Vec<Admitted<'_>>> = BTreeMap::new();
        for one in sent {
            let checked = one.check(now)?;
            let set = checked.keys.clone().ok_or_else(|| {
                RepositoryError::Refused("it names no keys: it is no request to be a member".into())
            })?;
            // Before anything is drafted, and again with each registrar who comes after: keys are not published
            // without the word that is signed by them.
            self.follows(one, &checked)?;
            let domain = &checked.domain;
            let (keys, mut role) = set.delegation(&names::role_of(domain));
            role.paths = exactly(&names::target_of(domain))?;
            let all = by_bin.entry(bin_in(&targets, domain)?).or_default();
            all.push((one, keys, role));
        }
        let mut states = Vec::new();
        for (name, admitted) in by_bin {
            let state = self.change(&name, signers, now, |bin| {
                let mut out = suspended(bin);
                for (_, keys, role) in &admitted {
                    remove(&mut out, &role.name);
                    let there = bin.delegations.get_or_insert_default();
                    insert(there, keys.clone(), role.clone());
                }
                set_suspended(bin, &out);
                Ok(())
            })?;
            if state.is_complete() {
                for (one, ..) in admitted {
                    self.accept(one, now)?;
                }
            }
            states.push(state);
        }
        Ok(states)
    }

    /// The keys of a member, by its bin, and how it stands.
    ///
    /// # Errors
    /// When there is no directory.
    pub fn member(
        &self,
        member: &TrustDomain,
    ) -> Result<Option<(KeySet, Standing)>, RepositoryError> {
        let bin = self.targets_there(&self.bin_of(member)?)?.signed.signed;
        let found = members_of(&bin)
            .into_iter()
            .find(|one| one.domain == *member);
        Ok(found.and_then(|one| Some((one.key_set()?, one.standing))))
    }

    /// The members, by name.
    ///
    /// # Errors
    /// When there is no directory.
    pub fn members(&self) -> Result<Vec<(TrustDomain, Standing)>, RepositoryError> {
        let all = self.all_members(&self.bin_names()?)?;
        let mut all: Vec<_> = all
            .into_iter()
            .map(|one| (one.domain, one.standing))
            .collect();
        all.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        Ok(all)
    }

    /// Suspends a member: nobody takes its word until it is resumed, and its name stays its own.
    ///
    /// # Errors
    /// When it is no member, or a key is none of a registrar's.
    pub fn suspend(
        &self,
        member: &TrustDomain,
        signers: &[&dyn Signer],
        now: SystemTime,
    ) -> Result<DraftState, RepositoryError> {
        self.moved(member, Standing::Member, signers, now)
    }

    /// Takes back a suspension.
    ///
    /// # Errors
    /// When it is not suspended, or a key is none of a registrar's.
    pub fn resume(
        &self,
        member: &TrustDomain,
        signers: &[&dyn Signer],
        now: SystemTime,
    ) -> Result<DraftState, RepositoryError> {
        self.moved(member, Standing::Suspended, signers, now)
    }

    fn moved(
        &self,
        member: &TrustDomain,
        from: Standing,
        signers: &[&dyn Signer],
        now: SystemTime,
    ) -> Result<DraftState, RepositoryError> {
        let role = names::role_of(member);
        self.change(&self.bin_of(member)?, signers, now, |bin| {
            let mut out = suspended(bin);
            let there = bin.delegations.get_or_insert_default();
            let (source, goal) = match from {
                Standing::Member => (there, &mut out),
                Standing::Suspended => (&mut out, there),
            };
            if let Some((keys, role)) = remove(source, &role) {
                insert(goal, keys, role);
            } else if !goal.roles.iter().any(|one| one.name == role) {
                return Err(RepositoryError::Missing(format!(
                    "{member} is not a member"
                )));
            }
            set_suspended(bin, &out);
            Ok(())
        })
    }

    /// Expels a member: it is one no more, and its marks go with it.
    ///
    /// # Errors
    /// When it is no member, or a key is none of a registrar's.
    pub fn expel(
        &self,
        member: &TrustDomain,
        signers: &[&dyn Signer],
        now: SystemTime,
    ) -> Result<DraftState, RepositoryError> {
        let role = names::role_of(member);
        if self.member(member)?.is_none() {
            return Err(RepositoryError::Missing(format!(
                "{member} is not a member"
            )));
        }
        let state = self.change(&self.bin_of(member)?, signers, now, |bin| {
            let mut out = suspended(bin);
            remove(&mut out, &role);
            set_suspended(bin, &out);
            remove(bin.delegations.get_or_insert_default(), &role);
            Ok(())
        })?;
        if !self.marks()?.of(member).is_empty() {
            self.set_marks(member, BTreeSet::new(), signers, now)?;
        }
        Ok(state)
    }

    /// The marks that are published.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn marks(&self) -> Result<Marks, RepositoryError> {
        let role = self.targets_there(names::MARKS)?.signed.signed;
        self.marks_of(&role)
    }

    pub(super) fn marks_of(&self, role: &Targets) -> Result<Marks, RepositoryError> {
        let named = metadata::target(role, names::MARKS_TARGET);
        let named = named.ok_or_else(|| {
            RepositoryError::Missing(format!("the role {} has no target", names::MARKS))
        })?;
        let hash = sekisho_certs::hex(&named.hashes.sha256);
        let file = target_file(&hash, names::MARKS_TARGET);
        let bytes = self.read(&file, marks::MOST)?;
        let bytes = bytes.ok_or_else(|| RepositoryError::Missing(format!("{file} is missing")))?;
        metadata::is_what_was_named(&file, &bytes, Some(&named.hashes), Some(named.length))?;
        Ok(Marks::read(&bytes)?)
    }

    /// Gives a member exactly these marks: by one registrar, as with [`Self::admit`].
    ///
    /// # Errors
    /// When a key is none of a registrar's.
    pub fn set_marks(
        &self,
        member: &TrustDomain,
        given: BTreeSet<Mark>,
        signers: &[&dyn Signer],
        now: SystemTime,
    ) -> Result<DraftState, RepositoryError> {
        self.change(names::MARKS, signers, now, |role| {
            let mut all = self.marks_of(role)?;
            all.set(member, given);
            let text = all.to_json();
            let hash = metadata::sha256(&text);
            self.publish(&target_file(&hash, names::MARKS_TARGET), &text)?;
            *role = exactly_one(role.clone(), names::MARKS_TARGET, &text)?;
            Ok(())
        })
    }

    /// Whether a role that registrars sign is to be signed again before it ends.
    ///
    /// # Errors
    /// When there is no such role.
    pub fn is_due(&self, role: &str, now: SystemTime) -> Result<bool, RepositoryError> {
        let found = self.targets_there(role)?.signed.signed;
        Ok(super::init::is_due(&found, REGISTRARS, now))
    }
}

impl From<serde_json::Error> for RepositoryError {
    fn from(error: serde_json::Error) -> Self {
        Self::Key(KeyError::Json(error))
    }
}
