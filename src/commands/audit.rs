//! `sekisho audit`: the audit log of an authority.

use clap::{Args, Subcommand};

use crate::{authority, cli::ConfigArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check that no line of the audit log was altered or left out
    #[command(
        after_help = "The authority may be running. Prints the number of lines and the last hash: note \
        both elsewhere, to see later whether lines were cut off at the end.\n\n\
        Example:\n  sekisho audit verify -c authority.yaml"
    )]
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Does it.
pub(crate) fn audit(command: &AuditCommand) -> u8 {
    let AuditCommand::Verify(verify) = command;
    authority::verify_audit(&verify.config.config, verify.json)
}
