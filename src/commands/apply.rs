//! `sekisho apply`: entries as a file says.

use std::{io::IsTerminal as _, path::PathBuf};

use clap::Args;
use serde_json::json;
use tonic::transport::Channel;

use super::{Asked, run};
use crate::{
    apply, cli,
    config::entries,
    output::{self, Colour, paint},
};

/// Options of `sekisho apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    asked: Asked,
    /// The file of entries
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    /// Show what would be done, and do nothing; exit code 1 if there is something to do
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

/// Does it.
pub(crate) fn apply(args: &ApplyArgs) -> u8 {
    run(&args.asked.at, async |authority| {
        let wanted = match entries::load(&args.file, &authority.site) {
            Ok(wanted) => wanted,
            Err(errors) => {
                output::complain(errors.render(output::colour_err()));
                return Ok(cli::INVALID);
            }
        };
        let plan = match apply::plan(authority.channel.clone(), wanted).await {
            Err(error) if is_of_the_file(&error) => {
                output::complain(format_args!("{}: {error:#}", args.file.display()));
                return Ok(cli::INVALID);
            }
            plan => plan?,
        };
        if !args.asked.json {
            show(&plan);
        }
        let code = carry_out(authority.channel, &plan, args).await;
        if args.asked.json {
            output::json(&json!({
                "create": plan.create.iter().map(|entry| &entry.id).collect::<Vec<_>>(),
                "update": plan.update.iter().map(|(_, new)| &new.id).collect::<Vec<_>>(),
                "delete": plan.delete.iter().map(|entry| &entry.id).collect::<Vec<_>>(),
                "same": plan.same,
                // All of it: with an error, some of it may have been.
                "applied": !args.dry_run && matches!(code, Ok(cli::OK)),
            }));
        }
        code
    })
}

/// Whether it is the file that is wrong, whatever the authority has.
fn is_of_the_file(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<apply::Collision>(),
        Some(apply::Collision::Twice(..))
    )
}

/// Shows what is to be done.
fn show(plan: &apply::Plan) {
    for line in plan.to_string().lines() {
        let colour = match line.chars().next() {
            Some('+') => Colour::Green,
            Some('-') => Colour::Red,
            _ => Colour::Yellow,
        };
        output::line(paint(line, colour, output::colour_out()));
    }
}

/// Does it, where that is wanted.
async fn carry_out(channel: Channel, plan: &apply::Plan, args: &ApplyArgs) -> anyhow::Result<u8> {
    if plan.is_empty() {
        return Ok(cli::OK);
    }
    if args.dry_run {
        return Ok(cli::FAILED);
    }
    if !args.yes && !agreed()? {
        output::complain("nothing was done");
        return Ok(cli::FAILED);
    }
    apply::apply(channel, plan).await?;
    Ok(cli::OK)
}

/// Asks, where somebody can answer.
pub(super) fn agreed() -> anyhow::Result<bool> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        output::complain("nobody can be asked here: give --yes to do it");
        return Ok(false);
    }
    output::complain("Do it? [y/N]");
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
