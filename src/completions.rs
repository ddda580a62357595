//! `sekisho completions`.

use clap_complete::Shell;

use crate::cli;

/// Prints the completions of a shell.
pub(crate) fn completions(shell: Shell) -> u8 {
    clap_complete::generate(
        shell,
        &mut cli::command(),
        "sekisho",
        &mut std::io::stdout(),
    );
    cli::OK
}
