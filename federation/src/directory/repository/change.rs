//! What a draft changes: for those who are to sign it, and should know what.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_certs::TrustDomain;
use serde::Serialize;

use super::{
    Repository, RepositoryError, Standing,
    draft::{Draft, of_root},
};
use crate::directory::{
    continuity::{self, KeySet},
    key::PublicKey,
    metadata::{Dated as _, RoleType, Root, Targets},
    names,
};

/// What a draft changes of what is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// The role.
    pub role: String,
    /// When it is to end, by RFC 3339.
    pub expires: String,
    /// Each change, in words. None: the same for longer.
    pub changes: Vec<String>,
}

/// What a set of keys is, in one line.
fn set(keys: &KeySet) -> String {
    format!("{} of {}", keys.threshold(), keys.keys().len())
}

/// What has become of a set of keys.
fn compare(what: &str, before: Option<&KeySet>, after: Option<&KeySet>, to: &mut Vec<String>) {
    let ids = |set: Option<&KeySet>| -> BTreeSet<String> {
        let keys = set.map(KeySet::keys).unwrap_or_default();
        keys.iter().map(PublicKey::id).collect()
    };
    let shown = |one: Option<&KeySet>| one.map_or_else(|| "none".into(), set);
    let (old, new) = (shown(before), shown(after));
    if old != new {
        to.push(format!("{what}: {old} -> {new}"));
    }
    let (before, after) = (ids(before), ids(after));
    to.extend(
        after
            .difference(&before)
            .map(|id| format!("{what}: + {id}")),
    );
    to.extend(
        before
            .difference(&after)
            .map(|id| format!("{what}: - {id}")),
    );
}

fn root(before: Option<&Root>, after: &Root) -> Vec<String> {
    let mut changes = Vec::new();
    let roles = [
        ("institutions", RoleType::Root),
        ("institutions for targets", RoleType::Targets),
        ("host", RoleType::Timestamp),
        ("host for snapshots", RoleType::Snapshot),
    ];
    for (what, role) in roles {
        let old = before.and_then(|root| of_root(root, role).ok());
        let new = of_root(after, role).ok();
        compare(what, old.as_ref(), new.as_ref(), &mut changes);
    }
    if !after.consistent_snapshot {
        changes.push("files have no versions in their names any more".into());
    }
    changes
}

/// The registrars of each role that targets delegate, by their names.
fn delegated(targets: Option<&Targets>) -> BTreeMap<String, String> {
    let all = targets.and_then(|one| one.delegations.as_ref());
    let Some(all) = all else {
        return BTreeMap::new();
    };
    let sets = all.roles.iter().map(|role| {
        let keys = KeySet::of_role(all, role);
        (
            role.name.clone(),
            keys.map(|keys| keys.id()).unwrap_or_default(),
        )
    });
    sets.collect()
}

fn registrars(targets: &Targets) -> Option<KeySet> {
    let all = targets.delegations.as_ref()?;
    let marks = all.roles.iter().find(|role| role.name == names::MARKS)?;
    KeySet::of_role(all, marks)
}

fn targets(before: Option<&Targets>, after: &Targets) -> Vec<String> {
    let mut changes = Vec::new();
    let (old, new) = (before.and_then(registrars), registrars(after));
    compare("registrars", old.as_ref(), new.as_ref(), &mut changes);
    let (old, new) = (delegated(before), delegated(Some(after)));
    if old.len() != new.len() {
        let bins = |all: &BTreeMap<String, String>| all.len().saturating_sub(1);
        changes.push(format!("bins: {} -> {}", bins(&old), bins(&new)));
    }
    // All roles are of the same hands; one that is not would be hidden among 256.
    let marks = new.get(names::MARKS);
    let others = new.iter().filter(|(_, keys)| Some(*keys) != marks);
    changes.extend(others.map(|(role, _)| format!("{role}: by other keys than the marks")));
    if !after.targets.is_empty() {
        changes.push("it has targets of its own".into());
    }
    changes
}

impl Repository {
    /// What a draft changes.
    ///
    /// # Errors
    /// When there is no such draft, or what is published cannot be read.
    pub fn changes(&self, role: &str) -> Result<Changes, RepositoryError> {
        let (expires, changes) = match self.draft_there(role)? {
            Draft::Root(draft) => {
                let before = self.root().ok().map(|found| found.signed.signed);
                let expires = draft.signed.expires;
                (expires, root(before.as_ref(), &draft.signed))
            }
            Draft::Targets(draft) => {
                let before = self.targets(role)?.map(|found| found.signed.signed);
                let before = before.filter(|one| one.number() < draft.signed.number());
                let after = &draft.signed;
                let changes = match role {
                    "targets" => targets(before.as_ref(), after),
                    names::MARKS => self.marks_between(before.as_ref(), after)?,
                    _ => self.members_between(before.as_ref(), after)?,
                };
                (draft.signed.expires, changes)
            }
        };
        Ok(Changes {
            role: role.into(),
            expires: expires.to_string(),
            changes,
        })
    }

    fn marks_between(
        &self,
        before: Option<&Targets>,
        after: &Targets,
    ) -> Result<Vec<String>, RepositoryError> {
        let old = before.map(|one| self.marks_of(one)).transpose()?;
        let old = old.unwrap_or_default();
        let new = self.marks_of(after)?;
        let mut changes = Vec::new();
        for member in old.all().chain(new.all()).collect::<BTreeSet<_>>() {
            let (was, is) = (old.of(&member), new.of(&member));
            let given = is
                .difference(&was)
                .map(|mark| format!("{member}: + {mark}"));
            changes.extend(given);
            let taken = was
                .difference(&is)
                .map(|mark| format!("{member}: - {mark}"));
            changes.extend(taken);
        }
        Ok(changes)
    }

    /// Of the members of a bin. Where bins are new, of all members: none is new by being sorted anew.
    fn members_between(
        &self,
        before: Option<&Targets>,
        after: &Targets,
    ) -> Result<Vec<String>, RepositoryError> {
        let mut changes = Vec::new();
        let new = placed(after);
        let mut old = before.map(placed).unwrap_or_default();
        if before.is_none() {
            for name in new.keys() {
                let known = self.member(name).ok().flatten();
                old.extend(known.map(|known| (name.clone(), known)));
            }
        }
        for (name, (keys, standing)) in &new {
            match old.get(name) {
                None => changes.push(format!("+ {name} {}", continuity::fingerprint(keys))),
                Some((was, _)) if was.id() != keys.id() => changes.push(format!(
                    "~ {name} {} -> {}",
                    continuity::fingerprint(was),
                    continuity::fingerprint(keys)
                )),
                Some(_) => {}
            }
            let was = old.get(name).map(|(_, was)| *was);
            match (was, standing) {
                (Some(Standing::Member) | None, Standing::Suspended) => {
                    changes.push(format!("~ {name} is suspended"));
                }
                (Some(Standing::Suspended), Standing::Member) => {
                    changes.push(format!("~ {name} is a member again"));
                }
                _ => {}
            }
        }
        let gone = old.keys().filter(|name| !new.contains_key(*name));
        changes.extend(gone.map(|name| format!("- {name}")));
        Ok(changes)
    }
}

/// The members of a bin, by name.
fn placed(bin: &Targets) -> BTreeMap<TrustDomain, (KeySet, Standing)> {
    let members = super::placed::members_of(bin).into_iter();
    let members = members.filter_map(|one| {
        let keys = one.key_set()?;
        Some((one.domain, (keys, one.standing)))
    });
    members.collect()
}
