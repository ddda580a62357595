//! Bundles of other sites in files, watched.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::watch;

use super::{BundlesSpec, SourceError, changes::Changes};
use crate::{
    bundle::{BundleSet, TrustBundle},
    id::{TrustDomain, parse_trust_domain},
};

/// Delivers the bundles of `specs`, and again when they change. A bundle that cannot be read keeps
/// its last good form; one that is gone from a folder is withdrawn. Earlier specs win where two
/// have the same trust domain.
///
/// `site` is our own trust domain, whose bundles are refused unless `own` allows them (an identity
/// from files has no other source of it). Problems are logged once each.
///
/// Must be called inside a tokio runtime.
pub fn watch_bundles(
    specs: Vec<BundlesSpec>,
    site: TrustDomain,
    own: bool,
) -> watch::Receiver<Arc<BundleSet>> {
    let refuse = (!own).then_some(site);
    let (first, mut problems) = read(&specs, refuse.as_ref(), &BundleSet::default());
    report(&problems, &[]);
    let (sender, receiver) = watch::channel(Arc::new(first));
    if specs.is_empty() {
        return receiver;
    }
    tokio::spawn(async move {
        let mut changes = Changes::of(paths(&specs));
        loop {
            // A change between the first look and the watch must not be missed.
            let (next, found) = read(&specs, refuse.as_ref(), &Arc::clone(&sender.borrow()));
            report(&found, &problems);
            problems = found;
            sender.send_if_modified(|set| {
                let changed = **set != next;
                *set = Arc::new(next);
                changed
            });
            tokio::select! {
                () = changes.next() => {}
                () = sender.closed() => return,
            }
            changes.add(paths(&specs));
        }
    });
    receiver
}

fn report(problems: &[String], before: &[String]) {
    for problem in problems.iter().filter(|problem| !before.contains(problem)) {
        tracing::warn!(problem, "bundle not loaded");
    }
}

fn paths(specs: &[BundlesSpec]) -> Vec<&Path> {
    let mut paths = Vec::new();
    for spec in specs {
        match spec {
            BundlesSpec::Files(files) => paths.extend(files.values().map(PathBuf::as_path)),
            BundlesSpec::Map(path) | BundlesSpec::Folder(path) => paths.push(path.as_path()),
        }
    }
    paths
}

/// Reads everything once; what fails is told and stands as in `last`. A bundle of `refuse`, our
/// own trust domain, is refused.
pub fn read(
    specs: &[BundlesSpec],
    refuse: Option<&TrustDomain>,
    last: &BundleSet,
) -> (BundleSet, Vec<String>) {
    let mut reading = Reading {
        refuse,
        last,
        found: BTreeMap::new(),
        problems: Vec::new(),
    };
    let mut unreadable = Vec::new();
    for spec in specs {
        match spec {
            BundlesSpec::Files(files) => {
                for (name, path) in files {
                    if let Ok(domain) = parse_trust_domain(name) {
                        reading.add(&domain, path, read_bundle(&domain, path));
                    }
                }
            }
            BundlesSpec::Folder(folder) => match folder_entries(folder) {
                Ok(entries) => {
                    for (domain, path) in entries {
                        reading.add(&domain, &path, read_bundle(&domain, &path));
                    }
                }
                Err(error) => unreadable.push((error.to_string(), folder)),
            },
            BundlesSpec::Map(path) => {
                let map = read_text(path).and_then(|text| {
                    BundleSet::from_bundle_map(&text).map_err(|error| SourceError::Bundle {
                        path: path.clone(),
                        error,
                    })
                });
                match map {
                    Ok(map) => {
                        for bundle in map.iter() {
                            reading.add(bundle.trust_domain(), path, Ok(Arc::clone(bundle)));
                        }
                    }
                    Err(error) => unreadable.push((error.to_string(), path)),
                }
            }
        }
    }
    // A folder or map that cannot be read at all says nothing of any domain: keep what it had.
    for (_, path) in &unreadable {
        for bundle in last.iter() {
            reading.add(bundle.trust_domain(), path, Ok(Arc::clone(bundle)));
        }
    }
    let problems = unreadable.into_iter().map(|(problem, _)| problem);
    reading.problems.extend(problems);
    reading.finish()
}

/// One look at all files.
struct Reading<'a> {
    refuse: Option<&'a TrustDomain>,
    last: &'a BundleSet,
    /// By trust domain: where it was found, and what.
    found: BTreeMap<String, (PathBuf, Arc<TrustBundle>)>,
    problems: Vec<String>,
}

impl Reading<'_> {
    /// Takes a bundle up, unless its domain has one already.
    fn add(
        &mut self,
        domain: &TrustDomain,
        path: &Path,
        bundle: Result<Arc<TrustBundle>, SourceError>,
    ) {
        if self.refuse == Some(domain) {
            let path = path.to_owned();
            self.problems
                .push(SourceError::OwnDomain { path }.to_string());
            return;
        }
        if self.found.contains_key(domain.as_str()) {
            return;
        }
        let bundle = bundle.map_or_else(
            |error| {
                self.problems.push(error.to_string());
                self.last.get(domain).cloned()
            },
            Some,
        );
        if let Some(bundle) = bundle {
            let name = domain.as_str().to_owned();
            self.found.insert(name, (path.to_owned(), bundle));
        }
    }

    /// Puts the bundles together. A CA key stays with the domain that had it: otherwise a site
    /// could push another one out by publishing its CA.
    fn finish(mut self) -> (BundleSet, Vec<String>) {
        let mut set = BundleSet::default();
        let last = self.last;
        let found = self.found.into_values();
        let (same, changed): (Vec<_>, Vec<_>) =
            found.partition(|(_, bundle)| last.get(bundle.trust_domain()) == Some(bundle));
        for (path, bundle) in same.into_iter().chain(changed) {
            let before = last.get(bundle.trust_domain());
            if let Err(error) = set.insert(bundle) {
                let problem = SourceError::Bundle { path, error }.to_string();
                self.problems.push(problem);
                if let Some(before) = before {
                    // Where another one has its keys by now, there is no good form left.
                    let _ = set.insert(Arc::clone(before));
                }
            }
        }
        (set, self.problems)
    }
}

fn folder_entries(folder: &Path) -> Result<Vec<(TrustDomain, PathBuf)>, SourceError> {
    let failed = |error| SourceError::Io {
        path: folder.into(),
        error,
    };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let domain = name
            .and_then(|name| name.strip_suffix(".json"))
            .and_then(|name| parse_trust_domain(name).ok());
        entries.extend(domain.map(|domain| (domain, path)));
    }
    entries.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    Ok(entries)
}

fn read_text(path: &Path) -> Result<Vec<u8>, SourceError> {
    use std::io::Read as _;
    let limit = crate::bundle::json::MAX_BYTES as u64 + 1;
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut text))
        .map_err(|error| SourceError::Io {
            path: path.into(),
            error,
        })?;
    Ok(text)
}

fn read_bundle(domain: &TrustDomain, path: &Path) -> Result<Arc<TrustBundle>, SourceError> {
    let text = read_text(path)?;
    TrustBundle::from_file(domain.clone(), &text)
        .map(Arc::new)
        .map_err(|error| SourceError::Bundle {
            path: path.into(),
            error,
        })
}
