//! From the parser's events to the tree, within bounds.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    path::Path,
    sync::Arc,
};

use granit_parser::{Event, Marker, Parser, ScalarStyle};

use super::{Entry, Kind, Node};
use crate::config::{
    error::{Problem, Report},
    location::Location,
};

/// Deeper than any configuration, shallow enough for recursion.
const DEPTH: usize = 32;
/// What anchors and aliases may add to a file, in bytes: a bomb of aliases ends here.
const COPIED: usize = 4 << 20;
/// The usual reason: an IPv6 address or a variable.
const FLOW: &str = "; within [ ] or { }, a value with any of [ ] { } or a comma stands in quotes";
/// What a value costs beside its text when it is copied.
const NODE_COST: usize = 64;

/// The reading of this file has ended; why has been reported.
struct Ended;

/// A list or map whose end has not come yet.
enum Open {
    List {
        at: Location,
        anchor: usize,
        items: Vec<Node>,
    },
    Map {
        at: Location,
        anchor: usize,
        entries: Vec<Entry>,
        places: HashMap<String, Location>,
        key: Option<(String, Location)>,
    },
}

/// Builds the tree of one file.
pub(super) struct Builder<'a> {
    file: &'a Arc<Path>,
    report: &'a mut Report,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    copied: usize,
    root: Option<Node>,
}

impl<'a> Builder<'a> {
    pub(super) const fn new(file: &'a Arc<Path>, report: &'a mut Report) -> Self {
        Self {
            file,
            report,
            open: Vec::new(),
            anchors: BTreeMap::new(),
            copied: 0,
            root: None,
        }
    }

    pub(super) fn run(mut self, text: &str) -> Option<Node> {
        // Twice: our own bound comes first, in words of ours.
        let options = granit_parser::options! {
            flow_nesting_limit: 2 * DEPTH,
            block_nesting_limit: 2 * DEPTH
        };
        for item in Parser::new_from_str_with_options(text, options) {
            let step = match item {
                Ok((event, span)) => {
                    // A tag stands before its value, and is all that is said of it.
                    let at = self.location(span.tag_start().unwrap_or(span.start));
                    self.event(event, at)
                }
                Err(error) => {
                    let at = self.location(*error.marker());
                    let mut why = error.info();
                    if why.contains("flow") {
                        why.push_str(FLOW);
                    }
                    self.end(&at, why)
                }
            };
            step.ok()?;
        }
        if self.root.is_none() {
            let problem = Problem::Missing("`site` and `endpoints`, the file is empty".into());
            self.report.push(&Location::whole(self.file), "", problem);
        }
        self.root
    }

    fn location(&self, mark: Marker) -> Location {
        Location {
            file: Arc::clone(self.file),
            line: mark.line(),
            column: mark.col() + 1,
        }
    }

    fn end(&mut self, at: &Location, why: impl Into<String>) -> Result<(), Ended> {
        let field = self.path();
        self.report.push(at, &field, Problem::Syntax(why.into()));
        Err(Ended)
    }

    fn event(&mut self, event: Event<'_>, at: Location) -> Result<(), Ended> {
        if let Some(tag) = event.tag() {
            let why = format!("tags such as {} are not used here", tag.original());
            return self.end(&at, why);
        }
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                self.end(&at, "a second document in the file")
            }
            Event::Scalar(text, style, anchor, _) => {
                let null = style == ScalarStyle::Plain
                    && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let kind = if null {
                    Kind::Null
                } else {
                    Kind::Scalar(text.into_owned())
                };
                self.place(Node { at, kind }, anchor)
            }
            Event::Alias(anchor) => self.alias(anchor, &at),
            Event::SequenceStart(_, anchor, _) => self.open(
                Open::List {
                    at: at.clone(),
                    anchor,
                    items: Vec::new(),
                },
                &at,
            ),
            Event::MappingStart(_, anchor, _) => self.open(
                Open::Map {
                    at: at.clone(),
                    anchor,
                    entries: Vec::new(),
                    places: HashMap::new(),
                    key: None,
                },
                &at,
            ),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            _ => Ok(()),
        }
    }

    fn open(&mut self, open: Open, at: &Location) -> Result<(), Ended> {
        if self.open.len() >= DEPTH {
            return self.end(at, format!("nested deeper than {DEPTH}"));
        }
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Ended> {
        let (at, anchor, kind) = match self.open.pop() {
            Some(Open::List { at, anchor, items }) => (at, anchor, Kind::List(items)),
            Some(Open::Map {
                at,
                anchor,
                entries,
                ..
            }) => (at, anchor, Kind::Map(entries)),
            None => return Ok(()),
        };
        self.place(Node { at, kind }, anchor)
    }

    fn alias(&mut self, anchor: usize, at: &Location) -> Result<(), Ended> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return self.end(at, "an alias inside of what it stands for");
        };
        if depth(&node) + self.open.len() > DEPTH {
            return self.end(at, format!("nested deeper than {DEPTH}"));
        }
        self.charge(&node)?;
        self.place(node, 0)
    }

    /// Puts a whole value where the last open one wants it.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Ended> {
        if anchor != 0 {
            self.charge(&node)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map {
                entries,
                places,
                key,
                ..
            }) => match key.take() {
                None => return self.key(node),
                Some((key, at)) => {
                    if let Some(first) = places.get(&key).cloned() {
                        let parent = self.path();
                        let field = join(&parent, &key);
                        self.report.push(&at, &field, Problem::Duplicate { first });
                    } else {
                        let mut value = node;
                        // The parser places a value that is not there on the next line.
                        if matches!(value.kind, Kind::Null) {
                            value.at = at.clone();
                        }
                        places.insert(key.clone(), at.clone());
                        entries.push(Entry { key, at, value });
                    }
                }
            },
        }
        Ok(())
    }

    fn key(&mut self, node: Node) -> Result<(), Ended> {
        let Kind::Scalar(text) = node.kind else {
            return self.end(&node.at, "a key must be a word");
        };
        if text == "<<" {
            return self.end(&node.at, "merge keys (`<<`) are not used here");
        }
        if let Some(Open::Map { key, .. }) = self.open.last_mut() {
            *key = Some((text, node.at));
        }
        Ok(())
    }

    fn charge(&mut self, node: &Node) -> Result<(), Ended> {
        self.copied = self.copied.saturating_add(cost(node));
        if self.copied > COPIED {
            return self.end(&node.at, "anchors and aliases repeat too much");
        }
        Ok(())
    }

    /// The key that is being read, from the top.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match open {
                Open::Map {
                    key: Some((key, _)),
                    ..
                } => path = join(&path, key),
                Open::Map { .. } => {}
                Open::List { items, .. } => {
                    // Writing to a string does not fail.
                    let _ = write!(path, "[{}]", items.len());
                }
            }
        }
        path
    }
}

fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() {
        key.into()
    } else {
        format!("{parent}.{key}")
    }
}

fn cost(node: &Node) -> usize {
    let below: usize = match &node.kind {
        Kind::List(items) => items.iter().map(cost).sum(),
        Kind::Map(entries) => entries
            .iter()
            .map(|entry| entry.key.len() + cost(&entry.value))
            .sum(),
        Kind::Scalar(text) => text.len(),
        Kind::Failed | Kind::Null => 0,
    };
    NODE_COST + below
}

fn depth(node: &Node) -> usize {
    let below = match &node.kind {
        Kind::List(items) => items.iter().map(depth).max(),
        Kind::Map(entries) => entries.iter().map(|entry| depth(&entry.value)).max(),
        Kind::Failed | Kind::Null | Kind::Scalar(_) => return 0,
    };
    1 + below.unwrap_or_default()
}
