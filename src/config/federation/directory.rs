//! `federation.directory` and what belongs to it: the directories that a site follows.

use std::{path::PathBuf, time::Duration};

use super::{
    super::{
        error::Report,
        field::{Field, Map},
        unit::DAY,
    },
    HOUR,
};

const DIRECTORY: &str =
    "the address of a directory, as in https://directory.example, or a folder; or a list of them";
const ROOT: &str =
    "a file with a root of the directory, or a list of as many as there are directories";
const MEMBER: &str =
    "the folder of this site's key as a member (sekisho directory member request --data FOLDER)";
const SERVICES: &str = "a file of services, as in services: [{name: mdx, gateways: [HOST:PORT]}]";

/// The directories that a site follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirectoryConfig {
    /// Where each is, and a root of it that the operator vouches for.
    pub(crate) places: Vec<(DirectoryPlace, PathBuf)>,
    /// How many of them have to say the same of a member. Default: all.
    pub(crate) threshold: usize,
    /// The folder of our key as a member. Default: `member` in the authority's data.
    pub(crate) member: Option<PathBuf>,
    /// A file of services that others may reach here. Default: none.
    pub(crate) services: Option<PathBuf>,
    /// For so long a member is believed at most. Default: as it says itself.
    pub(crate) max_stale: Option<Duration>,
    /// After so long in public new keys are taken that the old ones have not named. Default: never.
    pub(crate) rekey_wait: Option<Duration>,
}

/// Where a directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DirectoryPlace {
    /// `https://…` or `http://…`.
    Url(String),
    /// A folder.
    Folder(PathBuf),
}

/// Reads it; the inner `None` where no directory is named.
pub(super) fn directory(map: &Map<'_>, report: &mut Report) -> Option<Option<DirectoryConfig>> {
    let Some(field) = map.get("directory") else {
        let rule = "is of a directory: `directory` says where that is";
        let keys = [
            "root",
            "threshold",
            "member",
            "services",
            "max_stale",
            "rekey_wait",
        ];
        map.refuse(&keys, rule, report);
        return Some(None);
    };
    let places = one_or_more(&field, DIRECTORY, report, place);
    let roots = map.required("root", ROOT, report);
    let roots = roots.and_then(|field| {
        one_or_more(&field, ROOT, report, |field, report| {
            field.path(ROOT, report)
        })
    });
    let most = places.as_ref().map_or(1, Vec::len);
    if let (Some(places), Some(roots), Some(field)) = (&places, &roots, map.get("root"))
        && places.len() != roots.len()
    {
        let rule = format!(
            "{} directories need as many roots, in the same order",
            places.len()
        );
        field.rule(rule, report);
    }
    let threshold = map.get_or("threshold", most, report, |field, report| {
        let range = 1..=u32::try_from(most).unwrap_or(1);
        usize::try_from(field.number(range, report)?).ok()
    });
    let mut path = |key, expected| {
        map.get_or(key, None, report, |field, report| {
            field.path(expected, report).map(Some)
        })
    };
    let (member, services) = (path("member", MEMBER), path("services", SERVICES));
    let mut time = |key| {
        map.get_or(key, None, report, |field, report| {
            field.duration(HOUR..=365 * DAY, report).map(Some)
        })
    };
    let (max_stale, rekey_wait) = (time("max_stale"), time("rekey_wait"));
    Some(Some(DirectoryConfig {
        places: places?.into_iter().zip(roots?).collect(),
        threshold: threshold?,
        member: member?,
        services: services?,
        max_stale: max_stale?,
        rekey_wait: rekey_wait?,
    }))
}

fn place(field: &Field<'_>, report: &mut Report) -> Option<DirectoryPlace> {
    let text = field.text(DIRECTORY, report)?;
    if text.starts_with("https://") || text.starts_with("http://") {
        return field.parse(DIRECTORY, report, |text| {
            url(text).then(|| DirectoryPlace::Url(text.into()))
        });
    }
    if text.contains("://") {
        field.wrong(DIRECTORY, report);
        return None;
    }
    field.path(DIRECTORY, report).map(DirectoryPlace::Folder)
}

/// Whether it may be one: the client looks closer.
fn url(text: &str) -> bool {
    let behind = text.split_once("://").map_or("", |(_, behind)| behind);
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"?#@".contains(c);
    !behind.is_empty() && !behind.starts_with('/') && behind.chars().all(plain)
}

/// One, or a list of them.
fn one_or_more<T>(
    field: &Field<'_>,
    expected: &str,
    report: &mut Report,
    read: impl Fn(&Field<'_>, &mut Report) -> Option<T>,
) -> Option<Vec<T>> {
    if !field.is_list() {
        return read(field, report).map(|one| vec![one]);
    }
    let items = field.list(expected, report)?;
    let all: Vec<_> = items.iter().map(|item| read(item, report)).collect();
    all.into_iter().collect()
}
