//! In which order entries are changed, so that none meets another on its way.
//!
//! Two entries are not the same in SPIFFE ID, parent and selectors together (spire-api.md §7): their
//! key. An entry that is to have the key of another waits until that one has changed. Entries that
//! exchange their keys in a circle all wait; one of them steps aside first: it gets a selector that is
//! true of no process, and so serves nobody for that moment, under a name and a revision that go on.

use std::collections::HashMap;

use sekisho_spire_api::types;

/// Type of the selector of an entry that has stepped aside: no attestor has it.
const ASIDE: &str = "sekisho";

/// What must differ between two entries, comparable.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(String, String, Vec<String>);

/// The key of an entry.
pub(super) fn key(entry: &types::Entry) -> Key {
    let id = |id: &Option<types::Spiffeid>| id.as_ref().map_or("", |id| &id.path).to_owned();
    let selectors = entry.selectors.iter();
    let mut selectors: Vec<_> = selectors
        .map(|one| format!("{}:{}", one.r#type, one.value))
        .collect();
    selectors.sort_unstable();
    Key(id(&entry.spiffe_id), id(&entry.parent_id), selectors)
}

/// Why not all that is wanted can be there at once.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Collision {
    /// Two of the file: it is wrong.
    #[error("{0} and {1} have the same SPIFFE ID, parent and selectors: take one out of the file")]
    Twice(String, String),
    /// One of the file, and one that is there and did not come from it.
    #[error(
        "{0} has the SPIFFE ID, parent and selectors of {1}, which did not come from a file: \
         delete that one (sekisho entry delete {1}), or take {0} out of the file"
    )]
    Foreign(String, String),
}

/// Each of `entries` has a key of its own, and none has that of one of `others`.
///
/// # Errors
/// When two have the same: which.
pub(super) fn apart<'a>(
    entries: impl Iterator<Item = &'a types::Entry>,
    others: impl Iterator<Item = &'a types::Entry>,
) -> Result<(), Collision> {
    let mut names: HashMap<Key, &str> = HashMap::new();
    for entry in entries {
        if let Some(first) = names.insert(key(entry), &entry.id) {
            return Err(Collision::Twice(entry.id.clone(), first.to_owned()));
        }
    }
    for other in others {
        if let Some(name) = names.get(&key(other)) {
            let name = (*name).to_owned();
            return Err(Collision::Foreign(name, other.id.clone()));
        }
    }
    Ok(())
}

/// The changes one after the other, from entries as they are to entries as they are to be. Each key is
/// there once before, and once afterwards.
pub(super) fn changes(updates: &[(types::Entry, types::Entry)]) -> Vec<types::Entry> {
    let holders: HashMap<Key, usize> = updates
        .iter()
        .enumerate()
        .map(|(place, (old, _))| (key(old), place))
        .collect();
    let mut seen = vec![Seen::Not; updates.len()];
    let mut steps = Vec::with_capacity(updates.len());
    for start in 0..updates.len() {
        let mut waiting = Vec::new();
        let mut next = Some(start);
        while let Some(place) = next
            && let Some(state) = seen.get_mut(place)
            && let Some((_, new)) = updates.get(place)
        {
            match state {
                Seen::Done => break,
                // A circle: whoever has begun it steps aside.
                Seen::Waits => {
                    steps.push(aside(new));
                    break;
                }
                Seen::Not => {}
            }
            *state = Seen::Waits;
            waiting.push((place, new));
            next = holders.get(&key(new)).copied().filter(|at| *at != place);
        }
        for (place, new) in waiting.into_iter().rev() {
            steps.push(new.clone());
            if let Some(state) = seen.get_mut(place) {
                *state = Seen::Done;
            }
        }
    }
    steps
}

#[derive(Clone, Copy)]
enum Seen {
    Not,
    Waits,
    Done,
}

/// An entry that is in nobody's way, and serves nobody.
fn aside(entry: &types::Entry) -> types::Entry {
    let selector = types::Selector {
        r#type: ASIDE.into(),
        value: format!("applying:{}", entry.id),
    };
    types::Entry {
        selectors: vec![selector],
        ..entry.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, uid: u32) -> types::Entry {
        types::Entry {
            id: name.into(),
            selectors: vec![types::Selector {
                r#type: "unix".into(),
                value: format!("uid:{uid}"),
            }],
            ..Default::default()
        }
    }

    fn update(name: &str, from: u32, to: u32) -> (types::Entry, types::Entry) {
        (entry(name, from), entry(name, to))
    }

    /// Does the changes where no two keys may be the same at any time; how many there were.
    fn played(updates: &[(types::Entry, types::Entry)]) -> usize {
        let mut now: HashMap<String, Key> = updates
            .iter()
            .map(|(old, _)| (old.id.clone(), key(old)))
            .collect();
        let steps = changes(updates);
        for step in &steps {
            let taken = now
                .iter()
                .any(|(name, held)| *name != step.id && *held == key(step));
            assert!(!taken, "{} is in the way: {steps:?}", step.id);
            now.insert(step.id.clone(), key(step));
        }
        for (_, new) in updates {
            assert_eq!(now.get(&new.id), Some(&key(new)));
        }
        steps.len()
    }

    #[test]
    fn a_change_waits_for_the_one_in_its_way() {
        assert_eq!(
            played(&[update("a", 1, 2), update("b", 2, 3), update("c", 3, 4)]),
            3
        );
        assert_eq!(
            played(&[update("c", 3, 4), update("b", 2, 3), update("a", 1, 2)]),
            3
        );
        // Of other things than its key.
        assert_eq!(played(&[update("a", 1, 1), update("b", 2, 3)]), 2);
        assert_eq!(played(&[]), 0);
    }

    #[test]
    fn one_of_a_circle_steps_aside() {
        assert_eq!(played(&[update("a", 1, 2), update("b", 2, 1)]), 3);
        let two = [
            update("a", 1, 2),
            update("b", 2, 3),
            update("c", 3, 1),
            update("x", 8, 9),
            update("y", 9, 8),
        ];
        assert_eq!(played(&two), 7);
    }

    #[test]
    fn keys_that_are_there_twice_are_told_before_anything_is_done() {
        let (a, b) = (entry("a", 1), entry("b", 1));
        let twice = apart([&a, &b].into_iter(), std::iter::empty());
        assert_eq!(twice, Err(Collision::Twice("b".into(), "a".into())));
        let foreign = apart(std::iter::once(&a), std::iter::once(&b));
        assert_eq!(foreign, Err(Collision::Foreign("a".into(), "b".into())));
        apart(std::iter::once(&a), std::iter::once(&entry("c", 2))).unwrap();
    }
}
