//! `sekisho directory push`: the bundles of members, set at a SPIRE server as the directory says.

mod digest;
mod memory;
mod plan;
mod round;
mod server;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use sekisho_authority::directory::{self, DirectoryPlace, DirectorySettings};
use sekisho_certs::{Clock, SystemClock, TrustDomain, members::Mark, tls};
use sekisho_federation::{
    client::{Allowed, WebRoots},
    directory::{
        client::{SyncError, root_version},
        combined::Directories,
        following::{Following, Handle},
    },
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, timeout},
};

use super::{Place, admit::mark, place, wait, wrong};
use crate::{
    cli::{self, duration},
    commands::{Asked, value::trust_domain},
    config::{Log, LogFormat, LogLevel},
    logging,
};
use memory::Memory;
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

/// Options of `push`.
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// The directory: its folder, or its URL; several, each with its --root
    #[arg(value_name = "FOLDER or URL", value_parser = place, required = true)]
    places: Vec<Place>,
    /// A root of the directory that you vouch for; for several directories, in the same order
    #[arg(long = "root", value_name = "FILE", required = true)]
    roots: Vec<PathBuf>,
    /// How many of several directories have to say the same of a member. Default: all
    #[arg(long, value_name = "NUMBER")]
    threshold: Option<usize>,
    /// The folder for what is known of the directories, and what was pushed; of one server
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// A member whose bundle is pushed; may be given several times
    #[arg(long = "member", value_name = "TRUST DOMAIN", value_parser = trust_domain, required_unless_present = "marks")]
    members: Vec<TrustDomain>,
    /// A mark: all members that have it; may be given several times
    #[arg(long = "mark", value_name = "MARK", value_parser = mark)]
    marks: Vec<Mark>,
    /// For so long a member is believed at most without a new word of it. Default: as it says itself
    #[arg(long, value_name = "TIME", value_parser = max_stale)]
    max_stale: Option<Duration>,
    /// Replace bundles that others have set, too: they are ours then. Not where the server's file says
    /// from where they are fetched (federates_with): it would fetch them again
    #[arg(long)]
    take_over: bool,
    /// Once, and not until a signal ends it; for cron
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    asked: Asked,
}

/// Reads for how long a member is believed: within the bounds of `federation.max_stale`.
fn max_stale(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    let (least, most) = (Duration::from_secs(3600), Duration::from_secs(365 * 86400));
    if (least..=most).contains(&time) {
        return Ok(time);
    }
    Err("expected 1h to 365d".into())
}

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

    /// What is followed. All that is wrong with the command line is told before anybody is asked.
    fn settings(&self) -> anyhow::Result<DirectorySettings> {
        let count = self.places.len();
        if self.roots.len() != count {
            return Err(wrong(format_args!(
                "{count} directories need as many --root, in the same order"
            )));
        }
        let threshold = self.threshold.unwrap_or(count);
        if !(1..=count).contains(&threshold) {
            return Err(wrong(format_args!("--threshold: expected 1 to {count}")));
        }
        for root in &self.roots {
            root_version(root).map_err(wrong)?;
        }
        let places = self.places.iter().zip(&self.roots);
        Ok(DirectorySettings {
            places: places
                .map(|(at, root)| DirectoryPlace {
                    at: match at {
                        Place::Folder(folder) => directory::Place::Folder(folder.clone()),
                        Place::Url(url) => directory::Place::Url(url.clone()),
                    },
                    root: root.clone(),
                })
                .collect(),
            threshold,
            data: self.data.join("directory"),
            max_stale: self.max_stale,
            rekey_wait: None,
        })
    }

    /// The directories as they are remembered, and what was pushed, for the server of this trust domain.
    fn open(
        &self,
        settings: &DirectorySettings,
        socket: &Path,
        own: TrustDomain,
    ) -> anyhow::Result<(Directories, Pushing)> {
        let memory = Memory::open(&self.data, &own)?;
        // Where the directory is was said here, and by nobody else.
        let everywhere = ["0.0.0.0/0", "::/0"].map(str::parse);
        let allowed = Allowed::with(everywhere.into_iter().flatten());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let web = (&WebRoots::System, &allowed);
        let opened = directory::open(settings, &own, web, &Arc::new(tls::provider()), &clock);
        let directories = opened.map_err(|error| match error {
            error @ SyncError::Source(_) => wrong(error),
            error => error.into(),
        })?;
        let pushing = Pushing {
            socket: socket.to_owned(),
            own,
            memory,
            named: self.members.iter().map(ToString::to_string).collect(),
            marks: self.marks.iter().cloned().collect(),
            take_over: self.take_over,
            begun: clock.now(),
        };
        Ok((directories, pushing))
    }

    async fn once(&self, settings: &DirectorySettings, socket: &Path) -> anyhow::Result<u8> {
        let own = own(socket).await?;
        let (mut directories, mut pushing) = self.open(settings, socket, own)?;
        let synced = timeout(SYNC, directories.sync(&pushing.wanted())).await;
        let synced = synced.unwrap_or_else(|_| vec![Err(SyncError::TooLate(SYNC))]);
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
        let (directories, pushing) = self.open(settings, socket, own)?;
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

    #[test]
    fn how_long_a_member_is_believed_has_bounds() {
        assert_eq!(max_stale("7d"), Ok(Duration::from_secs(7 * 86400)));
        max_stale("59m").unwrap_err();
        max_stale("366d").unwrap_err();
        max_stale("7").unwrap_err();
    }
}
