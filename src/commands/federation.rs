//! `sekisho federation`: from where the bundles of other sites are fetched.

mod directories;
mod peers;
mod said;
mod show;

use clap::{Args, Subcommand};
use sekisho_certs::TrustDomain;
use sekisho_spire_api::{
    federation_admin::{
        AcceptRekeyRequest, AcceptRollbackRequest, EndAlarmsRequest,
        federation_admin_client::FederationAdminClient,
    },
    server::trust_domain::{
        BatchCreateFederationRelationshipRequest, BatchDeleteFederationRelationshipRequest,
        BatchUpdateFederationRelationshipRequest, GetFederationRelationshipRequest,
        ListFederationRelationshipsRequest, RefreshBundleRequest,
        trust_domain_client::TrustDomainClient,
    },
    types::FederationRelationship,
};
use tonic::transport::Channel;

use super::{Asked, done, done_to, outcome, run_at, value};
use crate::{api::Answered as _, bundle::refused, cli, output};
use said::{Create, Problem, Update};
use show::Row;

/// Relationships in one call.
const PAGE: i32 = 100;
/// Of a relationship that is not there.
const MISSING: &str = ": sekisho federation list shows those there are";

#[derive(Debug, Subcommand)]
pub(crate) enum FederationCommand {
    /// Have the bundle of another site fetched from its endpoint
    #[command(
        alias = "create",
        after_help = "By https_spiffe the first bundle is needed to know the endpoint: --bundle, or \
        sekisho bundle set before.\n\nExamples:\n  \
        sekisho federation add osaka.example --url https://bundle.osaka.example/ --profile https_web\n  \
        sekisho federation add osaka.example --url https://10.0.0.1:8443 --profile https_spiffe \
        --endpoint-id spiffe://osaka.example/spire/server --bundle osaka.json"
    )]
    Add(Create),
    /// Change from where or how; what no option names stays as it is
    #[command(
        after_help = "Example:\n  sekisho federation update osaka.example --url https://new.osaka.example/"
    )]
    Update(Update),
    /// End it: nobody of that site is trusted any more, and its connections are closed
    #[command(
        after_help = "The bundle goes too; entries stay, without it. What the configuration file names \
        is ended there.\n\nExample:\n  sekisho federation remove osaka.example"
    )]
    Remove(One),
    /// Fetch no more; the bundle stays
    #[command(after_help = "Example:\n  sekisho federation delete --id osaka.example")]
    Delete(Several),
    /// All that are fetched, and how they fare
    #[command(after_help = "Example:\n  sekisho federation list --json")]
    List(Asked),
    /// One of those that are fetched, and how it fares
    #[command(after_help = "Example:\n  sekisho federation show osaka.example")]
    Show(One),
    /// Fetch the bundle now
    #[command(after_help = "Example:\n  sekisho federation refresh osaka.example")]
    Refresh(One),
    /// Take a bundle that is older than the stored one, once: its site was restored from a backup
    #[command(
        after_help = "Ask that site first: an old bundle may bring back a key that was revoked.\n\n\
        Example:\n  sekisho federation accept-rollback osaka.example"
    )]
    AcceptRollback(One),
    /// The directories that are followed, and the members of them that are known
    #[command(
        after_help = "Exit code 1 where a host has two faces, or a directory could not be followed.\n\n\
        Examples:\n  sekisho federation directory\n  sekisho federation directory --refresh --json"
    )]
    Directory(Directory),
    /// Take the keys that a directory says are a member's, though neither its old keys nor its recovery
    /// key say so
    #[command(
        after_help = "Ask its operator first, by other means, for the beginning of the keys' name.\n\n\
        Example:\n  sekisho federation accept-rekey osaka.example 3f:09:…"
    )]
    AcceptRekey(AcceptRekey),
    /// End the alarm of a directory whose host has two faces
    #[command(
        after_help = "The two statements stay in the authority's data, as evidence for the institutions \
        that keep the directory.\n\nExample:\n  sekisho federation end-alarm"
    )]
    EndAlarm(Asked),
}

/// Options of `directory`.
#[derive(Debug, Args)]
pub(crate) struct Directory {
    #[command(flatten)]
    asked: Asked,
    /// Follow them first
    #[arg(long)]
    refresh: bool,
}

/// Options of `accept-rekey`.
#[derive(Debug, Args)]
pub(crate) struct AcceptRekey {
    #[command(flatten)]
    asked: Asked,
    /// Whose keys
    #[arg(value_name = "TRUST DOMAIN", value_parser = value::trust_domain)]
    name: TrustDomain,
    /// The beginning of the keys' name, as its operator has told it
    #[arg(value_name = "FINGERPRINT")]
    fingerprint: String,
}

/// A trust domain, as the only word or as an option.
#[derive(Debug, Args)]
pub(crate) struct Whose {
    /// Whose bundle
    #[arg(value_name = "TRUST DOMAIN", value_parser = value::trust_domain, required_unless_present = "id")]
    name: Option<TrustDomain>,
    /// The same
    #[arg(long, visible_alias = "trust-domain", value_name = "TRUST DOMAIN", value_parser = value::trust_domain, conflicts_with = "name")]
    id: Option<TrustDomain>,
}

impl Whose {
    /// Its name. One of the two is there: the command line was refused without.
    pub(crate) fn domain(&self) -> String {
        let name = self.name.as_ref().or(self.id.as_ref());
        name.map(ToString::to_string).unwrap_or_default()
    }
}

#[derive(Debug, Args)]
pub(crate) struct One {
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    whose: Whose,
}

#[derive(Debug, Args)]
pub(crate) struct Several {
    #[command(flatten)]
    asked: Asked,
    /// Whose bundle; may be given several times
    #[arg(long, visible_alias = "trust-domain", value_name = "TRUST DOMAIN", required = true, value_parser = value::trust_domain)]
    id: Vec<TrustDomain>,
}

/// Does it.
pub(crate) fn federation(command: &FederationCommand) -> u8 {
    match command {
        FederationCommand::Add(said) => match said.relationship() {
            Ok(new) => run_at(&said.asked.at, async |channel| {
                create(channel, new, said.asked.json).await
            }),
            Err(problem) => wrong(&problem),
        },
        FederationCommand::Update(said) => match said.problem() {
            None => run_at(&said.asked.at, async |channel| update(channel, said).await),
            Some(problem) => wrong(&problem),
        },
        FederationCommand::Remove(one) => run_at(&one.asked.at, async |channel| {
            peers::remove(channel, one.whose.domain()).await?;
            done_to(one.asked.json, "removed", one.whose.domain())
        }),
        FederationCommand::Delete(several) => run_at(&several.asked.at, async |channel| {
            let request = BatchDeleteFederationRelationshipRequest {
                trust_domains: several.id.iter().map(ToString::to_string).collect(),
            };
            let answer = TrustDomainClient::new(channel)
                .batch_delete_federation_relationship(request)
                .await
                .answered("BatchDeleteFederationRelationship")?;
            let results = answer.results.iter();
            let answers: Vec<_> = results
                .map(|one| (one.trust_domain.clone(), one.status.as_ref()))
                .collect();
            done(several.asked.json, "deleted", several.id.len(), &answers)
        }),
        FederationCommand::List(asked) => run_at(&asked.at, async |channel| {
            let found = match peers::all(channel.clone()).await? {
                Some(peers) => peers,
                None => all(channel).await?.into_iter().map(Row::from).collect(),
            };
            show::show(asked.json, &found);
            Ok(cli::OK)
        }),
        FederationCommand::Show(one) => run_at(&one.asked.at, async |channel| {
            let domain = one.whose.domain();
            let found = find(&mut TrustDomainClient::new(channel.clone()), &domain).await?;
            let mut known = peers::all(channel).await?.unwrap_or_default().into_iter();
            let known = known.find(|row| row.trust_domain == domain);
            show::show(one.asked.json, &[known.unwrap_or_else(|| found.into())]);
            Ok(cli::OK)
        }),
        FederationCommand::Refresh(one) => run_at(&one.asked.at, async |channel| {
            let request = RefreshBundleRequest {
                trust_domain: one.whose.domain(),
            };
            let answer = TrustDomainClient::new(channel)
                .refresh_bundle(request)
                .await;
            answer.found("RefreshBundle", MISSING)?;
            done_to(one.asked.json, "refreshed", one.whose.domain())
        }),
        FederationCommand::AcceptRollback(one) => run_at(&one.asked.at, async |channel| {
            let request = AcceptRollbackRequest {
                trust_domain: one.whose.domain(),
            };
            let answer = FederationAdminClient::new(channel)
                .accept_rollback(request)
                .await;
            answer.found("AcceptRollback", MISSING)?;
            done_to(one.asked.json, "accepted", one.whose.domain())
        }),
        FederationCommand::Directory(said) => run_at(&said.asked.at, async |channel| {
            directories::show(channel, said.refresh, said.asked.json).await
        }),
        FederationCommand::AcceptRekey(said) => run_at(&said.asked.at, async |channel| {
            let request = AcceptRekeyRequest {
                trust_domain: said.name.to_string(),
                fingerprint: said.fingerprint.clone(),
            };
            let answer = FederationAdminClient::new(channel)
                .accept_rekey(request)
                .await;
            answer.found("AcceptRekey", "")?;
            done_to(said.asked.json, "accepted", said.name.to_string())
        }),
        FederationCommand::EndAlarm(asked) => run_at(&asked.at, async |channel| {
            let answer = FederationAdminClient::new(channel)
                .end_alarms(EndAlarmsRequest {})
                .await;
            answer.answered("EndAlarms")?;
            done_to(asked.json, "ended", "alarm".into())
        }),
    }
}

fn wrong(problem: &Problem) -> u8 {
    if let Problem::Bundle(error) = problem {
        return refused(error);
    }
    output::complain(problem);
    cli::INVALID
}

async fn create(channel: Channel, new: FederationRelationship, json: bool) -> anyhow::Result<u8> {
    let name = new.trust_domain.clone();
    let request = BatchCreateFederationRelationshipRequest {
        federation_relationships: vec![new],
        output_mask: None,
    };
    let answer = TrustDomainClient::new(channel)
        .batch_create_federation_relationship(request)
        .await
        .answered("BatchCreateFederationRelationship")?;
    let results = answer.results.iter();
    let answers: Vec<_> = results
        .map(|one| (name.clone(), one.status.as_ref()))
        .collect();
    let code = outcome(1, &answers)?;
    if code == cli::OK {
        let made = answer.results.into_iter();
        let made = made.filter_map(|one| one.federation_relationship);
        show::show(json, &made.map(Row::from).collect::<Vec<_>>());
    }
    Ok(code)
}

async fn update(channel: Channel, said: &Update) -> anyhow::Result<u8> {
    let mut client = TrustDomainClient::new(channel);
    // Fields outside of the mask are validated too (spire-api.md §9).
    let now = find(&mut client, &said.whose.domain()).await?;
    let (new, mask) = said.change(now)?;
    let request = BatchUpdateFederationRelationshipRequest {
        federation_relationships: vec![new],
        input_mask: Some(mask),
        output_mask: None,
    };
    let answer = client
        .batch_update_federation_relationship(request)
        .await
        .answered("BatchUpdateFederationRelationship")?;
    let results = answer.results.iter();
    let answers: Vec<_> = results
        .map(|one| (said.whose.domain(), one.status.as_ref()))
        .collect();
    let code = outcome(1, &answers)?;
    if code == cli::OK {
        let now = answer.results.into_iter();
        let now = now.filter_map(|one| one.federation_relationship);
        let rows: Vec<_> = now.map(Row::from).collect();
        show::show(said.asked.json, &rows);
    }
    Ok(code)
}

async fn find(
    client: &mut TrustDomainClient<Channel>,
    domain: &str,
) -> anyhow::Result<FederationRelationship> {
    let request = GetFederationRelationshipRequest {
        trust_domain: domain.into(),
        output_mask: None,
    };
    let answer = client.get_federation_relationship(request).await;
    answer.found("GetFederationRelationship", MISSING)
}

async fn all(channel: Channel) -> anyhow::Result<Vec<FederationRelationship>> {
    let mut client = TrustDomainClient::new(channel);
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListFederationRelationshipsRequest {
            output_mask: None,
            page_size: PAGE,
            page_token,
        };
        let page = client
            .list_federation_relationships(request)
            .await
            .answered("ListFederationRelationships")?;
        found.extend(page.federation_relationships);
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        page_token = page.next_page_token;
    }
}
