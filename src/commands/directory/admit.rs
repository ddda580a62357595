//! `sekisho directory member admit`: a registrar looks at a request, and says yes.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use sekisho_certs::members::Mark;
use sekisho_federation::directory::{
    continuity::{self, Verdict},
    repository::{Checked, DraftState, MOST, Repository, Standing, Submission},
};
use serde_json::{Value, json};

use super::{Keys, draft, now, read_file, repository, request::dns, signers, wrong};
use crate::{cli, commands::apply::agreed, output};

/// Options of `member admit`.
#[derive(Debug, Args)]
pub(crate) struct Admit {
    /// The request, as `member request` or `rotate` has written it
    request: PathBuf,
    /// The folder of the directory
    folder: PathBuf,
    #[command(flatten)]
    keys: Keys,
    /// A mark that it gets, beside those that it has; may be given several times
    #[arg(long, value_name = "MARK", value_parser = mark)]
    mark: Vec<Mark>,
    /// The fingerprint, as the member has told it by another way
    #[arg(long, value_name = "AA:BB:…", conflicts_with = "yes")]
    fingerprint: Option<String>,
    /// Admit it without asking
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Reads a mark.
pub(super) fn mark(text: &str) -> Result<Mark, String> {
    text.parse::<Mark>().map_err(|error| error.to_string())
}

/// Reads what a member has sent.
pub(super) fn submission(file: &Path) -> anyhow::Result<Submission> {
    let bytes = read_file(file, MOST)?;
    let read = Submission::read(&bytes).map_err(wrong);
    read.with_context(|| file.display().to_string())
}

/// What is looked at before it is signed.
struct Look {
    checked: Checked,
    fingerprint: String,
    /// Of a member whose keys are known: what becomes of them.
    verdict: Option<Verdict>,
    /// Whether it is one, by these very keys.
    is_member: bool,
}

/// A word for programs, and one for people.
const fn told(verdict: Option<Verdict>) -> (&'static str, &'static str) {
    match verdict {
        None => ("new", "a new member"),
        Some(Verdict::Same) => ("same", "a member, with the keys that it has"),
        Some(Verdict::Continued) => (
            "continued",
            "a member whose keys change, by the word of the old ones or of the recovery key",
        ),
        Some(Verdict::Unproven) => (
            "unproven",
            "a member whose keys change, and NEITHER THE OLD ONES NOR THE RECOVERY KEY HAVE SAID SO: \
             sites that know the old ones refuse the new ones",
        ),
        Some(Verdict::Vetoed) => (
            "vetoed",
            "a member whose keys change, and THE OLD ONES SAY THAT THESE ARE NOT THEIRS",
        ),
        Some(Verdict::Revoked) => (
            "revoked",
            "a member whose keys are REVOKED, and the recovery key has not named these",
        ),
    }
}

impl Look {
    fn at(sent: &Submission, repository: &Repository) -> anyhow::Result<Self> {
        let checked = sent.check(now())?;
        let keys = checked.keys.as_ref();
        let keys = keys.context("it names no keys: it is no request to be a member")?;
        let known = repository.member(&checked.domain)?;
        let is_member = known.is_some_and(|(known, standing)| {
            known.id() == keys.id() && standing == Standing::Member
        });
        Ok(Self {
            fingerprint: continuity::fingerprint(keys),
            is_member,
            verdict: repository.verdict(sent)?,
            checked,
        })
    }

    fn value(&self) -> Value {
        let checked = &self.checked;
        let cas = checked.descriptor.as_ref().map(|one| {
            let all = one.bundle.authorities().iter();
            all.map(|ca| ca.fingerprint()).collect::<Vec<_>>()
        });
        let services = checked.descriptor.as_ref().map(|one| {
            let all = one.services.iter();
            all.map(|service| service.name().to_owned())
                .collect::<Vec<_>>()
        });
        json!({
            "trust_domain": checked.domain.to_string(),
            "fingerprint": self.fingerprint,
            "standing": told(self.verdict).0,
            "version": checked.version,
            "authorities": cas,
            "services": services,
        })
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{}: {}\nkeys      {}\n          {}",
            self.checked.domain,
            told(self.verdict).1,
            self.fingerprint,
            dns(&self.checked.domain, &self.fingerprint)
        );
        let Some(said) = &self.checked.descriptor else {
            return text;
        };
        for ca in said.bundle.authorities() {
            text.push_str(&format!("\nCA        {}", ca.fingerprint()));
        }
        for service in &said.services {
            let gateways: Vec<String> =
                service.gateways().iter().map(ToString::to_string).collect();
            text.push_str(&format!(
                "\nservice   {} at {} as {}",
                service.name(),
                gateways.join(", "),
                service.id()
            ));
        }
        for contact in &said.contacts {
            text.push_str(&format!("\ncontact   {contact}"));
        }
        text
    }

    /// Whether these are the digits that were told.
    fn is(&self, told: &str) -> bool {
        let digits = |text: &str| -> String {
            let digits = text.chars().filter(|one| !matches!(one, ':' | ' '));
            digits.collect::<String>().to_ascii_lowercase()
        };
        digits(told) == digits(&self.fingerprint)
    }
}

impl Admit {
    /// Does it.
    pub(super) fn go(&self) -> anyhow::Result<u8> {
        let sent = submission(&self.request)?;
        let keys = self.keys.read()?;
        let repository = repository(&self.folder);
        let look = Look::at(&sent, &repository)?;
        // What is asked about is seen before, whatever the form of the answer.
        if !self.json {
            output::line(look.text());
        } else if !self.yes && self.fingerprint.is_none() {
            output::complain(look.text());
        }
        let is_sure = match &self.fingerprint {
            Some(told) if look.is(told) => true,
            Some(told) => {
                anyhow::bail!(
                    "the fingerprint that was told is {told}, and this is another: nothing was done"
                );
            }
            None => self.yes || agreed()?,
        };
        if !is_sure {
            output::complain("nothing was done");
            return Ok(cli::FAILED);
        }
        // Not while somebody thinks: the host would wait.
        let _locked = repository.lock()?;
        let again = Look::at(&sent, &repository)?;
        if (again.verdict, again.is_member) != (look.verdict, look.is_member) {
            anyhow::bail!("the directory has changed meanwhile: nothing was done");
        }
        let mut states = Vec::new();
        if look.is_member {
            // Nothing for a registrar to sign; what it says may be new.
            let said = repository.said(&look.checked.domain)?;
            if look.checked.version > said.map_or(0, |said| said.version) {
                repository.accept(&sent, now())?;
            }
        } else {
            states.push(repository.admit(&sent, &signers(&keys), now())?);
        }
        if !self.mark.is_empty() {
            states.push(self.marked(&repository, &look, &signers(&keys))?);
        }
        self.told(&look, &states);
        Ok(cli::OK)
    }

    fn marked(
        &self,
        repository: &Repository,
        look: &Look,
        signers: &[&dyn sekisho_federation::directory::key::Signer],
    ) -> anyhow::Result<DraftState> {
        let domain = &look.checked.domain;
        let mut marks: BTreeSet<Mark> = repository.marks()?.of(domain);
        marks.extend(self.mark.iter().cloned());
        Ok(repository.set_marks(domain, marks, signers, now())?)
    }

    fn told(&self, look: &Look, states: &[DraftState]) {
        let done = states.iter().all(DraftState::is_complete);
        if self.json {
            let mut value = look.value();
            if let Some(members) = value.as_object_mut() {
                members.insert("admitted".into(), done.into());
                let roles: Vec<Value> = states.iter().map(draft::value).collect();
                members.insert("roles".into(), roles.into());
            }
            return output::json(&value);
        }
        if done {
            output::line("admitted: the host shows it with its next snapshot");
        } else {
            output::line(draft::lines(states));
            output::line("the next registrar does the same");
        }
    }
}
