//! The options of `sekisho directory push`, and what they open.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use sekisho_authority::directory::{self, DirectoryPlace, DirectorySettings};
use sekisho_certs::{Clock, SystemClock, TrustDomain, members::Mark, tls};
use sekisho_federation::{
    client::{Allowed, WebRoots},
    directory::{
        client::{SyncError, root_version},
        combined::Directories,
    },
};

use super::{
    super::{Place, admit::mark, place, wrong},
    memory::Memory,
    round::Pushing,
};
use crate::{
    cli::duration,
    commands::{Asked, value::trust_domain},
};

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
    /// Keys of a member that wait because its old ones have not named them, by the beginning of their
    /// name as its operator has told it; may be given several times
    #[arg(long, value_name = "TRUST DOMAIN=FINGERPRINT", value_parser = rekey)]
    pub(super) accept_rekey: Vec<(TrustDomain, String)>,
    /// A member whose bundle may go back, once; may be given several times
    #[arg(long, value_name = "TRUST DOMAIN", value_parser = trust_domain)]
    pub(super) accept_rollback: Vec<TrustDomain>,
    /// Once, and not until a signal ends it; for cron
    #[arg(long)]
    pub(super) once: bool,
    #[command(flatten)]
    pub(super) asked: Asked,
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

/// Reads whose keys are accepted, and which.
fn rekey(text: &str) -> Result<(TrustDomain, String), String> {
    let expected = "expected a trust domain and a fingerprint, as in osaka.example=3f:09:…";
    let (name, fingerprint) = text.split_once('=').ok_or(expected)?;
    if fingerprint.is_empty() {
        return Err(expected.into());
    }
    Ok((trust_domain(name)?, fingerprint.into()))
}

impl Push {
    /// What is followed. All that is wrong with the command line is told before anybody is asked.
    pub(super) fn settings(&self) -> anyhow::Result<DirectorySettings> {
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
    pub(super) fn open(
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
            threshold: settings.threshold,
            begun: clock.now(),
        };
        Ok((directories, pushing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_accepted_of_somebody() {
        let (domain, fingerprint) = rekey("osaka.example=3f:09").unwrap();
        assert_eq!((domain.as_str(), &*fingerprint), ("osaka.example", "3f:09"));
        for wrong in ["osaka.example", "osaka.example=", "=3f:09", "Osaka/x=3f:09"] {
            rekey(wrong).unwrap_err();
        }
    }

    #[test]
    fn how_long_a_member_is_believed_has_bounds() {
        assert_eq!(max_stale("7d"), Ok(Duration::from_secs(7 * 86400)));
        max_stale("59m").unwrap_err();
        max_stale("366d").unwrap_err();
        max_stale("7").unwrap_err();
    }
}
