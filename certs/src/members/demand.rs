//! What is wanted of other sites: domains whose bundle is not here yet.
//!
//! Who asks is not proven: a stranger claims whatever trust domain it likes. So little is kept of it, at
//! a bounded rate, and a name that stands for nobody is not asked for again for a while.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::sync::Notify;

use super::Members;
use crate::{clock::Clock, id::TrustDomain};

/// Domains that are asked for at a time; the one that was asked for longest ago goes first.
pub const MOST_WANTED: usize = 256;
/// Domains that were asked for and are members: they stay wanted. Further ones take their turn with
/// those that were not answered.
pub const MOST_KEPT: usize = 16_384;
/// For so long a name that stands for no member is not asked for again.
pub const UNKNOWN_FOR: Duration = Duration::from_secs(20);
/// Names remembered as those of nobody.
const MOST_UNKNOWN: usize = 1024;
/// New names that are taken at once, and one more with every [`REFILL`].
const BURST: u32 = 32;
/// See [`BURST`].
const REFILL: Duration = Duration::from_millis(250);

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It is asked for from now on.
    Asked,
    /// It was asked for before, and there is no answer yet.
    Pending,
    /// It was asked for before, and is a member: its bundle is here, or on its way.
    Kept,
    /// It was asked for a moment ago, and is no member.
    Unknown,
    /// Too many new names at once: not asked for.
    Limited,
}

impl Wish {
    /// The word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Pending => "pending",
            Self::Kept => "kept",
            Self::Unknown => "unknown",
            Self::Limited => "limited",
        }
    }

    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Asked,
        Self::Pending,
        Self::Kept,
        Self::Unknown,
        Self::Limited,
    ];
}

/// Domains that are wanted, shared by those who want and whoever brings.
#[derive(Debug)]
pub struct Demand {
    state: Mutex<State>,
    changed: Notify,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct State {
    /// Oldest first.
    pending: VecDeque<TrustDomain>,
    kept: HashSet<TrustDomain>,
    unknown: HashMap<TrustDomain, SystemTime>,
    /// Names that may come at once, and when that was so.
    tokens: u32,
    refilled: SystemTime,
    counts: [u64; Wish::ALL.len()],
}

impl Demand {
    /// Nothing is wanted.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let state = State {
            pending: VecDeque::new(),
            kept: HashSet::new(),
            unknown: HashMap::new(),
            tokens: BURST,
            refilled: clock.now(),
            counts: [0; Wish::ALL.len()],
        };
        Arc::new(Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            clock,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for `domain`. Whether it may be asked for, because some list could let it in, is for the
    /// caller to know.
    pub fn want(&self, domain: &TrustDomain) -> Wish {
        let now = self.clock.now();
        let mut state = self.state();
        let wish = state.want(domain, now);
        if let Some(count) = state.counts.get_mut(wish as usize) {
            *count += 1;
        }
        drop(state);
        if wish == Wish::Asked {
            self.changed.notify_one();
        }
        wish
    }

    /// What is to be asked for: what was not answered, and what is kept.
    #[must_use]
    pub fn wanted(&self) -> Vec<TrustDomain> {
        let state = self.state();
        state.pending.iter().chain(&state.kept).cloned().collect()
    }

    /// Waits until there is something new to ask for.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// An answer has come: who is a member, and which names are those of nobody.
    pub fn answered<'a>(
        &self,
        members: &Members,
        unknown: impl IntoIterator<Item = &'a TrustDomain>,
    ) {
        let now = self.clock.now();
        let mut state = self.state();
        let State { pending, kept, .. } = &mut *state;
        pending.retain(|domain| {
            let keep = members.get(domain).is_some() && kept.len() < MOST_KEPT;
            if keep {
                kept.insert(domain.clone());
            }
            !keep
        });
        for domain in unknown {
            state.pending.retain(|one| one != domain);
            state.kept.remove(domain);
            state.forget_old(now);
            if state.unknown.len() < MOST_UNKNOWN {
                state.unknown.insert(domain.clone(), now);
            }
        }
    }

    /// How often each came of a wish.
    #[must_use]
    pub fn counts(&self) -> [(Wish, u64); Wish::ALL.len()] {
        let state = self.state();
        Wish::ALL.map(|wish| {
            let count = state.counts.get(wish as usize).copied();
            (wish, count.unwrap_or_default())
        })
    }
}

impl State {
    fn want(&mut self, domain: &TrustDomain, now: SystemTime) -> Wish {
        if self.kept.contains(domain) {
            return Wish::Kept;
        }
        if self.pending.contains(domain) {
            return Wish::Pending;
        }
        if let Some(since) = self.unknown.get(domain) {
            if is_recent(*since, now) {
                return Wish::Unknown;
            }
            self.unknown.remove(domain);
        }
        self.refill(now);
        if self.tokens == 0 {
            return Wish::Limited;
        }
        self.tokens -= 1;
        if self.pending.len() >= MOST_WANTED {
            self.pending.pop_front();
        }
        self.pending.push_back(domain.clone());
        Wish::Asked
    }

    fn refill(&mut self, now: SystemTime) {
        // A clock that went backwards begins anew.
        let since = now.duration_since(self.refilled).unwrap_or(REFILL * BURST);
        let more = u32::try_from(since.as_millis() / REFILL.as_millis()).unwrap_or(BURST);
        if more > 0 {
            self.tokens = self.tokens.saturating_add(more).min(BURST);
            self.refilled = now;
        }
    }

    fn forget_old(&mut self, now: SystemTime) {
        if self.unknown.len() >= MOST_UNKNOWN {
            self.unknown.retain(|_, since| is_recent(*since, now));
        }
        if self.unknown.len() >= MOST_UNKNOWN {
            self.unknown.clear();
        }
    }
}

fn is_recent(since: SystemTime, now: SystemTime) -> bool {
    now.duration_since(since)
        .is_ok_and(|since| since < UNKNOWN_FOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::parse_trust_domain,
        members::{Member, Source},
    };

    #[derive(Debug)]
    struct Turned(Mutex<SystemTime>);

    impl Clock for Turned {
        fn now(&self) -> SystemTime {
            *self.0.lock().unwrap()
        }
    }

    struct World {
        clock: Arc<Turned>,
        demand: Arc<Demand>,
    }

    impl World {
        fn new() -> Self {
            let clock = Arc::new(Turned(Mutex::new(SystemTime::UNIX_EPOCH)));
            let demand = Demand::new(Arc::clone(&clock) as Arc<dyn Clock>);
            Self { clock, demand }
        }

        fn pass(&self, time: Duration) {
            *self.clock.0.lock().unwrap() += time;
        }
    }

    fn domain(number: usize) -> TrustDomain {
        parse_trust_domain(&format!("s{number}.example")).unwrap()
    }

    fn members(numbers: &[usize]) -> Members {
        let own = parse_trust_domain("own.example").unwrap();
        let all = numbers.iter().map(|number| {
            let now = SystemTime::UNIX_EPOCH;
            Arc::new(Member::new(domain(*number), Source::Directory, now))
        });
        Members::new(&own, all).unwrap()
    }

    #[test]
    fn a_name_is_asked_for_once_and_a_stranger_s_not_again_for_a_while() {
        let world = World::new();
        let demand = &world.demand;
        assert_eq!(demand.want(&domain(1)), Wish::Asked);
        assert_eq!(demand.want(&domain(2)), Wish::Asked);
        assert_eq!(demand.want(&domain(1)), Wish::Pending);
        demand.answered(&members(&[1]), [&domain(2)]);
        assert_eq!(demand.want(&domain(1)), Wish::Kept);
        assert_eq!(demand.want(&domain(2)), Wish::Unknown);
        assert_eq!(demand.wanted(), [domain(1)]);
        world.pass(UNKNOWN_FOR);
        assert_eq!(demand.want(&domain(2)), Wish::Asked);
        let counts = demand.counts().map(|(_, count)| count);
        assert_eq!(counts, [3, 1, 1, 1, 0]);
    }

    #[test]
    fn new_names_come_at_a_bounded_rate() {
        let world = World::new();
        let asked = |from: usize| {
            let wishes = (from..from + 1000).map(|one| world.demand.want(&domain(one)));
            wishes.filter(|wish| *wish == Wish::Asked).count()
        };
        assert_eq!(asked(0), 32);
        assert_eq!(asked(1000), 0);
        world.pass(Duration::from_secs(1));
        assert_eq!(asked(2000), 4);
        world.pass(Duration::from_secs(3600));
        assert_eq!(asked(3000), 32);
    }

    #[test]
    fn who_is_a_member_is_not_pushed_out_by_strangers() {
        let world = World::new();
        let demand = &world.demand;
        demand.want(&domain(0));
        demand.answered(&members(&[0]), []);
        for number in 1..=2 * MOST_WANTED {
            world.pass(REFILL);
            assert_eq!(demand.want(&domain(number)), Wish::Asked);
        }
        let wanted = demand.wanted();
        assert_eq!(wanted.len(), MOST_WANTED + 1);
        assert!(wanted.contains(&domain(0)) && !wanted.contains(&domain(1)));
        // Expelled: its name is that of nobody now.
        demand.answered(&members(&[]), [&domain(0)]);
        assert_eq!(demand.want(&domain(0)), Wish::Unknown);
    }

    #[test]
    fn names_of_nobody_are_remembered_up_to_a_bound() {
        let world = World::new();
        let names: Vec<_> = (0..3 * MOST_UNKNOWN).map(domain).collect();
        world.demand.answered(&members(&[]), &names);
        assert!(world.demand.state().unknown.len() <= MOST_UNKNOWN);
    }
}
