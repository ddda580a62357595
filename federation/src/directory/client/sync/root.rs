//! The root: from the operator's word on, step by step (TUF §5.3).

use std::{path::Path, time::SystemTime};

use olpc_cjson::CanonicalFormatter;
use serde::Serialize as _;

use super::{
    super::Client, super::Settings, super::SyncError, super::Traffic, super::record::Folder,
    super::record::seconds, super::source::Got, super::trusted, super::trusted::Trusted, HIGHEST,
};
use crate::directory::{
    metadata, metadata::Dated as _, metadata::Root, metadata::Signed, repository::most,
    repository::versioned,
};

/// Which root of the operator waits to be met, and since when.
const UNMET: &str = "unmet";

/// The root to begin with: the newest that was checked before, or the operator's. Where the operator's is
/// none of those that were checked, whether the way leads to it, or from it, has to be seen; that is the second.
pub(in super::super) fn first_root(
    settings: &Settings,
    folder: &Folder,
) -> Result<(Trusted, Option<Signed<Root>>), SyncError> {
    let in_folder = |path: &Path, error| SyncError::Folder {
        path: path.to_owned(),
        error,
    };
    let file = settings.root.display().to_string();
    let given = std::fs::read(&settings.root).map_err(|error| in_folder(&settings.root, error))?;
    let vouched = Trusted::new(&file, &given)?;
    let Some(newest) = folder
        .newest_root()
        .map_err(|error| in_folder(&settings.data, error))?
    else {
        let name = root_file(vouched.root_version());
        let kept = folder.write(&name, &given);
        kept.map_err(|error| in_folder(&folder.path(&name), error))?;
        return Ok((vouched, None));
    };
    let read = |version: u64| {
        let name = root_file(version);
        let read = folder.read(&name);
        read.map_err(|error| in_folder(&folder.path(&name), error))
    };
    let version = vouched.root_version();
    let known = read(version)?;
    if let Some(known) = &known {
        is_vouched(settings, &vouched.root, &metadata::parse(&file, known)?)?;
    }
    let bytes = read(newest)?.unwrap_or_default();
    let trusted = Trusted::new(&root_file(newest), &bytes)?;
    Ok((trusted, known.is_none().then_some(vouched.root)))
}

/// The root in the operator's file.
pub(in super::super) fn vouched(path: &Path) -> Result<Trusted, SyncError> {
    let bytes = std::fs::read(path).map_err(|error| SyncError::Folder {
        path: path.to_owned(),
        error,
    })?;
    Ok(Trusted::new(&path.display().to_string(), &bytes)?)
}

/// Whether this very root is one that the client of this folder has followed.
pub(in super::super) fn is_stored(folder: &Path, vouched: &Trusted) -> bool {
    let file = root_file(vouched.root_version());
    let bytes = std::fs::read(folder.join(&file)).unwrap_or_default();
    let stored = metadata::parse::<Root>(&file, &bytes);
    stored.is_ok_and(|stored| stored.signed == vouched.root.signed)
}

fn root_file(version: u64) -> String {
    format!("roots/{version}.json")
}

fn is_vouched(
    settings: &Settings,
    vouched: &Signed<Root>,
    met: &Signed<Root>,
) -> Result<(), SyncError> {
    if vouched.signed == met.signed {
        return Ok(());
    }
    Err(SyncError::OtherDirectory {
        file: settings.root.display().to_string(),
        folder: settings.data.clone(),
    })
}

impl Client {
    /// Follows a root of the operator that is older than those which were checked before, to the first of these.
    async fn meet_from_below(&mut self, traffic: &mut Traffic) -> Result<(), SyncError> {
        let newest = self.trusted.root_version();
        let Some(vouched) = self
            .vouched
            .clone()
            .filter(|one| one.signed.number() < newest)
        else {
            return Ok(());
        };
        // It was read, and what is signed is its canonical form.
        let first = serde_json::to_vec(&vouched).unwrap_or_default();
        let mut before = vouched.signed;
        let mut met = vec![(before.number(), first)];
        for version in before.number().saturating_add(1)..=newest {
            let name = root_file(version);
            let known = self.folder.read(&name);
            let known = known.map_err(|error| SyncError::Folder {
                path: self.folder.path(&name),
                error,
            })?;
            let file = versioned("root", version);
            let bytes = match &known {
                Some(bytes) => bytes.clone(),
                None => self.root_bytes(&file, traffic).await?,
            };
            let next = metadata::parse::<Root>(&file, &bytes)?;
            let follows = metadata::next_root(&file, &before, &next);
            if known.is_some() {
                // What was checked before does not follow from what the operator vouches for, and all between is
                // signed.
                follows.map_err(|_| self.is_other())?;
                for (version, bytes) in met {
                    self.keep_file(&root_file(version), &bytes)?;
                }
                self.met();
                return Ok(());
            }
            // A mirror can show anything: that is no word of another directory.
            follows?;
            if met.len() as u64 > trusted::ROOTS {
                break;
            }
            met.push((version, bytes));
            before = next.signed;
        }
        Err(SyncError::Missing(format!(
            "the way from the operator's root to root {newest}"
        )))
    }

    async fn root_bytes(
        &mut self,
        file: &str,
        traffic: &mut Traffic,
    ) -> Result<Vec<u8>, SyncError> {
        let got = self.settings.source.get(file, most("root"), traffic);
        match got.await? {
            Got::Bytes(bytes) => Ok(bytes),
            Got::NotThere | Got::NotModified => Err(SyncError::Missing(file.into())),
        }
    }

    /// Since when the operator's root waits to be met, by what is kept; from `now` on, where it is a new one.
    pub(in super::super) fn remember_unmet(&mut self, now: SystemTime) {
        let Some(name) = self.unmet_name() else {
            let _ = std::fs::remove_file(self.folder.path(UNMET));
            return;
        };
        let kept = self.folder.read(UNMET).ok().flatten();
        let kept = kept.and_then(|bytes| String::from_utf8(bytes).ok());
        let since = kept.and_then(|text| {
            let (kept, since) = text.split_once(' ')?;
            (kept == name).then(|| since.parse().ok())?
        });
        match since {
            // What begins tomorrow was written by a clock that was wrong.
            Some(since) => self.unmet = Some(super::super::time(since).min(now)),
            None => self.keep_unmet(seconds(now)),
        }
    }

    fn unmet_name(&self) -> Option<String> {
        let vouched = &self.vouched.as_ref()?.signed;
        // In one order, whatever the order of its keys is.
        let mut form = Vec::new();
        let mut canonical =
            serde_json::Serializer::with_formatter(&mut form, CanonicalFormatter::new());
        vouched.serialize(&mut canonical).ok()?;
        Some(metadata::sha256(&form))
    }

    /// Since then it waits, in seconds since 1970; zero: it is known to be of another directory.
    pub(super) fn keep_unmet(&mut self, since: u64) {
        let Some(name) = self.unmet_name() else {
            return;
        };
        self.unmet = Some(super::super::time(since));
        let text = format!("{name} {since}");
        if let Err(error) = self.folder.write(UNMET, text.as_bytes()) {
            tracing::error!(%error, "not kept since when the operator's root waits");
        }
    }

    /// The way leads to the root of the operator, or from it.
    fn met(&mut self) {
        self.vouched = None;
        self.unmet = None;
        // There may be none.
        let _ = std::fs::remove_file(self.folder.path(UNMET));
    }

    fn is_other(&self) -> SyncError {
        SyncError::OtherDirectory {
            file: self.settings.root.display().to_string(),
            folder: self.settings.data.clone(),
        }
    }

    pub(super) async fn follow_root(&mut self, traffic: &mut Traffic) -> Result<(), SyncError> {
        self.meet_from_below(traffic).await?;
        for _ in 0..trusted::ROOTS {
            let next = self.trusted.root_version().saturating_add(1);
            let file = versioned("root", next);
            let got = self
                .settings
                .source
                .get(&file, most("root"), traffic)
                .await?;
            let Got::Bytes(bytes) = got else {
                break;
            };
            self.trusted.next_root(&bytes)?;
            if self.trusted.timestamp.is_none() {
                // Another host: what the one before has said of versions counts for nothing (§5.3.11).
                self.keep_file(HIGHEST, b"{}")?;
            }
            if let Some(vouched) = &self.vouched
                && vouched.signed.number() == next
            {
                is_vouched(&self.settings, vouched, &self.trusted.root)?;
                self.met();
            }
            self.keep_file(&root_file(next), &bytes)?;
            tracing::info!(version = next, "the directory has another root");
        }
        if let Some(vouched) = &self.vouched {
            let file = versioned("root", vouched.signed.number());
            return Err(SyncError::Missing(format!(
                "{file}, which the operator vouches for,"
            )));
        }
        Ok(())
    }
}
