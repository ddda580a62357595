//! An authority below another, over the wire: its chain, its keys, and what changes above.

use std::{process::Command, sync::Arc, time::Duration};

use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::PrivatePkcs8KeyDer;
use sekisho_authority::{
    ca::{
        Ca, CaError, Step, certificates,
        issue::Leaf,
        upstream::{RootStep, Spire, SpireSpec, Upstream, UpstreamError},
    },
    store::{By, Kind, X509Authority},
};
use sekisho_certs::{Clock as _, TrustBundle, id, tls};
use sekisho_spire_api::{
    server::{
        local_authority::{
            RevokeX509AuthorityRequest, TaintX509AuthorityRequest,
            TaintX509UpstreamAuthorityRequest, local_authority_client::LocalAuthorityClient,
        },
        svid::{MintX509svidRequest, svid_client::SvidClient},
    },
    types,
};
use sekisho_testkit::{FakeWorkloadApi, Issued, TestClock, program, workload_api::Entry};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

use crate::harness::{Identity, World, entry, identity};

/// An authority above, and the agent of its site on the host of the one below.
struct Above {
    world: World,
    api: FakeWorkloadApi,
    folder: tempfile::TempDir,
}

impl Above {
    async fn start(downstream: bool) -> Self {
        Self::of(World::start().await, downstream).await
    }

    async fn of(world: World, downstream: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let api = FakeWorkloadApi::start(folder.path().join("agent.sock"));
        let below = types::Entry {
            downstream,
            ..entry("/below", "/spire/agent/node", "unix:uid:1")
        };
        assert_eq!(world.create(vec![below]).await[0].code, 0);
        let above = Self { world, api, folder };
        above.publish_again().await;
        above
    }

    /// An SVID, as the agent would have it.
    async fn mint(&self, id: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        let csr = params.serialize_request(&key).unwrap().der().to_vec();
        let mut client = SvidClient::new(self.world.local().await);
        let request = MintX509svidRequest { csr, ttl: 0 };
        let answer = client.mint_x509svid(request).await.unwrap().into_inner();
        identity(answer.svid.unwrap(), &key)
    }

    fn publish(&self, all: &[&Identity]) {
        let domain = id::parse_trust_domain("a.example").unwrap();
        let roots = certificates(&self.world.core.ca.bundle().borrow());
        let own = TrustBundle::new(domain, roots).unwrap();
        let issued = all.iter().map(|one| Issued {
            chain: one.chain.clone(),
            key: PrivatePkcs8KeyDer::from(one.key.clone()).into(),
        });
        let issued: Vec<_> = issued.collect();
        let entries = issued.iter().map(|issued| Entry { issued, hint: "" });
        let entries: Vec<_> = entries.collect();
        self.api.publish(&entries, &own, &[]);
    }

    fn spec(&self) -> SpireSpec {
        SpireSpec {
            domain: id::parse_trust_domain("a.example").unwrap(),
            servers: vec![self.world.address.to_string()],
            socket: self.api.socket().into(),
            own: None,
        }
    }

    fn clock(&self) -> Arc<TestClock> {
        Arc::clone(&self.world.clock)
    }

    fn upstream(&self, spec: SpireSpec) -> Arc<dyn Upstream> {
        Arc::new(Spire::new(spec, Arc::new(tls::provider()), self.clock()))
    }

    async fn open_in(
        &self,
        folder: tempfile::TempDir,
        spec: SpireSpec,
    ) -> Result<World, (CaError, tempfile::TempDir)> {
        World::open(folder, self.clock(), Some(self.upstream(spec)), |_| {}).await
    }

    async fn below(&self) -> World {
        let folder = tempfile::tempdir().unwrap();
        let opened = self.open_in(folder, self.spec()).await;
        opened.unwrap_or_else(|(error, _)| panic!("{error}"))
    }

    /// The agent has the bundle as it is now.
    async fn publish_again(&self) {
        let own = self.mint("spiffe://a.example/below").await;
        self.publish(&[&own]);
    }

    fn by(&self) -> By {
        By {
            caller: "test".into(),
            at: self.clock().now(),
        }
    }

    async fn step(&self, step: Step) -> String {
        let ca = &self.world.core.ca;
        ca.step(self.by(), Kind::X509, step).await.unwrap()
    }
}

/// Names of the roots in a bundle, those that are tainted with a star.
fn roots(ca: &Ca) -> Vec<String> {
    let bundle = Arc::clone(&ca.bundle().borrow());
    let named = bundle.x509.iter().map(|own| {
        let id = sekisho_certs::hex(&own.der[own.der.len() - 8..]);
        id + if own.tainted { "*" } else { "" }
    });
    named.collect()
}

fn keys(ca: &Ca) -> Vec<String> {
    let bundle = Arc::clone(&ca.bundle().borrow());
    let mut ids: Vec<_> = bundle.jwt.iter().map(|key| key.key_id.clone()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn below_another_the_chain_ends_at_its_root_and_both_know_all_keys() {
    let above = Above::start(true).await;
    let below = above.below().await;
    let upper = &above.world.core.ca;
    let lower = &below.core.ca;
    let told = lower.slots(Kind::X509).active;
    assert_eq!(told.upstream_id, upper.x509().id());
    assert_eq!(roots(lower), roots(upper));
    // An agent of the site below is known above: the handshake goes through, the call does not.
    let agent = below.agent().await;
    assert_eq!(
        agent.chain.len(),
        2,
        "leaf and intermediate, never the root"
    );
    above.world.tls(Some(&agent)).await.unwrap();
    // Its JWT key is known above at once, those above are known below a little later.
    assert!(keys(upper).contains(&lower.jwt().id().to_owned()));
    assert!(lower.follow().await.unwrap());
    assert_eq!(keys(lower), keys(upper));
    let sequence = lower.bundle().borrow().sequence;
    lower.follow().await.unwrap();
    assert_eq!(lower.bundle().borrow().sequence, sequence, "no news");

    if program::is_there("openssl", "openssl") {
        let folder = above.folder.path();
        let write = |name: &str, der: &[u8]| {
            let text = pem::encode(&pem::Pem::new("CERTIFICATE", der));
            std::fs::write(folder.join(name), text).unwrap();
        };
        write("root.pem", &upper.x509().chain()[0]);
        write("intermediate.pem", &agent.chain[1]);
        write("leaf.pem", &agent.chain[0]);
        let verify = |untrusted: &[&str]| {
            let mut command = Command::new("openssl");
            command.current_dir(folder).args(["verify", "-x509_strict"]);
            command.args(["-CAfile", "root.pem"]).args(untrusted);
            command.arg("leaf.pem").output().unwrap().status.success()
        };
        assert!(verify(&["-untrusted", "intermediate.pem"]));
        assert!(!verify(&[]));
    }
    below.stop().await;
    above.world.stop().await;
}

#[tokio::test]
async fn the_lowest_of_three_is_known_to_the_highest() {
    let above = Above::start(true).await;
    let middle = Above::of(above.below().await, true).await;
    let lowest = middle.below().await;
    let (top, own) = (&above.world.core.ca, &lowest.core.ca);
    let key = own.jwt().id().to_owned();
    assert!(keys(top).contains(&key) && keys(&middle.world.core.ca).contains(&key));
    let agent = lowest.agent().await;
    assert_eq!(agent.chain.len(), 3);
    above.world.tls(Some(&agent)).await.unwrap();
    // What the highest taints, the lowest leaves.
    let (first, before) = (top.x509().id().to_owned(), own.x509().id().to_owned());
    let second = above.step(Step::Prepare).await;
    above.step(Step::Activate(second.clone())).await;
    above.step(Step::Taint(first)).await;
    middle.world.core.ca.follow().await.unwrap();
    own.follow().await.unwrap();
    assert_ne!(own.x509().id(), before);
    assert_eq!(own.slots(Kind::X509).active.upstream_id, second);
    assert_eq!(roots(own), roots(top));
    lowest.stop().await;
    middle.world.stop().await;
    above.world.stop().await;
}

#[tokio::test]
async fn a_root_that_is_tainted_above_is_left_before_it_is_tainted_and_goes_when_it_is_revoked() {
    let above = Above::start(true).await;
    let below = above.below().await;
    let lower = &below.core.ca;
    let (first, own) = (
        above.world.core.ca.x509().id().to_owned(),
        lower.x509().id().to_owned(),
    );
    let second = above.step(Step::Prepare).await;
    lower.follow().await.unwrap();
    assert_eq!(roots(lower).len(), 2, "who will sign above is known before");
    above.step(Step::Activate(second.clone())).await;
    above.step(Step::Taint(first.clone())).await;
    lower.follow().await.unwrap();
    let now = lower.slots(Kind::X509);
    assert_eq!(
        (&now.active.upstream_id, &now.old.unwrap().id),
        (&second, &own)
    );
    let tainted: Vec<_> = roots(lower).iter().map(|it| it.ends_with('*')).collect();
    assert_eq!(tainted, [true, false]);
    above.step(Step::Revoke(first)).await;
    lower.follow().await.unwrap();
    assert_eq!(roots(lower), roots(&above.world.core.ca));
    below.stop().await;
    above.world.stop().await;
}

#[tokio::test]
async fn what_is_revoked_below_stays_away_whatever_is_believed_above() {
    let above = Above::start(true).await;
    let below = above.below().await;
    let lower = &below.core.ca;
    let first = above.world.core.ca.x509().id().to_owned();
    let jwt = lower.jwt().id().to_owned();
    let second = above.step(Step::Prepare).await;
    above.step(Step::Activate(second)).await;
    above.publish_again().await;
    // By hand, as where the authority above has no word for it.
    let mut client = LocalAuthorityClient::new(below.local().await);
    let step = async |kind, step| lower.step(above.by(), kind, step).await.unwrap();
    let next = step(Kind::X509, Step::Prepare).await;
    step(Kind::X509, Step::Activate(next)).await;
    let old = lower.slots(Kind::X509).old.unwrap().id;
    let taint = client.taint_x509_authority(TaintX509AuthorityRequest {
        authority_id: old.clone(),
    });
    assert_eq!(taint.await.unwrap_err().code(), Code::FailedPrecondition);
    let revoke = client.revoke_x509_authority(RevokeX509AuthorityRequest { authority_id: old });
    assert_eq!(revoke.await.unwrap_err().code(), Code::FailedPrecondition);
    let taint = client.taint_x509_upstream_authority(TaintX509UpstreamAuthorityRequest {
        subject_key_id: first.clone(),
    });
    let told = taint.await.unwrap().into_inner();
    assert_eq!(told.upstream_authority_subject_key_id, first);
    lower
        .root_step(above.by(), RootStep::Revoke, first)
        .await
        .unwrap();
    let next = step(Kind::Jwt, Step::Prepare).await;
    step(Kind::Jwt, Step::Activate(next)).await;
    step(Kind::Jwt, Step::Taint(jwt.clone())).await;
    step(Kind::Jwt, Step::Revoke(jwt.clone())).await;
    let gone = |ca: &Ca| roots(ca).len() == 1 && !keys(ca).contains(&jwt);
    lower.follow().await.unwrap();
    assert!(gone(lower));
    assert!(keys(&above.world.core.ca).contains(&jwt));
    // After a restart too.
    let folder = below.close().await;
    let below = above.open_in(folder, above.spec()).await;
    let below = below.unwrap_or_else(|(error, _)| panic!("{error}"));
    let lower = &below.core.ca;
    lower.follow().await.unwrap();
    assert!(gone(lower));
    let next = lower.step(above.by(), Kind::X509, Step::Prepare).await;
    next.unwrap();
    assert!(gone(lower), "nor by a signature");
    below.stop().await;
    above.world.stop().await;
}

#[tokio::test]
async fn away_it_costs_nothing_until_something_ends_and_it_is_told_what_is_missing() {
    let above = Above::start(true).await;
    let dead = SpireSpec {
        servers: vec!["127.0.0.1:1".into()],
        ..above.spec()
    };
    let message = |error: &CaError| {
        let refused = matches!(error, CaError::Upstream(UpstreamError::Refused(_)));
        assert!(refused, "{error}");
        error.to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    let Err((error, folder)) = above.open_in(folder, dead.clone()).await else {
        panic!("there is nobody who could sign");
    };
    assert!(message(&error).contains("127.0.0.1:1: Connection refused"));
    // The next address is tried.
    let both = SpireSpec {
        servers: vec!["127.0.0.1:1".into(), above.world.address.to_string()],
        ..above.spec()
    };
    let below = above.open_in(folder, both).await;
    let below = below.unwrap_or_else(|(error, _)| panic!("{error}"));
    let signer = below.core.ca.x509().id().to_owned();
    let folder = below.close().await;
    // It is half over, and another is due.
    above.clock().advance(Duration::from_secs(13 * 3600));
    let below = above.open_in(folder, dead.clone()).await;
    let below = below.unwrap_or_else(|(error, _)| panic!("{error}"));
    assert_eq!(below.core.ca.x509().id(), signer);
    let agent = below.agent().await;
    assert_eq!(agent.chain.len(), 2);
    message(&below.core.ca.follow().await.unwrap_err());
    let folder = below.close().await;
    above.clock().advance(Duration::from_secs(12 * 3600));
    let Err((error, _)) = above.open_in(folder, dead).await else {
        panic!("what signed has ended");
    };
    message(&error);
    above.world.stop().await;
}

#[tokio::test]
async fn after_a_call_that_has_failed_the_next_goes_to_another_address() {
    let above = Above::start(true).await;
    let (to, listener) = (above.world.address, TcpListener::bind("127.0.0.1:0").await);
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap();
    // In the way of the first connection, until it is cut.
    let between = tokio::spawn(async move {
        let (mut here, _) = listener.accept().await.unwrap();
        let mut there = TcpStream::connect(to).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
    });
    let spec = SpireSpec {
        servers: vec![address.to_string(), to.to_string()],
        ..above.spec()
    };
    let upstream = above.upstream(spec);
    assert!(upstream.bundle().await.unwrap().is_some());
    between.abort();
    assert!(between.await.unwrap_err().is_cancelled());
    let failed = upstream.bundle().await.unwrap_err();
    assert!(matches!(failed, UpstreamError::Refused(_)), "{failed}");
    let bundle = upstream.bundle().await.unwrap().unwrap();
    let own = above.world.core.ca.bundle().borrow().x509.clone();
    let ders = |all: &[X509Authority]| all.iter().map(|ca| ca.der.clone()).collect::<Vec<_>>();
    assert_eq!(ders(&bundle.x509), ders(&own));
    above.world.stop().await;
}

#[tokio::test]
async fn who_may_not_or_is_not_who_it_should_be_is_told_so() {
    let above = Above::start(false).await;
    let why = async |spec: SpireSpec| {
        let folder = tempfile::tempdir().unwrap();
        match above.open_in(folder, spec).await {
            Ok(_) => panic!("it is let"),
            Err((error, _)) => error.to_string(),
        }
    };
    let no_entry = why(above.spec()).await;
    assert!(
        no_entry.contains("NewDownstreamX509CA") && no_entry.contains("PermissionDenied"),
        "{no_entry}"
    );
    // Another server of that name, by another CA.
    let stranger = World::start().await;
    let other = SpireSpec {
        servers: vec![stranger.address.to_string()],
        ..above.spec()
    };
    let untrusted = why(other).await;
    assert!(untrusted.contains("UnknownIssuer"), "{untrusted}");
    assert!(!untrusted.contains("OtherError"), "{untrusted}");
    let (one, two) = (
        above.mint("spiffe://a.example/below").await,
        above.mint("spiffe://a.example/other").await,
    );
    above.publish(&[&one, &two]);
    let several = why(above.spec()).await;
    assert!(several.contains("several SVIDs"), "{several}");
    let nobody = SpireSpec {
        own: Some(id::parse_workload_id("spiffe://a.example/nobody").unwrap()),
        ..above.spec()
    };
    let nobody = why(nobody).await;
    assert!(nobody.contains("spiffe://a.example/nobody"), "{nobody}");
    stranger.stop().await;
    above.world.stop().await;
}

#[tokio::test]
async fn by_its_name_one_of_several_svids_is_used() {
    let above = Above::start(true).await;
    let (one, two) = (
        above.mint("spiffe://a.example/below").await,
        above.mint("spiffe://a.example/other").await,
    );
    above.publish(&[&two, &one]);
    let spec = SpireSpec {
        own: Some(id::parse_workload_id("spiffe://a.example/below").unwrap()),
        ..above.spec()
    };
    let below = above.open_in(tempfile::tempdir().unwrap(), spec).await;
    let below = below.unwrap_or_else(|(error, _)| panic!("{error}"));
    let key = KeyPair::generate().unwrap();
    let leaf = Leaf {
        id: &id::parse_workload_id("spiffe://a.example/w").unwrap(),
        dns_names: &[],
        public_key: &rcgen::PublicKeyData::subject_public_key_info(&key),
        ttl: Duration::from_secs(60),
    };
    let issued = below.core.ca.x509().leaf(&leaf, above.clock().now());
    assert_eq!(issued.unwrap().chain.len(), 2);
    below.stop().await;
    above.world.stop().await;
}
