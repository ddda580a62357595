//! What is true of a node or of a process, in SPIRE's words.

use std::fmt;

use sekisho_spire_api::types;
use serde::{Deserialize, Serialize};

/// One fact: which attestor found it, and what it found, as in `unix` and `uid:1000`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Selector {
    /// The attestor.
    pub kind: String,
    /// What it found.
    pub value: String,
}

impl Selector {
    /// From its two parts.
    pub fn new(kind: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            value: value.into(),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

impl From<types::Selector> for Selector {
    fn from(wire: types::Selector) -> Self {
        Self::new(wire.r#type, wire.value)
    }
}
