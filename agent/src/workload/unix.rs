//! `unix`: user, groups and executable of a process.

#[cfg(test)]
mod tests;

use std::{fs, fs::File, sync::Arc, time::Duration};

use nix::unistd::{Gid, Group, Uid, User};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{AttestorError, digest::Digests, process};

/// A large executable on a slow disk takes its time when it is first seen.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// Threads that read executables and ask the account database at the same time.
const MAX_THREADS: usize = 8;

/// Settings of the `unix` attestor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSpec {
    /// Whether to tell `path` and `sha256`: SPIRE's `discover_workload_path`, which needs root or
    /// CAP_SYS_PTRACE for the processes of other users. Default true (SPIRE: false).
    pub discover_path: bool,
    /// Executables larger than this, in bytes, get no `sha256`: SPIRE's `workload_size_limit`.
    /// `None` is no limit. Default 512 MiB (SPIRE: none).
    pub size_limit: Option<u64>,
    /// Whether to tell `sha256` at all (SPIRE: a negative limit). Default true.
    pub digest: bool,
}

impl Default for UnixSpec {
    fn default() -> Self {
        Self {
            discover_path: true,
            size_limit: Some(512 * 1024 * 1024),
            digest: true,
        }
    }
}

#[derive(Debug)]
pub(super) struct Unix {
    spec: UnixSpec,
    digests: Arc<Digests>,
    threads: Arc<Semaphore>,
}

impl Unix {
    pub(super) fn new(spec: UnixSpec) -> Self {
        Self {
            spec,
            digests: Arc::default(),
            threads: Arc::new(Semaphore::new(MAX_THREADS)),
        }
    }

    pub(super) async fn attest(&self, pid: i32) -> Result<Vec<String>, AttestorError> {
        // Taken along by the thread: one that hangs in the account database counts until it ends,
        // also when nobody waits for it any more.
        let permit = Arc::clone(&self.threads)
            .acquire_owned()
            .await
            .map_err(|_| AttestorError::Stopped)?;
        let (spec, digests) = (self.spec.clone(), Arc::clone(&self.digests));
        spawn_blocking(move || {
            let _permit = permit;
            look(pid, &spec, &digests)
        })
        .await
        .map_err(|_| AttestorError::Stopped)?
    }
}

fn look(pid: i32, spec: &UnixSpec, digests: &Digests) -> Result<Vec<String>, AttestorError> {
    let credentials = process::credentials(pid)?;
    let mut found = vec![format!("uid:{}", credentials.uid)];
    if let Ok(Some(user)) = User::from_uid(Uid::from_raw(credentials.uid)) {
        found.push(format!("user:{}", user.name));
    }
    let mut group = |kind: &str, gid: u32, name_kind: &str| {
        found.push(format!("{kind}:{gid}"));
        if let Ok(Some(group)) = Group::from_gid(Gid::from_raw(gid)) {
            found.push(format!("{name_kind}:{}", group.name));
        }
    };
    group("gid", credentials.gid, "group");
    for gid in credentials.groups {
        group("supplementary_gid", gid, "supplementary_group");
    }
    if spec.discover_path {
        executable(pid, spec, digests, &mut found);
    }
    Ok(found)
}

/// What cannot be read is left out, and an entry that needs it does not match.
fn executable(pid: i32, spec: &UnixSpec, digests: &Digests, found: &mut Vec<String>) {
    let link = process::path(pid, "exe");
    // The path is as in the process's own mount namespace, and ends in " (deleted)" when the file
    // has been removed or replaced.
    match fs::read_link(&link) {
        Ok(path) => match path.to_str() {
            Some(path) => found.push(format!("path:{path}")),
            None => tracing::debug!(pid, "the path of the executable is not UTF-8"),
        },
        Err(error) => tracing::debug!(pid, %error, "the executable's path cannot be read"),
    }
    if !spec.digest {
        return;
    }
    // By this link the file that runs is opened, whatever now has its path.
    let digest = File::open(&link)
        .map_err(Into::into)
        .and_then(|file| digests.of(&file, spec.size_limit));
    match digest {
        Ok(digest) => found.push(format!("sha256:{digest}")),
        Err(error) => tracing::debug!(pid, %error, "the executable has no digest"),
    }
}
