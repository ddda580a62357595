//! What is to be done at a server, decided from what the directories say, what is there, and what was
//! pushed before. Nobody is asked here.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_spire_api::types;

/// What is there at a server.
#[derive(Debug, Default)]
pub(super) struct There {
    /// Its own trust domain.
    pub(super) own: String,
    /// Trust domains whose bundles it fetches itself.
    pub(super) relationships: BTreeSet<String>,
    /// The bundles of others.
    pub(super) bundles: BTreeMap<String, types::Bundle>,
}

/// What the directories say of those who were asked for.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The bundles of those who are members and may be believed.
    pub(super) bundles: BTreeMap<String, types::Bundle>,
    /// Those whose name was asked for.
    pub(super) named: BTreeSet<String>,
    /// Those of whom a directory has not said yet, since this process began, whether they are members.
    pub(super) unsure: BTreeSet<String>,
}

/// Why a trust domain is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Left {
    /// It is the server's own.
    Own,
    /// The server fetches its bundle itself.
    Pairwise,
    /// Somebody else has set the same bundle: it is not taken away.
    Others,
    /// It is no member, or not to be believed.
    Missing,
}

impl Left {
    /// The word for it in JSON and log.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Pairwise => "relationship",
            Self::Others => "set_by_others",
            Self::Missing => "no_member",
        }
    }

    /// For people.
    pub(super) const fn told(self) -> &'static str {
        match self {
            Self::Own => "it is the server's own trust domain",
            Self::Pairwise => "the server fetches its bundle itself, by a federation relationship",
            Self::Others => {
                "the same bundle is there already, set by somebody else: it stays, whatever becomes of the member"
            }
            Self::Missing => "it is no member of the directory, or not to be believed now",
        }
    }
}

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Bundles to be set.
    pub(super) set: Vec<types::Bundle>,
    /// Trust domains that lose their bundle.
    pub(super) delete: Vec<String>,
    /// Those whose bundle is not ours any more, and that need nothing done.
    pub(super) forget: Vec<String>,
    /// Those that are left as they are, and why.
    pub(super) left: BTreeMap<String, Left>,
}

/// Decides. What was not `pushed` is never taken away, and nothing is done where the server fetches a
/// bundle itself.
pub(super) fn plan(said: &Said, there: &There, pushed: &BTreeSet<String>) -> Plan {
    let mut plan = Plan::default();
    for (name, bundle) in &said.bundles {
        let left = if *name == there.own {
            Left::Own
        } else if there.relationships.contains(name) {
            Left::Pairwise
        } else if there
            .bundles
            .get(name)
            .is_none_or(|known| !same(known, bundle))
        {
            plan.set.push(bundle.clone());
            continue;
        } else if pushed.contains(name) {
            continue;
        } else {
            Left::Others
        };
        plan.left.insert(name.clone(), left);
    }
    for name in &said.named {
        if said.bundles.contains_key(name) || said.unsure.contains(name) {
            continue;
        }
        let is_own = *name == there.own;
        let left = if is_own { Left::Own } else { Left::Missing };
        plan.left.insert(name.clone(), left);
    }
    for name in pushed {
        let is_ours = *name != there.own && !there.relationships.contains(name);
        if is_ours && (said.bundles.contains_key(name) || said.unsure.contains(name)) {
            continue;
        }
        if is_ours && there.bundles.contains_key(name) {
            plan.delete.push(name.clone());
        } else {
            plan.forget.push(name.clone());
        }
    }
    plan
}

/// Whether two bundles say the same. The order of keys says nothing.
fn same(one: &types::Bundle, other: &types::Bundle) -> bool {
    let rest = |bundle: &types::Bundle| (bundle.refresh_hint, bundle.sequence_number);
    rest(one) == rest(other)
        && authorities(one) == authorities(other)
        && jwt_keys(one) == jwt_keys(other)
}

fn authorities(bundle: &types::Bundle) -> BTreeSet<&[u8]> {
    let all = bundle.x509_authorities.iter();
    all.map(|one| one.asn1.as_slice()).collect()
}

fn jwt_keys(bundle: &types::Bundle) -> BTreeSet<(&str, &[u8])> {
    let all = bundle.jwt_authorities.iter();
    all.map(|key| (key.key_id.as_str(), key.public_key.as_slice()))
        .collect()
}

#[cfg(test)]
mod tests;
