//! `sekisho directory member`: members, and what registrars do with them.

use std::{collections::BTreeSet, path::PathBuf};

use clap::{Args, Subcommand};
use sekisho_certs::{TrustDomain, members::Mark};
use sekisho_federation::directory::{
    continuity,
    key::{PublicKey, Signer},
    repository::{DraftState, Repository, RepositoryError},
};
use serde_json::{Value, json};

use super::{
    Keys,
    admit::{Admit, mark, submission},
    date, draft, now, repository,
    request::Request,
    signers, tell,
};
use crate::{cli, commands::value, output};

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Make this site's keys, and ask to be a member
    #[command(
        after_help = "The member key stays in --data and signs each new word of this site; the recovery \
        key is to be moved away. The bundle is read from a file, as `sekisho bundle export` or \
        `spire-server bundle show -format spiffe` prints it, from the site's bundle endpoint, or from its \
        authority.\n\nExamples:\n  \
        sekisho directory member request --id tokyo.example --data member --socket /run/sekisho/authority/api.sock --service mdx=gate.tokyo.example:9443\n  \
        sekisho directory member request --id tokyo.example --data member --bundle tokyo.json --services services.yaml"
    )]
    Request(Request),
    /// Admit a member, or take its new keys: as one of the registrars
    #[command(
        after_help = "Shows what is asked, and asks back, unless --fingerprint has the digits that the \
        member has told by another way (telephone, or the DNS: dig +short TXT _sekisho.NAME). Each registrar \
        does the same; with the last that is needed it is published.\n\nExamples:\n  \
        sekisho directory member admit request.json fed/ --key r1.key --mark hpci --fingerprint 3f:9a:…\n  \
        sekisho directory member admit request.json fed/ --key r2.key --mark hpci --yes --json"
    )]
    Admit(Admit),
    /// Take what a member has sent into the folder: a new word, or a revocation
    #[command(
        after_help = "For what comes by mail or in a repository of files; it proves itself. The host shows it \
        with its next snapshot. Also for a request whose bin was published by `root publish`.\n\nExample:\n  \
        sekisho directory member accept tokyo.json fed/"
    )]
    Accept(Accept),
    /// Take a member out for a while; its name stays its own
    #[command(
        after_help = "By one registrar; the next one does the same.\n\nExample:\n  \
        sekisho directory member suspend tokyo.example fed/ --key r1.key"
    )]
    Suspend(Change),
    /// Take back a suspension
    #[command(
        after_help = "Example:\n  sekisho directory member resume tokyo.example fed/ --key r1.key"
    )]
    Resume(Change),
    /// Expel a member: nobody takes its word any more, and its marks go with it
    #[command(
        after_help = "By one registrar; the next one does the same.\n\nExample:\n  \
        sekisho directory member expel tokyo.example fed/ --key r1.key"
    )]
    Expel(Change),
    /// Give a member exactly these marks
    #[command(
        after_help = "By one registrar; the next one does the same. Without --mark it has none \
        afterwards.\n\nExamples:\n  \
        sekisho directory member mark tokyo.example fed/ --mark hpci --mark eu --key r1.key\n  \
        sekisho directory member mark tokyo.example fed/ --key r1.key"
    )]
    Mark(Give),
    /// The members of a directory
    #[command(after_help = "Example:\n  sekisho directory member list fed/ --json")]
    List(List),
    /// One member: its keys, and what it has said last
    #[command(after_help = "Example:\n  sekisho directory member show tokyo.example fed/")]
    Show(One),
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The member
    #[arg(value_name = "TRUST DOMAIN", value_parser = value::trust_domain)]
    id: TrustDomain,
    /// The folder of the directory
    folder: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    keys: Keys,
}

#[derive(Debug, Args)]
pub(crate) struct Give {
    #[command(flatten)]
    change: Change,
    /// A mark; may be given several times
    #[arg(long, value_name = "MARK", value_parser = mark)]
    mark: Vec<Mark>,
}

#[derive(Debug, Args)]
pub(crate) struct Accept {
    /// What a member has sent
    file: PathBuf,
    /// The folder of the directory
    folder: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The folder of the directory
    folder: PathBuf,
    /// Those that have this mark
    #[arg(long, value_name = "MARK", value_parser = mark)]
    mark: Option<Mark>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Does it.
pub(super) fn member(command: &MemberCommand) -> anyhow::Result<u8> {
    match command {
        MemberCommand::Request(args) => args.go(),
        MemberCommand::Admit(args) => args.go(),
        MemberCommand::Accept(args) => args.go(),
        MemberCommand::Suspend(args) => args.go("suspended", |repository, id, signers| {
            Ok(vec![repository.suspend(id, signers, now())?])
        }),
        MemberCommand::Resume(args) => args.go("resumed", |repository, id, signers| {
            Ok(vec![repository.resume(id, signers, now())?])
        }),
        MemberCommand::Expel(args) => args.go("expelled", |repository, id, signers| {
            let mut states = vec![repository.expel(id, signers, now())?];
            // Its marks go by the same hands.
            states.extend(
                repository
                    .drafts()?
                    .into_iter()
                    .filter(|one| one.role == "marks"),
            );
            Ok(states)
        }),
        MemberCommand::Mark(args) => args.change.go("marked", |repository, id, signers| {
            let marks: BTreeSet<Mark> = args.mark.iter().cloned().collect();
            Ok(vec![repository.set_marks(id, marks, signers, now())?])
        }),
        MemberCommand::List(args) => args.go(),
        MemberCommand::Show(args) => args.go(),
    }
}

impl Change {
    fn go(
        &self,
        done: &str,
        change: impl FnOnce(
            &Repository,
            &TrustDomain,
            &[&dyn Signer],
        ) -> Result<Vec<DraftState>, RepositoryError>,
    ) -> anyhow::Result<u8> {
        let keys = self.keys.read()?;
        let repository = repository(&self.one.folder);
        let _locked = repository.lock()?;
        let states = change(&repository, &self.one.id, &signers(&keys))?;
        let is_done = states.iter().all(DraftState::is_complete);
        let id = &self.one.id;
        let roles: Vec<Value> = states.iter().map(draft::value).collect();
        let value = json!({
            "trust_domain": id.to_string(),
            "done": is_done.then_some(done),
            "roles": roles,
        });
        let text = if is_done {
            format!("{done} {id}: the host shows it with its next snapshot")
        } else {
            format!(
                "{}\nthe next registrar does the same",
                draft::lines(&states)
            )
        };
        tell(self.one.json, &value, text);
        Ok(cli::OK)
    }
}

impl Accept {
    fn go(&self) -> anyhow::Result<u8> {
        let sent = submission(&self.file)?;
        let repository = repository(&self.folder);
        let _locked = repository.lock()?;
        let is_new = repository.accept(&sent, now())?;
        let text = if is_new {
            "accepted: the host shows it with its next snapshot"
        } else {
            "it is there already"
        };
        tell(self.json, &json!({ "accepted": true, "new": is_new }), text);
        Ok(cli::OK)
    }
}

impl List {
    fn go(&self) -> anyhow::Result<u8> {
        let repository = repository(&self.folder);
        let marks = repository.marks()?;
        let members = repository.members()?.into_iter();
        let members: Vec<_> = members
            .map(|(domain, standing)| {
                let marks: Vec<String> =
                    marks.of(&domain).iter().map(ToString::to_string).collect();
                (domain, standing, marks)
            })
            .filter(|(_, _, marks)| {
                let wanted = self.mark.as_ref().map(ToString::to_string);
                wanted.is_none_or(|wanted| marks.contains(&wanted))
            })
            .collect();
        if self.json {
            let rows = members.iter().map(|(domain, standing, marks)| {
                json!({ "trust_domain": domain.to_string(), "standing": standing, "marks": marks })
            });
            output::json(&Value::Array(rows.collect()));
            return Ok(cli::OK);
        }
        let mut rows = vec![
            ["trust domain", "standing", "marks"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows.extend(members.into_iter().map(|(domain, standing, marks)| {
            vec![domain.to_string(), standing.to_string(), marks.join(" ")]
        }));
        output::line(output::table(&rows).trim_end());
        Ok(cli::OK)
    }
}

impl One {
    fn go(&self) -> anyhow::Result<u8> {
        let repository = repository(&self.folder);
        let Some((keys, standing)) = repository.member(&self.id)? else {
            anyhow::bail!("{} is not a member", self.id);
        };
        let said = repository.said(&self.id)?;
        let marks: Vec<String> = repository
            .marks()?
            .of(&self.id)
            .iter()
            .map(ToString::to_string)
            .collect();
        let expires = said.as_ref().map_or(0, |said| {
            let since = said.expires.duration_since(std::time::UNIX_EPOCH);
            since.map_or(0, |since| since.as_secs())
        });
        let descriptor = said.as_ref().and_then(|said| said.descriptor.as_ref());
        let text = descriptor.map(|one| serde_json::from_slice::<Value>(&one.to_json()));
        let text = text.transpose()?;
        if self.json {
            let ids: Vec<String> = keys.keys().iter().map(PublicKey::id).collect();
            output::json(&json!({
                "trust_domain": self.id.to_string(),
                "standing": standing,
                "fingerprint": continuity::fingerprint(&keys),
                "keys": ids,
                "threshold": keys.threshold().get(),
                "marks": marks,
                "version": said.as_ref().map(|said| said.version),
                "expires": expires,
                "descriptor": text,
            }));
            return Ok(cli::OK);
        }
        output::line(format_args!(
            "{} {standing}\nkeys      {}\nmarks     {}",
            self.id,
            continuity::fingerprint(&keys),
            marks.join(" ")
        ));
        let Some(said) = &said else {
            output::line("has said nothing yet");
            return Ok(cli::OK);
        };
        output::line(format_args!(
            "version   {}, until {}",
            said.version,
            date(expires)
        ));
        let Some(one) = descriptor else {
            output::line("has revoked its keys");
            return Ok(cli::OK);
        };
        let sequence = one.bundle.sequence();
        output::line(format_args!("sequence  {}", sequence.unwrap_or_default()));
        for ca in one.bundle.authorities() {
            output::line(format_args!("CA        {}", ca.fingerprint()));
        }
        for service in &one.services {
            let gateways: Vec<String> =
                service.gateways().iter().map(ToString::to_string).collect();
            let at = gateways.join(", ");
            output::line(format_args!(
                "service   {} at {at} as {}",
                service.name(),
                service.id()
            ));
        }
        for contact in &one.contacts {
            output::line(format_args!("contact   {contact}"));
        }
        Ok(cli::OK)
    }
}
