//! Programs that others wrote.

use std::{
    env,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use nix::unistd::Uid;

/// Whether this is a run where nothing may be left out.
pub(crate) fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// Skips a test, loudly; under `CI` fails it.
pub(crate) fn skip(why: &str) {
    assert!(!is_ci(), "{why}");
    // Not by `eprintln`, which the test harness keeps to itself where a test passes.
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

/// Where `tests/interop/install` puts things.
fn cache() -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    Some(cache?.join("sekisho/interop"))
}

/// A folder of Python packages that `tests/interop/install` fetches.
pub(crate) fn packages(name: &str) -> Option<PathBuf> {
    let found = cache()
        .map(|cache| cache.join(name))
        .filter(|folder| folder.is_dir());
    if found.is_none() {
        skip(&format!("no {name} here; tests/interop/install gets it"));
    }
    found
}

/// The program, where `tests/interop/install` puts it or on the path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let installed = cache().map(|cache| cache.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let found = installed
        .into_iter()
        .chain(env::split_paths(&path))
        // Not on everybody's path.
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    if found.is_none() {
        skip(&format!("no {program} here; tests/interop/install gets it"));
    }
    found
}

/// Whether this is root, which `why` needs.
pub(crate) fn is_root(why: &str) -> bool {
    let root = Uid::effective().is_root();
    if !root {
        skip(&format!("not root: {why}"));
    }
    root
}

/// The path of a program; leaves the test where there is none.
macro_rules! program {
    ($name:expr) => {
        match $crate::support::program::find($name) {
            Some(path) => path,
            None => return,
        }
    };
}
pub(crate) use program;
