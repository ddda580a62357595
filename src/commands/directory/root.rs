//! `sekisho directory root`: what is signed by several together.

use std::{fs, num::NonZeroU64, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sekisho_federation::directory::{
    continuity::KeySet,
    key::PublicKey,
    repository::{DraftState, Repository, RootChange},
};
use serde_json::{Value, json};

use super::{
    Keys, draft,
    init::{bins, set},
    now, read_file, read_keys, read_public, repository, signers, tell, write_file, wrong,
};
use crate::{cli, output};

/// Most bytes of signatures that were sent.
const MOST: usize = 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum RootCommand {
    /// Draft the next root, targets, marks or bin: with what changes, or the same for longer
    #[command(
        after_help = "Without options a draft of the same keys, for another year (root, targets) or \
        half a year (marks, bins). A new root is signed by enough institutions of the old one and of the \
        new one; targets by the institutions; marks and bins by the registrars. With --bins or --registrar \
        the targets change, and with them all bins and the marks are drafted anew.\n\nExamples:\n  \
        sekisho directory root propose fed/ --key tokyo.key\n  \
        sekisho directory root propose fed/ --host new-host.key.pub\n  \
        sekisho directory root propose fed/ --of targets --bins 16"
    )]
    Propose(Propose),
    /// Sign a draft, in the folder or in a copy of it
    #[command(
        after_help = "On a machine of your own: a copy of the folder is enough, and --out writes the \
        signatures to be sent back. Look at the draft before (root show).\n\nExamples:\n  \
        sekisho directory root sign fed/ --key tokyo.key\n  \
        sekisho directory root sign copy/ --of bin-0f --key registrar.key --out tokyo.sig\n  \
        sekisho directory root sign copy/ --all --key registrar.key --out tokyo/"
    )]
    Sign(Sign),
    /// Take signatures that were sent into the drafts
    #[command(after_help = "Those of another draft are refused.\n\nExample:\n  \
        sekisho directory root merge fed/ tokyo.sig kyoto.sig")]
    Merge(Merge),
    /// Publish drafts that have enough signatures; the host shows them
    #[command(after_help = "Examples:\n  sekisho directory root publish fed/\n  \
        sekisho directory root publish fed/ --all")]
    Publish(Publish),
    /// Throw a draft away
    #[command(after_help = "Example:\n  sekisho directory root discard fed/ --of targets")]
    Discard(One),
    /// Who keeps the directory, and which drafts there are and what they change
    #[command(
        after_help = "For who is to sign: in a copy of the folder too.\n\nExample:\n  sekisho directory root show fed/"
    )]
    Show(Show),
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The folder of the directory, or a copy of it
    folder: PathBuf,
    /// The role: root, targets, marks, bin or bin-XX
    #[arg(long, value_name = "ROLE", default_value = "root", value_parser = role)]
    of: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Propose {
    #[command(flatten)]
    one: One,
    /// The institutions from now on, by their public keys; may be given several times
    #[arg(long, value_name = "FILE.pub")]
    institution: Vec<PathBuf>,
    /// How many institutions have to sign from now on
    #[arg(long, value_name = "K")]
    threshold: Option<NonZeroU64>,
    /// The registrars from now on, by their public keys (--of targets)
    #[arg(long, value_name = "FILE.pub")]
    registrar: Vec<PathBuf>,
    /// How many registrars have to sign from now on (--of targets)
    #[arg(long, value_name = "K")]
    registrar_threshold: Option<NonZeroU64>,
    /// The host from now on, by its public key
    #[arg(long, value_name = "FILE.pub")]
    host: Option<PathBuf>,
    /// How many bins from now on (--of targets)
    #[arg(long, value_parser = bins)]
    bins: Option<usize>,
    /// A private key that signs at once; may be given several times
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// In place of a draft that is there, whose signatures are lost
    #[arg(long)]
    anew: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    keys: Keys,
    /// Sign every draft that these keys may sign
    #[arg(long, conflicts_with = "of")]
    all: bool,
    /// Write the draft's signatures to this file; with --all, to a file for each in this folder
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Merge {
    /// The folder of the directory
    folder: PathBuf,
    /// Signatures, as `root sign --out` writes them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    #[command(flatten)]
    one: One,
    /// Every draft that has enough signatures
    #[arg(long, conflicts_with = "of")]
    all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The folder of the directory
    folder: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Reads the name of a role of which there are drafts.
fn role(text: &str) -> Result<String, String> {
    let is_bin = text.strip_prefix("bin-").is_some_and(|digits| {
        let mut digits = digits.bytes();
        let hex = digits.all(|one| one.is_ascii_digit() || (b'a'..=b'f').contains(&one));
        hex && (5..=6).contains(&text.len())
    });
    if is_bin || ["root", "targets", "marks", "bin"].contains(&text) {
        return Ok(text.into());
    }
    Err("expected root, targets, marks, bin or bin-XX".into())
}

/// Does it.
pub(super) fn root(command: &RootCommand) -> anyhow::Result<u8> {
    match command {
        RootCommand::Propose(args) => args.go(),
        RootCommand::Sign(args) => args.go(),
        RootCommand::Merge(args) => args.go(),
        RootCommand::Publish(args) => args.go(),
        RootCommand::Discard(one) => {
            let repository = repository(&one.folder);
            let _locked = repository.lock()?;
            repository.discard_draft(&one.of)?;
            let value = json!({ "role": one.of, "discarded": true });
            tell(one.json, &value, format_args!("discarded {}", one.of));
            Ok(cli::OK)
        }
        RootCommand::Show(args) => args.go(),
    }
}

impl Propose {
    fn go(&self) -> anyhow::Result<u8> {
        let (folder, of) = (&self.one.folder, self.one.of.as_str());
        let registrars = !self.registrar.is_empty() || self.registrar_threshold.is_some();
        let institutions = !self.institution.is_empty() || self.threshold.is_some();
        if of != "targets" && (registrars || self.bins.is_some()) {
            return Err(wrong(
                "--registrar, --registrar-threshold and --bins change the targets: give --of targets",
            ));
        }
        if of != "root" && (institutions || self.host.is_some()) {
            return Err(wrong(
                "--institution, --threshold and --host change the root: leave --of out",
            ));
        }
        let keys = read_keys(&self.key)?;
        let repository = repository(folder);
        let _locked = repository.lock()?;
        let there = repository.drafts()?;
        if let Some(draft) = there.iter().find(|draft| draft.role == of && !self.anew) {
            let signed = draft.signatures.iter().flat_map(|one| &one.signed);
            let signed: std::collections::BTreeSet<_> = signed.collect();
            anyhow::bail!(
                "there is a draft of {of} {} already, which {} keys have signed: sign that, or give --anew",
                draft.version,
                signed.len()
            );
        }
        let mut change = RootChange::default();
        if institutions {
            let before = repository.institutions_keys()?;
            change.institutions = Some(changed(
                "institutions",
                &before,
                &self.institution,
                self.threshold,
            )?);
        }
        if registrars {
            let before = repository.registrars_keys()?;
            let threshold = self.registrar_threshold;
            change.registrars = Some(changed("registrars", &before, &self.registrar, threshold)?);
        }
        change.host = self.host.as_deref().map(PublicKey::read).transpose()?;
        change.bins = self.bins;
        let mut states = match of {
            "root" => vec![repository.propose_root(&change, now())?],
            "targets" => repository.propose_targets(&change, now())?,
            other => vec![repository.propose_again(other, now())?],
        };
        if !keys.is_empty() {
            for state in &mut states {
                let signing = repository.sign_draft(&state.role, &signers(&keys));
                if let Some(signed) = signed_if_it_may(signing)? {
                    *state = signed;
                }
            }
        }
        draft::show(&states, self.one.json);
        Ok(cli::OK)
    }
}

/// The keys of before, but for what changes.
fn changed(
    what: &str,
    before: &KeySet,
    files: &[PathBuf],
    threshold: Option<NonZeroU64>,
) -> anyhow::Result<KeySet> {
    let keys = if files.is_empty() {
        before.keys().to_vec()
    } else {
        read_public(files)?
    };
    set(what, keys, threshold.unwrap_or_else(|| before.threshold()))
}

/// A signature, or none where the keys are of others.
fn signed_if_it_may(
    signing: Result<DraftState, sekisho_federation::directory::repository::RepositoryError>,
) -> anyhow::Result<Option<DraftState>> {
    use sekisho_federation::directory::repository::RepositoryError;
    match signing {
        Ok(state) => Ok(Some(state)),
        Err(RepositoryError::Refused(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Sign {
    fn go(&self) -> anyhow::Result<u8> {
        let keys = self.keys.read()?;
        let repository = repository(&self.one.folder);
        let _locked = repository.lock()?;
        let states = if self.all {
            let mut states = Vec::new();
            for state in repository.drafts()? {
                let signing = repository.sign_draft(&state.role, &signers(&keys));
                states.extend(signed_if_it_may(signing)?);
            }
            if states.is_empty() {
                anyhow::bail!("there is no draft that these keys may sign");
            }
            states
        } else {
            vec![repository.sign_draft(&self.one.of, &signers(&keys))?]
        };
        match &self.out {
            Some(folder) if self.all => {
                fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
                for state in &states {
                    let file = folder.join(format!("{}.sig", state.role));
                    write_file(&file, &repository.signatures_of_draft(&state.role)?)?;
                }
            }
            Some(file) => write_file(file, &repository.signatures_of_draft(&self.one.of)?)?,
            None => {}
        }
        draft::show(&states, self.one.json);
        Ok(cli::OK)
    }
}

impl Merge {
    fn go(&self) -> anyhow::Result<u8> {
        let repository = repository(&self.folder);
        let _locked = repository.lock()?;
        let mut states: Vec<DraftState> = Vec::new();
        for file in &self.files {
            let bytes = read_file(file, MOST)?;
            let state = repository.merge_signatures(&bytes);
            let state = state.with_context(|| file.display().to_string())?;
            states.retain(|one| one.role != state.role);
            states.push(state);
        }
        draft::show(&states, self.json);
        Ok(cli::OK)
    }
}

impl Publish {
    fn go(&self) -> anyhow::Result<u8> {
        let repository = repository(&self.one.folder);
        let _locked = repository.lock()?;
        let states = if self.all {
            publish_all(&repository)?
        } else {
            vec![repository.publish_draft(&self.one.of)?]
        };
        if self.one.json {
            output::json(&Value::Array(states.iter().map(draft::value).collect()));
        } else {
            for state in &states {
                output::line(format_args!("published {} {}", state.role, state.version));
            }
            if states.is_empty() {
                output::line("no draft has enough signatures");
            }
        }
        Ok(if states.is_empty() {
            cli::FAILED
        } else {
            cli::OK
        })
    }
}

/// Publishes what is complete: root and targets before those who are named in them.
fn publish_all(repository: &Repository) -> anyhow::Result<Vec<DraftState>> {
    let mut done = Vec::new();
    for first in [Some("root"), Some("targets"), None] {
        // Looked at anew: whose signatures count is in what was published just now.
        for state in repository.drafts()? {
            let is_meant = first.is_none_or(|role| role == state.role);
            if is_meant && state.is_complete() {
                done.push(repository.publish_draft(&state.role)?);
            }
        }
    }
    Ok(done)
}

fn ids(set: &KeySet) -> Value {
    let ids: Vec<String> = set.keys().iter().map(PublicKey::id).collect();
    json!({ "threshold": set.threshold().get(), "keys": ids })
}

impl Show {
    fn go(&self) -> anyhow::Result<u8> {
        let repository = repository(&self.folder);
        let drafts = repository.drafts()?;
        let changes = drafts.iter().map(|draft| repository.changes(&draft.role));
        let changes = changes.collect::<Result<Vec<_>, _>>()?;
        let institutions = repository.institutions_keys();
        // A directory that begins has drafts alone.
        if institutions.is_err() && !drafts.is_empty() {
            draft::show(&drafts, self.json);
            return Ok(cli::OK);
        }
        let institutions = institutions?;
        let registrars = repository.registrars_keys().ok();
        let bins = repository.bin_names().unwrap_or_default();
        let host = repository.host_key()?.id();
        if self.json {
            output::json(&json!({
                "institutions": ids(&institutions),
                "registrars": registrars.as_ref().map(ids),
                "host": host,
                "bins": bins.len(),
                "drafts": drafts.iter().map(draft::value).collect::<Vec<_>>(),
                "changes": changes,
            }));
            return Ok(cli::OK);
        }
        let all = [
            ("institutions", Some(&institutions)),
            ("registrars", registrars.as_ref()),
        ];
        for (what, set) in all {
            let Some(set) = set else { continue };
            output::line(format_args!(
                "{what}: {} of {}",
                set.threshold(),
                set.keys().len()
            ));
            for key in set.keys() {
                output::line(format_args!("  {}", key.id()));
            }
        }
        output::line(format_args!("host:\n  {host}\nbins: {}", bins.len()));
        if !drafts.is_empty() {
            output::line(format_args!("drafts:\n{}", draft::lines(&drafts)));
            let changes = draft::changes(&changes);
            if !changes.is_empty() {
                output::line(format_args!("they change:\n{changes}"));
            }
        }
        Ok(cli::OK)
    }
}
