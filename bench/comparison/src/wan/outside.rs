//! The process that does nothing but clean up: it starts this program again, hands signals on, and
//! afterwards, however that went, removes namespaces and files and puts the list of congestion
//! controls back.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    process::ExitCode,
};

use super::{congestion::Before, ground};
use crate::{complain, namespace};

/// Runs all of it, and cleans up.
pub(crate) fn supervise() -> anyhow::Result<ExitCode> {
    namespace::root()?;
    // Before anything is changed: from here on a signal ends the part inside, and then this one.
    let signals = namespace::signals();
    signals.thread_block()?;
    let before = Before::look()?;
    let folder = tempfile::Builder::new().prefix("sekisho-wan-").tempdir()?;
    // sekisho without privileges reads its configuration there.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    let status = namespace::inside(signals, &["--folder".as_ref(), folder.path().as_os_str()]);
    // In any case.
    for name in ground::names(std::process::id()) {
        if ground::exists(&name)
            && let Err(error) = ground::remove(&name)
        {
            complain(format_args!("{error:#}"));
        }
    }
    before.restore()?;
    let code = status?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
