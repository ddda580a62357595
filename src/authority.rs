//! `sekisho authority`: a site's authority until a signal ends it, and the care of its data.

mod attest;
mod embedded;
pub(crate) mod federation;
mod running;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::bail;
use clap::{Args, Subcommand};
use sekisho_authority::store::Store;
use sekisho_certs::hex;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    child::ChildArgs,
    cli::{self, ConfigArgs},
    config::{self, AuthorityConfig, Config},
    logging, output, run,
};
pub(crate) use attest::{api_server, judge};
pub(crate) use running::Running;
use running::database;

/// Options of `sekisho authority`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
pub(crate) struct AuthorityArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    child: ChildArgs,
    #[command(subcommand)]
    command: Option<AuthorityCommand>,
}

#[derive(Debug, Subcommand)]
enum AuthorityCommand {
    /// Copy the database, which may be in use, to a file that is not there yet
    #[command(
        after_help = "The keys are files of their own in the folder `keys`: copy them too.\n\n\
        Example:\n  sekisho authority -c authority.yaml backup /var/backups/authority.db"
    )]
    Backup {
        /// The copy
        file: PathBuf,
    },
    /// The same as `sekisho audit verify`
    #[command(after_help = "Example:\n  sekisho authority -c authority.yaml verify-audit")]
    VerifyAudit {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Does what was asked.
pub(crate) fn authority(args: &AuthorityArgs) -> u8 {
    if !args.child.begin() {
        return cli::FAILED;
    }
    let own = |file: &Config| match args.command {
        // That of an embedded CA runs where the endpoints do.
        None => file.authority.clone(),
        Some(_) => file.site_authority(),
    };
    let Some((file, own)) = config::load_part(&args.config.config, "authority", own) else {
        return cli::INVALID;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            match &args.command {
                None => {
                    let log = Arc::new(logging::start_changeable(&file.log));
                    run::raise_file_limit();
                    serve(&file, own, log).await
                }
                Some(AuthorityCommand::Backup { file: copy }) => {
                    let store = existing(&own)?;
                    Ok(store.backup(copy.clone()).await?)
                }
                Some(AuthorityCommand::VerifyAudit { json }) => verify(&own, *json).await,
            }
        })
    });
    match outcome {
        Ok(()) => cli::OK,
        Err(error) => {
            output::complain(format_args!("authority: {error:#}"));
            cli::FAILED
        }
    }
}

/// Checks the audit log of the authority of a configuration.
pub(crate) fn verify_audit(config: &Path, json: bool) -> u8 {
    let own = Config::site_authority;
    let Some((_, own)) = config::load_part(config, "authority", own) else {
        return cli::INVALID;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(verify(&own, json)));
    match outcome {
        Ok(()) => cli::OK,
        Err(error) => {
            output::complain(format_args!("audit: {error:#}"));
            cli::FAILED
        }
    }
}

/// The database, which must be there.
fn existing(config: &AuthorityConfig) -> anyhow::Result<Store> {
    let path = database(config);
    if !path.exists() {
        bail!("{}: there is no database", path.display());
    }
    // An authority may be using it.
    Ok(Store::open_read_only(&path)?)
}

async fn verify(config: &AuthorityConfig, json: bool) -> anyhow::Result<()> {
    let store = existing(config)?;
    let (lines, hash) = store.verify_audit().await?;
    let hash = hex(&hash);
    if json {
        output::json(&serde_json::json!({ "lines": lines, "hash": hash }));
    } else {
        output::line(format_args!(
            "{lines} lines, none altered; the last hash is {hash}"
        ));
    }
    Ok(())
}

async fn serve(
    file: &Config,
    config: AuthorityConfig,
    log: Arc<logging::Changeable>,
) -> anyhow::Result<()> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let running = tokio::select! {
        started = Running::start(file, &config, Some(log)) => started?,
        () = asked(&mut term, &mut int) => return Ok(()),
    };
    asked(&mut term, &mut int).await;
    tracing::info!("ending");
    tokio::select! {
        () = running.stop() => {}
        // A second signal does not wait.
        () = asked(&mut term, &mut int) => {}
    }
    tracing::info!("ended");
    Ok(())
}

/// Waits until its end is asked for.
async fn asked(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
