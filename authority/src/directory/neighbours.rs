//! Asking other sites what they have heard of the directories' hosts, at their bundle endpoints: a host
//! that shows different things to different sites is found out by whoever compares.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::rand;
use sekisho_federation::{
    client::{EndpointUrl, FetchError, Profile},
    directory::{
        following::Handle,
        gossip::{self, Gossip},
    },
};

use crate::{
    core::Core,
    store::{EndpointProfile, Relationship, StoreError},
};

/// Between two questions to a neighbour.
const PAUSE: Duration = Duration::from_secs(600);

/// Asks one site after another, for as long as it is let.
pub(crate) async fn listen(core: Arc<Core>, handle: Handle) {
    loop {
        tokio::time::sleep(PAUSE).await;
        match neighbours(&core, &handle).await {
            Ok(all) => {
                let Some(one) = chosen(&all) else { continue };
                if let Err(error) = ask(&core, &handle, one).await {
                    tracing::debug!(domain = %one.domain, %error, "no gossip");
                }
            }
            Err(error) => tracing::error!(%error, "neighbours not read"),
        }
    }
}

/// Whom may be asked: pairwise peers, and members that name an endpoint in the directory.
pub(super) async fn neighbours(
    core: &Core,
    handle: &Handle,
) -> Result<Vec<Relationship>, StoreError> {
    let mut all = core.store.relationships(0, usize::MAX).await?.items;
    for told in handle.endpoints().iter() {
        all.push(Relationship {
            origin: crate::store::Origin::Api,
            domain: told.domain.clone(),
            url: told.url.clone(),
            profile: match &told.id {
                Some(id) => EndpointProfile::Spiffe(id.clone()),
                None => EndpointProfile::Web,
            },
        });
    }
    Ok(all)
}

fn chosen(all: &[Relationship]) -> Option<&Relationship> {
    let mut bytes = [0; 4];
    rand::fill(&mut bytes).ok()?;
    let number = usize::try_from(u32::from_le_bytes(bytes)).ok()?;
    all.get(number.checked_rem(all.len())?)
}

/// Asks one, and takes what it says.
pub(super) async fn ask(
    core: &Core,
    handle: &Handle,
    one: &Relationship,
) -> Result<(), FetchError> {
    let profile = match &one.profile {
        EndpointProfile::Web => Profile::Web,
        EndpointProfile::Spiffe(id) => {
            let bundle = core.endpoint_bundle(id.trust_domain().clone()).await;
            let bundle = bundle.map_err(|error| FetchError::Roots(error.to_string()))?;
            Profile::Spiffe {
                id: id.clone(),
                bundle: Arc::new(bundle),
            }
        }
    };
    let Some(gossip) = told(core, one, &profile, gossip::PATH).await? else {
        return Ok(());
    };
    let doubts = handle.gossip().doubts(&gossip);
    handle.hear(gossip).await;
    for snapshot in doubts {
        tracing::warn!(domain = %one.domain, snapshot, "it has heard another thing of a host: asked for what that one has signed");
        if let Some(proof) = told(core, one, &profile, &gossip::path_of(snapshot)).await? {
            handle.hear(proof).await;
        }
    }
    Ok(())
}

async fn told(
    core: &Core,
    one: &Relationship,
    profile: &Profile,
    path: &str,
) -> Result<Option<Gossip>, FetchError> {
    let url: EndpointUrl = one.url.with_path(path)?;
    let told = core.federation.client().document(&url, profile).await?;
    let read = Gossip::read(&told);
    let read = read.inspect_err(
        |problem| tracing::debug!(domain = %one.domain, problem, "what it tells is no gossip"),
    );
    Ok(read.ok())
}
