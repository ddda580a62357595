//! Every row of the attack table of docs/federation.md: each test performs the attack, and shows what it
//! comes to. The name of the check that holds stands with it: without that check, the test fails.

mod faces;
mod host;
mod keepers;
mod keys;
mod lapsed;
mod members;
mod roles;

use std::{fs, path::Path};

use super::*;
use crate::directory::{
    continuity::{self, KeySet},
    fixture,
    metadata::{self, Signed, Targets},
    repository::{Repository, versioned},
};

/// A copy of all files, as a mirror has them.
fn copy(from: &Path, to: &Path) {
    for folder in ["metadata", "targets", "continuity"] {
        let _ = fs::remove_dir_all(to.join(folder));
        fs::create_dir_all(to.join(folder)).unwrap();
        let Ok(entries) = fs::read_dir(from.join(folder)) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(folder).join(entry.file_name())).unwrap();
        }
    }
}

/// A mirror of the directory as it is now, which shows that for ever.
struct Mirror(TempDir);

impl Mirror {
    fn of(federation: &Federation) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(federation.path(), folder.path());
        Self(folder)
    }

    fn show(&self, federation: &Federation) {
        copy(self.0.path(), federation.path());
    }
}

/// Writes a role over the one that is there, small form and all.
fn overwrite(federation: &Federation, file: &str, bytes: &[u8]) {
    let _ = fs::remove_file(federation.path().join(format!("{file}.gz")));
    fs::write(federation.path().join(file), bytes).unwrap();
}

fn role(federation: &Federation, role: &str, version: u64) -> Signed<Targets> {
    let file = versioned(role, version);
    let bytes = fs::read(federation.path().join(&file)).unwrap();
    metadata::parse(&file, &bytes).unwrap()
}

async fn known(names: &[&str]) -> (Federation, Vec<Site>, Here) {
    let federation = Federation::new(1);
    let sites: Vec<Site> = names.iter().map(|name| federation.join(name)).collect();
    let mut here = Here::new(&federation);
    here.sync(names).await;
    assert!(sites.iter().all(|site| here.has(site)));
    (federation, sites, here)
}

/// A snapshot by the host's key with this version of a role, whatever the files hold.
fn host_says(federation: &Federation, role: &str, version: u64) {
    federation
        .repository
        .host_says(&federation.host, &[(role, version)], federation.now())
        .unwrap();
}

/// Replaces a member's keys by those of a thief, as registrars who collude do.
fn collude(federation: &Federation, thief: &Site) {
    let sent = thief.request(federation);
    let all = federation.two_registrars();
    federation
        .repository
        .admit_unchecked(&sent, &all, federation.now())
        .unwrap();
    federation.publish();
}
