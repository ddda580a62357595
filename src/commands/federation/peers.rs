//! What an authority of ours tells beside SPIRE's API, and what is asked of a SPIRE server in its place.

use sekisho_spire_api::{
    federation_admin::{
        ListPeersRequest, Origin, Peer, RemovePeerRequest,
        federation_admin_client::FederationAdminClient,
    },
    server::{
        bundle::{
            BatchDeleteFederatedBundleRequest, batch_delete_federated_bundle_request::Mode,
            bundle_client::BundleClient,
        },
        trust_domain::{
            BatchDeleteFederationRelationshipRequest, trust_domain_client::TrustDomainClient,
        },
    },
};
use tonic::{Code, transport::Channel};

use super::{
    MISSING,
    show::{Fares, Row},
};
use crate::{api::Answered as _, cli, commands::outcome};

/// All relationships; `None` at a SPIRE server, which has no such call.
pub(super) async fn all(channel: Channel) -> anyhow::Result<Option<Vec<Row>>> {
    let answer = FederationAdminClient::new(channel)
        .list_peers(ListPeersRequest {})
        .await;
    match answer {
        Err(status) if status.code() == Code::Unimplemented => Ok(None),
        answer => {
            let peers = answer.answered("ListPeers")?.peers.into_iter();
            Ok(Some(peers.map(row).collect()))
        }
    }
}

fn row(peer: Peer) -> Row {
    let origin = match peer.origin() {
        Origin::File => "file",
        Origin::Api | Origin::Unspecified => "api",
    };
    let spiffe = !peer.endpoint_spiffe_id.is_empty();
    Row {
        trust_domain: peer.trust_domain,
        url: peer.bundle_endpoint_url,
        profile: if spiffe { "https_spiffe" } else { "https_web" },
        endpoint_id: spiffe.then_some(peer.endpoint_spiffe_id),
        sequence: peer.sequence,
        fares: Some(Fares {
            origin,
            confirmed_at: peer.confirmed_at,
            tried_at: peer.tried_at,
            error: (!peer.error.is_empty()).then_some(peer.error),
            accepts_rollback: peer.accepts_rollback,
            authorities: peer.x509_authorities,
            jwt_authorities: peer.jwt_authorities,
            refresh_hint: peer.refresh_hint,
        }),
    }
}

/// Ends a relationship and has its bundle forgotten.
pub(super) async fn remove(channel: Channel, trust_domain: String) -> anyhow::Result<()> {
    let request = RemovePeerRequest {
        trust_domain: trust_domain.clone(),
    };
    let answer = FederationAdminClient::new(channel.clone())
        .remove_peer(request)
        .await;
    match answer {
        Err(status) if status.code() == Code::Unimplemented => {}
        answer => return answer.found("RemovePeer", MISSING).map(drop),
    }
    let request = BatchDeleteFederationRelationshipRequest {
        trust_domains: vec![trust_domain.clone()],
    };
    let ended = TrustDomainClient::new(channel.clone())
        .batch_delete_federation_relationship(request)
        .await
        .answered("BatchDeleteFederationRelationship")?;
    let status = |status| [(trust_domain.clone(), status)];
    let first = ended.results.first();
    let ended = outcome(1, &status(first.and_then(|one| one.status.as_ref())))?;
    anyhow::ensure!(ended == cli::OK, "the relationship is not ended");
    let request = BatchDeleteFederatedBundleRequest {
        trust_domains: vec![trust_domain.clone()],
        mode: Mode::Dissociate.into(),
    };
    let deleted = BundleClient::new(channel)
        .batch_delete_federated_bundle(request)
        .await
        .answered("BatchDeleteFederatedBundle")?;
    let first = deleted.results.first();
    let deleted = outcome(1, &status(first.and_then(|one| one.status.as_ref())))?;
    anyhow::ensure!(
        deleted == cli::OK,
        "the relationship is ended, and the bundle is still there"
    );
    Ok(())
}
