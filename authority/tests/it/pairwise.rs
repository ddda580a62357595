//! Pairwise federation: the bundle endpoint, relationships of the configuration file, and what time asks
//! of new keys.

use std::{sync::Arc, time::Duration};

use sekisho_authority::{
    api::FORCE,
    ca::Step,
    core::Settings,
    federation::{EndpointSettings, HINTS, Shown},
    store::{Bundle, Declared, EndpointProfile, Kind, Origin, Relationship, X509Authority},
};
use sekisho_certs::{TrustBundle, tls};
use sekisho_federation::client::{Allowed, Client, FetchError, Profile, WebRoots};
use sekisho_spire_api::{
    federation_admin::{
        AcceptRollbackRequest, ListPeersRequest, Origin as Told, Peer, RemovePeerRequest,
        federation_admin_client::FederationAdminClient,
    },
    server::{
        bundle::{GetFederatedBundleRequest, bundle_client::BundleClient},
        local_authority::{
            ActivateX509AuthorityRequest, PrepareX509AuthorityRequest,
            local_authority_client::LocalAuthorityClient,
        },
        trust_domain::{
            BatchDeleteFederationRelationshipRequest, trust_domain_client::TrustDomainClient,
        },
    },
};
use sekisho_testkit::{Profile as Certificate, Site, TestCa};
use tonic::{Code, Request};

use crate::harness::World;

const REFRESH: Duration = Duration::from_secs(300);

fn with_endpoint(settings: &mut Settings) {
    settings.federation.endpoint = Some(EndpointSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        refresh: REFRESH,
        shown: Shown::Own,
    });
}

/// Fetches from the endpoint of `world`, verified by the CAs that it has now.
async fn fetch(world: &World, path: &str, domain: &str) -> Result<TrustBundle, FetchError> {
    let own = Arc::clone(&world.core.ca.bundle().borrow());
    let ders = own.x509.iter().map(|ca| ca.der.clone().into());
    let profile = Profile::Spiffe {
        id: "spiffe://a.example/spire/server".parse().unwrap(),
        bundle: Arc::new(TrustBundle::new(own.domain.clone(), ders).unwrap()),
    };
    fetch_by(world, path, domain, &profile, WebRoots::default()).await
}

async fn fetch_by(
    world: &World,
    path: &str,
    domain: &str,
    profile: &Profile,
    roots: WebRoots,
) -> Result<TrustBundle, FetchError> {
    let allowed = Allowed::with(["127.0.0.1/32".parse().unwrap(), "::1/128".parse().unwrap()]);
    let clock = Arc::<sekisho_testkit::TestClock>::clone(&world.clock);
    let client = Client::new(roots, allowed, Arc::new(tls::provider()), clock);
    let port = world.bundles.unwrap().port();
    let url = format!("https://localhost:{port}{path}").parse().unwrap();
    client.fetch(&domain.parse().unwrap(), &url, profile).await
}

fn bundle(site: &Site, sequence: u64) -> Bundle {
    Bundle {
        x509: vec![X509Authority {
            der: site.ca().der().to_vec(),
            tainted: false,
            above: false,
        }],
        sequence,
        ..Bundle::empty(site.domain().clone())
    }
}

fn declared(site: &Site, url: &str) -> Declared {
    Declared {
        relationship: Relationship {
            origin: Origin::File,
            domain: site.domain().clone(),
            url: url.parse().unwrap(),
            profile: EndpointProfile::Spiffe(site.id("/spire/server")),
        },
        bundle: Some(bundle(site, 0)),
    }
}

#[tokio::test]
async fn others_fetch_our_bundle_and_those_that_we_have() {
    let site = Site::new("b.example");
    let world = World::start_with(with_endpoint).await;
    let own = Arc::clone(&world.core.ca.bundle().borrow());
    let first = fetch(&world, "/", "a.example").await.unwrap();
    assert_eq!(first.sequence(), Some(own.sequence));
    assert_eq!(first.refresh_hint(), Some(REFRESH));
    assert_eq!(first.authorities().len(), 1);
    let keys = first.jwt_keys().unwrap();
    assert_eq!(keys[0].public_key, own.jwt[0].public_key);
    // A change raises the number.
    let by = world.core.by("test");
    world
        .core
        .ca
        .step(by, Kind::X509, Step::Prepare)
        .await
        .unwrap();
    let second = fetch(&world, "/", "a.example").await.unwrap();
    assert!(second.sequence() > first.sequence());
    assert_eq!(second.authorities().len(), 2);
    let itself = fetch(&world, "/federation/a.example", "a.example").await;
    assert_eq!(itself.unwrap(), second);
    let other = async || fetch(&world, "/federation/b.example", "b.example").await;
    assert!(matches!(other().await, Err(FetchError::Status { .. })));
    let stored = bundle(&site, 7);
    let edit = move |_| Ok::<_, ()>(stored);
    let by = world.core.by("test");
    let put = world
        .core
        .store
        .edit_bundle(by, site.domain().clone(), edit);
    put.await.unwrap().unwrap();
    let fetched = other().await.unwrap();
    assert_eq!(
        (fetched.sequence(), fetched.refresh_hint()),
        (Some(7), None)
    );
    assert_eq!(fetched.authorities()[0].der(), site.ca().der());
    world.stop().await;
}

#[tokio::test]
async fn the_number_of_our_bundle_never_falls_and_rises_with_another_hint() {
    let world = World::start_with(with_endpoint).await;
    let clock = Arc::clone(&world.clock);
    let before = world.core.ca.bundle().borrow().sequence;
    let folder = world.close().await;
    let opened = World::open(folder, Arc::clone(&clock), None, with_endpoint).await;
    let Ok(world) = opened else { panic!() };
    assert_eq!(world.core.ca.bundle().borrow().sequence, before);
    let folder = world.close().await;
    let seldom = |settings: &mut Settings| {
        with_endpoint(settings);
        let endpoint = settings.federation.endpoint.as_mut();
        endpoint.unwrap().refresh = REFRESH * 2;
    };
    let Ok(world) = World::open(folder, clock, None, seldom).await else {
        panic!()
    };
    let fetched = fetch(&world, "/", "a.example").await.unwrap();
    assert_eq!(fetched.refresh_hint(), Some(REFRESH * 2));
    assert_eq!(fetched.sequence(), Some(before + 1));
    world.stop().await;
}

#[tokio::test]
async fn a_web_endpoint_shows_the_certificate_of_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let ca = TestCa::new("web.example");
    let leaf = Certificate::leaf("spiffe://unused.example/x")
        .with_uris([])
        .with_dns_names(["localhost"]);
    let (cert, key) = ca.issue(&leaf).write(folder.path(), "web");
    let world = World::start_with(|settings| {
        with_endpoint(settings);
        let endpoint = settings.federation.endpoint.as_mut();
        endpoint.unwrap().shown = Shown::Web { cert, key };
    })
    .await;
    let roots = WebRoots::Given(vec![ca.der().clone()]);
    let fetched = fetch_by(&world, "/", "a.example", &Profile::Web, roots).await;
    assert_eq!(fetched.unwrap().authorities().len(), 1);
    fetch(&world, "/", "a.example").await.unwrap_err();
    world.stop().await;
}

#[tokio::test]
async fn a_new_authority_waits_until_others_can_know_it() {
    let world = World::start_with(with_endpoint).await;
    let mut client = LocalAuthorityClient::new(world.local().await);
    let prepared = client
        .prepare_x509_authority(PrepareX509AuthorityRequest {})
        .await
        .unwrap()
        .into_inner()
        .prepared_authority
        .unwrap();
    let activate = |id: String, force| {
        let request = ActivateX509AuthorityRequest { authority_id: id };
        let mut request = Request::new(request);
        if force {
            let yes = "true".parse().unwrap();
            request.metadata_mut().insert(FORCE, yes);
        }
        request
    };
    let id = prepared.authority_id;
    let early = client.activate_x509_authority(activate(id.clone(), false));
    let early = early.await.unwrap_err();
    assert_eq!(early.code(), Code::FailedPrecondition);
    assert!(early.message().contains("--force"), "{early}");
    let lead = REFRESH * HINTS;
    world.clock.advance(lead - Duration::from_secs(1));
    let early = client.activate_x509_authority(activate(id.clone(), false));
    assert_eq!(early.await.unwrap_err().code(), Code::FailedPrecondition);
    world.clock.advance(Duration::from_secs(1));
    let done = client.activate_x509_authority(activate(id, false)).await;
    done.unwrap();
    let by = world.core.by("test");
    let next = world.core.ca.step(by, Kind::X509, Step::Prepare).await;
    let forced = client.activate_x509_authority(activate(next.unwrap(), true));
    forced.await.unwrap();
    // JWT keys too.
    let by = || world.core.by("test");
    let next = world
        .core
        .ca
        .step(by(), Kind::Jwt, Step::Prepare)
        .await
        .unwrap();
    let early = world
        .core
        .ca
        .step(by(), Kind::Jwt, Step::Activate(next.clone()));
    early.await.unwrap_err();
    world.clock.advance(lead);
    let done = world.core.ca.step(by(), Kind::Jwt, Step::Activate(next));
    done.await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn time_does_not_let_a_new_authority_sign_too_early_while_the_other_lasts() {
    let world = World::start_with(with_endpoint).await;
    let first = world.core.ca.x509().id().to_owned();
    // Asleep until an hour before its end: what is prepared now is due at once, and can wait.
    world.clock.advance(Duration::from_secs(23 * 3600));
    world.core.ca.look_at_the_clock().await.unwrap();
    assert!(world.core.ca.slots(Kind::X509).prepared.is_some());
    assert_eq!(world.core.ca.x509().id(), first);
    world.clock.advance(REFRESH * HINTS);
    world.core.ca.look_at_the_clock().await.unwrap();
    assert_ne!(world.core.ca.x509().id(), first);
    // Asleep until ten minutes before the end: who waits could not sign.
    let second = world.core.ca.x509().id().to_owned();
    let left = world.core.ca.x509().not_after();
    let left = left.duration_since(world.core.now()).unwrap();
    world.clock.advance(left - Duration::from_secs(600));
    world.core.ca.look_at_the_clock().await.unwrap();
    assert_ne!(world.core.ca.x509().id(), second);
    world.stop().await;
}

#[tokio::test]
async fn nobody_waits_where_nobody_fetches() {
    let world = World::start().await;
    let by = || world.core.by("test");
    for kind in [Kind::X509, Kind::Jwt] {
        let next = world.core.ca.step(by(), kind, Step::Prepare).await.unwrap();
        let done = world.core.ca.step(by(), kind, Step::Activate(next)).await;
        done.unwrap();
    }
    world.stop().await;
}

async fn peers(world: &World) -> Vec<Peer> {
    let mut client = FederationAdminClient::new(world.local().await);
    let answer = client.list_peers(ListPeersRequest {}).await.unwrap();
    answer.into_inner().peers
}

#[tokio::test]
async fn the_files_relationships_are_told_and_not_touched() {
    let site = Site::new("b.example");
    let world = World::start_with(|settings| {
        // Nobody answers there.
        settings.federation.peers = vec![declared(&site, "https://127.0.0.1:1/")];
    })
    .await;
    let known = peers(&world).await.remove(0);
    assert_eq!(known.trust_domain, "b.example");
    assert_eq!(known.origin, i32::from(Told::File));
    assert_eq!(known.endpoint_spiffe_id, "spiffe://b.example/spire/server");
    assert_eq!((known.sequence, known.x509_authorities), (Some(0), 1));
    assert_eq!(known.confirmed_at, 0);
    let request = || RemovePeerRequest {
        trust_domain: "b.example".into(),
    };
    let mut admin = FederationAdminClient::new(world.local().await);
    let refused = admin.remove_peer(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("federation.peers"), "{refused}");
    let mut client = TrustDomainClient::new(world.local().await);
    let request = BatchDeleteFederationRelationshipRequest {
        trust_domains: vec!["b.example".into()],
    };
    let answer = client.batch_delete_federation_relationship(request).await;
    let status = answer.unwrap().into_inner().results.remove(0).status;
    assert_eq!(status.unwrap().code, i32::from(Code::FailedPrecondition));
    // Why nothing comes is told.
    let known = world.core.store.peers().await.unwrap().remove(0);
    world.core.refresh(&known.relationship).await.unwrap_err();
    let known = peers(&world).await.remove(0);
    assert!(known.error.contains("127.0.0.1"), "{}", known.error);
    assert!(known.tried_at > 0);
    // Without it in the file it is gone, and nobody of that domain is trusted.
    let clock = Arc::clone(&world.clock);
    let folder = world.close().await;
    let Ok(world) = World::open(folder, clock, None, |_| {}).await else {
        panic!()
    };
    assert_eq!(peers(&world).await, []);
    let mut bundles = BundleClient::new(world.local().await);
    let request = GetFederatedBundleRequest {
        trust_domain: "b.example".into(),
        output_mask: None,
    };
    let gone = bundles.get_federated_bundle(request).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    world.stop().await;
}

#[tokio::test]
async fn a_relationship_that_is_removed_takes_its_bundle_with_it() {
    let world = World::start().await;
    let site = Site::new("b.example");
    let relationship = Relationship {
        origin: Origin::Api,
        ..declared(&site, "https://127.0.0.1:1/").relationship
    };
    let by = world.core.by("test");
    let made = world
        .core
        .store
        .create_relationship(by, relationship, Some(bundle(&site, 7)));
    assert!(made.await.unwrap());
    let mut admin = FederationAdminClient::new(world.local().await);
    let trust_domain = || "b.example".to_owned();
    let accept = AcceptRollbackRequest {
        trust_domain: trust_domain(),
    };
    admin.accept_rollback(accept).await.unwrap();
    assert!(peers(&world).await[0].accepts_rollback);
    for code in [Code::Ok, Code::NotFound] {
        let request = RemovePeerRequest {
            trust_domain: trust_domain(),
        };
        let removed = admin.remove_peer(request).await;
        assert_eq!(removed.map_or_else(|it| it.code(), |_| Code::Ok), code);
    }
    let stored = world.core.store.bundle(site.domain().clone()).await;
    assert_eq!(stored.unwrap(), None);
    let accept = AcceptRollbackRequest {
        trust_domain: trust_domain(),
    };
    let missing = admin.accept_rollback(accept).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    world.stop().await;
}
