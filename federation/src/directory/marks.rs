//! Marks: what a federation's registrars say of its members, such as `hpci`.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_certs::{TrustDomain, id::parse_trust_domain, members::Mark};
use serde::{Deserialize, Serialize};

/// Most bytes of the marks of a directory.
pub const MOST: usize = 8 * 1024 * 1024;

/// Why the marks of a directory are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("marks: {0}")]
pub struct MarksError(String);

#[derive(Deserialize, Serialize)]
struct Text {
    marks: BTreeMap<String, Vec<String>>,
}

/// Which members have which mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<String, BTreeSet<Mark>>);

impl Marks {
    /// Reads them.
    ///
    /// # Errors
    /// When they are not the JSON that is written here, or a mark or a trust domain is none.
    pub fn read(bytes: &[u8]) -> Result<Self, MarksError> {
        let text: Text =
            serde_json::from_slice(bytes).map_err(|error| MarksError(error.to_string()))?;
        let mut all = Self::default();
        for (mark, members) in text.marks {
            let mark: Mark = mark
                .parse()
                .map_err(|error| MarksError(format!("{error}")))?;
            for member in members {
                let member = parse_trust_domain(&member);
                let member = member.map_err(|error| MarksError(error.to_string()))?;
                all.add(&member, mark.clone());
            }
        }
        Ok(all)
    }

    /// As they are written and signed: by mark.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut marks: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (member, of) in &self.0 {
            for mark in of {
                let members = marks.entry(mark.to_string()).or_default();
                members.push(member.clone());
            }
        }
        // Strings alone: nothing that could not be written.
        serde_json::to_vec(&Text { marks }).unwrap_or_default()
    }

    /// The marks of a member.
    #[must_use]
    pub fn of(&self, member: &TrustDomain) -> BTreeSet<Mark> {
        self.0.get(member.as_str()).cloned().unwrap_or_default()
    }

    /// The members that have a mark, by name.
    pub fn members(&self, mark: &Mark) -> impl Iterator<Item = TrustDomain> {
        let with = self.0.iter().filter(move |(_, marks)| marks.contains(mark));
        with.filter_map(|(member, _)| parse_trust_domain(member).ok())
    }

    /// Everybody who has one, by name.
    pub fn all(&self) -> impl Iterator<Item = TrustDomain> {
        let all = self.0.keys();
        all.filter_map(|member| parse_trust_domain(member).ok())
    }

    /// Gives a member a mark.
    pub fn add(&mut self, member: &TrustDomain, mark: Mark) {
        self.0.entry(member.to_string()).or_default().insert(mark);
    }

    /// Gives a member exactly these.
    pub fn set(&mut self, member: &TrustDomain, marks: BTreeSet<Mark>) {
        if marks.is_empty() {
            self.0.remove(member.as_str());
        } else {
            self.0.insert(member.to_string(), marks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let domain = |name: &str| parse_trust_domain(name).unwrap();
        let hpci: Mark = "hpci".parse().unwrap();
        let mut marks = Marks::default();
        marks.add(&domain("a.example"), hpci.clone());
        marks.add(&domain("b.example"), hpci.clone());
        marks.add(&domain("b.example"), "eu".parse().unwrap());
        let text = marks.to_json();
        assert_eq!(
            String::from_utf8_lossy(&text),
            r#"{"marks":{"eu":["b.example"],"hpci":["a.example","b.example"]}}"#
        );
        let read = Marks::read(&text).unwrap();
        assert_eq!(read, marks);
        assert_eq!(read.of(&domain("b.example")).len(), 2);
        assert_eq!(read.of(&domain("c.example")).len(), 0);
        assert_eq!(read.members(&hpci).count(), 2);
        marks.set(&domain("b.example"), BTreeSet::new());
        assert_eq!(marks.members(&hpci).count(), 1);
    }

    #[test]
    fn what_is_no_mark_and_no_member_is_refused() {
        for (text, word) in [
            ("{}", "marks"),
            (r#"{"marks":{"A b":["a.example"]}}"#, "A b"),
            (r#"{"marks":{"hpci":["A.example"]}}"#, "A.example"),
            (r#"{"marks":{"hpci":["a/b"]}}"#, "a/b"),
            ("[", "EOF"),
        ] {
            let error = Marks::read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
