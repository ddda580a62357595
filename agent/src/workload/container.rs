//! Which container a process is in, by its control groups.
//!
//! As SPIRE's container locator: the container's ID is a run of 64 hexadecimal digits in a path,
//! the pod's UID stands before it. `/proc/PID/cgroup` is the kernel's word. Where it holds no ID,
//! because agent and process see it from within the same container, the roots of the mounted
//! control groups may; but who can mount can forge those, so unlike SPIRE we look at them only in
//! that case, and only of a process in the agent's own user namespace.

#[cfg(test)]
mod tests;

use std::fs;

use super::process::{self, ProcessError};

/// Lines looked at in either file.
const MAX_LINES: usize = 4096;

/// A container, and the pod it is part of where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Container {
    /// 64 hexadecimal digits.
    pub(super) id: String,
    /// With dashes, as Kubernetes writes it.
    pub(super) pod_uid: Option<String>,
}

/// Why the container cannot be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContainerError {
    /// Paths name different containers or pods: the safe answer is none.
    #[error("the control groups name more than one container or pod")]
    Conflict,
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// The container of a process; `None` when it is in none.
pub(super) fn of(pid: i32) -> Result<Option<Container>, ContainerError> {
    let groups = paths(pid)?;
    let mut found = Found::default();
    for path in &groups {
        found.add(path)?;
    }
    if found.0.is_some() || !seen_from_within(&groups) || !in_own_user_namespace(pid) {
        return Ok(found.0);
    }
    let mounts = process::read(pid, "mountinfo")?;
    for root in mount_roots(&mounts).ok_or(ProcessError::Unexpected {
        pid,
        file: "mountinfo",
    })? {
        found.add(root)?;
    }
    Ok(found.0)
}

/// The paths of the control groups of a process, one of each hierarchy.
pub(super) fn paths(pid: i32) -> Result<Vec<String>, ProcessError> {
    let text = process::read(pid, "cgroup")?;
    let paths = group_paths(&text).ok_or(ProcessError::Unexpected {
        pid,
        file: "cgroup",
    })?;
    Ok(paths.into_iter().map(str::to_owned).collect())
}

/// `path` up to and with the segment that holds this container's ID.
pub(super) fn scope<'a>(path: &'a str, id: &str) -> Option<&'a str> {
    let start = path.find(id)?;
    let rest = path.get(start..)?;
    let end = rest.find('/').map_or(path.len(), |end| start + end);
    path.get(..end)
}

/// Lines are `hierarchy:controllers:path` (cgroups(7)).
fn group_paths(text: &str) -> Option<Vec<&str>> {
    text.lines()
        .take(MAX_LINES)
        .map(|line| line.splitn(3, ':').nth(2))
        .collect()
}

/// The fourth field of the lines whose file system is a control group (proc_pid_mountinfo(5)). A
/// blank ends each field, also an empty one.
fn mount_roots(text: &str) -> Option<Vec<&str>> {
    let mut roots = Vec::new();
    for line in text.lines().take(MAX_LINES) {
        let (before, after) = line.split_once(" - ")?;
        let fields = before.split(' ');
        if fields.clone().count() < 6 {
            return None;
        }
        let root = fields.clone().nth(3)?;
        let kind = after.split(' ').next().filter(|kind| !kind.is_empty())?;
        // The whole hierarchy, mounted into a container, tells nothing of it.
        if matches!(kind, "cgroup" | "cgroup2") && root != "/" {
            roots.push(root);
        }
    }
    Some(roots)
}

/// Whether these are the paths of a process at the root of the agent's own cgroup namespace, or
/// outside it.
fn seen_from_within(paths: &[String]) -> bool {
    paths
        .iter()
        .all(|path| path == "/" || path == "/.." || path.starts_with("/../"))
}

fn in_own_user_namespace(pid: i32) -> bool {
    let own = fs::read_link("/proc/self/ns/user");
    let other = fs::read_link(process::path(pid, "ns/user"));
    matches!((own, other), (Ok(own), Ok(other)) if own == other)
}

#[derive(Default)]
struct Found(Option<Container>);

impl Found {
    /// A path with a pod outranks those without: with Kubernetes in Docker, some paths name the
    /// outer container only.
    fn add(&mut self, path: &str) -> Result<(), ContainerError> {
        let Some(next) = locate(path) else {
            return Ok(());
        };
        match &self.0 {
            Some(known) if known.pod_uid.is_some() && next.pod_uid.is_none() => {}
            Some(known) if known.pod_uid.is_some() == next.pod_uid.is_some() => {
                if *known != next {
                    return Err(ContainerError::Conflict);
                }
            }
            _ => self.0 = Some(next),
        }
        Ok(())
    }
}

/// From the end, the first segment with a container's ID; from there, towards the start, a pod's
/// UID.
fn locate(path: &str) -> Option<Container> {
    let mut rest = path;
    loop {
        let (before, segment) = rest.rsplit_once('/')?;
        if let Some((head, id)) = container_id(segment) {
            let pod_uid = pod_uid(head).or_else(|| before.rsplit('/').find_map(pod_uid));
            return Some(Container {
                id: id.to_owned(),
                pod_uid,
            });
        }
        rest = before;
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// SPIRE's `\b([[:xdigit:]]{64})\b`, and what stands before it.
fn container_id(segment: &str) -> Option<(&str, &str)> {
    let word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let mut start = 0;
    for part in segment.split(|char| !word(char)) {
        if part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Some((segment.get(..start)?, part));
        }
        // What separates may be longer than a byte.
        let next = start + part.len();
        start = next
            + segment
                .get(next..)?
                .chars()
                .next()
                .map_or(0, char::len_utf8);
    }
    None
}

/// SPIRE's `\bpod(8[-_]4[-_]4[-_]4[-_]12)\b` of hexadecimal digits; systemd has no dashes in a
/// name, so that the kubelet writes `_`.
fn pod_uid(segment: &str) -> Option<String> {
    let bytes = segment.as_bytes();
    segment.match_indices("pod").find_map(|(start, _)| {
        let begin = start + 3;
        let uid = bytes.get(begin..begin + 36)?;
        let shaped = uid.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => matches!(byte, b'-' | b'_'),
            _ => byte.is_ascii_hexdigit(),
        });
        let inside = |at: Option<&u8>| at.is_some_and(|byte| is_word(*byte));
        let before = start.checked_sub(1).and_then(|at| bytes.get(at));
        if !shaped || inside(before) || inside(bytes.get(begin + 36)) {
            return None;
        }
        segment
            .get(begin..begin + 36)
            .map(|uid| uid.replace('_', "-"))
    })
}
