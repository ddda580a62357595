//! `sekisho directory push`: the bundles of members, set at a SPIRE server as the directory says.

mod digest;
mod memory;
mod options;
mod plan;
mod round;
mod server;

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use sekisho_authority::directory::DirectorySettings;
use sekisho_certs::TrustDomain;
use sekisho_federation::directory::{
    client::{SyncError, Synced},
    combined::Directories,
    following::{Following, Handle},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

use super::wait;
use crate::{
    cli,
    config::{Log, LogFormat, LogLevel},
    logging,
};
pub(super) use options::Push;
use round::{Pushing, Round};
use server::Server;

/// Something that was asked for could not be done, and all else was.
const LEFT_OUT: u8 = 3;
/// How often the server is looked at, where the directories say nothing new.
const LOOK: Duration = Duration::from_secs(60);
/// After a server that did not answer, or refused something: so soon, then twice as long each time, up
/// to this long.
const AGAIN: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);
/// The longest that directories may take with `--once`, as in a task that follows them.
const SYNC: Duration = Duration::from_secs(180);

impl Push {
    /// Does it.
    pub(super) fn go(&self) -> anyhow::Result<u8> {
        let settings = self.settings()?;
        let Some(socket) = self.asked.at.socket() else {
            return Ok(cli::INVALID);
        };
        logging::start(&Log {
            level: if self.once {
                LogLevel::Warn
            } else {
                LogLevel::Info
            },
            format: if self.asked.json && !self.once {
                LogFormat::Json
            } else {
                LogFormat::Text
            },
            access: true,
        });
        wait(async {
            if self.once {
                return self.once(&settings, &socket).await;
            }
            let (mut term, mut int) = (
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            );
            let hup = signal(SignalKind::hangup())?;
            // What is begun with the server is remembered: it may end at any time.
            tokio::select! {
                ended = self.follow(&settings, &socket, hup) => ended,
                _ = term.recv() => Ok(cli::OK),
                _ = int.recv() => Ok(cli::OK),
            }
        })
    }

    async fn once(&self, settings: &DirectorySettings, socket: &Path) -> anyhow::Result<u8> {
        let own = own(socket).await?;
        let (mut directories, mut pushing) = self.open(settings, socket, own)?;
        self.accept(&mut directories, &pushing).await?;
        let synced = sync(&mut directories, &pushing).await;
        let status = directories.status();
        // What is remembered is pushed all the same: it may have become too old.
        let round = pushing.round(directories.members(), &status).await?;
        let problems: Vec<_> = synced.into_iter().filter_map(Result::err).collect();
        round.tell(&pushing, &problems, self.asked.json);
        Ok(if !problems.is_empty() || round.has_failed() {
            cli::FAILED
        } else if round.lacks_somebody() {
            LEFT_OUT
        } else {
            cli::OK
        })
    }

    /// Takes what the operator has looked at. Which keys wait only the directories say.
    async fn accept(&self, directories: &mut Directories, pushing: &Pushing) -> anyhow::Result<()> {
        if self.accept_rekey.is_empty() && self.accept_rollback.is_empty() {
            return Ok(());
        }
        sync(directories, pushing).await;
        for (domain, fingerprint) in &self.accept_rekey {
            if directories.accept_rekey(domain, fingerprint)? {
                tracing::warn!(%domain, fingerprint, "keys accepted");
            } else {
                tracing::warn!(%domain, fingerprint, "no keys of this name wait");
            }
        }
        for domain in &self.accept_rollback {
            if directories.accept_rollback(domain)? {
                tracing::warn!(%domain, "its bundle may go back, once");
            } else {
                tracing::warn!(%domain, "it is not known");
            }
        }
        Ok(())
    }

    /// Until a signal ends it.
    async fn follow(
        &self,
        settings: &DirectorySettings,
        socket: &Path,
        hup: Signal,
    ) -> anyhow::Result<u8> {
        let mut failures = 0;
        let own = loop {
            match own(socket).await {
                Ok(own) => break own,
                Err(error) => {
                    let pause = again(&mut failures);
                    let error = format_args!("{error:#}");
                    tracing::warn!(%error, again_in = ?pause, "the server does not answer");
                    sleep(pause).await;
                }
            }
        };
        let (mut directories, pushing) = self.open(settings, socket, own)?;
        self.accept(&mut directories, &pushing).await?;
        tracing::info!(server = %pushing.own, socket = %socket.display(), "started");
        let (following, handle) = Following::new(directories);
        handle.set_wanted(pushing.wanted());
        tokio::select! {
            () = following.run() => anyhow::bail!("the directories are not followed any more"),
            ended = keep_pushing(pushing, &handle, hup) => ended,
        }
    }
}

/// Pushes what is new: of the directories at once, of the server every so often.
async fn keep_pushing(
    mut pushing: Pushing,
    handle: &Handle,
    mut hup: Signal,
) -> anyhow::Result<u8> {
    let mut members = handle.members();
    let mut last = Round::default();
    let mut failures = 0;
    loop {
        let known = members.borrow_and_update().clone();
        let pause = match pushing.round(&known, &handle.status()).await {
            Ok(round) => {
                round.log(&last);
                let failed = round.has_failed();
                last = round;
                if failed {
                    again(&mut failures)
                } else {
                    failures = 0;
                    LOOK
                }
            }
            Err(error) => {
                let pause = again(&mut failures);
                let error = format_args!("{error:#}");
                tracing::warn!(%error, again_in = ?pause, "not pushed");
                pause
            }
        };
        tokio::select! {
            changed = members.changed() => changed.context("the directories are not followed any more")?,
            () = sleep(pause) => {}
            _ = hup.recv() => {
                handle.refresh().await?;
            }
        }
    }
}

/// Follows each directory once.
async fn sync(directories: &mut Directories, pushing: &Pushing) -> Vec<Result<Synced, SyncError>> {
    directories.sync(&pushing.wanted(), SYNC).await
}

/// How long to wait after one more failure.
fn again(failures: &mut u32) -> Duration {
    let pause = AGAIN * 2_u32.saturating_pow(*failures);
    *failures = failures.saturating_add(1).min(16);
    pause.min(LONGEST)
}

/// The trust domain of the server.
async fn own(socket: &Path) -> anyhow::Result<TrustDomain> {
    round::in_time(async { Server::connect(socket).await?.own().await }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_away_is_asked_more_and_more_seldom() {
        let mut failures = 0;
        let pauses: Vec<u64> = (0..20).map(|_| again(&mut failures).as_secs()).collect();
        assert_eq!(pauses[..7], [5, 10, 20, 40, 80, 160, 300]);
        assert!(pauses[7..].iter().all(|pause| *pause == 300));
    }
}
