//! Service `trustdomain`: with whom the site is federated, and whose bundles are fetched.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rcgen::PublicKeyData as _;
use sekisho_authority::api::OURS;
use sekisho_spire_api::{
    server::{
        bundle::{
            AppendBundleRequest, BatchSetFederatedBundleRequest, GetFederatedBundleRequest,
            bundle_client::BundleClient,
        },
        entry::{GetAuthorizedEntriesRequest, entry_client::EntryClient},
        trust_domain::{
            BatchCreateFederationRelationshipRequest, BatchDeleteFederationRelationshipRequest,
            BatchUpdateFederationRelationshipRequest, GetFederationRelationshipRequest,
            ListFederationRelationshipsRequest, RefreshBundleRequest,
            trust_domain_client::TrustDomainClient,
        },
    },
    types::{
        self, Bundle, FederationRelationship, FederationRelationshipMask, HttpsWebProfile,
        HttpsspiffeProfile, federation_relationship::BundleEndpointProfile,
    },
};
use sekisho_testkit::{Site, danger};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;
use tonic::{Code, transport::Channel};

use crate::harness::{World, entry};

type Client = TrustDomainClient<Channel>;

fn web(domain: &str, url: &str) -> FederationRelationship {
    FederationRelationship {
        trust_domain: domain.into(),
        bundle_endpoint_url: url.into(),
        bundle_endpoint_profile: Some(BundleEndpointProfile::HttpsWeb(HttpsWebProfile {})),
        trust_domain_bundle: None,
    }
}

fn spiffe(domain: &str, url: &str, id: &str) -> FederationRelationship {
    let profile = HttpsspiffeProfile {
        endpoint_spiffe_id: id.into(),
    };
    FederationRelationship {
        bundle_endpoint_profile: Some(BundleEndpointProfile::HttpsSpiffe(profile)),
        ..web(domain, url)
    }
}

fn bundle(site: &Site) -> Bundle {
    Bundle {
        trust_domain: site.domain().to_string(),
        x509_authorities: vec![types::X509Certificate {
            asn1: site.ca().der().to_vec(),
            tainted: false,
        }],
        ..Default::default()
    }
}

/// Creates one and returns the code, and the relationship where it is 0.
async fn create(
    client: &mut Client,
    sent: FederationRelationship,
) -> (i32, Option<FederationRelationship>) {
    let request = BatchCreateFederationRelationshipRequest {
        federation_relationships: vec![sent],
        output_mask: None,
    };
    let answer = client.batch_create_federation_relationship(request).await;
    let result = answer.unwrap().into_inner().results.remove(0);
    let status = result.status.unwrap();
    assert_eq!(status.code == 0, status.message == "OK");
    (status.code, result.federation_relationship)
}

async fn update(
    client: &mut Client,
    sent: FederationRelationship,
    mask: Option<FederationRelationshipMask>,
) -> (i32, Option<FederationRelationship>) {
    let request = BatchUpdateFederationRelationshipRequest {
        federation_relationships: vec![sent],
        input_mask: mask,
        output_mask: None,
    };
    let answer = client.batch_update_federation_relationship(request).await;
    let result = answer.unwrap().into_inner().results.remove(0);
    (result.status.unwrap().code, result.federation_relationship)
}

async fn delete(client: &mut Client, domain: &str) -> i32 {
    let request = BatchDeleteFederationRelationshipRequest {
        trust_domains: vec![domain.into()],
    };
    let answer = client.batch_delete_federation_relationship(request).await;
    let result = answer.unwrap().into_inner().results.remove(0);
    assert_eq!(result.trust_domain, domain);
    result.status.unwrap().code
}

async fn get(client: &mut Client, domain: &str) -> Result<FederationRelationship, tonic::Status> {
    let request = GetFederationRelationshipRequest {
        trust_domain: domain.into(),
        output_mask: None,
    };
    Ok(client
        .get_federation_relationship(request)
        .await?
        .into_inner())
}

async fn refresh(client: &mut Client, domain: &str) -> Code {
    let request = RefreshBundleRequest {
        trust_domain: domain.into(),
    };
    let answer = client.refresh_bundle(request).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn relationships_are_made_changed_and_ended_with_spires_codes() {
    let world = World::start().await;
    let site = Site::new("b.example");
    let mut client = TrustDomainClient::new(world.local().await);
    let good = web("b.example", "https://127.0.0.1:1/");
    let mut foreign = good.clone();
    foreign.trust_domain_bundle = Some(bundle(&Site::new("c.example")));
    let mut without_profile = good.clone();
    without_profile.bundle_endpoint_profile = None;
    let bad = [
        web("", "https://b.example/"),
        web("not a domain", "https://b.example/"),
        web("a.example", "https://b.example/"),
        web("b.example", ""),
        web("b.example", "http://b.example/"),
        web("b.example", "https://"),
        web("b.example", "https://me@b.example/"),
        spiffe("b.example", "https://b.example/", "b.example"),
        foreign,
        without_profile,
    ];
    for sent in &bad {
        assert_eq!(
            create(&mut client, sent.clone()).await,
            (3, None),
            "{sent:?}"
        );
    }
    assert_eq!(
        update(&mut client, good.clone(), None).await.0,
        13,
        "unknown"
    );
    assert_eq!(
        create(&mut client, good.clone()).await,
        (0, Some(good.clone()))
    );
    assert_eq!(create(&mut client, good.clone()).await, (13, None), "twice");
    // What a mask leaves out is looked at too.
    for sent in bad {
        let mask = Some(FederationRelationshipMask::default());
        assert_eq!(
            update(&mut client, sent.clone(), mask).await.0,
            3,
            "{sent:?}"
        );
    }
    let mut new = spiffe("b.example", "https://127.0.0.1:2/", "spiffe://b.example/x");
    new.trust_domain_bundle = Some(bundle(&site));
    let only_url = FederationRelationshipMask {
        bundle_endpoint_url: true,
        ..Default::default()
    };
    let expected = web("b.example", "https://127.0.0.1:2/");
    let updated = update(&mut client, new.clone(), Some(only_url)).await;
    assert_eq!(updated, (0, Some(expected)));
    assert_eq!(
        update(&mut client, new.clone(), None).await,
        (0, Some(new.clone()))
    );
    assert_eq!(get(&mut client, "spiffe://b.example").await.unwrap(), new);
    assert_eq!(
        get(&mut client, "c.example").await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(
        get(&mut client, "%").await.unwrap_err().code(),
        Code::InvalidArgument
    );
    assert_eq!(delete(&mut client, "b.example").await, 0);
    assert_eq!(delete(&mut client, "b.example").await, 5);
    assert_eq!(delete(&mut client, "").await, 3);
    // The bundle has survived.
    let request = GetFederatedBundleRequest {
        trust_domain: "b.example".into(),
        output_mask: None,
    };
    let mut bundles = BundleClient::new(world.local().await);
    let stored = bundles
        .get_federated_bundle(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(stored, bundle(&site));
    world.stop().await;
}

#[tokio::test]
async fn they_are_listed_in_order_by_pages_and_masks() {
    let world = World::start().await;
    let mut client = TrustDomainClient::new(world.local().await);
    for name in ["d.example", "b.example", "c.example"] {
        create(&mut client, web(name, "https://127.0.0.1:1/")).await;
    }
    let mut request = ListFederationRelationshipsRequest {
        output_mask: Some(FederationRelationshipMask::default()),
        page_size: 2,
        page_token: String::new(),
    };
    let mut pages = Vec::new();
    loop {
        let page = client.list_federation_relationships(request.clone()).await;
        let page = page.unwrap().into_inner();
        for one in &page.federation_relationships {
            let name_only = FederationRelationship {
                trust_domain: one.trust_domain.clone(),
                ..Default::default()
            };
            assert_eq!(*one, name_only);
        }
        let names = page.federation_relationships.into_iter();
        pages.push(names.map(|one| one.trust_domain).collect::<Vec<_>>());
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let expected = [vec!["d.example", "b.example"], vec!["c.example"], vec![]];
    assert_eq!(pages, expected);
    let all = ListFederationRelationshipsRequest::default();
    let all = client
        .list_federation_relationships(all)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(all.federation_relationships.len(), 3);
    assert_eq!(all.next_page_token, "");
    world.stop().await;
}

/// A bundle endpoint: the number in its bundle can be set, and the paths that are asked for are told.
fn serve(
    listener: TcpListener,
    site: Arc<Site>,
) -> (Arc<AtomicU64>, mpsc::UnboundedReceiver<String>) {
    let sequence = Arc::<AtomicU64>::default();
    let (ask, asked) = mpsc::unbounded_channel();
    let config = danger::server_config(&site.svid("/spire/server"), &[&rustls::version::TLS13]);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let number = Arc::clone(&sequence);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            ask.send(head.split(' ').nth(1).unwrap().into()).unwrap();
            let number = number.load(Ordering::SeqCst);
            let bundle = (**site.bundle()).clone().with_hints(Some(number), None);
            let body = bundle.to_json().to_string();
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    (sequence, asked)
}

#[tokio::test]
async fn a_bundle_is_refreshed_when_asked_and_when_a_relationship_is_made() {
    let world = World::start().await;
    let site = Arc::new(Site::new("b.example"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let mut client = TrustDomainClient::new(world.local().await);
    assert_eq!(refresh(&mut client, "b.example").await, Code::NotFound);
    assert_eq!(refresh(&mut client, "%").await, Code::InvalidArgument);
    // Nobody can prove this ID as long as the bundle is not known.
    let mut sent = spiffe("b.example", &url, "spiffe://b.example/spire/server");
    assert_eq!(create(&mut client, sent.clone()).await.0, 0);
    assert_eq!(refresh(&mut client, "b.example").await, Code::Internal);
    let (sequence, mut asked) = serve(listener, site.clone());
    // A change is picked up at once.
    sent.trust_domain_bundle = Some(bundle(&site));
    sent.bundle_endpoint_url = format!("{url}moved");
    assert_eq!(update(&mut client, sent, None).await.0, 0);
    let moved = async { while asked.recv().await.unwrap() != "/moved" {} };
    tokio::time::timeout(Duration::from_secs(10), moved)
        .await
        .unwrap();
    sequence.store(7, Ordering::SeqCst);
    assert_eq!(refresh(&mut client, "b.example").await, Code::Ok);
    let stored = get(&mut client, "b.example").await.unwrap();
    assert_eq!(stored.trust_domain_bundle.unwrap().sequence_number, 7);
    world.stop().await;
}

#[tokio::test]
async fn a_bundle_that_cannot_be_kept_as_it_is_sent_is_refused() {
    let world = World::start().await;
    let site = Site::new("b.example");
    let mut client = BundleClient::new(world.local().await);
    let key = |key_id: &str| types::JwtKey {
        public_key: rcgen::KeyPair::generate()
            .unwrap()
            .subject_public_key_info(),
        key_id: key_id.into(),
        ..Default::default()
    };
    let good = bundle(&site);
    let too_high = Bundle {
        sequence_number: 1 << 63,
        ..good.clone()
    };
    let two_of_a_name = Bundle {
        jwt_authorities: vec![key("k"), key("l"), key("k")],
        ..good.clone()
    };
    let (twice, other) = (key("k"), key("l"));
    let the_same_twice = Bundle {
        jwt_authorities: vec![twice.clone(), other.clone(), twice.clone()],
        sequence_number: (1 << 63) - 1,
        ..good.clone()
    };
    let set = BatchSetFederatedBundleRequest {
        bundle: vec![too_high, two_of_a_name, the_same_twice],
        output_mask: None,
    };
    let answer = client.batch_set_federated_bundle(set).await.unwrap();
    let results = answer.into_inner().results;
    let codes: Vec<_> = results
        .iter()
        .map(|it| it.status.as_ref().unwrap().code)
        .collect();
    assert_eq!(codes, [3, 3, 0]);
    let stored = results[2].bundle.clone().unwrap();
    assert_eq!(stored.jwt_authorities, [twice, other]);
    assert_eq!(stored.sequence_number, (1 << 63) - 1);
    let append = AppendBundleRequest {
        jwt_authorities: vec![key("k"), key("k")],
        ..Default::default()
    };
    let refused = client.append_bundle(append).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    world.stop().await;
}

#[tokio::test]
async fn many_names_for_a_star_go_to_agents_of_ours_only() {
    let world = World::start().await;
    let agent = world.agent().await;
    let path = agent.id.strip_prefix("spiffe://a.example").unwrap();
    let mut star = entry("/star", path, "unix:uid:1");
    star.federates_with = vec!["*".into()];
    let created = world
        .create(vec![star, entry("/plain", path, "unix:uid:2")])
        .await;
    assert!(created.iter().all(|status| status.code == 0));
    let mut bundles = BundleClient::new(world.local().await);
    let mut set = async |numbers: std::ops::Range<usize>| {
        let one = |number| Bundle {
            trust_domain: format!("d{number}.example"),
            ..Default::default()
        };
        let request = BatchSetFederatedBundleRequest {
            bundle: numbers.map(one).collect(),
            output_mask: None,
        };
        bundles.batch_set_federated_bundle(request).await.unwrap();
    };
    let mut client = EntryClient::new(world.tls(Some(&agent)).await.unwrap());
    // What the agent gets: path, names and revision.
    let mut got = async |ours: bool| {
        let mut request = tonic::Request::new(GetAuthorizedEntriesRequest::default());
        if ours {
            request.metadata_mut().insert(OURS, "1".parse().unwrap());
        }
        let answer = client.get_authorized_entries(request).await.unwrap();
        let entries = answer.into_inner().entries.into_iter();
        let told = entries.map(|it| {
            let path = it.spiffe_id.unwrap().path;
            (path, it.federates_with.len(), it.revision_number)
        });
        let mut told: Vec<_> = told.collect();
        told.sort();
        told
    };
    let plain = ("/plain".to_owned(), 0, 0);
    set(0..100).await;
    let all = vec![plain.clone(), ("/star".into(), 100, 100)];
    assert_eq!(got(false).await, all);
    assert_eq!(got(true).await, all);
    set(100..101).await;
    assert_eq!(got(false).await, std::slice::from_ref(&plain));
    assert_eq!(got(true).await, [plain, ("/star".into(), 101, 101)]);
    world.stop().await;
}
