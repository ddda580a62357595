//! Bringing up to date what proxies want to know of other sites.

use std::{collections::BTreeMap, time::Duration};

use super::Agent;
use crate::members::ask;

/// Between two questions to the authority that proxies cause.
pub(super) const PAUSE: Duration = Duration::from_millis(250);
/// Ages alone are kept this often.
const KEEP: Duration = Duration::from_secs(600);

impl Agent {
    /// Asks the authority, where somebody wants to know something. What fails is told in the log, and
    /// what was known stays: the turn is none the worse.
    pub(super) async fn ask_for_members(&mut self) {
        let now = self.clock.now();
        let (wanted, generation) = self.desk.all(now);
        let before = self.desk.known().borrow().clone();
        let nothing = wanted.domains.is_empty() && wanted.marks.is_empty();
        if nothing && before.count() == 0 && before.answered == generation {
            return;
        }
        let Some(channel) = self.channel.borrow().clone() else {
            return;
        };
        let own = self.settings.domain.clone();
        let asked = ask::ask(channel, &own, &wanted, &before, &mut self.asked, now);
        let mut known = match asked.await {
            Ok(known) => known,
            Err(status) => {
                let (code, problem) = (status.code(), status.message());
                tracing::warn!(
                    ?code,
                    problem,
                    "members of the federation are not up to date"
                );
                return;
            }
        };
        known.answered = generation;
        let facts = |known: &crate::members::Known| -> BTreeMap<_, _> {
            let all = known.members.iter();
            all.map(|(name, told)| (name.clone(), std::sync::Arc::clone(&told.facts)))
                .collect()
        };
        let changed = facts(&before) != facts(&known);
        let old = now
            .duration_since(self.members_kept)
            .is_ok_and(|age| age >= KEEP);
        let worth = changed || (old && known.count() > 0);
        self.desk.answer(known);
        if worth {
            self.members_kept = now;
            self.save();
        }
    }
}
