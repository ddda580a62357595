//! Service `localauthority`: what is refused, and with which code.

use sekisho_spire_api::server::local_authority::{
    ActivateJwtAuthorityRequest, GetJwtAuthorityStateRequest, PrepareJwtAuthorityRequest,
    RevokeJwtAuthorityRequest, RevokeX509UpstreamAuthorityRequest, TaintJwtAuthorityRequest,
    TaintX509UpstreamAuthorityRequest, local_authority_client::LocalAuthorityClient,
};
use tonic::{Code, Status};

use crate::harness::World;

#[tokio::test]
async fn without_an_authority_above_there_is_nothing_to_taint_or_revoke_there() {
    let world = World::start().await;
    let mut client = LocalAuthorityClient::new(world.local().await);
    for id in ["", "00"] {
        let subject_key_id = id.to_owned();
        let taint = TaintX509UpstreamAuthorityRequest {
            subject_key_id: subject_key_id.clone(),
        };
        let refused = client.taint_x509_upstream_authority(taint).await;
        assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
        let revoke = RevokeX509UpstreamAuthorityRequest { subject_key_id };
        let refused = client.revoke_x509_upstream_authority(revoke).await;
        assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_jwt_key_is_told_when_it_is_revoked_out_of_its_slot() {
    let world = World::start().await;
    let mut client = LocalAuthorityClient::new(world.local().await);
    let state = client.get_jwt_authority_state(GetJwtAuthorityStateRequest {});
    let first = state.await.unwrap().into_inner().active.unwrap();
    let prepared = client.prepare_jwt_authority(PrepareJwtAuthorityRequest {});
    let second = prepared.await.unwrap().into_inner().prepared_authority;
    let authority_id = second.unwrap().authority_id;
    let activate = ActivateJwtAuthorityRequest { authority_id };
    client.activate_jwt_authority(activate).await.unwrap();
    let mut revoke = async |id: &str| {
        let authority_id = id.to_owned();
        let request = RevokeJwtAuthorityRequest { authority_id };
        let answer = client.revoke_jwt_authority(request).await?;
        Ok::<_, Status>(answer.into_inner().revoked_authority.unwrap())
    };
    let code = |outcome: Result<_, Status>| outcome.map(|_| ()).unwrap_err().code();
    assert_eq!(code(revoke("unknown").await), Code::InvalidArgument);
    assert_eq!(code(revoke(&first.authority_id).await), Code::Internal);
    let mut other = LocalAuthorityClient::new(world.local().await);
    let taint = TaintJwtAuthorityRequest {
        authority_id: first.authority_id.clone(),
    };
    other.taint_jwt_authority(taint).await.unwrap();
    // It loses its slot to the next one that is prepared.
    let prepared = other.prepare_jwt_authority(PrepareJwtAuthorityRequest {});
    let third = prepared.await.unwrap().into_inner().prepared_authority;
    let third = third.unwrap().authority_id;
    assert_eq!(revoke(&first.authority_id).await.unwrap(), first);
    assert_eq!(code(revoke(&third).await), Code::InvalidArgument);
    world.stop().await;
}
