//! What the supervisor asks of the authority that it has started.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use sekisho_certs::TrustDomain;
use sekisho_spire_api::{
    server::{
        agent::{CreateJoinTokenRequest, agent_client::AgentClient},
        bundle::{GetBundleRequest, bundle_client::BundleClient},
    },
    types,
};
use tokio::time::sleep;
use tonic::transport::Channel;
use zeroize::Zeroizing;

use crate::{
    api::{self, Answered as _},
    apply,
    config::{Config, entries},
    output,
};

/// How long an authority may take to answer: it may have to make keys and check its database.
pub(super) const AUTHORITY: Duration = Duration::from_secs(60);
/// How long endpoints wait for their agent to listen: they would ask again, but later.
pub(super) const AGENT: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(20);
/// How long the agent has to use its token, in seconds.
const TOKEN: i32 = 120;

/// Waits until somebody listens at `socket`.
pub(super) async fn reach(socket: &Path, patience: Duration) -> anyhow::Result<()> {
    let answers = async {
        while api::connect(socket).await.is_err() {
            sleep(TICK).await;
        }
    };
    let answered = tokio::time::timeout(patience, answers).await;
    answered.with_context(|| format!("{} does not answer", socket.display()))
}

async fn channel(config: &Config) -> anyhow::Result<Option<Channel>> {
    match &config.authority {
        Some(authority) => Ok(Some(api::connect(&authority.socket).await?)),
        None => Ok(None),
    }
}

/// Applies the file of entries, where there is one.
pub(super) async fn apply(config: &Config) -> anyhow::Result<()> {
    let file = config
        .authority
        .as_ref()
        .and_then(|own| own.entries.as_ref());
    let (Some(channel), Some(file)) = (channel(config).await?, file) else {
        return Ok(());
    };
    let wanted = match entries::load(file, &config.site) {
        Ok(wanted) => wanted,
        Err(errors) => bail!("{}", errors.render(output::colour_err())),
    };
    let plan = apply::plan(channel.clone(), wanted).await?;
    if !plan.is_empty() {
        apply::apply(channel, &plan).await?;
        tracing::info!(
            created = plan.create.len(),
            changed = plan.update.len(),
            deleted = plan.delete.len(),
            "entries applied"
        );
    }
    Ok(())
}

/// The site's bundle, PEM, by which an agent knows the authority at first.
pub(super) async fn bundle(authority: &Path) -> anyhow::Result<String> {
    let bundle = BundleClient::new(api::connect(authority).await?)
        .get_bundle(GetBundleRequest::default())
        .await
        .answered("GetBundle")?;
    let authorities = bundle.x509_authorities.iter();
    Ok(authorities
        .map(|ca| api::pem("CERTIFICATE", &ca.asn1))
        .collect())
}

/// A token for the agent, by which it is also the node [`entries::LOCAL_NODE`].
pub(super) async fn token(
    authority: &Path,
    site: &TrustDomain,
) -> anyhow::Result<Zeroizing<String>> {
    let request = CreateJoinTokenRequest {
        ttl: TOKEN,
        token: String::new(),
        agent_id: Some(types::Spiffeid {
            trust_domain: site.to_string(),
            path: entries::LOCAL_NODE.into(),
        }),
    };
    let token = AgentClient::new(api::connect(authority).await?)
        .create_join_token(request)
        .await
        .answered("CreateJoinToken")?;
    Ok(Zeroizing::new(token.value))
}
