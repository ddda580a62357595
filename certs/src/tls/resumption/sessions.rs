//! What a listening side remembers of the sessions that it has given tickets for.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustls::server::StoresServerSessions;
use zeroize::Zeroizing;

/// Sessions remembered, some 2 KiB each with the peer's chain. The oldest is forgotten first.
const MOST: usize = 4096;

/// Most bytes of a session that is remembered. A peer may show certificates that its path does not
/// need, and is not yet decided when its session is stored.
const MOST_BYTES: usize = 8 * 1024;

/// Sessions by the name in their ticket. rustls' own store of this kind looks through all of them
/// for each that is taken.
#[derive(Default)]
pub(super) struct Sessions {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Secrets: wiped when forgotten. rustls gets a copy of one that is taken, and wipes no copy.
    sessions: HashMap<Vec<u8>, Zeroizing<Vec<u8>>>,
    /// Names in the order they came, those that were taken since then among them.
    order: VecDeque<Vec<u8>>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.state().sessions.len();
        f.debug_struct("Sessions").field("count", &count).finish()
    }
}

impl Sessions {
    pub(super) fn forget(&self) {
        *self.state() = State::default();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        if value.len() > MOST_BYTES {
            return false;
        }
        let mut state = self.state();
        let State { sessions, order } = &mut *state;
        sessions.insert(key.clone(), Zeroizing::new(value));
        order.push_back(key);
        while sessions.len() > MOST {
            match order.pop_front() {
                Some(oldest) => drop(sessions.remove(&oldest)),
                None => break,
            }
        }
        if order.len() > 2 * MOST {
            order.retain(|name| sessions.contains_key(name));
        }
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.state().sessions.get(key).map(|value| value.to_vec())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.state()
            .sessions
            .remove(key)
            .map(|value| value.to_vec())
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Vec<u8> {
        number.to_be_bytes().to_vec()
    }

    #[test]
    fn a_session_is_taken_once_and_the_oldest_are_forgotten() {
        let store = Sessions::default();
        for number in 0..MOST + 10 {
            assert!(store.put(name(number), vec![1, 2, 3]));
        }
        assert_eq!(store.get(&name(9)), None);
        assert_eq!(store.get(&name(10)), Some(vec![1, 2, 3]));
        assert_eq!(store.take(&name(10)), Some(vec![1, 2, 3]));
        assert_eq!(store.take(&name(10)), None);
        assert_eq!(store.state().sessions.len(), MOST - 1);
        assert!(
            !store.put(name(0), vec![0; MOST_BYTES + 1]),
            "too long to be kept"
        );
        assert_eq!(store.get(&name(0)), None);
        assert!(
            !format!("{store:?}").contains("1, 2"),
            "nothing of a session is shown"
        );
        store.forget();
        assert_eq!(store.get(&name(11)), None);
    }

    #[test]
    fn names_of_sessions_that_were_taken_do_not_pile_up() {
        let store = Sessions::default();
        for number in 0..10 * MOST {
            store.put(name(number), vec![0]);
            store.take(&name(number));
        }
        assert!(store.state().order.len() <= 2 * MOST);
    }
}
