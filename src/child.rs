//! What a process does first that `sekisho run` has started: it becomes whom the file says, and ends when
//! that one does.

use std::{
    ffi::{CString, OsString},
    os::unix::ffi::OsStringExt as _,
};

use anyhow::{Context as _, bail};
use clap::Args;
use nix::unistd::{Uid, User, execv, geteuid, initgroups, setgid, setuid};

use crate::{output, run};

/// Hidden options of such a process.
#[derive(Debug, Args)]
pub(crate) struct ChildArgs {
    /// End when the process that started this one, whose number this is, does
    #[arg(long, hide = true, value_name = "PID")]
    with_parent: Option<i32>,
    /// Become this user before anything is read
    #[arg(long, hide = true, value_name = "USER", requires = "with_parent")]
    as_user: Option<String>,
}

impl ChildArgs {
    /// Does so, before this process has read anything. False: it could not, and this was told.
    pub(crate) fn begin(&self) -> bool {
        if let Some(name) = &self.as_user
            && let Err(error) = become_user(name)
        {
            output::complain(format_args!("{error:#}"));
            return false;
        }
        // A change of user would forget it.
        self.with_parent.is_none_or(run::bind_to_parent)
    }
}

/// The user of that name, and that this process can become that one.
///
/// # Errors
/// When there is none, or only root could.
pub(crate) fn user(name: &str) -> anyhow::Result<User> {
    let found = User::from_name(name)?;
    let user = found.with_context(|| format!("there is no user {name}"))?;
    let own: Uid = geteuid();
    if !own.is_root() && own != user.uid {
        bail!("only root can run a part of the file as {name}");
    }
    Ok(user)
}

/// With all groups of that user, so that files of one of them can be read, and none of those before. Then this
/// program is begun anew: capabilities of its file count for that user, and its entries in /proc are that
/// user's own.
fn become_user(name: &str) -> anyhow::Result<()> {
    let user = user(name)?;
    if !geteuid().is_root() {
        return Ok(());
    }
    let plain = CString::new(name)?;
    let told = || format!("cannot become {name}");
    initgroups(&plain, user.gid).with_context(told)?;
    setgid(user.gid).with_context(told)?;
    setuid(user.uid).with_context(told)?;
    let arguments: Vec<CString> = without_user(std::env::args_os())
        .map(|one| CString::new(one.into_vec()))
        .collect::<Result<_, _>>()?;
    match execv(c"/proc/self/exe", &arguments) {
        Err(error) => Err(error).with_context(told),
    }
}

/// The arguments without `--as-user NAME`.
fn without_user(arguments: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut arguments = arguments;
    std::iter::from_fn(move || {
        let next = arguments.next()?;
        if next != "--as-user" {
            return Some(next);
        }
        arguments.next()?;
        arguments.next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_become_is_not_become_again() {
        let given = ["sekisho", "run", "--as-user", "x", "--with-parent", "1"];
        let rest: Vec<_> = without_user(given.into_iter().map(OsString::from)).collect();
        assert_eq!(rest, ["sekisho", "run", "--with-parent", "1"]);
    }
}
