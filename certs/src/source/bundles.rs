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
/// `site` is our own trust domain, whose bundle is taken from the first `own` specs only: those
/// that belong to an identity from files, which has no other source of it. Problems are logged
/// once each.
///
/// Must be called inside a tokio runtime.
pub fn watch_bundles(
    specs: Vec<BundlesSpec>,
    site: TrustDomain,
    own: usize,
) -> watch::Receiver<Arc<FileBundles>> {
    let first = FileBundles::read(&specs, &site, own, &FileBundles::default());
    report(&first.problems, &[]);
    let (sender, receiver) = watch::channel(Arc::new(first));
    if specs.is_empty() {
        return receiver;
    }
    tokio::spawn(async move {
        let mut changes = Changes::of(paths(&specs));
        loop {
            // A change between the first look and the watch must not be missed.
            let last = Arc::clone(&sender.borrow());
            let next = FileBundles::read(&specs, &site, own, &last);
            report(&next.problems, &last.problems);
            sender.send_if_modified(|bundles| {
                let changed = **bundles != next;
                *bundles = Arc::new(next);
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

/// What the files said at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileBundles {
    /// The bundles.
    pub set: BundleSet,
    /// What could not be read, or was refused; a sentence each.
    pub problems: Vec<String>,
    /// By trust domain: which of the specs it came from.
    origins: BTreeMap<String, usize>,
}

impl FileBundles {
    /// Reads everything once. What cannot be read stands as it did in `last`, and so does all that
    /// a folder or map had which cannot be read at all. `site` and `own`: see [`watch_bundles`].
    #[must_use]
    pub fn read(specs: &[BundlesSpec], site: &TrustDomain, own: usize, last: &Self) -> Self {
        let mut reading = Reading {
            refuse: None,
            spec: 0,
            last,
            found: BTreeMap::new(),
            problems: Vec::new(),
        };
        for (index, spec) in specs.iter().enumerate() {
            reading.spec = index;
            reading.refuse = (index >= own).then_some(site);
            if let Err(error) = reading.take(spec) {
                reading.problems.push(error.to_string());
                reading.keep();
            }
        }
        reading.finish()
    }
}

/// One look at all files.
struct Reading<'a> {
    /// Our own trust domain, while a spec is read that may not deliver it.
    refuse: Option<&'a TrustDomain>,
    /// Which spec is read.
    spec: usize,
    last: &'a FileBundles,
    /// By trust domain: where it was found, and what.
    found: BTreeMap<String, (usize, PathBuf, Arc<TrustBundle>)>,
    problems: Vec<String>,
}

impl Reading<'_> {
    /// Takes up what one spec has.
    fn take(&mut self, spec: &BundlesSpec) -> Result<(), SourceError> {
        match spec {
            BundlesSpec::Files(files) => {
                for (name, path) in files {
                    if let Ok(domain) = parse_trust_domain(name) {
                        self.add(&domain, path, read_bundle(&domain, path));
                    }
                }
            }
            BundlesSpec::Folder(folder) => {
                for (domain, path) in folder_entries(folder)? {
                    self.add(&domain, &path, read_bundle(&domain, &path));
                }
            }
            BundlesSpec::Map(path) => {
                let text = read_text(path)?;
                let map = BundleSet::from_bundle_map(&text).map_err(|error| {
                    let path = path.clone();
                    SourceError::Bundle { path, error }
                })?;
                for bundle in map.iter() {
                    self.add(bundle.trust_domain(), path, Ok(Arc::clone(bundle)));
                }
            }
        }
        Ok(())
    }

    /// A folder or map that cannot be read says nothing of any domain: keeps what it had.
    fn keep(&mut self) {
        let last = self.last;
        for bundle in last.set.iter() {
            let domain = bundle.trust_domain();
            if last.origins.get(domain.as_str()) == Some(&self.spec) {
                self.add(domain, Path::new(""), Ok(Arc::clone(bundle)));
            }
        }
    }

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
                self.last.set.get(domain).cloned()
            },
            Some,
        );
        if let Some(bundle) = bundle {
            let name = domain.as_str().to_owned();
            self.found
                .insert(name, (self.spec, path.to_owned(), bundle));
        }
    }

    /// Puts the bundles together. A CA key stays with the domain that had it: otherwise a site
    /// could push another one out by publishing its CA.
    fn finish(mut self) -> FileBundles {
        let mut set = BundleSet::default();
        let last = &self.last.set;
        let origins = self.found.iter();
        let origins = origins
            .map(|(name, (spec, ..))| (name.clone(), *spec))
            .collect();
        let found = self.found.into_values();
        let (same, changed): (Vec<_>, Vec<_>) =
            found.partition(|(_, _, bundle)| last.get(bundle.trust_domain()) == Some(bundle));
        for (_, path, bundle) in same.into_iter().chain(changed) {
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
        FileBundles {
            set,
            problems: self.problems,
            origins,
        }
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
