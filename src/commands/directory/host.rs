//! `sekisho directory host`: snapshot and timestamp.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use sekisho_federation::directory::{
    key::FileKey,
    repository::{Hosted, Lives, Repository},
};
use serde_json::to_value;
use tokio::signal::unix::{SignalKind, signal};

use super::{now, repository, wait};
use crate::{
    cli::{self, duration},
    output,
};

/// Something was left out.
const LEFT_OUT: u8 = 3;

/// Options of `host`.
#[derive(Debug, Args)]
pub(crate) struct Host {
    /// The folder of the directory
    folder: PathBuf,
    /// The host's key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Again every so often, until a signal ends it
    #[arg(long, value_name = "TIME", value_parser = every)]
    every: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Reads how often the host signs.
pub(super) fn every(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    let (least, most) = (Duration::from_secs(5), Duration::from_secs(12 * 3600));
    if (least..=most).contains(&time) {
        return Ok(time);
    }
    Err("expected 5s to 12h: a timestamp is valid for a day".into())
}

impl Host {
    /// Does it.
    pub(super) fn go(&self) -> anyhow::Result<u8> {
        let key = FileKey::read(&self.key)?;
        let repository = repository(&self.folder);
        let Some(every) = self.every else {
            return Ok(self.told(&once(&repository, &key)?));
        };
        wait(async {
            let (mut term, mut int) = (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            );
            let mut ticks = tokio::time::interval(every);
            let mut code = None;
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    _ = term.recv() => return Ok(code.unwrap_or(cli::OK)),
                    _ = int.recv() => return Ok(code.unwrap_or(cli::OK)),
                }
                match once(&repository, &key) {
                    Ok(hosted) => code = Some(self.told(&hosted)),
                    // What cannot be read now may be there in a moment; the first time it is an error.
                    Err(error) if code.is_some() => {
                        output::complain(format_args!("{error:#}"));
                        code = Some(cli::FAILED);
                    }
                    Err(error) => return Err(error),
                }
            }
        })
    }

    fn told(&self, hosted: &Hosted) -> u8 {
        if self.json {
            output::json(&to_value(hosted).unwrap_or_default());
        } else {
            output::line(format_args!(
                "timestamp {}, snapshot {}, {} changed",
                hosted.timestamp, hosted.snapshot, hosted.changed
            ));
        }
        for complaint in &hosted.complaints {
            output::complain(format_args!(
                "left out: {}: {}",
                complaint.role, complaint.problem
            ));
        }
        if hosted.complaints.is_empty() {
            cli::OK
        } else {
            LEFT_OUT
        }
    }
}

fn once(repository: &Repository, key: &FileKey) -> anyhow::Result<Hosted> {
    let _locked = repository.lock()?;
    Ok(repository.host(key, &Lives::default(), now())?)
}
