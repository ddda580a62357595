//! A set of members that somebody else keeps.

use std::{collections::BTreeMap, fmt, sync::Arc};

use sekisho_certs::{Member, Members, TrustDomain};
use tokio::sync::watch;

use super::{Answer, MemberSource, Wanted};

/// Members of one mark whose loading is begun when the mark is asked for.
const BY_MARK: usize = 256;

/// Told that a site is wanted which is not there, or not loaded. False: it is nobody's name.
type Want = Box<dyn Fn(&TrustDomain) -> bool + Send + Sync>;

/// Answers out of a set that is replaced from outside.
pub struct Followed {
    members: watch::Receiver<Members>,
    want: Want,
}

impl Followed {
    /// Follows `members`; `want` is told of what is not there or has no bundle yet, at every question
    /// anew, and says whether that may be somebody's name.
    #[must_use]
    pub fn new(
        members: watch::Receiver<Members>,
        want: impl Fn(&TrustDomain) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            members,
            want: Box::new(want),
        }
    }
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.members.borrow().len();
        f.debug_struct("Followed")
            .field("members", &count)
            .finish_non_exhaustive()
    }
}

impl MemberSource for Followed {
    fn get(&self, wanted: &Wanted) -> Answer {
        let members = self.members.borrow().clone();
        let mut found: BTreeMap<&TrustDomain, &Arc<Member>> = BTreeMap::new();
        let mut unknown = Vec::new();
        for domain in &wanted.domains {
            match members.get(domain) {
                Some(member) => {
                    found.insert(member.trust_domain(), member);
                }
                None if (self.want)(domain) => {}
                None => unknown.push(domain.clone()),
            }
        }
        for mark in &wanted.marks {
            // Those that are loaded are worth more than those that may come.
            let (loaded, others): (Vec<_>, Vec<_>) = members
                .with_mark(mark)
                .partition(|member| member.bundle().is_some());
            for member in loaded.into_iter().chain(others).take(BY_MARK) {
                found.insert(member.trust_domain(), member);
            }
        }
        for (domain, member) in &found {
            if member.bundle().is_none() {
                (self.want)(domain);
            }
        }
        Answer {
            members: found.into_values().cloned().collect(),
            unknown,
        }
    }
}
