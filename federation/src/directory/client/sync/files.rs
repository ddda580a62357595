//! What the host says, and what institutions and registrars have signed (TUF §5.4 to §5.6).

use std::num::NonZeroU64;

use sekisho_certs::hex;

use super::{super::Client, super::SyncError, super::Traffic, super::source::Got, Wrong, wrong};
use super::{super::record::seconds, HIGHEST, Highest};
use crate::directory::{
    delta, delta::Delta, marks, marks::Marks, metadata, metadata::Dated as _, metadata::Signed,
    metadata::Snapshot, metadata::Targets, names, repository::most, repository::target_file,
    repository::versioned,
};

impl Client {
    pub(super) async fn follow_timestamp(
        &mut self,
        traffic: &mut Traffic,
    ) -> Result<(), SyncError> {
        let file = "metadata/timestamp.json";
        let most = most("timestamp");
        let source = &mut self.settings.source;
        // Where nothing is known yet, "as before" says nothing.
        let got = match &self.trusted.timestamp {
            Some(_) => source.get_if_new(file, most, traffic).await?,
            None => source.get(file, most, traffic).await?,
        };
        match got {
            Got::NotThere => Err(SyncError::Missing(file.into())),
            Got::NotModified if self.trusted.timestamp.is_some() => Ok(()),
            Got::NotModified => Err(SyncError::Missing(file.into())),
            Got::Bytes(bytes) => {
                let stated = self.trusted.stated(&bytes)?;
                self.trusted.take_timestamp(stated)?;
                self.keep_file("timestamp.json", &bytes)
            }
        }
    }

    pub(super) async fn follow_snapshot(&mut self, traffic: &mut Traffic) -> Result<(), SyncError> {
        let Some(stated) = &self.trusted.timestamp else {
            return Ok(());
        };
        let held = &self.trusted.snapshot;
        let same = held.number == stated.snapshot
            && stated
                .sha256
                .as_ref()
                .is_none_or(|named| *named == held.sha256);
        if same {
            return Ok(());
        }
        let wanted = (stated.snapshot, stated.sha256.clone());
        let (bytes, read) = match self.by_deltas(&wanted, traffic).await {
            Some((bytes, read)) => (bytes, Some(read)),
            None => {
                let file = versioned("snapshot", wanted.0);
                (self.file(&file, most("snapshot"), traffic).await?, None)
            }
        };
        let backwards = self.trusted.take_snapshot(&bytes, read)?;
        if let Some(stated) = self.trusted.timestamp.clone() {
            self.trusted.keep_statement(stated);
            self.keep_statements();
        }
        if !backwards.0.is_empty() {
            // Before the snapshot itself, which names less.
            let highest = Highest(self.trusted.snapshot.roles.clone());
            self.keep_file(HIGHEST, &highest.to_json())?;
        }
        self.broken.retain(|_, fault| fault.reason != "rollback");
        for (role, found, known) in backwards.0 {
            tracing::error!(
                role,
                found,
                known,
                "the host names an older version of a role"
            );
            let problem =
                format!("the host names version {found} of {role}, and named {known} before");
            let fault = self.fault_of("rollback", &problem);
            self.broken.insert(role.into(), fault);
        }
        self.keep_file("snapshot.json", &bytes)
    }

    /// The snapshot that the host has named, built of the one that is held and what has changed since;
    /// `None` where that does not give exactly the bytes that the host has named.
    pub(super) async fn by_deltas(
        &mut self,
        (number, sha256): &(u64, Option<String>),
        traffic: &mut Traffic,
    ) -> Option<(Vec<u8>, Signed<Snapshot>)> {
        let held = self.trusted.snapshot.number;
        let steps = number.checked_sub(held)?;
        if held == 0 || steps > delta::MOST_FOLLOWED {
            return None;
        }
        let mut versions = self.trusted.snapshot.roles.clone();
        if !versions.keys().all(|role| names::is_flat(role)) {
            return None;
        }
        for step in held.saturating_add(1)..=*number {
            let file = delta::file_of(step);
            let got = self
                .settings
                .source
                .get_small(&file, delta::MOST, traffic)
                .await;
            let Ok(Got::Bytes(bytes)) = got else {
                return None;
            };
            let delta: Delta = serde_json::from_slice(&bytes).ok()?;
            for (role, version) in &delta.roles {
                // What is written of it, can be read as nothing else.
                if !names::is_flat(role) {
                    return None;
                }
                versions.insert(role.as_str().into(), *version);
            }
            // Nobody has signed it yet.
            if versions.len() > delta::MOST_ROLES {
                return None;
            }
            if step == *number {
                let number = NonZeroU64::new(step)?;
                let all = versions.iter().map(|(role, version)| (&**role, *version));
                let (bytes, read) = delta.snapshot(number, all).ok()?;
                let is_it = sha256.as_ref()? == &metadata::sha256(&bytes);
                return is_it.then_some((bytes, read));
            }
        }
        None
    }

    pub(super) async fn follow_marks(&mut self, traffic: &mut Traffic) -> Result<(), Wrong> {
        let version = self.trusted.version_of(names::MARKS);
        if version == 0 || version == self.marks_version {
            return Ok(());
        }
        let file = versioned(names::MARKS, version);
        let bytes = self.file(&file, most(names::MARKS), traffic).await;
        let bytes = bytes.map_err(|error| wrong(&error))?;
        let role = self.trusted.read_delegated(names::MARKS, &bytes);
        let role = role.map_err(|error| (error.reason(), error.to_string()))?;
        let (_, bytes) = self
            .target(&role, names::MARKS_TARGET, marks::MOST, traffic)
            .await?;
        let marks = Marks::read(&bytes).map_err(|error| ("malformed", error.to_string()))?;
        self.keep_file("marks.json", &bytes)
            .map_err(|error| wrong(&error))?;
        let end = seconds(role.end());
        let text = format!("{version} {end}");
        self.keep_file("marks.version", text.as_bytes())
            .map_err(|error| wrong(&error))?;
        self.marks = marks;
        self.marks_version = version;
        self.marks_end = super::super::time(end);
        Ok(())
    }

    /// A file that has to be there.
    pub(super) async fn file(
        &mut self,
        file: &str,
        most: usize,
        traffic: &mut Traffic,
    ) -> Result<Vec<u8>, SyncError> {
        match self.settings.source.get_small(file, most, traffic).await? {
            Got::Bytes(bytes) => Ok(bytes),
            Got::NotThere | Got::NotModified => Err(SyncError::Missing(file.into())),
        }
    }

    pub(super) fn keep_file(&self, name: &str, bytes: &[u8]) -> Result<(), SyncError> {
        let kept = self.folder.write(name, bytes);
        kept.map_err(|error| SyncError::Folder {
            path: self.folder.path(name),
            error,
        })
    }

    /// A target of a role, with its hash.
    pub(super) async fn target(
        &mut self,
        role: &Targets,
        name: &str,
        most: usize,
        traffic: &mut Traffic,
    ) -> Result<(String, Vec<u8>), Wrong> {
        let named = metadata::target(role, name)
            .ok_or_else(|| ("missing", format!("the role has no target {name}")))?;
        let hash = hex(&named.hashes.sha256);
        let file = target_file(&hash, name);
        let length = usize::try_from(named.length).unwrap_or(usize::MAX);
        if length > most {
            return Err(("too_large", format!("{file}: longer than {most} bytes")));
        }
        let bytes = self.file(&file, length, traffic).await;
        let bytes = bytes.map_err(|error| wrong(&error))?;
        metadata::is_what_was_named(&file, &bytes, Some(&named.hashes), Some(named.length))
            .map_err(|error| (error.reason(), error.to_string()))?;
        Ok((hash, bytes))
    }
}
