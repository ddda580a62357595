//! `sekisho directory member request`.

use std::path::PathBuf;

use clap::Args;
use sekisho_certs::TrustDomain;
use sekisho_federation::directory::{continuity, key::Signer as _, repository::Submission};
use serde_json::json;

use super::{
    Place, now,
    own::{Data, alone, next_version},
    place,
    said::Says,
    tell, wait, write_file, wrong,
};
use crate::{cli, commands::value};

/// Options of `member request`.
#[derive(Debug, Args)]
pub(crate) struct Request {
    /// The trust domain that asks; needed the first time
    #[arg(long, visible_alias = "trust-domain", value_name = "TRUST DOMAIN", value_parser = value::trust_domain)]
    id: Option<TrustDomain>,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    says: Says,
    /// Where the request is written
    #[arg(long, value_name = "FILE", default_value = "request.json")]
    out: PathBuf,
    /// The directory, of one that was a member before: its folder or URL
    #[arg(long, value_name = "FOLDER or URL", value_parser = place)]
    at: Option<Place>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The line by which a name's owner says in the DNS which keys are its own.
pub(super) fn dns(domain: &TrustDomain, fingerprint: &str) -> String {
    format!("_sekisho.{domain}. IN TXT \"{fingerprint}\"")
}

impl Request {
    /// Does it.
    pub(super) fn go(&self) -> anyhow::Result<u8> {
        let last = self.data.last()?;
        let (domain, last) = match (&self.id, last) {
            (Some(id), Some((known, _))) if *id != known => {
                return Err(wrong(format_args!(
                    "{}: the keys there are those of {known}",
                    self.data.folder().display()
                )));
            }
            (_, Some((domain, last))) => (domain, Some(last)),
            (Some(id), None) => (id.clone(), None),
            (None, None) => return Err(wrong("say who asks with --id TRUST-DOMAIN")),
        };
        let before = last.as_ref().map(|last| last.descriptor(&domain));
        let says = self.says.descriptor(&domain, before.transpose()?);
        let mut descriptor = wait(says)?;
        let is_new = self.data.begin()?;
        let _locked = self.data.lock()?;
        descriptor.recovery = Some(self.data.recovery_id()?);
        let key = self.data.key()?;
        self.data.not_revoked(&domain, &key)?;
        let keys = alone(key.public());
        let fingerprint = continuity::fingerprint(&keys);
        let there = match &self.at {
            Some(place) => place.version(&domain, &self.data)?,
            None => 0,
        };
        let published = last.map_or(0, |last| last.version);
        let version = next_version(published.max(there))?;
        let sent = Submission::new(&descriptor, version, &[&key], now())?.with_keys(keys);
        write_file(&self.out, &sent.to_json()?)?;
        self.data.own().keep(published, &descriptor, None)?;
        let dns = dns(&domain, &fingerprint);
        let recovery = self.data.recovery_file();
        let value = json!({
            "trust_domain": domain.to_string(),
            "file": self.out,
            "fingerprint": fingerprint,
            "dns": dns,
            "recovery_key": recovery,
        });
        let mut text = format!(
            "{} asks for {domain}, with the keys\n{fingerprint}\n\
             Send it to the registrars, and tell them these digits by another way: telephone, or in the DNS\n{dns}",
            self.out.display()
        );
        if let Some(file) = recovery {
            let new = if is_new { "new" } else { "still here" };
            text.push_str(&format!(
                "\nThe recovery key is {new}: move {} to a safe place away from this machine. It gets the \
                 name back when all else is lost or stolen.",
                file.display()
            ));
        }
        tell(self.json, &value, text);
        Ok(cli::OK)
    }
}
