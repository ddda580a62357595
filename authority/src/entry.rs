//! Registration entries: who gets which SPIFFE ID, and what is wrong with one that is asked for.

mod dns;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, SystemTime},
};

use sekisho_certs::{SpiffeId, TrustDomain, id};

pub use dns::DnsNameError;

/// Most bytes of an entry's ID.
const MAX_ID: usize = 255;
/// Most bytes of a hint (Workload_API.md §8).
const MAX_HINT: usize = 1024;

/// One fact about a process or a node, such as `unix:uid:1000`: its type is the attestor's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// The attestor: before the first colon.
    pub kind: String,
    /// What it found: the rest.
    pub value: String,
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

/// With whom the SVIDs of an entry are to be verified.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Federated {
    /// Every trust domain that this site is federated with, now and later: `*`.
    All,
    /// This one.
    Domain(TrustDomain),
}

impl fmt::Display for Federated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Domain(domain) => f.write_str(domain.as_str()),
        }
    }
}

/// An entry that holds to the rules, before it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Its name; chosen by the store where it is `None`.
    pub id: Option<String>,
    /// What the workload gets.
    pub spiffe_id: SpiffeId,
    /// The node, or the entry, that it belongs to.
    pub parent_id: SpiffeId,
    /// All of them must be true of the workload. At least one.
    pub selectors: BTreeSet<Selector>,
    /// Lifetime of its X.509-SVIDs; zero: the site's.
    pub x509_ttl: Duration,
    /// Lifetime of its JWT-SVIDs; zero: the site's.
    pub jwt_ttl: Duration,
    /// In the order given.
    pub federates_with: Vec<Federated>,
    /// Whoever has this ID administers the authority.
    pub admin: bool,
    /// Whoever has this ID is a server below this one.
    pub downstream: bool,
    /// When it ends; `None`: never.
    pub expires_at: Option<SystemTime>,
    /// The first is the certificate's common name.
    pub dns_names: Vec<String>,
    /// Kept for the API's sake: the SVID is to be put in a store of secrets by the agent.
    pub store_svid: bool,
    /// Tells the workload which of its SVIDs this is.
    pub hint: String,
    /// Agents do not ask for its SVID before a workload does.
    pub no_prefetch: bool,
    /// Its JWT-SVIDs have an ID of their own (`jti`).
    pub jwt_id: bool,
}

/// A stored entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: String,
    /// How often it has changed.
    pub revision: i64,
    /// When it was made.
    pub created_at: SystemTime,
    /// The rest. Its own `id` is not read.
    pub draft: Draft,
}

/// Why an entry is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EntryError {
    /// A DNS name is none.
    #[error("invalid DNS name {0:?}: {1}")]
    DnsName(String, #[source] DnsNameError),
    /// A DNS name stands there twice.
    #[error("DNS name {0:?} is repeated")]
    DnsNameTwice(String),
    /// A trust domain that is none.
    #[error("invalid federated trust domain {0:?}")]
    Federated(String),
    /// Its own: agents of SPIRE could not sync any more.
    #[error("{0:?} is this trust domain itself: an entry is not federated with it")]
    FederatedWithItself(String),
    /// The hint is too long.
    #[error("hint is {0} bytes long, at most {MAX_HINT} are allowed")]
    Hint(usize),
    /// The entry's own ID is none.
    #[error(
        "invalid entry ID {0:?}: at most {MAX_ID} letters, digits, dots, dashes and underscores"
    )]
    Id(String),
    /// Neither of the two IDs may lack, be another domain's, or have no path.
    #[error("invalid {field}: {problem}")]
    SpiffeId {
        /// `spiffe ID` or `parent ID`.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// There is none.
    #[error("selector list is empty")]
    NoSelector,
    /// A part of it is empty, or its type has a colon.
    #[error("invalid selector {0}: a type without a colon and a value are expected")]
    Selector(String),
    /// A selector stands there twice.
    #[error("selector {0} is repeated")]
    SelectorTwice(Selector),
    /// An SVID that is stored is found by one kind of selector.
    #[error("selector types must be the same when store SVID is enabled")]
    StoreSelectors,
    /// It contradicts itself.
    #[error("prefetching of X509-SVIDs cannot be disabled when store SVID is enabled")]
    StorePrefetch,
    /// Less than nothing.
    #[error("invalid TTL: {0} s, must not be negative")]
    Ttl(i64),
}

impl EntryError {
    /// Whether it is that something is there twice, which SPIRE tells as such.
    #[must_use]
    pub const fn is_repetition(&self) -> bool {
        matches!(self, Self::DnsNameTwice(_) | Self::SelectorTwice(_))
    }
}

/// An ID of this trust domain with a path.
///
/// # Errors
/// [`EntryError::SpiffeId`].
pub fn own_id(
    field: &'static str,
    text: &str,
    domain: &TrustDomain,
) -> Result<SpiffeId, EntryError> {
    let failed = |problem: String| EntryError::SpiffeId { field, problem };
    let id = id::parse_workload_id(text).map_err(|error| failed(error.to_string()))?;
    if id.trust_domain() != domain {
        return Err(failed(format!(
            "{text:?} is not a member of trust domain {:?}",
            domain.as_str()
        )));
    }
    Ok(id)
}

/// The ID of a workload: none below `/spire`, which is for servers and agents.
///
/// # Errors
/// [`EntryError::SpiffeId`].
pub fn workload_id(text: &str, domain: &TrustDomain) -> Result<SpiffeId, EntryError> {
    let field = "spiffe ID";
    let id = own_id(field, text, domain)?;
    if is_reserved(&id) {
        let problem = format!("{text:?} is below /spire, which is reserved");
        return Err(EntryError::SpiffeId { field, problem });
    }
    Ok(id)
}

/// Whether it is a server's or an agent's.
#[must_use]
pub fn is_reserved(id: &SpiffeId) -> bool {
    id.path() == "/spire" || id.path().starts_with("/spire/")
}

/// The entry's own ID, where it was given one.
///
/// # Errors
/// [`EntryError::Id`].
pub fn entry_id(text: &str) -> Result<Option<String>, EntryError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.len() > MAX_ID || !text.bytes().all(allowed) {
        return Err(EntryError::Id(text.into()));
    }
    Ok((!text.is_empty()).then(|| text.into()))
}

/// At least one, each once.
///
/// # Errors
/// Those of selectors.
pub fn selectors(
    all: impl IntoIterator<Item = Selector>,
) -> Result<BTreeSet<Selector>, EntryError> {
    let mut set = BTreeSet::new();
    for selector in all {
        if selector.kind.is_empty() || selector.kind.contains(':') || selector.value.is_empty() {
            return Err(EntryError::Selector(selector.to_string()));
        }
        if let Some(twice) = set.replace(selector) {
            return Err(EntryError::SelectorTwice(twice));
        }
    }
    if set.is_empty() {
        return Err(EntryError::NoSelector);
    }
    Ok(set)
}

/// DNS names in their order, each once.
///
/// # Errors
/// Those of DNS names.
pub fn dns_names(all: Vec<String>) -> Result<Vec<String>, EntryError> {
    let mut seen = BTreeSet::new();
    for name in &all {
        dns::check(name).map_err(|error| EntryError::DnsName(name.clone(), error))?;
        if !seen.insert(name) {
            return Err(EntryError::DnsNameTwice(name.clone()));
        }
    }
    Ok(all)
}

/// Trust domains as they are typed: `b.example`, `spiffe://b.example`, `*`. What stands there twice
/// counts once.
///
/// # Errors
/// [`EntryError::Federated`], [`EntryError::FederatedWithItself`].
pub fn federates_with(
    all: impl IntoIterator<Item = String>,
    own: &TrustDomain,
) -> Result<Vec<Federated>, EntryError> {
    let mut found = Vec::new();
    for text in all {
        let federated = if text == "*" {
            Federated::All
        } else {
            let bare = text.strip_prefix("spiffe://").unwrap_or(&text);
            let domain =
                id::parse_trust_domain(bare).map_err(|_| EntryError::Federated(text.clone()))?;
            if domain == *own {
                return Err(EntryError::FederatedWithItself(text));
            }
            Federated::Domain(domain)
        };
        if !found.contains(&federated) {
            found.push(federated);
        }
    }
    Ok(found)
}

/// A lifetime in seconds; zero for the site's.
///
/// # Errors
/// [`EntryError::Ttl`].
pub fn ttl(seconds: i64) -> Result<Duration, EntryError> {
    let checked = u64::try_from(seconds).map_err(|_| EntryError::Ttl(seconds))?;
    Ok(Duration::from_secs(checked))
}

/// A hint.
///
/// # Errors
/// [`EntryError::Hint`].
pub fn hint(text: String) -> Result<String, EntryError> {
    if text.len() > MAX_HINT {
        return Err(EntryError::Hint(text.len()));
    }
    Ok(text)
}

impl Draft {
    /// Rules between fields.
    ///
    /// # Errors
    /// [`EntryError::StoreSelectors`], [`EntryError::StorePrefetch`].
    pub fn check(&self) -> Result<(), EntryError> {
        if !self.store_svid {
            return Ok(());
        }
        let kinds: BTreeSet<_> = self
            .selectors
            .iter()
            .map(|selector| &selector.kind)
            .collect();
        if kinds.len() > 1 {
            return Err(EntryError::StoreSelectors);
        }
        if self.no_prefetch {
            return Err(EntryError::StorePrefetch);
        }
        Ok(())
    }
}
