//! The typed walk over the tree: every reader says what it expected.

use std::{
    ops::RangeInclusive,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use super::{
    error::{Problem, Report},
    keys::{self, Keys},
    location::Location,
    tree::{Entry, Kind, Node},
    unit,
};

/// A value with the path of keys that leads to it.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    /// As in `endpoints.from-osaka.listen`.
    pub(super) path: String,
    /// Where its key stands.
    pub(super) key: &'a Location,
    /// The value.
    pub(super) node: &'a Node,
}

/// A map whose keys are all known ones.
#[derive(Debug)]
pub(super) struct Map<'a> {
    path: String,
    key: Location,
    entries: Vec<&'a Entry>,
}

/// `parent.key`.
fn below(parent: &str, key: &str) -> String {
    if parent.is_empty() {
        key.into()
    } else {
        format!("{parent}.{key}")
    }
}

impl<'a> Field<'a> {
    /// The value of `entry` in the map at `parent`.
    pub(super) fn new(parent: &str, entry: &'a Entry) -> Self {
        Self {
            path: below(parent, &entry.key),
            key: &entry.at,
            node: &entry.value,
        }
    }

    /// Where the value begins.
    pub(super) const fn at(&self) -> &Location {
        &self.node.at
    }

    /// Says that something else was expected.
    pub(super) fn wrong(&self, expected: impl Into<String>, report: &mut Report) {
        let found = match &self.node.kind {
            // Already reported.
            Kind::Failed => return,
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a map".into(),
            Kind::Null => "nothing".into(),
            Kind::Scalar(text) => quoted(text),
        };
        let expected = expected.into();
        self.problem(Problem::Expected { expected, found }, report);
    }

    /// Says that the value breaks a rule.
    pub(super) fn rule(&self, rule: impl Into<String>, report: &mut Report) {
        self.problem(Problem::Rule(rule.into()), report);
    }

    /// Says what is wrong with the value.
    pub(super) fn problem(&self, problem: Problem, report: &mut Report) {
        report.push(self.at(), &self.path, problem);
    }

    /// The text, if the value is one.
    pub(super) const fn as_text(&self) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Scalar(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// The text, or the report of what was expected.
    pub(super) fn text(&self, expected: &str, report: &mut Report) -> Option<&'a str> {
        let text = self.as_text();
        if text.is_none() {
            self.wrong(expected, report);
        }
        text
    }

    /// What `read` makes of the text.
    pub(super) fn parse<T>(
        &self,
        expected: &str,
        report: &mut Report,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.as_text().and_then(read);
        if value.is_none() {
            self.wrong(expected, report);
        }
        value
    }

    /// Whether a list stands here.
    pub(super) const fn is_list(&self) -> bool {
        matches!(self.node.kind, Kind::List(_))
    }

    /// The items of a list that is not empty.
    pub(super) fn list(&self, expected: &str, report: &mut Report) -> Option<Vec<Self>> {
        match &self.node.kind {
            Kind::List(items) if !items.is_empty() => {
                let items = items.iter().enumerate().map(|(index, node)| Self {
                    path: format!("{}[{index}]", self.path),
                    key: &node.at,
                    node,
                });
                Some(items.collect())
            }
            Kind::List(_) => {
                self.rule(format!("expected {expected}, found an empty list"), report);
                None
            }
            _ => {
                self.wrong(expected, report);
                None
            }
        }
    }

    /// The entries of a map with keys of any name.
    pub(super) fn entries(&self, expected: &str, report: &mut Report) -> Option<&'a [Entry]> {
        match &self.node.kind {
            Kind::Map(entries) if !entries.is_empty() => Some(entries),
            Kind::Map(_) => {
                self.rule(format!("expected {expected}, found an empty map"), report);
                None
            }
            _ => {
                self.wrong(expected, report);
                None
            }
        }
    }

    /// The map with these keys; others are reported.
    pub(super) fn map(&self, keys: &Keys, report: &mut Report) -> Option<Map<'a>> {
        let Kind::Map(entries) = &self.node.kind else {
            self.wrong(keys.of, report);
            return None;
        };
        let entries = entries.iter().collect();
        Some(Map::new(
            self.path.clone(),
            self.key.clone(),
            entries,
            keys,
            report,
        ))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, report: &mut Report) -> Option<bool> {
        self.choice(&[("true", true), ("false", false)], report)
    }

    /// One of these words.
    pub(super) fn choice<T: Copy>(&self, words: &[(&str, T)], report: &mut Report) -> Option<T> {
        let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        self.parse(&all.join(" or "), report, |text| {
            let mut words = words.iter();
            words
                .find(|(word, _)| *word == text)
                .map(|(_, value)| *value)
        })
    }

    /// A whole number.
    pub(super) fn number(&self, range: RangeInclusive<u32>, report: &mut Report) -> Option<u32> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        self.parse(&expected, report, |text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse()
                .ok()
                .filter(|number| digits && range.contains(number))
        })
    }

    /// A duration with its unit.
    pub(super) fn duration(
        &self,
        range: RangeInclusive<Duration>,
        report: &mut Report,
    ) -> Option<Duration> {
        let duration = self.parse(unit::DURATION, report, unit::duration)?;
        if range.contains(&duration) {
            return Some(duration);
        }
        let (start, end) = (unit::Written(*range.start()), unit::Written(*range.end()));
        self.wrong(format!("a duration from {start} to {end}"), report);
        None
    }

    /// A size with its unit, in bytes.
    pub(super) fn size(&self, range: RangeInclusive<u64>, report: &mut Report) -> Option<usize> {
        let size = self.parse(unit::SIZE, report, unit::size)?;
        if range.contains(&size) {
            return size.try_into().ok();
        }
        let (start, end) = (
            unit::WrittenSize(*range.start()),
            unit::WrittenSize(*range.end()),
        );
        self.wrong(format!("a size from {start} to {end}"), report);
        None
    }

    /// A path, relative to the folder of the file that names it.
    pub(super) fn path(&self, expected: &str, report: &mut Report) -> Option<PathBuf> {
        let text = self.parse(expected, report, |text| {
            (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
        })?;
        let folder = self.at().file.parent().unwrap_or_else(|| Path::new(""));
        // `./` would only show up in messages.
        let plain = Path::new(&text).components();
        let plain: PathBuf = plain.filter(|part| *part != Component::CurDir).collect();
        let joined = folder.join(plain);
        Some(if joined.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            joined
        })
    }
}

impl<'a> Map<'a> {
    /// A map of these entries at `path`, whose key stands at `key`. Unknown keys are reported.
    pub(super) fn new(
        path: String,
        key: Location,
        entries: Vec<&'a Entry>,
        keys: &Keys,
        report: &mut Report,
    ) -> Self {
        for entry in &entries {
            let name = entry.key.as_str();
            if keys.known.contains(&name) {
                continue;
            }
            let problem = if keys.later.contains(&name) {
                Problem::Later(name.into())
            } else {
                Problem::UnknownKey {
                    nearest: keys::nearest(name, keys.known),
                    known: keys.known,
                }
            };
            report.push(&entry.at, &below(&path, name), problem);
        }
        Self { path, key, entries }
    }

    /// The value of `key`, if it is there.
    pub(super) fn get(&self, key: &str) -> Option<Field<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(Field::new(&self.path, entry))
    }

    /// The value of `key`; that it is missing is reported.
    pub(super) fn required(
        &self,
        key: &str,
        expected: &str,
        report: &mut Report,
    ) -> Option<Field<'a>> {
        let field = self.get(key);
        if field.is_none() {
            let problem = Problem::Missing(expected.into());
            report.push(&self.key, &below(&self.path, key), problem);
        }
        field
    }

    /// What `read` makes of `key`, or `default` without it. `None`: reported.
    pub(super) fn get_or<T>(
        &self,
        key: &str,
        default: T,
        report: &mut Report,
        read: impl FnOnce(&Field<'a>, &mut Report) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(field) => read(&field, report),
            None => Some(default),
        }
    }

    /// Reports those of `keys` that are there, because of `rule`.
    pub(super) fn refuse(&self, keys: &[&str], rule: &str, report: &mut Report) {
        for key in keys {
            if let Some(field) = self.get(key) {
                report.push(field.key, &field.path, Problem::Rule(rule.into()));
            }
        }
    }

    /// Where the map's own key stands.
    pub(super) const fn key(&self) -> &Location {
        &self.key
    }
}

/// A value as it is shown in a message: one line, not too long.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 80;
    if text.chars().count() <= SHOWN {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(SHOWN).collect();
    format!("{start:?}…")
}
