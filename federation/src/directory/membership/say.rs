//! Saying one word to one directory, whatever becomes of that.

use std::{
    num::NonZeroU64,
    time::{Duration, SystemTime},
};

use super::{Desk, Found, Membership, MembershipError, PATIENCE, Spoken, Word, alone, folder};
use crate::directory::{
    descriptor::Descriptor,
    key::Signer as _,
    repository::{LIFE, Submission},
};

/// So many versions are tried at a directory that has more than it shows, and does not say how many.
const TRIES: u64 = 4;
/// So many more than it shows are believed to be there, as its host says. Nobody has signed that.
const AHEAD: u64 = 1024;
/// A directory that has gone back is brought to the version that was said before, where it is no more than so
/// far: sites that have seen it take nothing older.
const CLIMB: u64 = 32;

impl Word {
    /// When it was said.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.time.min(u64::from(u32::MAX) * 2))
    }

    /// Whether it is this descriptor that was said.
    #[must_use]
    pub fn is(&self, descriptor: &Descriptor) -> bool {
        self.sha256 == folder::sha256(descriptor)
    }
}

impl Found {
    /// The last word, where it is a later one than is shown.
    #[must_use]
    pub fn on_its_way(&self) -> Option<&Word> {
        let word = self.word.as_ref();
        word.filter(|word| word.version > self.there.version)
    }

    /// Whether sites may have seen a later version of us than the directory has.
    #[must_use]
    pub fn has_gone_back(&self) -> bool {
        let goal = self.word.as_ref().map_or(0, |word| word.goal);
        self.on_its_way().is_none() && goal > self.there.version
    }
}

impl Membership {
    /// What there is to say where this was found: nothing, for as long as what was said last stands, or is on
    /// its way.
    pub(super) fn stands(
        &self,
        descriptor: &Descriptor,
        found: &Found,
        now: SystemTime,
    ) -> Result<Option<Spoken>, MembershipError> {
        if let Some(said) = found.on_its_way() {
            let waits = said.is(descriptor) && now < said.at() + PATIENCE;
            return Ok(waits.then_some(Spoken::OnItsWay(said.version)));
        }
        let there = &found.there;
        let left = there.expires.duration_since(now).unwrap_or_default();
        if there.descriptor.as_ref() == Some(descriptor) {
            let stands = left > LIFE * 2 / 3 && !found.has_gone_back();
            return Ok(stands.then_some(Spoken::AsBefore));
        }
        // A request for new keys lies with the registrars, and is of the next version: what can wait, waits.
        let same_bundle = there
            .descriptor
            .as_ref()
            .is_some_and(|said| said.bundle == descriptor.bundle);
        let waits = same_bundle && left > LIFE / 3 && self.next_waits(found)?;
        Ok(waits.then_some(Spoken::Waits))
    }

    /// Whether a next key waits for registrars at the directory where this was found.
    ///
    /// # Errors
    /// When the key cannot be read.
    pub fn next_waits(&self, found: &Found) -> Result<bool, MembershipError> {
        let next = self.0.next()?;
        Ok(next.is_some_and(|next| next.public().id() != found.key.public().id()))
    }

    /// Says it, where that was found. The version is the answer.
    ///
    /// Each directory counts for itself. One that has more than it shows says so, and the next version is
    /// asked for. One that has gone back, by a backup or because it was founded anew, is waited for as
    /// long as for its host, and then followed; and as far as others may have seen more of us, it is brought to
    /// that.
    ///
    /// # Errors
    /// When it is not taken; what was said before stands.
    pub async fn say(
        &self,
        descriptor: &Descriptor,
        found: &Found,
        desk: &Desk<'_>,
        now: SystemTime,
    ) -> Result<u64, MembershipError> {
        self.deliver(descriptor, false, found, desk, now).await
    }

    /// Says, where that was found, that the key by which it was found is not to be trusted any more. `descriptor`
    /// is what was said before. It is not waited for a directory that has gone back.
    ///
    /// # Errors
    /// When it is not taken.
    pub async fn revoke(
        &self,
        descriptor: &Descriptor,
        found: &Found,
        desk: &Desk<'_>,
        now: SystemTime,
    ) -> Result<u64, MembershipError> {
        let there = &found.there;
        if there.version > 0 && there.sha256.is_none() {
            return Ok(there.version);
        }
        self.deliver(descriptor, true, found, desk, now).await
    }

    async fn deliver(
        &self,
        descriptor: &Descriptor,
        revokes: bool,
        found: &Found,
        desk: &Desk<'_>,
        now: SystemTime,
    ) -> Result<u64, MembershipError> {
        let keys = alone(&found.key)?;
        let on_its_way = found.on_its_way();
        let is_late = on_its_way.is_none_or(|said| now >= said.at() + PATIENCE);
        let may_follow = revokes || is_late;
        let mut known = on_its_way.map_or(found.there.version, |said| said.version);
        let said = known;
        let mut goal = found.word.as_ref().map_or(0, |word| word.goal);
        for _ in 0..TRIES + CLIMB {
            let version = known.checked_add(1).and_then(NonZeroU64::new);
            let version = version.ok_or(MembershipError::Version(known))?;
            let sent = if revokes {
                let domain = descriptor.bundle.trust_domain();
                Submission::revocation(domain, &keys, version, &[&found.key])?
            } else {
                Submission::new(descriptor, version, &[&found.key], now)?
            };
            let taken = desk.send(&sent, now).await?;
            if taken.accepted {
                known = version.get();
                if revokes || known >= goal || goal - known > CLIMB {
                    goal = known;
                }
                let word = Word::new(descriptor, known, goal, &keys, now);
                let word = if revokes { word.revoked() } else { word };
                let to = desk.address().map(|address| (address, word));
                self.0.keep(known, descriptor, to)?;
                if goal == known {
                    return Ok(known);
                }
                continue;
            }
            match taken.known {
                Some(there) if there < known && there < said && !may_follow => {
                    return Err(MembershipError::Back { there, said });
                }
                Some(there) if there < known => {
                    tracing::warn!(there, said, "the directory has gone back: it is followed");
                    known = there;
                    goal = goal.max(said.saturating_add(1));
                }
                Some(there) if there > known && there.saturating_sub(said) <= AHEAD => {
                    known = there
                }
                None if taken.reason.as_deref() == Some("rollback") && known < said + TRIES => {
                    known = version.get();
                }
                _ => {
                    let reason = taken.reason.unwrap_or_default();
                    return Err(MembershipError::Refused {
                        problem: taken.problem.unwrap_or_else(|| reason.clone()),
                        reason,
                    });
                }
            }
        }
        Err(MembershipError::Refused {
            reason: "rollback".into(),
            problem: "it has another word of us than it shows; it is tried again".into(),
        })
    }
}
