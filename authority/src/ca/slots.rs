//! Which authority signs, which will, and which has: the rules of SPIRE's local authorities, without
//! keys, disk or clock.

use std::time::{Duration, SystemTime};

/// What a slot holds.
pub trait Authority {
    /// Its name.
    fn id(&self) -> &str;
    /// When it begins.
    fn not_before(&self) -> SystemTime;
    /// When it ends.
    fn not_after(&self) -> SystemTime;
    /// The name of the root above; empty where there is none.
    fn upstream_id(&self) -> &str {
        ""
    }
}

/// What stands beside the one that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<A> {
    /// It has signed.
    Old {
        /// Which.
        authority: A,
        /// What it has signed is to be replaced.
        tainted: bool,
    },
    /// It will sign, and everyone may know it already.
    Prepared(A),
}

/// The two slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots<A> {
    /// It signs.
    pub active: A,
    /// The other.
    pub next: Option<Next<A>>,
}

/// Why a step is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// It signs: another has to be activated first.
    #[error("authority {0} is active: activate another first")]
    Active(String),
    /// It is old, and none is prepared.
    #[error("authority {0} is old: only a prepared one can be activated")]
    IsOld(String),
    /// It will sign: it is not old.
    #[error("authority {0} is prepared: only an old one can be tainted and revoked")]
    IsPrepared(String),
    /// It is not tainted: agents would not have replaced what it signed.
    #[error(
        "authority {0} is not tainted: taint it first, so that agents replace what it has signed"
    )]
    NotTainted(String),
    /// It is tainted already.
    #[error("authority {0} is tainted already")]
    Tainted(String),
    /// There is none of this name.
    #[error("no authority {0} in a slot")]
    Unknown(String),
}

impl SlotError {
    /// Whether whoever asks has named the wrong one, rather than asked at the wrong time.
    #[must_use]
    pub const fn is_wrong_name(&self) -> bool {
        matches!(
            self,
            Self::Active(_) | Self::IsPrepared(_) | Self::Unknown(_)
        )
    }
}

impl<A: Authority + Clone> Slots<A> {
    /// One that signs at once.
    pub const fn new(active: A) -> Self {
        Self { active, next: None }
    }

    /// Another is to sign later. What stood in the slot is not in a slot any more.
    #[must_use]
    pub fn prepare(&self, authority: A) -> Self {
        Self {
            active: self.active.clone(),
            next: Some(Next::Prepared(authority)),
        }
    }

    /// The prepared one signs from now on, and the one that did is old.
    ///
    /// # Errors
    /// When `id` is not prepared.
    pub fn activate(&self, id: &str) -> Result<Self, SlotError> {
        match &self.next {
            Some(Next::Prepared(authority)) if authority.id() == id => Ok(Self {
                active: authority.clone(),
                next: Some(Next::Old {
                    authority: self.active.clone(),
                    tainted: false,
                }),
            }),
            Some(Next::Old { authority, .. }) if authority.id() == id => {
                Err(SlotError::IsOld(id.into()))
            }
            _ => Err(self.unknown(id)),
        }
    }

    /// What the old one has signed is to be replaced.
    ///
    /// # Errors
    /// When `id` is not old, or tainted already.
    pub fn taint(&self, id: &str) -> Result<Self, SlotError> {
        let (authority, tainted) = self.old(id)?;
        if tainted {
            return Err(SlotError::Tainted(id.into()));
        }
        Ok(Self {
            active: self.active.clone(),
            next: Some(Next::Old {
                authority: authority.clone(),
                tainted: true,
            }),
        })
    }

    /// What the old one has signed counts no longer.
    ///
    /// # Errors
    /// When `id` is not old, or not tainted.
    pub fn revoke(&self, id: &str) -> Result<Self, SlotError> {
        let (_, tainted) = self.old(id)?;
        if !tainted {
            return Err(SlotError::NotTainted(id.into()));
        }
        Ok(Self::new(self.active.clone()))
    }

    fn old(&self, id: &str) -> Result<(&A, bool), SlotError> {
        match &self.next {
            Some(Next::Old { authority, tainted }) if authority.id() == id => {
                Ok((authority, *tainted))
            }
            _ => Err(self.unknown(id)),
        }
    }

    fn unknown(&self, id: &str) -> SlotError {
        match &self.next {
            _ if self.active.id() == id => SlotError::Active(id.into()),
            Some(Next::Prepared(authority)) if authority.id() == id => {
                SlotError::IsPrepared(id.into())
            }
            _ => SlotError::Unknown(id.into()),
        }
    }

    /// What time asks for.
    #[must_use]
    pub fn due(&self, now: SystemTime) -> Due {
        let left = self
            .active
            .not_after()
            .duration_since(now)
            .unwrap_or_default();
        let life = lifetime(&self.active);
        match &self.next {
            // It was prepared before a long sleep, and has ended with the other.
            Some(Next::Prepared(authority)) if authority.not_after() <= now => Due::Prepare,
            Some(Next::Prepared(authority)) if left <= activation(life) => {
                Due::Activate(authority.id().into())
            }
            Some(Next::Prepared(_)) => Due::Nothing,
            // One that is old goes when the next is prepared, long after what it signed has ended.
            None | Some(Next::Old { .. }) if left <= preparation(life) => Due::Prepare,
            None | Some(Next::Old { .. }) => Due::Nothing,
        }
    }
}

/// What time asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// This one is to sign.
    Activate(String),
    /// Nothing yet.
    Nothing,
    /// Another is to be made.
    Prepare,
}

fn lifetime(authority: &impl Authority) -> Duration {
    let (begin, end) = (authority.not_before(), authority.not_after());
    end.duration_since(begin).unwrap_or_default()
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The next is made when so much is left: half of the life, at most 30 days.
fn preparation(life: Duration) -> Duration {
    (life / 2).min(30 * DAY)
}

/// It signs when so much is left: a sixth, at most 7 days. Longer than what it has signed may live,
/// or that is cut.
fn activation(life: Duration) -> Duration {
    (life / 6).min(7 * DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Named(&'static str, u64);

    impl Authority for Named {
        fn id(&self) -> &str {
            self.0
        }

        fn not_before(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }

        fn not_after(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + Duration::from_secs(self.1)
        }
    }

    const A: Named = Named("a", 6000);
    const B: Named = Named("b", 6000);

    #[test]
    fn an_authority_is_prepared_active_old_tainted_and_gone() {
        let first = Slots::new(A);
        let prepared = first.prepare(B);
        assert_eq!(prepared.active, A);
        let active = prepared.activate("b").unwrap();
        assert_eq!(active.active, B);
        let tainted = active.taint("a").unwrap();
        let revoked = tainted.revoke("a").unwrap();
        assert_eq!(revoked, Slots::new(B));
        // What was prepared and not activated leaves its slot.
        let other = prepared.prepare(Named("c", 1));
        assert_eq!(
            other.activate("b").unwrap_err(),
            SlotError::Unknown("b".into())
        );
    }

    #[test]
    fn every_other_step_is_refused() {
        let first = Slots::new(A);
        let prepared = first.prepare(B);
        let active = prepared.activate("b").unwrap();
        let tainted = active.taint("a").unwrap();
        for (error, wrong_name) in [
            (first.activate("a"), true),
            (first.activate("b"), true),
            (active.activate("a"), false),
            (first.taint("a"), true),
            (prepared.taint("b"), true),
            (active.taint("b"), true),
            (active.taint("x"), true),
            (tainted.taint("a"), false),
            (active.revoke("a"), false),
            (tainted.revoke("b"), true),
            (prepared.revoke("b"), true),
        ] {
            let error = error.unwrap_err();
            assert_eq!(error.is_wrong_name(), wrong_name, "{error}");
        }
    }

    #[test]
    fn time_prepares_at_half_of_the_life_and_activates_at_the_last_sixth() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let first = Slots::new(A);
        assert_eq!(first.due(at(2999)), Due::Nothing);
        assert_eq!(first.due(at(3000)), Due::Prepare);
        assert_eq!(
            first.due(at(100_000)),
            Due::Prepare,
            "it slept through its end"
        );
        let prepared = first.prepare(B);
        assert_eq!(prepared.due(at(3000)), Due::Nothing);
        assert_eq!(prepared.due(at(4999)), Due::Nothing);
        assert_eq!(prepared.due(at(5000)), Due::Activate("b".into()));
        assert_eq!(prepared.due(at(100_000)), Due::Prepare, "both have ended");
        let active = prepared.activate("b").unwrap();
        assert_eq!(active.due(at(2999)), Due::Nothing);
        assert_eq!(active.due(at(3000)), Due::Prepare);
        let years = 10 * 365 * 24 * 3600;
        let long = Slots::new(Named("l", years));
        assert_eq!(long.due(at(years - 31 * 24 * 3600)), Due::Nothing);
        assert_eq!(long.due(at(years - 30 * 24 * 3600)), Due::Prepare);
        let long = long.prepare(Named("m", 2 * years));
        assert_eq!(long.due(at(years - 8 * 24 * 3600)), Due::Nothing);
        assert_eq!(
            long.due(at(years - 7 * 24 * 3600)),
            Due::Activate("m".into())
        );
    }
}
