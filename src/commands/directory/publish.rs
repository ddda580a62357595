//! `sekisho directory publish`: a member's word, again where it has changed or it is time.

use std::time::SystemTime;

use anyhow::{Context as _, bail};
use clap::Args;
use sekisho_certs::TrustDomain;
use sekisho_federation::directory::{
    descriptor::Descriptor,
    key::{FileKey, Signer as _},
    membership::Last,
    repository::{LIFE, Said, Standing, Submission},
    submit::Taken,
};
use serde_json::json;

use super::{
    Place, now,
    own::{Data, alone, next_version},
    place, repository,
    said::Says,
    tell, wait,
};
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

impl Place {
    /// What is there of us by this key; `None` where there is nothing by it.
    async fn said(&self, domain: &TrustDomain, key: &FileKey) -> anyhow::Result<Option<Said>> {
        let keys = alone(key.public());
        match self {
            Self::Url(url) => Ok(Self::hosting(url)?.said(domain, &keys, None).await?),
            Self::Folder(folder) => {
                let repository = repository(folder);
                let known = repository.member(domain)?;
                if known.is_none_or(|(known, _)| known.id() != keys.id()) {
                    return Ok(None);
                }
                let said = repository.said(domain)?;
                // Admitted, and the first word was lost.
                Ok(Some(said.unwrap_or(Said {
                    version: 0,
                    expires: SystemTime::UNIX_EPOCH,
                    descriptor: None,
                    sha256: None,
                })))
            }
        }
    }

    /// Its address, where it has one.
    pub(super) fn address(&self) -> anyhow::Result<Option<String>> {
        Ok(match self {
            Self::Url(url) => Some(Self::hosting(url)?.address().to_owned()),
            Self::Folder(_) => None,
        })
    }

    /// The version that is there of us; zero where there is none.
    pub(super) fn version(&self, domain: &TrustDomain, data: &Data) -> anyhow::Result<u64> {
        let said = match self {
            Self::Folder(folder) => repository(folder).said(domain)?,
            Self::Url(_) => wait(self.said(domain, &data.key()?))?,
        };
        Ok(said.map_or(0, |said| said.version))
    }

    /// Sends a word, and says whether it was taken.
    pub(super) async fn send(&self, sent: &Submission) -> anyhow::Result<Taken> {
        match self {
            Self::Url(url) => Ok(Self::hosting(url)?.send(sent).await?),
            Self::Folder(folder) => {
                let repository = repository(folder);
                let _locked = repository.lock()?;
                repository.accept(sent, now())?;
                Ok(Taken {
                    accepted: true,
                    reason: None,
                    problem: None,
                })
            }
        }
    }

    /// What is there of us, by our key or by the next one, which becomes ours then.
    pub(super) async fn found(
        &self,
        domain: &TrustDomain,
        data: &Data,
    ) -> anyhow::Result<(FileKey, Said)> {
        let key = data.key()?;
        if let Some(said) = self.said(domain, &key).await? {
            return Ok((key, said));
        }
        if let Some(next) = data.next()?
            && let Some(said) = self.said(domain, &next).await?
        {
            data.own().promote()?;
            output::complain("the next key is this member's now");
            return Ok((next, said));
        }
        if let Self::Folder(folder) = self
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
        bail!(
            "the directory has nothing of {domain} by this key: it is not admitted yet, or others have taken its place"
        )
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

/// Whether there is something to say, where this was the last word.
fn why(
    again: bool,
    descriptor: &Descriptor,
    there: &Said,
    last: &Last,
    own: Option<&Descriptor>,
    now: SystemTime,
) -> Option<Why> {
    // What is hosted may be a little behind what was sent.
    let known = if last.version > there.version {
        own
    } else {
        there.descriptor.as_ref()
    };
    let left = there.expires.duration_since(now).unwrap_or_default();
    if known != Some(descriptor) {
        Some(Why::Changed)
    } else if again {
        Some(Why::Asked)
    } else if left < LIFE * 2 / 3 {
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
        let (key, there) = self.place.found(&domain, &self.data).await?;
        let own = last.descriptor(&domain).ok();
        let before = if last.version >= there.version {
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
        let Some(why) = why(self.again, &descriptor, &there, &last, own.as_ref(), time) else {
            let value = json!({ "published": false, "version": there.version, "why": null });
            tell(
                self.json,
                &value,
                "nothing to do: it is as it was said last",
            );
            return Ok(cli::OK);
        };
        let version = next_version(last.version.max(there.version))?;
        let sent = Submission::new(&descriptor, version, &[&key], time)?;
        let taken = self.place.send(&sent).await?;
        if !taken.accepted {
            let reason = taken.reason.as_deref().unwrap_or("refused");
            let problem = taken.problem.as_deref().unwrap_or(reason);
            if self.json {
                let value = json!({ "published": false, "version": version, "reason": reason });
                output::json(&value);
            }
            bail!("the directory does not take it: {problem} ({reason})");
        }
        let to = self.place.address()?;
        let to = to.as_deref().map(|address| (address, time));
        let kept = self.data.own().keep(version.get(), &descriptor, to, false);
        kept.context("published, and that cannot be kept here")?;
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

    use sekisho_testkit::TestCa;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn there_is_something_to_say_when_it_is_news_or_time() {
        let bundle = |name: &str| Arc::new(TestCa::new(name).bundle(name));
        let (one, two) = (bundle("a.example"), bundle("a.example"));
        let (one, two) = (Descriptor::new(one), Descriptor::new(two));
        let then = SystemTime::UNIX_EPOCH + 365 * DAY;
        let there = |version: u64, descriptor: &Descriptor| Said {
            version,
            expires: then + LIFE,
            descriptor: Some(descriptor.clone()),
            sha256: None,
        };
        let folder = tempfile::tempdir().unwrap();
        let data = Data::at(folder.path());
        data.own().keep(3, &one, None, false).unwrap();
        let (_, last) = data.last_there().unwrap();
        let asked = |says: &Descriptor, there: &Said, days: u32| {
            why(false, says, there, &last, Some(&one), then + days * DAY)
        };
        let same = there(3, &one);
        assert_eq!(asked(&one, &same, 0), None);
        assert_eq!(asked(&one, &same, 10), None);
        assert_eq!(asked(&one, &same, 11), Some(Why::Time));
        assert_eq!(asked(&one, &same, 40), Some(Why::Time), "it has ended");
        assert_eq!(asked(&two, &same, 0), Some(Why::Changed));
        // Sent, and not hosted yet.
        assert_eq!(asked(&one, &there(2, &two), 0), None);
        // Somebody else has published by our key: on another machine of ours.
        assert_eq!(asked(&one, &there(4, &two), 0), Some(Why::Changed));
        let again = why(true, &one, &same, &last, Some(&one), then);
        assert_eq!(again, Some(Why::Asked));
    }
}
