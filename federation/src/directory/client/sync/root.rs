//! The root: from the operator's word on, step by step (TUF §5.3).

use std::path::Path;

use super::{
    super::Client, super::Settings, super::SyncError, super::Traffic, super::record::Folder,
    super::source::Got, super::trusted, super::trusted::Trusted, HIGHEST,
};
use crate::directory::{
    metadata, metadata::Dated as _, metadata::Root, metadata::Signed, repository::most,
    repository::versioned,
};

/// The root to begin with: the newest that was checked before, or the operator's. Where the operator's is
/// a newer one, it has to be met on the way; that is the second.
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
    if let Some(before) = read(version)? {
        is_vouched(settings, &vouched.root, &metadata::parse(&file, &before)?)?;
    }
    let bytes = read(newest)?.unwrap_or_default();
    let trusted = Trusted::new(&root_file(newest), &bytes)?;
    let ahead = (version > newest).then_some(vouched.root);
    Ok((trusted, ahead))
}

/// The root in the operator's file.
pub(in super::super) fn vouched(path: &Path) -> Result<Trusted, SyncError> {
    let bytes = std::fs::read(path).map_err(|error| SyncError::Folder {
        path: path.to_owned(),
        error,
    })?;
    Ok(Trusted::new(&path.display().to_string(), &bytes)?)
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
    pub(super) async fn follow_root(&mut self, traffic: &mut Traffic) -> Result<(), SyncError> {
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
                self.vouched = None;
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
