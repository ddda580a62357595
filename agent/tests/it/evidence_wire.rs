//! Evidence by hand, message by message: what an agent of ours would not send.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use sekisho_spire_api::{
    evidence::{Asked, Binding, Kind, Offer, Piece, Shown, TYPE, VERSION, token_key, token_lookup},
    server::agent::{
        AgentX509svidParams, AttestAgentRequest,
        agent_client::AgentClient,
        attest_agent_request::{Params, Step},
        attest_agent_response::Step as Answer,
    },
    types,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::{
    evidence::{BOTH, Host, Nodes, policy, site},
    harness::{Site, anonymous},
};

/// An attestation by hand.
pub(crate) struct Talk {
    requests: mpsc::Sender<AttestAgentRequest>,
    answers: Streaming<sekisho_spire_api::server::agent::AttestAgentResponse>,
    key: KeyPair,
    nonce: [u8; 32],
}

impl Talk {
    pub(crate) async fn open(site: &Site, payload: Vec<u8>) -> Result<Self, Status> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let params = Params {
            data: Some(types::AttestationData {
                r#type: TYPE.into(),
                payload,
            }),
            params: Some(AgentX509svidParams {
                csr: csr.der().to_vec(),
            }),
        };
        let (requests, stream) = mpsc::channel(1);
        let step = Some(Step::Params(params));
        requests.send(AttestAgentRequest { step }).await.unwrap();
        let mut client = AgentClient::new(anonymous(site).await);
        let answers = client.attest_agent(ReceiverStream::new(stream)).await?;
        let mut talk = Self {
            requests,
            answers: answers.into_inner(),
            key,
            nonce: [0; 32],
        };
        let Some(Answer::Challenge(challenge)) = talk.answers.message().await?.unwrap().step else {
            panic!("no challenge");
        };
        talk.nonce = serde_json::from_slice::<Asked>(&challenge).unwrap().nonce;
        Ok(talk)
    }

    pub(crate) async fn begin(site: &Site, kinds: &[Kind]) -> Self {
        let offer = Offer {
            version: VERSION,
            kinds: kinds.to_vec(),
        };
        let payload = serde_json::to_vec(&offer).unwrap();
        Self::open(site, payload).await.unwrap()
    }

    fn binding(&self) -> Binding {
        let public = self.key.subject_public_key_info();
        Binding::new(&self.nonce, &public, "hokkaido.example")
    }

    pub(crate) fn token(&self, value: &str) -> Piece {
        Piece::JoinToken {
            lookup: token_lookup(value),
            proof: self.binding().token_proof(&token_key(value)),
        }
    }

    pub(crate) fn certificate(&self, host: &Host) -> Piece {
        use rcgen::SigningKey as _;
        Piece::X509Pop {
            certificates: vec![host.der.to_vec()],
            signature: host.key.sign(&self.binding().message()).unwrap(),
        }
    }

    pub(crate) async fn answer(&mut self, response: Vec<u8>) -> Result<(), Status> {
        let step = Some(Step::ChallengeResponse(response));
        self.requests
            .send(AttestAgentRequest { step })
            .await
            .unwrap();
        match self.answers.message().await?.unwrap().step {
            Some(Answer::Result(_)) => Ok(()),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn show(&mut self, evidence: Vec<Piece>) -> Result<(), Status> {
        self.answer(serde_json::to_vec(&Shown { evidence }).unwrap())
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_of_another_conversation_or_key_is_refused() {
    const KINDS: [Kind; 2] = [Kind::JoinToken, Kind::X509Pop];
    let nodes = Nodes::new();
    let (_, fingerprint, host) = nodes.host("node7");
    let folder = nodes.folder.path().join("policy");
    let source = policy(&folder, BOTH, &[("node7", &fingerprint)]);
    let site = site(&nodes, source).await;
    let value = site.token().await;
    let mut first = Talk::begin(&site, &KINDS).await;
    let recorded = [first.token(&value), first.certificate(&host)];
    // The certificate's signature was made for another nonce; the token has not been looked at.
    let mut other = Talk::begin(&site, &KINDS).await;
    let pieces = vec![other.token(&value), recorded[1].clone()];
    let status = other.show(pieces).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert!(status.message().contains("not over this conversation"));
    // So it still is good, in the conversation that it was made for.
    first.show(recorded.to_vec()).await.unwrap();
    // A proof for another nonce uses the token up, as every attempt does.
    let value = site.token().await;
    let before = Talk::begin(&site, &KINDS).await;
    let mut other = Talk::begin(&site, &KINDS).await;
    let pieces = vec![before.token(&value), other.certificate(&host)];
    let status = other.show(pieces).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert!(status.message().contains("not for this conversation"));
    let mut late = Talk::begin(&site, &KINDS).await;
    let pieces = vec![late.token(&value), late.certificate(&host)];
    let status = late.show(pieces).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    // Another key than that of the signing request.
    let mut talk = Talk::begin(&site, &KINDS).await;
    talk.key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let pieces = vec![talk.token(&site.token().await), talk.certificate(&host)];
    let status = talk.show(pieces).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_or_too_much_is_refused_before_anything_is_used_up() {
    let nodes = Nodes::new();
    let (_, fingerprint, host) = nodes.host("node7");
    let folder = nodes.folder.path().join("policy");
    let source = policy(&folder, BOTH, &[("node7", &fingerprint)]);
    let site = site(&nodes, source).await;
    for payload in [
        r#"{"version":2,"kinds":["join_token"]}"#,
        r#"{"version":1,"kinds":[]}"#,
        r#"{"version":1,"kinds":["tpm"]}"#,
        // Known, and not taken by this authority.
        r#"{"version":1,"kinds":["k8s_psat"]}"#,
        &format!(
            r#"{{"version":1,"kinds":["x509pop"{}]}}"#,
            r#","x509pop""#.repeat(8)
        ),
        "nonsense",
    ] {
        let status = Talk::open(&site, payload.as_bytes().to_vec()).await;
        let status = status.err().unwrap();
        assert_eq!(
            status.code(),
            Code::InvalidArgument,
            "{payload}: {status:?}"
        );
    }
    let value = site.token().await;
    let kinds = [Kind::X509Pop, Kind::JoinToken];
    for response in [
        b"nonsense".to_vec(),
        vec![b' '; 256 * 1024 + 1],
        serde_json::to_vec(&Shown { evidence: vec![] }).unwrap(),
    ] {
        let mut talk = Talk::begin(&site, &kinds).await;
        let status = talk.answer(response).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    // In another order than offered, or the same twice in place of two.
    let mut talk = Talk::begin(&site, &kinds).await;
    let pieces = vec![talk.token(&value), talk.certificate(&host)];
    let status = talk.show(pieces).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let mut talk = Talk::begin(&site, &[Kind::JoinToken, Kind::JoinToken]).await;
    let pieces = vec![talk.token(&value), talk.token(&value)];
    let status = talk.show(pieces).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    // A token that was not looked at is as good as before.
    let value = site.token().await;
    let mut talk = Talk::begin(&site, &kinds).await;
    let pieces = vec![talk.token(&value), talk.certificate(&host)];
    talk.show(pieces).await.unwrap_err();
    let mut talk = Talk::begin(&site, &kinds).await;
    let pieces = vec![talk.certificate(&host), talk.token(&value)];
    talk.show(pieces).await.unwrap();
}
