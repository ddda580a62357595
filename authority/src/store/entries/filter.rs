//! Which entries a list shows.

use std::collections::BTreeSet;

use sekisho_certs::{SpiffeId, TrustDomain};

use crate::entry::{Entry, Federated, Selector};

/// How a set of an entry must lie to a given one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetMatch {
    /// They have an element in common.
    Any,
    /// They are equal.
    Exact,
    /// The entry's is part of the given one.
    Subset,
    /// The given one is part of the entry's.
    Superset,
}

impl SetMatch {
    /// Whether `own` lies to `given` like this.
    pub(crate) fn holds<T: Ord>(self, own: &BTreeSet<T>, given: &BTreeSet<T>) -> bool {
        match self {
            Self::Any => !own.is_disjoint(given),
            Self::Exact => own == given,
            Self::Subset => own.is_subset(given),
            Self::Superset => own.is_superset(given),
        }
    }
}

/// Which entries to list: those for which everything that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// Exactly this ID.
    pub spiffe_id: Option<SpiffeId>,
    /// Exactly this parent.
    pub parent_id: Option<SpiffeId>,
    /// Selectors, and how they match.
    pub selectors: Option<(BTreeSet<Selector>, SetMatch)>,
    /// Trust domains, and how they match those of an entry, which has some. `*` counts as every
    /// domain that is asked for.
    pub federates_with: Option<(BTreeSet<TrustDomain>, SetMatch)>,
    /// Exactly this hint.
    pub hint: Option<String>,
    /// Those of servers below only.
    pub downstream: bool,
}

impl EntryFilter {
    /// Whether an entry is to be shown.
    #[must_use]
    pub fn passes(&self, entry: &Entry) -> bool {
        let draft = &entry.draft;
        let is = |wanted: &Option<SpiffeId>, id| wanted.as_ref().is_none_or(|wanted| wanted == id);
        is(&self.spiffe_id, &draft.spiffe_id)
            && is(&self.parent_id, &draft.parent_id)
            && (!self.downstream || draft.downstream)
            && self.hint.as_ref().is_none_or(|hint| *hint == draft.hint)
            && self
                .selectors
                .as_ref()
                .is_none_or(|(given, how)| how.holds(&draft.selectors, given))
            && self
                .federates_with
                .as_ref()
                .is_none_or(|(given, how)| federates(&draft.federates_with, given, *how))
    }
}

fn federates(own: &[Federated], given: &BTreeSet<TrustDomain>, how: SetMatch) -> bool {
    let mut domains = BTreeSet::new();
    for federated in own {
        match federated {
            Federated::All => domains.extend(given.iter().cloned()),
            Federated::Domain(domain) => {
                domains.insert(domain.clone());
            }
        }
    }
    !domains.is_empty() && how.holds(&domains, given)
}
