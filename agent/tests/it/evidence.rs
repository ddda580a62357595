//! Several pieces of evidence, weighed by a policy: our agent, our authority, and the wire between them.

use std::{fs, path::Path, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls_pki_types::CertificateDer;
use sekisho_agent::{
    attest::{Evidence, NodeAttestor, Token},
    run::AgentError,
};
use sekisho_authority::attest::{
    Attestors,
    evidence::{Judge, Setting, Source},
    x509pop::Mode,
};
use sekisho_spire_api::{
    evidence::{Kind, TYPE},
    server::agent::{CreateJoinTokenRequest, ListAgentsRequest, agent_client::AgentClient},
};
use sekisho_testkit::wait_until;
use tonic::{Code, Status};

use crate::{
    evidence_wire::Talk,
    harness::{HOUR, Site, entry, spiffe_id},
};

/// Both kinds are wanted, and the certificate says which host it is.
pub(crate) const BOTH: &str = r#"
package sekisho.attest

default decision := {"allow": false, "reason": "a token and a certificate are wanted"}

token if { some piece in input.evidence; piece.type == "join_token"; piece.bound }

host := name if {
	some piece in input.evidence
	piece.type == "x509pop"
	piece.ok
	name := piece.common_name
	data.inventory[name].sha256 == piece.sha256
}

decision := {
	"allow": true,
	"path": sprintf("/node/%s", [host]),
	"selectors": [sprintf("host:%s", [host]), "assurance:high"],
	"ttl_s": 1200,
} if token
"#;

/// A CA of nodes' certificates, and the files of one node.
pub(crate) struct Nodes {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Nodes {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = params.self_signed(&key).unwrap().der().clone();
        Self {
            folder: tempfile::tempdir().unwrap(),
            ca,
            issuer: Issuer::new(params, key),
        }
    }

    /// The certificate and key of a host, as files; its fingerprint.
    pub(crate) fn host(&self, name: &str) -> (Evidence, String, Host) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let path = |kind: &str| self.folder.path().join(format!("{name}.{kind}"));
        let text = pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec()));
        fs::write(path("pem"), text).unwrap();
        fs::write(path("key"), key.serialize_pem()).unwrap();
        let shown = Evidence::X509Pop {
            cert: path("pem"),
            key: path("key"),
        };
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
        let fingerprint = sekisho_certs::hex(digest.as_ref());
        (shown, fingerprint, Host { der, key })
    }

    fn attestors(&self, source: Source) -> Attestors {
        Attestors {
            join_token: false,
            evidence: Some(Setting {
                join_token: true,
                x509pop: Some(Mode::external(vec![self.ca.clone()]).unwrap()),
                k8s_psat: None,
                judge: Judge::load(source).unwrap(),
            }),
            ..Attestors::default()
        }
    }
}

pub(crate) struct Host {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key: KeyPair,
}

pub(crate) fn policy(folder: &Path, text: &str, inventory: &[(&str, &str)]) -> Source {
    let inventory: serde_json::Map<_, _> = inventory
        .iter()
        .map(|(host, sha256)| ((*host).into(), serde_json::json!({ "sha256": sha256 })))
        .collect();
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("attest.rego"), text).unwrap();
    let data = serde_json::json!({ "inventory": inventory });
    fs::write(folder.join("data.json"), data.to_string()).unwrap();
    Source::Folder(folder.into())
}

pub(crate) async fn site(nodes: &Nodes, source: Source) -> Site {
    let attestors = nodes.attestors(source);
    Site::with(
        move |settings| {
            settings.attestors = attestors;
            // Tests do not wait.
            settings.attestations = 1000;
        },
        24 * HOUR,
    )
    .await
}

pub(crate) fn token(value: &str) -> Evidence {
    Evidence::JoinToken(Token::Value(value.to_owned().into()))
}

/// The refusal that an agent ends with that has nothing else to serve.
async fn refused(site: &Site, evidence: Vec<Evidence>) -> Status {
    let mut settings = site.agent_settings("unused").await;
    settings.attestor = NodeAttestor::Evidence(evidence);
    settings.data = settings.data.join(uuid());
    let agent = site.run(settings).await;
    match agent.ended().await {
        Err(AgentError::Refused(sekisho_agent::attest::AttestError::Refused(status))) => status,
        other => panic!("{other:?}"),
    }
}

fn uuid() -> String {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    sekisho_certs::hex(&bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_wants_together_is_refused_alone_and_taken_together() {
    let nodes = Nodes::new();
    let (shown, fingerprint, _) = nodes.host("node7");
    let source = policy(
        &nodes.folder.path().join("policy"),
        BOTH,
        &[("node7", &fingerprint)],
    );
    let site = site(&nodes, source).await;
    let alone = refused(&site, vec![shown.clone()]).await;
    assert_eq!(alone.code(), Code::PermissionDenied, "{alone:?}");
    assert!(alone.message().contains("a token and a certificate"));
    let alone = refused(&site, vec![token(&site.token().await)]).await;
    assert_eq!(alone.code(), Code::PermissionDenied, "{alone:?}");
    // A certificate of the same CA for a host that is not in the inventory.
    let (stranger, ..) = nodes.host("node8");
    let other = refused(&site, vec![token(&site.token().await), stranger]).await;
    assert_eq!(other.code(), Code::PermissionDenied, "{other:?}");

    let value = site.token().await;
    let mut settings = site.agent_settings("unused").await;
    settings.attestor = NodeAttestor::Evidence(vec![token(&value), shown.clone()]);
    let mut agent = site.run(settings).await;
    agent.turned().await;
    assert_eq!(agent.path(), "/spire/agent/sekisho_evidence/node/node7");
    let ends = agent.shared.health.borrow().node.clone().unwrap().1;
    let lives = ends.duration_since(sekisho_certs::Clock::now(&*site.clock));
    assert!(lives.unwrap() <= Duration::from_secs(1200));
    let mut admin = AgentClient::new(site.admin().await);
    let listed = admin.list_agents(ListAgentsRequest::default()).await;
    let listed = listed.unwrap().into_inner().agents;
    let [node] = listed.as_slice() else {
        panic!("{listed:?}");
    };
    let selectors: Vec<_> = node
        .selectors
        .iter()
        .map(|one| format!("{}:{}", one.r#type, one.value))
        .collect();
    assert_eq!(selectors, ["assurance:high", "host:node7"]);
    assert_eq!((&*node.attestation_type, node.can_reattest), (TYPE, false));
    // What the policy says of its life holds for renewals too.
    site.clock.advance(Duration::from_secs(900));
    let health = agent.turn().await;
    let renewed = health.node.unwrap().1;
    assert!(renewed > ends);
    let lives = renewed.duration_since(sekisho_certs::Clock::now(&*site.clock));
    assert!(lives.unwrap() <= Duration::from_secs(1200));
    agent.stop().await;
    // The token is used up, with the certificate or without.
    let again = refused(&site, vec![token(&value), shown]).await;
    assert_eq!(again.code(), Code::InvalidArgument, "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_policy_counts_from_the_next_attestation_and_a_broken_one_does_not() {
    let nodes = Nodes::new();
    let (shown, fingerprint, _) = nodes.host("node7");
    let folder = nodes.folder.path().join("policy");
    let site = site(&nodes, policy(&folder, BOTH, &[])).await;
    refused(&site, vec![token(&site.token().await), shown.clone()]).await;
    policy(&folder, BOTH, &[("node7", &fingerprint)]);
    fs::write(folder.join("broken.rego"), "nonsense").unwrap();
    refused(&site, vec![token(&site.token().await), shown.clone()]).await;
    fs::remove_file(folder.join("broken.rego")).unwrap();
    let mut settings = site.agent_settings("unused").await;
    settings.attestor = NodeAttestor::Evidence(vec![token(&site.token().await), shown]);
    let mut agent = site.run(settings).await;
    agent.turned().await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_policy_a_piece_makes_what_spire_makes_of_it() {
    let nodes = Nodes::new();
    let (shown, ..) = nodes.host("node7");
    let site = site(&nodes, Source::Default).await;
    let request = CreateJoinTokenRequest {
        ttl: 600,
        agent_id: spiffe_id("/host/7"),
        ..Default::default()
    };
    let mut admin = AgentClient::new(site.admin().await);
    let value = admin.create_join_token(request).await.unwrap();
    let value = value.into_inner().value;
    let mut settings = site.agent_settings("unused").await;
    settings.attestor = NodeAttestor::Evidence(vec![token(&value), shown]);
    let mut agent = site.run(settings).await;
    agent.turned().await;
    assert!(agent.path().starts_with("/spire/agent/x509pop/"));
    // The token was made for a name that its agent is to have too.
    site.create(vec![entry("/w", "/host/7")]).await;
    agent.turn().await;
    let state = agent.shared.state.clone();
    let ids: Vec<_> = state
        .borrow()
        .identities
        .values()
        .map(|one| one.entry.parsed_id().unwrap().path().to_owned())
        .collect();
    assert!(ids.contains(&"/w".to_owned()), "{ids:?}");
    assert!(!format!("{:?}", site.agents().await).contains(&value));
    agent.stop().await;
}

/// The limit of a policy on trust: after so long the node has to show everything again.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_shows_everything_again_when_the_policy_says_so() {
    const AGAIN: &str = r#"
package sekisho.attest

decision := {"allow": true, "path": "/n", "reattest_s": 300} if input.evidence[0].type == "x509pop"

decision := {"allow": true, "path": "/t", "reattest_s": 300} if input.evidence[0].type == "join_token"
"#;
    let nodes = Nodes::new();
    let (shown, ..) = nodes.host("node7");
    let folder = nodes.folder.path().join("policy");
    let site = site(&nodes, policy(&folder, AGAIN, &[])).await;
    let mut settings = site.agent_settings("unused").await;
    settings.attestor = NodeAttestor::Evidence(vec![shown]);
    let mut agent = site.run(settings).await;
    agent.turned().await;
    let first = agent.shared.health.borrow().chain.clone();
    site.clock.advance(Duration::from_secs(301));
    agent.turn().await;
    let changed = |health: &sekisho_agent::run::Health| health.chain != first;
    let health = wait_until(&mut agent.shared.health, "another attestation", changed).await;
    assert_eq!(
        health.node.unwrap().0.path(),
        "/spire/agent/sekisho_evidence/n"
    );
    agent.stop().await;
    // A token cannot be shown again: such a policy is wrong, and nobody comes in by it. It is not a denial
    // that an agent would obey.
    let mut talk = Talk::begin(&site, &[Kind::JoinToken]).await;
    let value = site.token().await;
    let piece = talk.token(&value);
    let status = talk.show(vec![piece]).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("policy is wrong"), "{status:?}");
    // It has used nothing up.
    policy(&folder, &AGAIN.replace(", \"reattest_s\": 300", ""), &[]);
    let mut talk = Talk::begin(&site, &[Kind::JoinToken]).await;
    let piece = talk.token(&value);
    talk.show(vec![piece]).await.unwrap();
}

/// The bundle that an attestation brings verifies what was signed before.
#[tokio::test(flavor = "multi_thread")]
async fn svids_of_a_ca_that_was_revoked_meanwhile_are_replaced_after_an_attestation() {
    let nodes = Nodes::new();
    let (shown, ..) = nodes.host("node7");
    let attestors = nodes.attestors(Source::Default);
    let long = move |settings: &mut sekisho_authority::core::Settings| {
        settings.attestors = attestors;
        settings.attestations = 1000;
        settings.x509_ttl = 48 * HOUR;
    };
    let site = Site::with(long, 30 * 24 * HOUR).await;
    let mut settings = site.agent_settings("unused").await;
    settings.attestor = NodeAttestor::Evidence(vec![shown]);
    let mut agent = site.run(settings).await;
    agent.turned().await;
    site.create(vec![entry("/w", &agent.path())]).await;
    agent.turn().await;
    let serial = |agent: &crate::harness::Running| {
        let state = agent.shared.state.borrow().clone();
        let mut all = state.identities.values();
        let svid = all.find_map(|one| one.svid.clone()).unwrap();
        svid.signed.serial
    };
    let before = serial(&agent);
    let next = site.prepare_ca().await;
    agent.turn().await;
    // The agent does not look while its CA is tainted; when it does, its own certificate is over.
    site.replace_ca(next).await;
    site.clock.advance(2 * HOUR);
    let health = agent.turn().await;
    assert_eq!(health.problem, None);
    assert_ne!(serial(&agent), before);
    agent.stop().await;
}
