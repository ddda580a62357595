//! What of the entries has changed since when: for those who keep all of them in another order, and
//! need not read ten thousand because one has changed.

use std::collections::{BTreeSet, VecDeque};

/// Changes that are remembered one by one.
const MOST: usize = 256;
/// Names in one of them; more, and whoever keeps the entries reads them all.
const MOST_NAMES: usize = 500;

/// What a change has touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// No entry.
    Nothing,
    /// The entries of these names: made, changed or gone.
    Entries(Vec<String>),
    /// Nobody has counted.
    Anything,
}

/// The last changes, and how many there have been.
#[derive(Debug)]
pub(super) struct Changes {
    version: u64,
    /// The last ones, each with the version that it made.
    last: VecDeque<(u64, Changed)>,
}

impl Changes {
    pub(super) const fn new() -> Self {
        Self {
            version: 1,
            last: VecDeque::new(),
        }
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn note(&mut self, changed: Changed) {
        let changed = match changed {
            Changed::Nothing => return,
            Changed::Entries(names) if names.is_empty() => return,
            Changed::Entries(names) if names.len() > MOST_NAMES => Changed::Anything,
            changed => changed,
        };
        self.version += 1;
        self.last.push_back((self.version, changed));
        if self.last.len() > MOST {
            self.last.pop_front();
        }
    }

    /// The names of the entries that may have changed since a version. `None`: any may have, or so many that
    /// reading them one by one costs more than reading all.
    pub(super) fn since(&self, version: u64) -> Option<BTreeSet<String>> {
        let before_all = self.version - self.last.len() as u64;
        if version < before_all {
            return None;
        }
        let mut names = BTreeSet::new();
        for (_, changed) in self.last.iter().filter(|(at, _)| *at > version) {
            match changed {
                Changed::Entries(some) => names.extend(some.iter().cloned()),
                _ => return None,
            }
            if names.len() > MOST_NAMES {
                return None;
            }
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Changed {
        Changed::Entries(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn since(changes: &Changes, version: u64) -> Option<Vec<String>> {
        Some(changes.since(version)?.into_iter().collect())
    }

    #[test]
    fn what_has_changed_since_is_told_as_far_as_it_is_remembered() {
        let mut changes = Changes::new();
        // Whoever knows nothing yet.
        assert_eq!(since(&changes, 0), None);
        assert_eq!(since(&changes, 1), Some(vec![]));
        changes.note(named(&["b"]));
        changes.note(Changed::Nothing);
        changes.note(named(&[]));
        changes.note(named(&["a", "b"]));
        assert_eq!(changes.version(), 3);
        assert_eq!(since(&changes, 1), Some(vec!["a".into(), "b".into()]));
        assert_eq!(since(&changes, 2), Some(vec!["a".into(), "b".into()]));
        assert_eq!(since(&changes, 3), Some(vec![]));
        changes.note(Changed::Anything);
        assert_eq!(since(&changes, 3), None);
        assert_eq!(since(&changes, 4), Some(vec![]));
        let many: Vec<_> = (0..=MOST_NAMES).map(|at| at.to_string()).collect();
        changes.note(Changed::Entries(many));
        assert_eq!(since(&changes, 4), None);
        let (half, version) = (MOST_NAMES / 2 + 1, changes.version());
        for part in ["x", "y"] {
            let some: Vec<_> = (0..half).map(|at| format!("{part}{at}")).collect();
            changes.note(Changed::Entries(some));
        }
        assert_eq!(since(&changes, version), None, "too many together");
        assert_eq!(since(&changes, version + 1).unwrap().len(), half);
        let mut changes = Changes {
            version: 5,
            last: VecDeque::new(),
        };
        for _ in 0..MOST {
            changes.note(named(&["c"]));
        }
        assert_eq!(since(&changes, 5), Some(vec!["c".into()]));
        changes.note(named(&["c"]));
        assert_eq!(since(&changes, 5), None);
        assert_eq!(since(&changes, 6), Some(vec!["c".into()]));
    }
}
