//! Members in a bin, and those of it who are suspended.

use std::collections::HashMap;

use sekisho_certs::TrustDomain;
use serde_json::Value;

use super::{RepositoryError, Standing, Submission, registrar::SUSPENDED};
use crate::directory::{
    continuity::KeySet,
    metadata::{self, Decoded, DelegatedRole, Delegations, Hex, Key, Targets},
    names,
};

/// A member as a bin has it.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) domain: TrustDomain,
    pub(super) target: String,
    pub(super) standing: Standing,
    pub(super) keys: HashMap<Decoded<Hex>, Key>,
    pub(super) role: DelegatedRole,
}

impl Placed {
    /// Its keys, and how many of them sign.
    pub(super) fn key_set(&self) -> Option<KeySet> {
        let mut all = Delegations::default();
        insert(&mut all, self.keys.clone(), self.role.clone());
        KeySet::of_role(&all, &self.role)
    }

    /// Puts it into a bin.
    pub(super) fn put(&self, bin: &mut Targets) {
        match self.standing {
            Standing::Member => {
                let all = bin.delegations.get_or_insert_default();
                insert(all, self.keys.clone(), self.role.clone());
            }
            Standing::Suspended => {
                let mut all = suspended(bin);
                insert(&mut all, self.keys.clone(), self.role.clone());
                set_suspended(bin, &all);
            }
        }
    }
}

/// The suspended members of a bin. What cannot be read is nobody.
pub(crate) fn suspended(bin: &Targets) -> Delegations {
    let value: Option<&Value> = bin._extra.get(SUSPENDED);
    value
        .and_then(|value| serde_json::from_value(value.clone()).ok())
        .unwrap_or_default()
}

pub(super) fn set_suspended(bin: &mut Targets, all: &Delegations) {
    if all.roles.is_empty() {
        bin._extra.remove(SUSPENDED);
        return;
    }
    // It was read from JSON, or made here.
    let value = serde_json::to_value(all).unwrap_or_default();
    bin._extra.insert(SUSPENDED.into(), value);
}

/// Adds a role, in place of one of its name, sorted by name.
pub(super) fn insert(all: &mut Delegations, keys: HashMap<Decoded<Hex>, Key>, role: DelegatedRole) {
    remove(all, &role.name);
    all.keys.extend(keys);
    let at = all.roles.partition_point(|one| one.name < role.name);
    all.roles.insert(at, role);
}

/// Takes a role out, and the keys that nobody else has.
pub(super) fn remove(
    all: &mut Delegations,
    name: &str,
) -> Option<(HashMap<Decoded<Hex>, Key>, DelegatedRole)> {
    let at = all.roles.iter().position(|one| one.name == name)?;
    let role = all.roles.remove(at);
    let keys = role.keyids.iter().filter_map(|id| {
        let key = all.keys.get(id)?;
        Some((id.clone(), key.clone()))
    });
    let keys: HashMap<_, _> = keys.collect();
    let used: Vec<Decoded<Hex>> = all
        .roles
        .iter()
        .flat_map(|one| one.keyids.clone())
        .collect();
    all.keys.retain(|id, _| used.contains(id));
    Some((keys, role))
}

/// What a member has sent, and how its bin is to have it.
pub(super) type Admitted<'a> = (&'a Submission, HashMap<Decoded<Hex>, Key>, DelegatedRole);

/// The bin that a member is in, by the targets.
pub(super) fn bin_in(targets: &Targets, member: &TrustDomain) -> Result<String, RepositoryError> {
    let hash = names::path_hash(&names::target_of(member));
    let found = targets.delegations.as_ref().and_then(|all| {
        let mut roles = all.roles.iter();
        let bin = roles.find(|role| metadata::has_prefix(role, &hash))?;
        Some(bin.name.clone())
    });
    found.ok_or_else(|| RepositoryError::Missing(format!("there is no bin for {member}")))
}

pub(super) fn members_of(bin: &Targets) -> Vec<Placed> {
    let there = bin.delegations.clone().unwrap_or_default();
    let all = [
        (there, Standing::Member),
        (suspended(bin), Standing::Suspended),
    ];
    let mut members = Vec::new();
    for (delegations, standing) in all {
        for role in &delegations.roles {
            let Some(domain) = names::member_of(&role.name) else {
                continue;
            };
            let keys = role.keyids.iter().filter_map(|id| {
                let key = delegations.keys.get(id)?;
                Some((id.clone(), key.clone()))
            });
            members.push(Placed {
                target: names::target_of(&domain),
                domain,
                standing,
                keys: keys.collect(),
                role: role.clone(),
            });
        }
    }
    members
}
