//! What is to be done at a server, decided from what the directories say, what is there, and what was
//! pushed before. Nobody is asked here.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_spire_api::types;

use super::digest::digest;

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
    /// Somebody else has set the same bundle.
    Others,
    /// Somebody else has set another bundle.
    Differs,
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
            Self::Differs => "differs",
            Self::Missing => "no_member",
        }
    }

    /// For people.
    pub(super) const fn told(self) -> &'static str {
        match self {
            Self::Own => "it is the server's own trust domain",
            Self::Pairwise => "the server fetches its bundle itself, by a federation relationship",
            Self::Others => {
                "its bundle was set by somebody else: it stays, whatever becomes of the member (--take-over)"
            }
            Self::Differs => {
                "another bundle than the directory's is there, set by somebody else or fetched by the server: it is left (--take-over)"
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

/// What was pushed: by trust domain, the digests of what was set, or may have been.
pub(super) type Pushed = BTreeMap<String, BTreeSet<String>>;

/// Decides. What is ours is what was `pushed` and is there still as it was: all else was set by others,
/// or is fetched by a server whose configuration file says so, which its API does not tell. That is
/// neither replaced, unless it is to be taken over, nor taken away.
pub(super) fn plan(said: &Said, there: &There, pushed: &Pushed, take_over: bool) -> Plan {
    let mut plan = Plan::default();
    for (name, bundle) in &said.bundles {
        let left = match there.bundles.get(name) {
            _ if *name == there.own => Left::Own,
            _ if there.relationships.contains(name) => Left::Pairwise,
            Some(known) if is_ours(name, known, pushed) => {
                if digest(known) != digest(bundle) {
                    plan.set.push(bundle.clone());
                }
                continue;
            }
            Some(known) if !take_over && digest(known) == digest(bundle) => Left::Others,
            Some(_) if !take_over => Left::Differs,
            _ => {
                plan.set.push(bundle.clone());
                continue;
            }
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
    for name in pushed.keys() {
        let is_kept = said.bundles.contains_key(name) || said.unsure.contains(name);
        let may_be_ours = *name != there.own && !there.relationships.contains(name);
        match there.bundles.get(name) {
            Some(known) if may_be_ours && is_ours(name, known, pushed) => {
                if !is_kept {
                    plan.delete.push(name.clone());
                }
            }
            // It is set again, or as soon as it can be.
            None if may_be_ours && is_kept => {}
            Some(_) if may_be_ours && take_over && is_kept => {}
            _ => plan.forget.push(name.clone()),
        }
    }
    plan
}

fn is_ours(name: &str, known: &types::Bundle, pushed: &Pushed) -> bool {
    let ours = pushed.get(name);
    ours.is_some_and(|digests| digests.contains(&digest(known)))
}

#[cfg(test)]
mod tests;
