//! YAML as a small tree in which everything knows its place.

use std::{path::Path, sync::Arc};

use super::{error::Report, location::Location};

mod build;

/// A value.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where it begins.
    pub(super) at: Location,
    /// What it is.
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A value that was already reported: nothing more is said of it.
    Failed,
    /// `[…]` or lines with a dash.
    List(Vec<Node>),
    /// `{…}` or lines with keys. No key stands twice.
    Map(Vec<Entry>),
    /// Nothing, `~` or `null`.
    Null,
    /// Anything else, quoted or not. What it means is for its reader to say.
    Scalar(String),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// Where the key begins.
    pub(super) at: Location,
    /// Its value.
    pub(super) value: Node,
}

/// Parses one file. Duplicate keys are reported and the first is kept; anything else wrong ends
/// the reading of this file. `None`: reported.
pub(super) fn parse(file: &Arc<Path>, text: &str, report: &mut Report) -> Option<Node> {
    build::Builder::new(file, report).run(text)
}
