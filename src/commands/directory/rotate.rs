//! `sekisho directory rotate`, `self-revoke` and `veto`: what a member says of its own keys.

use std::{num::NonZeroU64, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use sekisho_certs::TrustDomain;
use sekisho_federation::directory::{
    continuity::{self, SignedStatement, Statement, What},
    key::{FileKey, Signer},
    membership::statements,
    repository::Submission,
};
use serde_json::json;

use super::{
    Place, now,
    own::{Data, alone, next_version},
    place, repository,
    request::dns,
    tell, wait, write_file,
};
use crate::{cli, commands::apply::agreed, output};

/// Options of `rotate`.
#[derive(Debug, Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    data: Data,
    /// The recovery key, which signs in place of the old one
    #[arg(long, value_name = "FILE")]
    recovery_key: Option<PathBuf>,
    /// Where the request is written
    #[arg(long, value_name = "FILE", default_value = "rotate.json")]
    out: PathBuf,
    /// The directory, to take the version from what is there: its folder or URL
    #[arg(long, value_name = "FOLDER or URL", value_parser = place)]
    at: Option<Place>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Rotate {
    /// Does it.
    pub(super) fn go(&self) -> anyhow::Result<u8> {
        self.data.last_there()?;
        let _locked = self.data.lock()?;
        let (domain, last) = self.data.last_there()?;
        let descriptor = last.descriptor(&domain)?;
        // Each directory counts for itself. The request was the first version, and was published when it was
        // admitted.
        let said = match &self.at {
            Some(place) => place.version(&domain, &self.data)?,
            None => last.version,
        };
        let version = next_version(said.max(1))?;
        let from = self.data.known()?;
        let next = self.data.next_or_new()?;
        let to = alone(next.public());
        let sent = Submission::new(&descriptor, version, &[&next], now())?;
        let sent = match &self.recovery_key {
            None => {
                let old = self.data.key()?;
                if let Err(revoked) = self.data.not_revoked(&domain, &old) {
                    output::complain(format_args!("{revoked}"));
                }
                sent.with_rekey(&from, to.clone(), None, &[&old])?
            }
            Some(file) => {
                let recovery = FileKey::read(file)?;
                let public = recovery.public();
                if descriptor.recovery.as_ref() != Some(&public.id()) {
                    bail!(
                        "{}: this is not the recovery key that {domain} has named",
                        file.display()
                    );
                }
                sent.with_rekey(&from, to.clone(), Some(public), &[&recovery])?
            }
        };
        write_file(&self.out, &sent.to_json()?)?;
        let fingerprint = continuity::fingerprint(&to);
        let dns = dns(&domain, &fingerprint);
        let value = json!({
            "trust_domain": domain.to_string(),
            "file": self.out,
            "fingerprint": fingerprint,
            "dns": dns,
            "version": version,
        });
        let text = format!(
            "{} asks for new keys of {domain}\n{fingerprint}\n{dns}\n\
             The registrars admit it as they did the first. Say nothing new until then: this is version \
             {version}, and would have to be made again. The first `publish` after that, or the site's authority, takes the new key.",
            self.out.display()
        );
        tell(self.json, &value, text);
        Ok(cli::OK)
    }
}

/// Options of `self-revoke`.
#[derive(Debug, Args)]
pub(crate) struct SelfRevoke {
    /// The directory: its folder, or the URL of a `directory serve`
    #[arg(value_name = "FOLDER or URL", value_parser = place)]
    place: Place,
    #[command(flatten)]
    data: Data,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl SelfRevoke {
    /// Does it.
    pub(super) fn go(&self) -> anyhow::Result<u8> {
        wait(self.revoke())
    }

    async fn revoke(&self) -> anyhow::Result<u8> {
        self.data.last_there()?;
        let _locked = self.data.lock()?;
        let (domain, last) = self.data.last_there()?;
        let key = self.data.current()?;
        if !self.yes {
            output::complain(format_args!(
                "Nobody will trust {domain} any more until its recovery key has named other keys."
            ));
            if !agreed()? {
                output::complain("nothing was done");
                return Ok(cli::FAILED);
            }
        }
        // First, and without anybody's help: what a directory does not take, or does not show, other sites hear
        // from this one.
        let spoken = self.place.open()?;
        let desk = spoken.desk();
        let descriptor = last.descriptor(&domain)?;
        self.keep(&domain, &key, last.version)?;
        let membership = self.data.membership();
        let found = membership.found_to_revoke(&domain, &desk, now()).await;
        let sent = match found {
            Ok(found) => {
                if found.key.public() != key.public() {
                    self.keep(&domain, &found.key, last.version)?;
                }
                membership.revoke(&descriptor, &found, &desk, now()).await
            }
            Err(error) => Err(error),
        };
        let back = "get the name back with `sekisho directory rotate --recovery-key FILE`";
        let version = sent.with_context(|| {
            format!("revoked here, and an authority of this folder tells other sites so; the directory has not taken it: do this again, and {back}")
        })?;
        let value =
            json!({ "trust_domain": domain.to_string(), "revoked": true, "version": version });
        tell(self.json, &value, format_args!("revoked: {back}"));
        Ok(cli::OK)
    }

    /// Keeps the word of a key that it is not to be trusted.
    fn keep(&self, domain: &TrustDomain, key: &FileKey, said: u64) -> anyhow::Result<()> {
        let version = next_version(said)?;
        let sent = Submission::revocation(domain, &alone(key.public()), version, &[key])?;
        if let Some(statement) = sent.statement() {
            statements::keep(self.data.folder(), statement)?;
        }
        Ok(())
    }
}

/// Options of `veto`.
#[derive(Debug, Args)]
pub(crate) struct Veto {
    /// The folder of the directory, which has the keys that are not ours
    folder: PathBuf,
    #[command(flatten)]
    data: Data,
    /// Write the statement to this file too, for those who cannot get it from the folder
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Veto {
    /// Does it.
    pub(super) fn go(&self) -> anyhow::Result<u8> {
        let (domain, last) = self.data.last_there()?;
        let _own = self.data.lock()?;
        let key = self.data.key()?;
        let own = alone(key.public());
        let repository = repository(&self.folder);
        let _locked = repository.lock()?;
        let Some((there, _)) = repository.member(&domain)? else {
            bail!("{domain} is not a member: there are no keys to speak against");
        };
        let next = self.data.next()?.map(|next| alone(next.public()).id());
        if there.id() == own.id() || Some(there.id()) == next {
            bail!("the keys that the directory has for {domain} are its own");
        }
        let statement = Statement {
            member: domain.to_string(),
            from: own.id(),
            what: What::Veto {
                against: there.id(),
            },
        };
        let version = NonZeroU64::new(last.version).unwrap_or(NonZeroU64::MIN);
        let signers: [&dyn Signer; 1] = [&key];
        let signed = SignedStatement::new(&statement, version, &signers)?;
        if let Some(out) = &self.out {
            write_file(out, &serde_json::to_vec_pretty(&signed)?)?;
        }
        statements::keep(self.data.folder(), &signed)?;
        repository.take_statement(&domain, signed, &own)?;
        let against = continuity::fingerprint(&there);
        let value =
            json!({ "trust_domain": domain.to_string(), "against": against, "file": self.out });
        let text =
            format!("{domain} says that {against} is not its own: continuity/{domain}.json has it");
        tell(self.json, &value, text);
        Ok(cli::OK)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use sekisho_federation::directory::{
        descriptor::Descriptor,
        membership::{MEMBER, MembershipError, NEXT},
    };
    use sekisho_testkit::TestCa;

    use super::*;
    use crate::commands::directory::key::make;

    #[test]
    fn a_stolen_key_is_revoked_without_the_hosts_help() {
        let folder = tempfile::tempdir().unwrap();
        let data = || Data::at(folder.path());
        data().begin().unwrap();
        let bundle = Arc::new(TestCa::new("a.example").bundle("a.example"));
        let descriptor = Descriptor::new(bundle);
        data().own().keep(1, &descriptor, None).unwrap();
        let own = alone(data().key().unwrap().public()).id();
        // Nobody listens there.
        let asked = SelfRevoke {
            place: Place::Url("http://127.0.0.1:1".into()),
            data: data(),
            yes: true,
            json: false,
        };
        let error = format!("{:#}", asked.go().unwrap_err());
        assert!(error.starts_with("revoked here"), "{error}");
        let revoked = statements::revoked(folder.path()).unwrap();
        assert_eq!(revoked, [own].into());
        // From now on nothing is said by it, and nobody has to be asked for that.
        let spoken = asked.place.open().unwrap();
        let (domain, _) = data().last_there().unwrap();
        let (membership, desk) = (data().membership(), spoken.desk());
        let found = wait(async { Ok(membership.found(&domain, &desk, now()).await) });
        let error = found.unwrap().unwrap_err();
        assert!(matches!(error, MembershipError::Revoked(_)), "{error}");
        // By the recovery key it goes on.
        let rotate = Rotate {
            data: data(),
            recovery_key: Some(folder.path().join("recovery.key")),
            out: folder.path().join("rotate.json"),
            at: None,
            json: false,
        };
        let mut named = descriptor;
        named.recovery = Some(data().recovery_id().unwrap());
        data().own().keep(1, &named, None).unwrap();
        rotate.go().unwrap();
    }

    #[test]
    fn with_the_key_lost_the_next_one_is_the_members() {
        let folder = tempfile::tempdir().unwrap();
        let data = Data::at(folder.path());
        data.begin().unwrap();
        let next = make(&folder.path().join(NEXT)).unwrap().0;
        assert_ne!(data.current().unwrap().public(), next.public());
        fs::remove_file(folder.path().join(MEMBER)).unwrap();
        assert_eq!(data.current().unwrap().public(), next.public());
    }
}
