//! When which bundle is fetched, without network, store or clock.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use crate::store::Relationship;

/// Between two fetches where the bundle does not say how often (SPIFFE_Federation.md §4.1).
const DEFAULT: Duration = Duration::from_secs(300);
/// The shortest hint that is believed.
pub(super) const SHORTEST: Duration = Duration::from_secs(60);
/// The longest: what its owner revokes must be heard of.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Fetches within a hint, as SPIRE does.
const WITHIN: u32 = 4;

/// Between two fetches of a bundle with this hint; zero: without one.
pub(super) fn interval(hint: Duration) -> Duration {
    if hint.is_zero() {
        return DEFAULT;
    }
    hint.clamp(SHORTEST, LONGEST) / WITHIN
}

#[derive(Clone, Debug)]
struct Planned {
    relationship: Relationship,
    next: Next,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    At { since: SystemTime, wait: Duration },
    Now,
    Running,
}

/// The plan.
#[derive(Debug, Default)]
pub(super) struct Schedule(HashMap<String, Planned>);

impl Schedule {
    /// Takes on what is new and what has changed, to be fetched at once, and drops what has ended.
    pub(super) fn follow(&mut self, all: Vec<Relationship>) {
        let mut before = std::mem::take(&mut self.0);
        for relationship in all {
            let name = relationship.domain.to_string();
            let planned = before.remove(&name);
            let same = planned.filter(|planned| planned.relationship == relationship);
            let planned = same.unwrap_or(Planned {
                relationship,
                next: Next::Now,
            });
            self.0.insert(name, planned);
        }
    }

    /// What is to be fetched now: it counts as running from here on.
    pub(super) fn due(&mut self, now: SystemTime) -> Vec<Relationship> {
        let mut due = Vec::new();
        for planned in self.0.values_mut() {
            let is_due = match planned.next {
                Next::Running => false,
                Next::Now => true,
                // A clock that was set back must not keep it waiting.
                Next::At { since, wait } => now
                    .duration_since(since)
                    .map_or(true, |passed| passed >= wait),
            };
            if is_due {
                planned.next = Next::Running;
                due.push(planned.relationship.clone());
            }
        }
        due
    }

    /// A fetch has ended, well or not: what failed waits for its next turn too (§6.2).
    pub(super) fn done(&mut self, fetched: &Relationship, wait: Duration, now: SystemTime) {
        if let Some(planned) = self.0.get_mut(fetched.domain.as_str())
            && planned.relationship == *fetched
        {
            planned.next = Next::At { since: now, wait };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use sekisho_certs::id::parse_trust_domain;

    use super::*;
    use crate::store::{EndpointProfile, Origin};

    fn relationship(domain: &str, url: &str) -> Relationship {
        Relationship {
            origin: Origin::Api,
            domain: parse_trust_domain(domain).unwrap(),
            url: url.parse().unwrap(),
            profile: EndpointProfile::Web,
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn a_quarter_of_the_hint_of_a_minute_at_least_and_five_minutes_without_one() {
        let seconds = |hint| interval(Duration::from_secs(hint)).as_secs();
        assert_eq!(seconds(0), 300);
        assert_eq!(seconds(1), 15);
        assert_eq!(seconds(60), 15);
        assert_eq!(seconds(300), 75);
        assert_eq!(seconds(u64::MAX), 6 * 3600);
    }

    #[test]
    fn each_is_fetched_at_once_and_then_at_its_time() {
        let mut schedule = Schedule::default();
        let b = relationship("b.example", "https://b.example/");
        schedule.follow(vec![b.clone()]);
        assert_eq!(schedule.due(at(0)), slice::from_ref(&b));
        assert_eq!(schedule.due(at(1000)), [], "it runs");
        schedule.done(&b, DEFAULT, at(1));
        schedule.follow(vec![b.clone()]);
        assert_eq!(schedule.due(at(300)), []);
        assert_eq!(schedule.due(at(301)), slice::from_ref(&b));
        schedule.done(&b, Duration::from_secs(25), at(301));
        assert_eq!(schedule.due(at(325)), []);
        assert_eq!(schedule.due(at(326)), [b]);
    }

    #[test]
    fn what_changes_is_fetched_at_once_and_what_ends_is_not() {
        let mut schedule = Schedule::default();
        let (b, c) = (
            relationship("b.example", "https://b.example/"),
            relationship("c.example", "https://c.example/"),
        );
        schedule.follow(vec![b.clone(), c.clone()]);
        assert_eq!(schedule.due(at(0)).len(), 2);
        schedule.done(&b, DEFAULT, at(0));
        let moved = relationship("b.example", "https://b.example/new");
        schedule.follow(vec![moved.clone()]);
        assert_eq!(schedule.due(at(1)), slice::from_ref(&moved));
        // The fetch from the place before says nothing of this one.
        schedule.done(&b, DEFAULT, at(1));
        schedule.done(&c, DEFAULT, at(1));
        assert_eq!(schedule.due(at(10_000)), []);
        schedule.done(&moved, DEFAULT, at(2));
        assert_eq!(schedule.due(at(302)), [moved]);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_stop_it() {
        let mut schedule = Schedule::default();
        let b = relationship("b.example", "https://b.example/");
        schedule.follow(vec![b.clone()]);
        schedule.due(at(0));
        schedule.done(&b, DEFAULT, at(500));
        assert_eq!(schedule.due(at(400)), [b]);
    }
}
