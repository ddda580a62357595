//! Programs that tests call.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

/// Whether `program` can be called. In CI (the variable `CI` is set) a missing one is a failure;
/// elsewhere the test is skipped, and says so loudly.
///
/// # Panics
/// In CI, when it is missing.
#[must_use]
pub fn is_there(program: &str, debian_package: &str) -> bool {
    let found = Command::new(program)
        .arg("version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if found {
        return true;
    }
    let advice =
        format!("the program `{program}` is missing: install the Debian package {debian_package}");
    assert!(std::env::var_os("CI").is_none(), "{advice}");
    // Past the test runner, which keeps what a test that passes prints to itself.
    let _ = std::io::stderr().write_all(format!("SKIPPED, {advice}\n").as_bytes());
    false
}
