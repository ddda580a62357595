//! `sekisho federation`: from where the authority fetches the bundles of other sites.

mod said;

use clap::{Args, Subcommand};
use sekisho_certs::TrustDomain;
use sekisho_spire_api::{
    server::trust_domain::{
        BatchCreateFederationRelationshipRequest, BatchDeleteFederationRelationshipRequest,
        BatchUpdateFederationRelationshipRequest, GetFederationRelationshipRequest,
        ListFederationRelationshipsRequest, RefreshBundleRequest,
        trust_domain_client::TrustDomainClient,
    },
    types::{FederationRelationship, federation_relationship::BundleEndpointProfile},
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::{Asked, done, done_to, outcome, run_at, value};
use crate::{api::Answered as _, bundle::refused, cli, output};
use said::{Create, Problem, Update};

/// Relationships in one call.
const PAGE: i32 = 100;
/// Of a relationship that is not there.
const MISSING: &str = ": sekisho federation list shows those there are";

#[derive(Debug, Subcommand)]
pub(crate) enum FederationCommand {
    /// Have the bundle of another site fetched from its endpoint
    #[command(
        after_help = "By https_spiffe the first bundle is needed to know the endpoint: --bundle, or \
        sekisho bundle set before.\n\nExamples:\n  \
        sekisho federation create --id osaka.example --url https://bundle.osaka.example/ --profile https_web\n  \
        sekisho federation create --id osaka.example --url https://10.0.0.1:8443 --profile https_spiffe \
        --endpoint-id spiffe://osaka.example/authority --bundle osaka.json"
    )]
    Create(Create),
    /// Change from where or how; what no option names stays as it is
    #[command(
        after_help = "Example:\n  sekisho federation update --id osaka.example --url https://new.osaka.example/"
    )]
    Update(Update),
    /// Fetch no more; the bundle stays
    #[command(after_help = "Example:\n  sekisho federation delete --id osaka.example")]
    Delete(Several),
    /// All that are fetched
    #[command(after_help = "Example:\n  sekisho federation list --json")]
    List(Asked),
    /// One of those that are fetched
    #[command(after_help = "Example:\n  sekisho federation show --id osaka.example")]
    Show(One),
    /// Fetch the bundle now
    #[command(after_help = "Example:\n  sekisho federation refresh --id osaka.example")]
    Refresh(One),
}

#[derive(Debug, Args)]
pub(crate) struct One {
    #[command(flatten)]
    asked: Asked,
    /// Whose bundle
    #[arg(long, visible_alias = "trust-domain", value_name = "TRUST DOMAIN", value_parser = value::trust_domain)]
    id: TrustDomain,
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
        FederationCommand::Create(said) => match said.relationship() {
            Ok(new) => run_at(&said.asked.at, async |channel| {
                create(channel, new, said.asked.json).await
            }),
            Err(problem) => wrong(&problem),
        },
        FederationCommand::Update(said) => match said.problem() {
            None => run_at(&said.asked.at, async |channel| update(channel, said).await),
            Some(problem) => wrong(&problem),
        },
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
            show(asked.json, &all(channel).await?);
            Ok(cli::OK)
        }),
        FederationCommand::Show(one) => run_at(&one.asked.at, async |channel| {
            let found = find(&mut TrustDomainClient::new(channel), &one.id).await?;
            show(one.asked.json, &[found]);
            Ok(cli::OK)
        }),
        FederationCommand::Refresh(one) => run_at(&one.asked.at, async |channel| {
            let request = RefreshBundleRequest {
                trust_domain: one.id.to_string(),
            };
            let answer = TrustDomainClient::new(channel)
                .refresh_bundle(request)
                .await;
            answer.found("RefreshBundle", MISSING)?;
            done_to(one.asked.json, "refreshed", one.id.to_string())
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
        show(json, &made.collect::<Vec<_>>());
    }
    Ok(code)
}

async fn update(channel: Channel, said: &Update) -> anyhow::Result<u8> {
    let mut client = TrustDomainClient::new(channel);
    // Fields outside of the mask are validated too (spire-api.md §9).
    let now = find(&mut client, &said.id).await?;
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
        .map(|one| (said.id.to_string(), one.status.as_ref()))
        .collect();
    let code = outcome(1, &answers)?;
    if code == cli::OK {
        let now = answer.results.into_iter();
        let now = now.filter_map(|one| one.federation_relationship);
        show(said.asked.json, &now.collect::<Vec<_>>());
    }
    Ok(code)
}

async fn find(
    client: &mut TrustDomainClient<Channel>,
    id: &TrustDomain,
) -> anyhow::Result<FederationRelationship> {
    let request = GetFederationRelationshipRequest {
        trust_domain: id.to_string(),
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

fn show(as_json: bool, all: &[FederationRelationship]) {
    let profile = |one: &FederationRelationship| match &one.bundle_endpoint_profile {
        Some(BundleEndpointProfile::HttpsWeb(_)) => ("https_web", None),
        Some(BundleEndpointProfile::HttpsSpiffe(profile)) => {
            ("https_spiffe", Some(profile.endpoint_spiffe_id.clone()))
        }
        None => ("-", None),
    };
    if as_json {
        let rows = all.iter().map(|one| {
            let (name, endpoint) = profile(one);
            let bundle = one.trust_domain_bundle.as_ref();
            json!({
                "trust_domain": one.trust_domain,
                "url": one.bundle_endpoint_url,
                "profile": name,
                "endpoint_id": endpoint,
                "bundle_sequence": bundle.map(|bundle| bundle.sequence_number),
            })
        });
        return output::json(&Value::Array(rows.collect()));
    }
    let head = ["trust domain", "url", "profile", "endpoint id", "bundle"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(all.iter().map(|one| {
        let (name, endpoint) = profile(one);
        let bundle = one.trust_domain_bundle.as_ref();
        vec![
            one.trust_domain.clone(),
            one.bundle_endpoint_url.clone(),
            name.to_owned(),
            endpoint.unwrap_or_else(|| "-".into()),
            bundle.map_or_else(|| "none yet".into(), |it| it.sequence_number.to_string()),
        ]
    }));
    output::line(output::table(&rows).trim_end());
}
