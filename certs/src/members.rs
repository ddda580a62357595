//! What is known of other sites beside their CAs: who vouches for it, how old it is, marks, and
//! the services they offer.
//!
//! A member grants nothing by itself: a peer is let in by a list, which may name a mark, and by
//! the bundle of its own trust domain.

pub mod demand;
mod mark;
mod service;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use crate::{bundle::TrustBundle, id::TrustDomain};

pub use demand::{Demand, Wish};
pub use mark::Mark;
pub use service::{Gateway, MAX_GATEWAYS, MAX_MARKS, Service, is_service_name};

/// Most services of one member.
pub const MAX_SERVICES: usize = 64;

/// What is wrong with a member, or with what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// The bundle belongs to another trust domain.
    #[error("{member}: the bundle is that of {bundle}")]
    BundleOfAnother {
        /// Whose it should be.
        member: TrustDomain,
        /// Whose it is.
        bundle: TrustDomain,
    },
    /// A trust domain stands twice in a set.
    #[error("trust domain {0} stands twice among the members")]
    Duplicate(TrustDomain),
    /// Not the address of a gateway.
    #[error("gateway {text:?}: expected {expected}")]
    Gateway {
        /// What stands there.
        text: String,
        /// What should.
        expected: &'static str,
    },
    /// Not a mark.
    #[error("mark {text:?}: expected {expected}")]
    Mark {
        /// What stands there.
        text: String,
        /// What should.
        expected: &'static str,
    },
    /// Nobody tells us about our own trust domain.
    #[error("{0} is our own trust domain: nobody else can deliver it")]
    OwnDomain(TrustDomain),
    /// A service that cannot be used.
    #[error("service {name}: {problem}")]
    Service {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A service that speaks for another trust domain.
    #[error("service {name}: its SPIFFE ID is not of {member}")]
    ServiceOfAnother {
        /// Its name.
        name: String,
        /// Whose it should be.
        member: TrustDomain,
    },
    /// Not the name of a service.
    #[error("service {text:?}: expected {expected}")]
    ServiceName {
        /// What stands there.
        text: String,
        /// What should.
        expected: &'static str,
    },
    /// More than a bound allows.
    #[error("{member}: more than {limit} {what}")]
    TooMany {
        /// Whose.
        member: TrustDomain,
        /// The bound.
        limit: usize,
        /// What there is too much of.
        what: &'static str,
    },
}

/// Who vouches for a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A pairwise relationship, set up by this site's operator.
    Peer,
    /// The federation's directory.
    Directory,
}

impl Source {
    /// The word in status, metrics and `input.sekisho.federation.source`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Directory => "directory",
        }
    }
}

/// A time that is brought forward in place: what was handed out with it ages no further than what
/// is confirmed again, and nobody has to be handed anything new. In milliseconds since 1970.
#[derive(Debug)]
struct Confirmed(AtomicU64);

impl Confirmed {
    fn new(time: SystemTime) -> Self {
        Self(AtomicU64::new(millis(time)))
    }

    fn get(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// Times before 1970 are 1970.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX / 4096)
}

impl Clone for Confirmed {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}

impl PartialEq for Confirmed {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

/// One other site.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    domain: TrustDomain,
    source: Source,
    bundle: Option<Arc<TrustBundle>>,
    confirmed: Confirmed,
    marks: BTreeSet<Mark>,
    services: BTreeMap<String, Service>,
}

impl Member {
    /// A member whose bundle is not loaded, with neither marks nor services. `confirmed` is when
    /// `source` last said that what stands here is so.
    #[must_use]
    pub fn new(domain: TrustDomain, source: Source, confirmed: SystemTime) -> Self {
        Self {
            domain,
            source,
            bundle: None,
            confirmed: Confirmed::new(confirmed),
            marks: BTreeSet::new(),
            services: BTreeMap::new(),
        }
    }

    /// The same with its bundle loaded.
    ///
    /// # Errors
    /// When the bundle is that of another trust domain.
    pub fn with_bundle(mut self, bundle: Arc<TrustBundle>) -> Result<Self, MemberError> {
        if *bundle.trust_domain() != self.domain {
            return Err(MemberError::BundleOfAnother {
                member: self.domain,
                bundle: bundle.trust_domain().clone(),
            });
        }
        self.bundle = Some(bundle);
        Ok(self)
    }

    /// The same without its bundle: nobody of it is trusted.
    #[must_use]
    pub fn without_bundle(mut self) -> Self {
        self.bundle = None;
        self
    }

    /// The same with these marks.
    ///
    /// # Errors
    /// When there are more than [`MAX_MARKS`].
    pub fn with_marks(mut self, marks: BTreeSet<Mark>) -> Result<Self, MemberError> {
        if marks.len() > MAX_MARKS {
            return Err(self.too_many(MAX_MARKS, "marks"));
        }
        self.marks = marks;
        Ok(self)
    }

    /// The same with these services.
    ///
    /// # Errors
    /// When one speaks for another trust domain, two have the same name, or there are more than
    /// [`MAX_SERVICES`].
    pub fn with_services(
        mut self,
        services: impl IntoIterator<Item = Service>,
    ) -> Result<Self, MemberError> {
        let mut by_name = BTreeMap::new();
        for service in services {
            let name = service.name().to_owned();
            if service.id().trust_domain() != &self.domain {
                let member = self.domain;
                return Err(MemberError::ServiceOfAnother { name, member });
            }
            if by_name.len() >= MAX_SERVICES {
                return Err(self.too_many(MAX_SERVICES, "services"));
            }
            if by_name.insert(name.clone(), service).is_some() {
                let problem = "it is listed twice";
                return Err(MemberError::Service { name, problem });
            }
        }
        self.services = by_name;
        Ok(self)
    }

    /// The same, confirmed at another time.
    #[must_use]
    pub fn confirmed_at(mut self, confirmed: SystemTime) -> Self {
        self.confirmed = Confirmed::new(confirmed);
        self
    }

    fn too_many(&self, limit: usize, what: &'static str) -> MemberError {
        MemberError::TooMany {
            member: self.domain.clone(),
            limit,
            what,
        }
    }

    /// Its trust domain.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Who vouches for it.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }

    /// Its bundle, once loaded. A bundle without CAs is loaded, and trusts nobody.
    #[must_use]
    pub const fn bundle(&self) -> Option<&Arc<TrustBundle>> {
        self.bundle.as_ref()
    }

    /// When its source last confirmed it.
    #[must_use]
    pub fn confirmed(&self) -> SystemTime {
        self.confirmed.get()
    }

    /// Its source has said again, at `time`, that all of this is so. Whoever holds this member sees
    /// the new age.
    pub fn confirm(&self, time: SystemTime) {
        self.confirmed.0.store(millis(time), Ordering::Relaxed);
    }

    /// How long ago that was; zero when the clock went backwards.
    #[must_use]
    pub fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.confirmed()).unwrap_or_default()
    }

    /// Its marks.
    #[must_use]
    pub const fn marks(&self) -> &BTreeSet<Mark> {
        &self.marks
    }

    /// Its services, by name.
    #[must_use]
    pub const fn services(&self) -> &BTreeMap<String, Service> {
        &self.services
    }

    /// Whether all but the time of its confirmation is equal: whether nobody has to decide anew.
    #[must_use]
    pub fn same_facts(&self, other: &Self) -> bool {
        let same_bundle = match (&self.bundle, &other.bundle) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs) || mine == theirs,
            (None, None) => true,
            _ => false,
        };
        same_bundle
            && self.domain == other.domain
            && self.source == other.source
            && self.marks == other.marks
            && self.services == other.services
    }
}

/// The other sites, by trust domain; never our own. Cheap to clone, replaced whole.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// Sorted by trust domain: ten thousand are copied and searched faster so than as a map.
    sorted: Arc<[Arc<Member>]>,
}

impl Members {
    /// A set of members for the site `own`.
    ///
    /// # Errors
    /// When one of them is `own`, or a trust domain stands there twice.
    pub fn new(
        own: &TrustDomain,
        members: impl IntoIterator<Item = Arc<Member>>,
    ) -> Result<Self, MemberError> {
        let mut sorted: Vec<_> = members.into_iter().collect();
        sorted.sort_by(|one, other| name(one).cmp(name(other)));
        if let Some(member) = sorted.iter().find(|member| member.domain == *own) {
            return Err(MemberError::OwnDomain(member.domain.clone()));
        }
        for pair in sorted.windows(2) {
            if let [one, other] = pair
                && one.domain == other.domain
            {
                return Err(MemberError::Duplicate(one.domain.clone()));
            }
        }
        Ok(Self {
            sorted: sorted.into(),
        })
    }

    /// The member of a trust domain.
    #[must_use]
    pub fn get(&self, domain: &TrustDomain) -> Option<&Arc<Member>> {
        self.sorted.get(self.place(domain).ok()?)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Member>> {
        self.sorted.iter()
    }

    /// Those that carry a mark, by name.
    pub fn with_mark<'a>(&'a self, mark: &'a Mark) -> impl Iterator<Item = &'a Arc<Member>> {
        self.iter().filter(|member| member.marks.contains(mark))
    }

    /// Whether `domain` is a member that carries `mark`. Whether its peers can prove anything is for
    /// the bundle to say.
    #[must_use]
    pub fn is_marked(&self, domain: &TrustDomain, mark: &Mark) -> bool {
        self.get(domain)
            .is_some_and(|member| member.marks.contains(mark))
    }

    /// The same with this member, in place of the one of the same trust domain.
    ///
    /// # Errors
    /// When it is `own`, our trust domain.
    pub fn with(&self, own: &TrustDomain, member: Arc<Member>) -> Result<Self, MemberError> {
        if member.domain == *own {
            return Err(MemberError::OwnDomain(member.domain.clone()));
        }
        let mut sorted = self.sorted.to_vec();
        match self.place(&member.domain) {
            Ok(at) => drop(sorted.get_mut(at).map(|old| *old = member)),
            Err(at) => sorted.insert(at, member),
        }
        Ok(Self {
            sorted: sorted.into(),
        })
    }

    /// The same without the member of `domain`.
    #[must_use]
    pub fn without(&self, domain: &TrustDomain) -> Self {
        let others = self.iter().filter(|member| member.domain != *domain);
        Self {
            sorted: others.cloned().collect(),
        }
    }

    /// Takes the times of confirmation from `newer`, where it has the same members with the same
    /// facts.
    pub fn confirm_as(&self, newer: &Self) {
        for (member, newer) in self.iter().zip(newer.iter()) {
            if Arc::ptr_eq(member, newer) || !member.same_facts(newer) {
                continue;
            }
            member.confirm(newer.confirmed());
        }
    }

    fn place(&self, domain: &TrustDomain) -> Result<usize, usize> {
        self.sorted
            .binary_search_by(|member| name(member).cmp(domain.as_str()))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Whether both are one and the same set in memory.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.sorted, &other.sorted)
    }

    /// Whether all but the times of confirmation are equal.
    #[must_use]
    pub fn same_facts(&self, other: &Self) -> bool {
        let equal =
            |(one, other): (&Arc<Member>, _)| Arc::ptr_eq(one, other) || one.same_facts(other);
        self.is_same(other)
            || (self.len() == other.len() && self.iter().zip(other.iter()).all(equal))
    }
}

impl PartialEq for Members {
    fn eq(&self, other: &Self) -> bool {
        let equal = |(one, other): (&Arc<Member>, _)| Arc::ptr_eq(one, other) || one == other;
        self.is_same(other)
            || (self.len() == other.len() && self.iter().zip(other.iter()).all(equal))
    }
}

/// Where members come from, and who is told of domains that are wanted.
#[derive(Clone, Debug)]
pub struct Feed {
    /// What is known now.
    pub members: watch::Receiver<Members>,
    /// Where somebody can be asked for more.
    pub demand: Option<Arc<Demand>>,
    /// Why nothing is told now, where that is so; what was told stays.
    pub problem: watch::Receiver<Option<Arc<str>>>,
}

impl Feed {
    /// Nobody is known, and nobody can be asked.
    #[must_use]
    pub fn none() -> Self {
        Self {
            members: watch::channel(Members::default()).1,
            demand: None,
            problem: watch::channel(None).1,
        }
    }
}

fn name(member: &Arc<Member>) -> &str {
    member.domain.as_str()
}
