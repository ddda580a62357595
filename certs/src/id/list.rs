//! The lists an endpoint keeps of peers, and their lines.

use std::{fmt, str::FromStr};

use super::{
    IdError, SpiffeId, TrustDomain, id_below, is_reserved, parse_any_id, parse_workload_id,
};
use crate::members::{Mark, Members};

/// What a line by a mark begins with.
const MARK: &str = "mark:";

/// One line of an `accept` or `expect` list: an ID, or everything below a prefix, of one trust
/// domain or of all members that carry a mark.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdPattern {
    whose: Whose,
    /// The path in full; for a wildcard, the part before `*`, with its closing slash.
    path: String,
    wildcard: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whose {
    Domain(TrustDomain),
    Mark(Mark),
}

impl IdPattern {
    /// The line that names this ID alone.
    #[must_use]
    pub fn only(id: &SpiffeId) -> Self {
        Self {
            whose: Whose::Domain(id.trust_domain().clone()),
            path: id.path().into(),
            wildcard: false,
        }
    }

    /// The trust domain, where the line names one; it is never a pattern.
    #[must_use]
    pub const fn trust_domain(&self) -> Option<&TrustDomain> {
        match &self.whose {
            Whose::Domain(domain) => Some(domain),
            Whose::Mark(_) => None,
        }
    }

    /// The mark, where the line is by one.
    #[must_use]
    pub const fn mark(&self) -> Option<&Mark> {
        match &self.whose {
            Whose::Mark(mark) => Some(mark),
            Whose::Domain(_) => None,
        }
    }

    /// The ID, where the pattern names exactly one.
    #[must_use]
    pub fn exact(&self) -> Option<SpiffeId> {
        match &self.whose {
            Whose::Domain(_) if !self.wildcard => SpiffeId::new(self.to_string()).ok(),
            _ => None,
        }
    }

    /// Whether `id` is the one named, or lies below the prefix. `/spire/…` (servers, agents) is
    /// matched only by an ID named in full. A line by a mark matches nobody here: see
    /// [`IdPattern::matches_among`].
    #[must_use]
    pub fn matches(&self, id: &SpiffeId) -> bool {
        match &self.whose {
            Whose::Domain(domain) => {
                id.trust_domain_name() == domain.as_str() && self.matches_path(id.path())
            }
            Whose::Mark(_) => false,
        }
    }

    /// The same where `members` are known: a line by a mark matches the IDs of members that carry
    /// it. Our own trust domain is no member, so no mark stands for it.
    #[must_use]
    pub fn matches_among(&self, id: &SpiffeId, members: &Members) -> bool {
        match &self.whose {
            Whose::Domain(_) => self.matches(id),
            Whose::Mark(mark) => {
                self.matches_path(id.path()) && members.is_marked(id.trust_domain(), mark)
            }
        }
    }

    fn matches_path(&self, path: &str) -> bool {
        if !self.wildcard {
            return path == self.path;
        }
        !is_reserved(path)
            && path
                .strip_prefix(self.path.as_str())
                .is_some_and(|rest| !rest.is_empty())
    }

    /// `mark:NAME`, `mark:NAME/PATH` or `mark:NAME/PATH/*`.
    fn by_mark(text: &str, line: &str) -> Result<Self, IdError> {
        let (name, path) = match line.find('/') {
            Some(at) => line.split_at(at),
            None => (line, ""),
        };
        let mark = name.parse::<Mark>()?;
        let (path, wildcard) = match path.strip_suffix("/*") {
            Some(prefix) => (prefix, Some("/")),
            // The mark alone: all that is below nothing.
            None => (path, path.is_empty().then_some("")),
        };
        if path.contains('*') {
            return Err(IdError::Wildcard(text.into()));
        }
        if !path.is_empty() {
            // Whose path it is does not matter for its form; the shortest name does.
            let any = super::parse_trust_domain("x")?;
            id_below(&any, path).map_err(|_| IdError::MarkPath(text.into()))?;
        }
        if is_reserved(path) {
            return Err(IdError::MarkReserved(text.into()));
        }
        Ok(Self {
            whose: Whose::Mark(mark),
            path: format!("{path}{}", wildcard.unwrap_or_default()),
            wildcard: wildcard.is_some(),
        })
    }
}

impl FromStr for IdPattern {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if let Some(line) = text.strip_prefix(MARK) {
            return Self::by_mark(text, line);
        }
        let Some(prefix) = text.strip_suffix("/*") else {
            if text.contains('*') {
                return Err(IdError::Wildcard(text.into()));
            }
            let id = parse_workload_id(text)?;
            return Ok(Self {
                whose: Whose::Domain(id.trust_domain().clone()),
                path: id.path().into(),
                wildcard: false,
            });
        };
        if prefix.contains('*') {
            return Err(IdError::Wildcard(text.into()));
        }
        let id = parse_any_id(prefix)?;
        if is_reserved(id.path()) {
            return Err(IdError::Reserved(text.into()));
        }
        Ok(Self {
            whose: Whose::Domain(id.trust_domain().clone()),
            path: format!("{}/", id.path()),
            wildcard: true,
        })
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.wildcard { "*" } else { "" };
        match &self.whose {
            Whose::Domain(domain) => write!(f, "spiffe://{domain}{}{star}", self.path),
            Whose::Mark(mark) if self.path.is_empty() => write!(f, "{MARK}{mark}"),
            Whose::Mark(mark) => write!(f, "{MARK}{mark}{}{star}", self.path),
        }
    }
}

/// The peers an endpoint lets in, or expects to answer: design.md §5, "Allowed = list AND policy".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdList {
    /// `[federated]`: every ID of every trusted domain, but `/spire/…`. Needs a policy.
    Federated,
    /// The IDs that match one of these. An empty list matches nobody.
    Named(Vec<IdPattern>),
}

impl IdList {
    fn patterns(&self) -> &[IdPattern] {
        match self {
            Self::Federated => &[],
            Self::Named(patterns) => patterns,
        }
    }

    /// The first line that lets `id` in, as it stands in the file.
    #[must_use]
    pub fn find(&self, id: &SpiffeId, members: &Members) -> Option<String> {
        match self {
            Self::Federated => (!is_reserved(id.path())).then(|| "federated".into()),
            Self::Named(patterns) => patterns
                .iter()
                .find(|pattern| pattern.matches_among(id, members))
                .map(ToString::to_string),
        }
    }

    /// Whether a line lets `id` in, where no members are known: a line by a mark lets nobody in.
    #[must_use]
    pub fn contains(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Federated => !is_reserved(id.path()),
            Self::Named(patterns) => patterns.iter().any(|pattern| pattern.matches(id)),
        }
    }

    /// Whether a line lets `id` in, among these members.
    #[must_use]
    pub fn contains_among(&self, id: &SpiffeId, members: &Members) -> bool {
        match self {
            Self::Federated => !is_reserved(id.path()),
            Self::Named(patterns) => patterns
                .iter()
                .any(|pattern| pattern.matches_among(id, members)),
        }
    }

    /// Whether a peer of `domain` can match now: for a line by a mark, whether `domain` is a
    /// member that carries it.
    #[must_use]
    pub fn names_domain(&self, domain: &TrustDomain, members: &Members) -> bool {
        match self {
            Self::Federated => true,
            Self::Named(patterns) => patterns.iter().any(|pattern| match &pattern.whose {
                Whose::Domain(named) => named == domain,
                Whose::Mark(mark) => members.is_marked(domain, mark),
            }),
        }
    }

    /// Whether a peer of `domain` could match if more were known of it: whether it is worth asking
    /// who that is.
    #[must_use]
    pub fn could_name(&self, domain: &TrustDomain) -> bool {
        match self {
            Self::Federated => true,
            Self::Named(patterns) => patterns.iter().any(|pattern| match &pattern.whose {
                Whose::Domain(named) => named == domain,
                Whose::Mark(_) => true,
            }),
        }
    }

    /// The marks of its lines.
    pub fn marks(&self) -> impl Iterator<Item = &Mark> {
        self.patterns().iter().filter_map(IdPattern::mark)
    }

    /// The trust domains of its lines.
    pub fn domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.patterns().iter().filter_map(IdPattern::trust_domain)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::SystemTime};

    use super::*;
    use crate::{
        id::parse_trust_domain,
        members::{Member, Source},
    };

    fn members() -> Members {
        let marks = ["hpci".parse().unwrap()].into();
        let member = |name: &str| {
            let domain = parse_trust_domain(name).unwrap();
            Member::new(domain, Source::Directory, SystemTime::UNIX_EPOCH)
        };
        let marked = member("osaka.example").with_marks(marks).unwrap();
        let own = parse_trust_domain("tokyo.example").unwrap();
        Members::new(&own, [Arc::new(marked), Arc::new(member("kyoto.example"))]).unwrap()
    }

    fn matches(line: &str, id: &str) -> bool {
        let list = IdList::Named(vec![line.parse().unwrap()]);
        let id = parse_workload_id(id).unwrap();
        assert!(!list.contains(&id), "nobody is known");
        list.contains_among(&id, &members())
    }

    #[test]
    fn a_mark_stands_for_the_members_that_carry_it() {
        assert!(matches("mark:hpci", "spiffe://osaka.example/a/b"));
        assert!(matches("mark:hpci/*", "spiffe://osaka.example/a"));
        assert!(matches(
            "mark:hpci/kafka/*",
            "spiffe://osaka.example/kafka/b"
        ));
        assert!(matches("mark:hpci/sender", "spiffe://osaka.example/sender"));
        assert!(!matches(
            "mark:hpci/kafka/*",
            "spiffe://osaka.example/kafka"
        ));
        assert!(!matches(
            "mark:hpci/sender",
            "spiffe://osaka.example/sender/2"
        ));
        assert!(!matches("mark:hpci", "spiffe://kyoto.example/a"));
        assert!(!matches("mark:hpci", "spiffe://tokyo.example/a"));
        assert!(!matches("mark:hpci", "spiffe://nara.example/a"));
        assert!(!matches("mark:hpc", "spiffe://osaka.example/a"));
    }

    #[test]
    fn a_mark_never_reaches_servers_and_agents() {
        assert!(!matches("mark:hpci", "spiffe://osaka.example/spire/server"));
        assert!("mark:hpci/spire/server".parse::<IdPattern>().is_err());
        assert!("mark:hpci/spire/*".parse::<IdPattern>().is_err());
    }

    #[test]
    fn what_is_no_mark_or_path_is_refused() {
        for text in [
            "mark:",
            "mark:HPCI",
            "mark:/a",
            "mark:hpci/",
            "mark:hpci//a",
            "mark:hpci/a/",
            "mark:hpci/../a",
            "mark:hpci/a*",
            "mark:hpci/*/a",
            "mark:hpci/a b",
            "mark:*",
            "mark:hp_ci",
        ] {
            assert!(text.parse::<IdPattern>().is_err(), "{text}");
        }
        let written = ["mark:hpci", "mark:hpci/*", "mark:hpci/a/*", "mark:hpci/a"];
        for text in written {
            let line: IdPattern = text.parse().unwrap();
            assert_eq!(line.to_string(), text);
            assert!(line.exact().is_none() && line.trust_domain().is_none());
        }
    }

    #[test]
    fn a_domain_is_named_by_its_mark_and_any_could_be() {
        let list = IdList::Named(vec!["mark:hpci/a".parse().unwrap()]);
        let domain = |name| parse_trust_domain(name).unwrap();
        assert!(list.names_domain(&domain("osaka.example"), &members()));
        assert!(!list.names_domain(&domain("kyoto.example"), &members()));
        assert!(list.could_name(&domain("nara.example")));
        let plain = IdList::Named(vec!["spiffe://osaka.example/a".parse().unwrap()]);
        assert!(!plain.could_name(&domain("nara.example")));
    }
}
