//! Who wants to know what of other sites, and what is known.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use sekisho_spire_api::federation as wire;
use tokio::sync::{Notify, watch};

/// For so long what nobody wants any more is kept up to date: proxies are restarted.
const RETAINED: Duration = Duration::from_secs(3600);
/// Names that one proxy may want.
const MOST_DOMAINS: usize = 20_000;
/// Names that all proxies together may want.
const MOST_OF_ALL: usize = 65_536;
/// Marks that one proxy may want.
const MOST_MARKS: usize = 64;
/// Proxies that may want something at a time.
const MOST_SEATS: usize = 1024;

/// Names and marks that are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) domains: BTreeSet<String>,
    pub(crate) marks: BTreeSet<String>,
}

/// A member as the authority has answered it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    /// Without its age.
    pub(crate) facts: Arc<wire::Member>,
    /// When it was confirmed, by our clock.
    pub(crate) confirmed: SystemTime,
}

/// What is known now.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub(crate) members: BTreeMap<String, Told>,
    /// Names that were asked for and are those of nobody.
    pub(crate) unknown: BTreeSet<String>,
    /// All that was wanted up to this number has been answered.
    pub(crate) answered: u64,
}

impl Known {
    /// How many members.
    #[must_use]
    pub fn count(&self) -> usize {
        self.members.len()
    }
}

/// Where proxies say what they want, and the agent brings it.
#[derive(Debug)]
pub(crate) struct Desk {
    wishes: Mutex<Wishes>,
    known: watch::Sender<Arc<Known>>,
    /// Something new is wanted.
    new: Notify,
}

#[derive(Debug, Default)]
struct Wishes {
    seats: HashMap<u64, Interest>,
    next: u64,
    /// Rises with every new wish.
    generation: u64,
    /// When a name, or a mark, was last wanted.
    domains: HashMap<String, SystemTime>,
    marks: HashMap<String, SystemTime>,
}

/// Why a wish is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMuch(pub(crate) &'static str);

impl Default for Desk {
    fn default() -> Self {
        Self {
            wishes: Mutex::default(),
            known: watch::Sender::new(Arc::default()),
            new: Notify::new(),
        }
    }
}

impl Desk {
    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known, now and whenever it changes.
    pub(crate) fn known(&self) -> watch::Receiver<Arc<Known>> {
        self.known.subscribe()
    }

    /// Waits until something is wanted that was not wanted before.
    pub(crate) async fn wanted(&self) {
        self.new.notified().await;
    }

    /// A proxy takes a seat, until what is returned is dropped.
    pub(crate) fn join(self: &Arc<Self>) -> Result<Seat, TooMuch> {
        let mut wishes = self.wishes();
        if wishes.seats.len() >= MOST_SEATS {
            return Err(TooMuch("too many streams"));
        }
        let number = wishes.next;
        wishes.next += 1;
        wishes.seats.insert(number, Interest::default());
        drop(wishes);
        Ok(Seat {
            desk: Arc::clone(self),
            number,
            interest: Interest::default(),
        })
    }

    /// All that is wanted at `now`, or was a short while ago, and up to which number that is.
    pub(crate) fn all(&self, now: SystemTime) -> (Interest, u64) {
        let mut wishes = self.wishes();
        let Wishes {
            seats,
            domains,
            marks,
            generation,
            ..
        } = &mut *wishes;
        for interest in seats.values() {
            for name in &interest.domains {
                domains.insert(name.clone(), now);
            }
            for mark in &interest.marks {
                marks.insert(mark.clone(), now);
            }
        }
        let recent = |_: &String, at: &mut SystemTime| {
            now.duration_since(*at).is_ok_and(|age| age < RETAINED)
        };
        domains.retain(recent);
        marks.retain(recent);
        let all = Interest {
            domains: domains.keys().cloned().collect(),
            marks: marks.keys().cloned().collect(),
        };
        (all, *generation)
    }

    /// An answer has come. Names that are those of nobody are wanted no longer than somebody says so.
    pub(crate) fn answer(&self, known: Known) {
        let mut wishes = self.wishes();
        wishes
            .domains
            .retain(|name, _| !known.unknown.contains(name));
        drop(wishes);
        self.known.send_if_modified(|before| {
            let same = before.members == known.members
                && before.unknown == known.unknown
                && before.answered == known.answered;
            *before = Arc::new(known);
            !same
        });
    }

    /// What was kept is known again, and wanted, for a while.
    pub(crate) fn take_up(&self, members: BTreeMap<String, Told>, now: SystemTime) {
        let mut wishes = self.wishes();
        for name in members.keys() {
            wishes.domains.insert(name.clone(), now);
        }
        drop(wishes);
        self.known.send_replace(Arc::new(Known {
            members,
            ..Known::default()
        }));
    }

    /// Nothing is known any more.
    pub(crate) fn forget(&self) {
        self.known.send_replace(Arc::default());
    }
}

/// A proxy's place.
#[derive(Debug)]
pub(crate) struct Seat {
    desk: Arc<Desk>,
    number: u64,
    interest: Interest,
}

impl Seat {
    /// What it wants.
    pub(crate) const fn interest(&self) -> &Interest {
        &self.interest
    }

    /// It wants more, or less. Returns the number up to which an answer has to be to cover it.
    pub(crate) fn update(&mut self, request: wire::WatchMembersRequest) -> Result<u64, TooMuch> {
        let mut news = false;
        for name in &request.forget {
            self.interest.domains.remove(name);
        }
        for name in request.trust_domains {
            news |= self.interest.domains.insert(name);
        }
        for mark in request.marks {
            news |= self.interest.marks.insert(mark);
        }
        if self.interest.domains.len() > MOST_DOMAINS {
            return Err(TooMuch("more than 20,000 trust domains"));
        }
        if self.interest.marks.len() > MOST_MARKS {
            return Err(TooMuch("more than 64 marks"));
        }
        let mut wishes = self.desk.wishes();
        let others = wishes
            .seats
            .iter()
            .filter(|(number, _)| **number != self.number);
        let others: usize = others.map(|(_, interest)| interest.domains.len()).sum();
        if others + self.interest.domains.len() > MOST_OF_ALL {
            return Err(TooMuch(
                "more than 65,536 trust domains of all streams together",
            ));
        }
        wishes.seats.insert(self.number, self.interest.clone());
        if news {
            wishes.generation += 1;
            self.desk.new.notify_one();
        }
        Ok(wishes.generation)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.desk.wishes().seats.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(names: &[&str], forget: &[&str]) -> wire::WatchMembersRequest {
        wire::WatchMembersRequest {
            trust_domains: names.iter().map(ToString::to_string).collect(),
            forget: forget.iter().map(ToString::to_string).collect(),
            marks: Vec::new(),
        }
    }

    fn names(desk: &Desk, now: SystemTime) -> Vec<String> {
        desk.all(now).0.domains.into_iter().collect()
    }

    #[test]
    fn what_one_wants_is_asked_for_and_for_a_while_after_it_has_gone() {
        let desk = Arc::new(Desk::default());
        let now = SystemTime::UNIX_EPOCH;
        let mut one = desk.join().unwrap();
        let mut two = desk.join().unwrap();
        let first = one.update(wants(&["a.example", "b.example"], &[])).unwrap();
        let second = two.update(wants(&["b.example"], &[])).unwrap();
        assert!(second > first);
        assert_eq!(names(&desk, now), ["a.example", "b.example"]);
        drop(one);
        let soon = now + RETAINED / 2;
        assert_eq!(names(&desk, soon), ["a.example", "b.example"]);
        assert_eq!(names(&desk, now + RETAINED), ["b.example"]);
        two.update(wants(&[], &["b.example"])).unwrap();
        assert_eq!(names(&desk, now + 3 * RETAINED), [""; 0]);
    }

    #[test]
    fn names_of_nobody_are_dropped_once_nobody_says_them() {
        let desk = Arc::new(Desk::default());
        let now = SystemTime::UNIX_EPOCH;
        let mut seat = desk.join().unwrap();
        seat.update(wants(&["nobody.example"], &[])).unwrap();
        assert_eq!(names(&desk, now), ["nobody.example"]);
        desk.answer(Known {
            unknown: ["nobody.example".to_owned()].into(),
            answered: 1,
            ..Known::default()
        });
        assert_eq!(names(&desk, now), ["nobody.example"]);
        seat.update(wants(&[], &["nobody.example"])).unwrap();
        desk.answer(Known {
            unknown: ["nobody.example".to_owned()].into(),
            answered: 1,
            ..Known::default()
        });
        assert_eq!(names(&desk, now), [""; 0]);
    }

    #[test]
    fn wishes_are_bounded() {
        let desk = Arc::new(Desk::default());
        let mut seat = desk.join().unwrap();
        let many: Vec<String> = (0..=MOST_DOMAINS).map(|one| one.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(seat.update(wants(&many, &[])).is_err());
        let full = |seat: &mut Seat| seat.update(wants(&many[..MOST_DOMAINS], &[]));
        let mut others: Vec<_> = (0..4).map(|_| desk.join().unwrap()).collect();
        let taken = others.iter_mut().map(|seat| full(seat).is_ok());
        assert_eq!(taken.collect::<Vec<_>>(), [true, true, true, false]);
        drop(others);
        let seats: Vec<_> = (1..MOST_SEATS).map(|_| desk.join().unwrap()).collect();
        assert!(desk.join().is_err());
        drop(seats);
        desk.join().unwrap();
    }
}
