//! `sekisho directory publish`: a member's word, again where it has changed or it is time.

use std::time::SystemTime;

use anyhow::bail;
use clap::Args;
use sekisho_certs::TrustDomain;
use sekisho_federation::directory::{
    descriptor::Descriptor,
    membership::{Desk, Found, MembershipError, PATIENCE},
    repository::{LIFE, Repository, Standing},
    submit::Hosting,
};
use serde_json::json;

use super::{Place, now, own::Data, place, repository, said::Says, tell, wait};
use crate::{cli, output};

/// Options of `publish`.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The directory: its folder, or the URL of a `directory serve`
    #[arg(value_name = "FOLDER or URL", value_parser = place)]
    place: Place,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    says: Says,
    /// Sign again, even if nothing has changed and it is not time
    #[arg(long)]
    again: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A place that is spoken to, for as long as that takes.
pub(super) enum Spoken {
    Folder(Repository),
    Url(Box<Hosting>),
}

impl Spoken {
    pub(super) fn desk(&self) -> Desk<'_> {
        match self {
            Self::Folder(repository) => Desk::Folder(repository),
            Self::Url(hosting) => Desk::Asked(hosting),
        }
    }
}

impl Place {
    /// Opens it, to speak there.
    pub(super) fn open(&self) -> anyhow::Result<Spoken> {
        Ok(match self {
            Self::Url(url) => Spoken::Url(Box::new(Self::hosting(url)?)),
            Self::Folder(folder) => Spoken::Folder(repository(folder)),
        })
    }

    /// The version that is there of us, or was said there last; zero where there is none.
    pub(super) fn version(&self, domain: &TrustDomain, data: &Data) -> anyhow::Result<u64> {
        if let Self::Folder(folder) = self {
            let said = repository(folder).said(domain)?;
            return Ok(said.map_or(0, |said| said.version));
        }
        let spoken = self.open()?;
        let (membership, desk) = (data.membership(), spoken.desk());
        match wait(async { Ok(membership.found(domain, &desk, now()).await) })? {
            Ok(found) => {
                let said = found.on_its_way().map(|word| word.version);
                Ok(said.unwrap_or(found.there.version))
            }
            Err(MembershipError::NotAdmitted(_) | MembershipError::Revoked(_)) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// What is there of us.
    pub(super) async fn found(
        &self,
        domain: &TrustDomain,
        data: &Data,
        desk: &Desk<'_>,
    ) -> anyhow::Result<Found> {
        let had = data.next()?.is_some();
        let found = data.membership().found(domain, desk, now()).await;
        if had && found.is_ok() && data.next()?.is_none() {
            output::complain("the next key is this member's now");
        }
        if let (Self::Folder(folder), Err(MembershipError::NotAdmitted(_))) = (self, &found)
            && let Some((keys, standing)) = repository(folder).member(domain)?
        {
            if standing == Standing::Suspended {
                bail!("{domain} is suspended");
            }
            bail!(
                "the directory has other keys for {domain}: {}. If they are not yours, say so: sekisho directory veto",
                sekisho_federation::directory::continuity::fingerprint(&keys)
            );
        }
        Ok(found?)
    }
}

/// Why there is something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Asked,
    Changed,
    Time,
}

impl Why {
    const fn word(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Changed => "changed",
            Self::Time => "time",
        }
    }
}

/// Whether there is something to say, where that was found.
fn why(again: bool, descriptor: &Descriptor, found: &Found, now: SystemTime) -> Option<Why> {
    // What is hosted may be a little behind what was sent.
    let is_said = match found.on_its_way() {
        Some(word) if now < word.at() + PATIENCE => word.is(descriptor),
        _ => found.there.descriptor.as_ref() == Some(descriptor),
    };
    let left = found.there.expires.duration_since(now).unwrap_or_default();
    if !is_said {
        Some(Why::Changed)
    } else if again {
        Some(Why::Asked)
    } else if left < LIFE * 2 / 3 || found.has_gone_back() {
        Some(Why::Time)
    } else {
        None
    }
}

impl Publish {
    /// Does it.
    pub(super) fn go(&self) -> anyhow::Result<u8> {
        wait(self.publish())
    }

    async fn publish(&self) -> anyhow::Result<u8> {
        self.data.last_there()?;
        let _locked = self.data.lock()?;
        let (domain, last) = self.data.last_there()?;
        let spoken = self.place.open()?;
        let desk = spoken.desk();
        let found = self.place.found(&domain, &self.data, &desk).await?;
        let there = &found.there;
        let own = last.descriptor(&domain).ok();
        // Somebody may have published by our key on another machine. Each directory counts for itself.
        let said = match &found.word {
            Some(word) => word.version,
            None => last.version,
        };
        let before = if said >= there.version {
            own.clone()
        } else {
            there.descriptor.clone().or_else(|| own.clone())
        };
        let mut descriptor = self.says.descriptor(&domain, before).await?;
        descriptor.recovery = Some(self.data.recovery_id()?);
        let sequence = |one: &Descriptor| one.bundle.sequence().unwrap_or_default();
        let known = [
            there.descriptor.as_ref(),
            own.as_ref().filter(|_| last.version > 0),
        ];
        let known = known.into_iter().flatten().map(sequence).max();
        if let Some(known) = known
            && sequence(&descriptor) < known
        {
            bail!(
                "the bundle has spiffe_sequence {}, and {known} was published: others would take it for an old one",
                sequence(&descriptor)
            );
        }
        let time = now();
        let Some(why) = why(self.again, &descriptor, &found, time) else {
            let value = json!({ "published": false, "version": there.version, "why": null });
            tell(
                self.json,
                &value,
                "nothing to do: it is as it was said last",
            );
            return Ok(cli::OK);
        };
        let membership = self.data.membership();
        let version = match membership.say(&descriptor, &found, &desk, time).await {
            Ok(version) => version,
            Err(error) => {
                if let (true, MembershipError::Refused { reason, .. }) = (self.json, &error) {
                    output::json(&json!({ "published": false, "reason": reason }));
                }
                return Err(error.into());
            }
        };
        if membership.next_waits(&found)? {
            output::complain(
                "a request for new keys waits: if registrars have not taken it, make it again (sekisho directory rotate)",
            );
        }
        let value = json!({ "published": true, "version": version, "why": why.word() });
        let text = match why {
            Why::Asked => "signed again",
            Why::Changed => "published",
            Why::Time => "signed again: it was time",
        };
        tell(self.json, &value, format_args!("{text}, version {version}"));
        Ok(cli::OK)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use sekisho_federation::directory::{
        key::{FileKey, Signer as _},
        membership::Word,
        repository::Said,
    };
    use sekisho_testkit::TestCa;

    use super::*;
    use crate::commands::directory::own::alone;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn there_is_something_to_say_when_it_is_news_or_time() {
        let bundle = |name: &str| Arc::new(TestCa::new(name).bundle(name));
        let (one, two) = (bundle("a.example"), bundle("a.example"));
        let (one, two) = (Descriptor::new(one), Descriptor::new(two));
        let then = SystemTime::UNIX_EPOCH + 365 * DAY;
        let key = || FileKey::generate().unwrap();
        let found = |version: u64, descriptor: &Descriptor, said: Option<u64>| Found {
            key: key(),
            there: Said {
                version,
                expires: then + LIFE,
                descriptor: Some(descriptor.clone()),
                sha256: None,
            },
            word: said.map(|said| Word::new(&one, said, said, &alone(key().public()), then)),
        };
        let asked = |says: &Descriptor, found: &Found, days: u32| {
            why(false, says, found, then + days * DAY)
        };
        let same = found(3, &one, None);
        assert_eq!(asked(&one, &same, 0), None);
        assert_eq!(asked(&one, &same, 10), None);
        assert_eq!(asked(&one, &same, 11), Some(Why::Time));
        assert_eq!(asked(&one, &same, 40), Some(Why::Time), "it has ended");
        assert_eq!(asked(&two, &same, 0), Some(Why::Changed));
        // Sent, and not hosted yet; and not hosted for too long.
        let sent = found(2, &two, Some(3));
        assert_eq!(asked(&one, &sent, 0), None);
        assert_eq!(asked(&two, &sent, 0), Some(Why::Changed));
        assert_eq!(asked(&one, &sent, 1), Some(Why::Changed));
        // Somebody else has published by our key: on another machine of ours.
        let other = found(4, &two, Some(3));
        assert_eq!(asked(&one, &other, 0), Some(Why::Changed));
        assert_eq!(why(true, &one, &same, then), Some(Why::Asked));
    }
}
