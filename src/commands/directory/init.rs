//! `sekisho directory init`.

use std::{
    fs,
    num::NonZeroU64,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use sekisho_federation::directory::{
    continuity::KeySet,
    key::{FileKey, PublicKey, Signer},
    repository::{DraftState, Init as Wanted, Lives, Repository},
};
use serde_json::{Value, json};

use super::{
    draft,
    key::{make, public_file},
    now, read_keys, read_public, repository, signers, tell, wrong,
};
use crate::{cli, output};

/// Options of `init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder of the directory; nothing is in it yet
    folder: PathBuf,
    /// Make all keys, in this folder: two of three institutions, two of three registrars, one host
    #[arg(
        long,
        value_name = "FOLDER",
        conflicts_with_all = ["institution", "threshold", "registrar", "registrar_threshold", "host", "key"]
    )]
    new_keys: Option<PathBuf>,
    /// The public key of an institution; may be given several times
    #[arg(long, value_name = "FILE.pub", required_unless_present = "new_keys")]
    institution: Vec<PathBuf>,
    /// How many institutions have to sign
    #[arg(long, value_name = "K", required_unless_present = "new_keys")]
    threshold: Option<NonZeroU64>,
    /// The public key of a registrar; may be given several times
    #[arg(long, value_name = "FILE.pub", required_unless_present = "new_keys")]
    registrar: Vec<PathBuf>,
    /// How many registrars have to sign
    #[arg(long, value_name = "K", required_unless_present = "new_keys")]
    registrar_threshold: Option<NonZeroU64>,
    /// The public key of the host, which is online
    #[arg(long, value_name = "FILE.pub", required_unless_present = "new_keys")]
    host: Option<PathBuf>,
    /// How many parts the members are in: 1 below 500 members, 16 below 2000, else 256
    #[arg(long, default_value_t = 1, value_parser = bins)]
    bins: usize,
    /// A private key that is at hand and signs at once; may be given several times
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Reads a number of bins.
pub(super) fn bins(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "16" => Ok(16),
        "256" => Ok(256),
        _ => Err("expected 1, 16 or 256".into()),
    }
}

/// Keys, of which so many sign.
pub(super) fn set(
    what: &str,
    keys: Vec<PublicKey>,
    threshold: NonZeroU64,
) -> anyhow::Result<KeySet> {
    let count = keys.len();
    let set = KeySet::new(keys, threshold)
        .map_err(|_| wrong(format_args!("{what}: {threshold} of {count} cannot sign")))?;
    if set.keys().len() < count {
        return Err(wrong(format_args!("{what}: a key is given twice")));
    }
    Ok(set)
}

impl Init {
    /// Does it.
    pub(super) fn go(&self) -> anyhow::Result<u8> {
        match &self.new_keys {
            Some(folder) => self.with_new_keys(folder),
            None => self.with_given_keys(),
        }
    }

    fn with_given_keys(&self) -> anyhow::Result<u8> {
        let one = NonZeroU64::MIN;
        let institutions = read_public(&self.institution)?;
        let registrars = read_public(&self.registrar)?;
        let host = self.host.as_ref().context("--host is needed")?;
        let wanted = Wanted {
            institutions: set("institutions", institutions, self.threshold.unwrap_or(one))?,
            registrars: set(
                "registrars",
                registrars,
                self.registrar_threshold.unwrap_or(one),
            )?,
            host: PublicKey::read(host)?,
            bins: self.bins,
        };
        let keys = read_keys(&self.key)?;
        let repository = repository(&self.folder);
        let _locked = repository.lock()?;
        let states = repository.init(&wanted, &signers(&keys), now())?;
        let hosted = host_if_it_may(&repository, &wanted.host, &keys, &states)?;
        if self.json {
            let drafts: Vec<Value> = states.iter().map(draft::value).collect();
            output::json(&json!({ "folder": self.folder, "roles": drafts, "hosted": hosted }));
            return Ok(cli::OK);
        }
        output::line(draft::lines(&states));
        if states.iter().all(DraftState::is_complete) {
            output::line(next(&self.folder, hosted));
        } else {
            output::line(format_args!(
                "the rest sign the drafts: sekisho directory root sign {} --of ROLE --key FILE, then root publish --all",
                self.folder.display()
            ));
        }
        Ok(cli::OK)
    }

    fn with_new_keys(&self, folder: &Path) -> anyhow::Result<u8> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder
            .create(folder)
            .with_context(|| folder.display().to_string())?;
        let repository = repository(&self.folder);
        let _locked = repository.lock()?;
        // Keys of a directory that cannot be would only be in the way.
        repository.may_begin()?;
        let make_all = |what: &str, count: usize| -> anyhow::Result<Vec<(PathBuf, FileKey)>> {
            let files = (1..=count).map(|number| folder.join(format!("{what}-{number}.key")));
            let keys = files.map(|file| Ok((file.clone(), make(&file)?.0)));
            keys.collect()
        };
        let institutions = make_all("institution", 3)?;
        let registrars = make_all("registrar", 3)?;
        let file = folder.join("host.key");
        let host = make(&file)?.0;
        let two = NonZeroU64::MIN.saturating_add(1);
        let public = |all: &[(PathBuf, FileKey)]| all.iter().map(|(_, key)| key.public()).collect();
        let wanted = Wanted {
            institutions: set("institutions", public(&institutions), two)?,
            registrars: set("registrars", public(&registrars), two)?,
            host: host.public(),
            bins: self.bins,
        };
        let all = institutions.iter().chain(&registrars);
        let keys: Vec<&dyn Signer> = all.map(|(_, key)| key as &dyn Signer).collect();
        let states = repository.init(&wanted, &keys, now())?;
        repository.host(&host, &Lives::default(), now())?;
        let rows = |all: &[(PathBuf, FileKey)], what: &str| -> Vec<Value> {
            let all = all.iter();
            all.map(|(file, key)| json!({ "for": what, "file": file, "public": public_file(file), "id": key.public().id() }))
                .collect()
        };
        let mut keys = rows(&institutions, "an institution");
        keys.extend(rows(&registrars, "a registrar"));
        let host_row = json!({ "for": "the host", "file": file, "public": public_file(&file), "id": host.public().id() });
        keys.push(host_row);
        let roles: Vec<Value> = states.iter().map(draft::value).collect();
        let value = json!({ "folder": self.folder, "roles": roles, "hosted": true, "keys": keys });
        let mut text = String::from("keys that were made:\n");
        for row in &keys {
            let word = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
            text.push_str(&format!("  {} for {}\n", word("file"), word("for")));
        }
        text.push_str(&format!(
            "Give each institution one institution-N.key and each registrar one registrar-N.key, by a way \
             that you trust, and keep none of them here: two of each are all that a thief needs. Only \
             host.key stays on the machine that hosts.\n{}",
            next(&self.folder, true)
        ));
        tell(self.json, &value, text);
        Ok(cli::OK)
    }
}

/// What to do when all has been signed.
fn next(folder: &Path, hosted: bool) -> String {
    let host = if hosted {
        String::new()
    } else {
        format!("sekisho directory host {} --key FILE\n", folder.display())
    };
    format!(
        "{host}every site gets metadata/1.root.json of {} by a way that it trusts: all else follows from it",
        folder.display()
    )
}

/// Hosts, where all is signed and the host's key is at hand.
fn host_if_it_may(
    repository: &Repository,
    host: &PublicKey,
    keys: &[FileKey],
    states: &[DraftState],
) -> anyhow::Result<bool> {
    let key = keys.iter().find(|key| key.public() == *host);
    let Some(key) = key.filter(|_| states.iter().all(DraftState::is_complete)) else {
        return Ok(false);
    };
    repository.host(key, &Lives::default(), now())?;
    Ok(true)
}
