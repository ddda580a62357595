//! Service `sekisho.federation.v1`: what agents are told of other sites.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sekisho_authority::members::Followed;
use sekisho_certs::{
    Member, Members, TrustBundle, TrustDomain,
    id::{parse_trust_domain, parse_workload_id},
    members::{self, Service},
};
use sekisho_spire_api::{
    federation::{
        GetMembersRequest, GetMembersResponse, Source, federation_client::FederationClient,
    },
    server::{
        bundle::{
            BatchDeleteFederatedBundleRequest, BatchSetFederatedBundleRequest,
            bundle_client::BundleClient,
        },
        trust_domain::{
            BatchCreateFederationRelationshipRequest, trust_domain_client::TrustDomainClient,
        },
    },
    types::{
        self, FederationRelationship, HttpsWebProfile,
        federation_relationship::BundleEndpointProfile,
    },
};
use sekisho_testkit::Site;
use tokio::sync::watch;
use tonic::{Code, transport::Channel};

use crate::harness::World;

fn domain(name: &str) -> TrustDomain {
    parse_trust_domain(name).unwrap()
}

async fn get(
    channel: Channel,
    names: &[&str],
    marks: &[&str],
    revision: u64,
) -> GetMembersResponse {
    let request = GetMembersRequest {
        trust_domains: names.iter().map(ToString::to_string).collect(),
        marks: marks.iter().map(ToString::to_string).collect(),
        revision,
    };
    let answer = FederationClient::new(channel).get_members(request).await;
    answer.unwrap().into_inner()
}

async fn set_bundle(world: &World, site: &Site) {
    let bundle = types::Bundle {
        trust_domain: site.domain().to_string(),
        x509_authorities: vec![types::X509Certificate {
            asn1: site.ca().der().to_vec(),
            tainted: false,
        }],
        ..Default::default()
    };
    let request = BatchSetFederatedBundleRequest {
        bundle: vec![bundle],
        output_mask: None,
    };
    let mut client = BundleClient::new(world.local().await);
    let answer = client.batch_set_federated_bundle(request).await;
    let status = answer.unwrap().into_inner().results.remove(0).status;
    assert_eq!(status.unwrap().code, 0);
}

#[tokio::test]
async fn a_peer_is_told_and_a_name_of_nobody_is_called_so() {
    let world = World::start().await;
    let site = Site::new("b.example");
    set_bundle(&world, &site).await;
    let channel = world.local().await;
    let names = ["a.example", "b.example", "c.example"];
    let answer = get(channel.clone(), &names, &["hpci"], 0).await;
    assert_eq!(answer.members.len(), 1);
    let peer = &answer.members[0];
    assert_eq!(peer.trust_domain, "b.example");
    assert_eq!(peer.source(), Source::Peer);
    let bundle = TrustBundle::from_json(domain("b.example"), &peer.bundle).unwrap();
    assert_eq!(bundle.authorities()[0].der(), site.ca().der());
    // Our own trust domain is no member, whoever asks.
    assert_eq!(answer.unknown, ["a.example", "c.example"]);
    let again = get(channel.clone(), &names, &["hpci"], answer.revision).await;
    assert!(again.unchanged && again.members.is_empty());
    assert_eq!(again.ages[0].trust_domain, "b.example");
    // Its bundle is taken away.
    let request = BatchDeleteFederatedBundleRequest {
        trust_domains: vec!["b.example".into()],
        mode: 0,
    };
    let mut client = BundleClient::new(channel.clone());
    client.batch_delete_federated_bundle(request).await.unwrap();
    let gone = get(channel, &names, &["hpci"], answer.revision).await;
    assert!(!gone.unchanged && gone.members.is_empty());
    assert_eq!(gone.unknown, names);
    world.stop().await;
}

fn listed(site: &Site, at: SystemTime) -> Member {
    let id = parse_workload_id(&format!("spiffe://{}/mdx", site.domain())).unwrap();
    let gateway = "gw.example:8443".parse().unwrap();
    let service = Service::new("mdx", vec![gateway], id, BTreeSet::new()).unwrap();
    Member::new(site.domain().clone(), members::Source::Directory, at)
        .with_marks(["hpci".parse().unwrap()].into())
        .unwrap()
        .with_services([service])
        .unwrap()
        .with_bundle(Arc::clone(site.bundle()))
        .unwrap()
}

#[tokio::test]
async fn a_directory_tells_members_and_a_relationship_wins_over_it() {
    let (b, c, false_b) = (
        Site::new("b.example"),
        Site::new("c.example"),
        Site::new("b.example"),
    );
    let now = sekisho_testkit::clock::present();
    let all = [listed(&false_b, now), listed(&c, now)].map(Arc::new);
    let (directory, members) = watch::channel(Members::new(&domain("a.example"), all).unwrap());
    let source = Followed::new(members, |_| false);
    let world = World::start_with_directory(Arc::new(source)).await;
    let channel = world.local().await;
    let answer = get(channel.clone(), &["nobody.example"], &["hpci"], 0).await;
    let names: Vec<_> = answer
        .members
        .iter()
        .map(|member| (member.trust_domain.as_str(), member.source()))
        .collect();
    let of_directory = [
        ("b.example", Source::Directory),
        ("c.example", Source::Directory),
    ];
    assert_eq!(names, of_directory);
    assert_eq!(answer.unknown, ["nobody.example"]);
    assert_eq!(answer.members[1].services[0].gateways, ["gw.example:8443"]);

    let relationship = FederationRelationship {
        trust_domain: "b.example".into(),
        bundle_endpoint_url: "https://127.0.0.1:1/".into(),
        bundle_endpoint_profile: Some(BundleEndpointProfile::HttpsWeb(HttpsWebProfile {})),
        trust_domain_bundle: Some(types::Bundle {
            trust_domain: "b.example".into(),
            x509_authorities: vec![types::X509Certificate {
                asn1: b.ca().der().to_vec(),
                tainted: false,
            }],
            ..Default::default()
        }),
    };
    let request = BatchCreateFederationRelationshipRequest {
        federation_relationships: vec![relationship],
        output_mask: None,
    };
    let mut client = TrustDomainClient::new(channel.clone());
    let made = client.batch_create_federation_relationship(request).await;
    let status = made.unwrap().into_inner().results.remove(0).status;
    assert_eq!(status.unwrap().code, 0);
    let answer = get(channel.clone(), &["b.example"], &["hpci"], 0).await;
    let peer = &answer.members[0];
    assert_eq!(peer.trust_domain, "b.example");
    assert_eq!(peer.source(), Source::Peer);
    assert_eq!(peer.marks, ["hpci"], "the directory's");
    assert!(peer.age_seconds > 1_000_000_000, "never confirmed");
    let bundle = TrustBundle::from_json(domain("b.example"), &peer.bundle).unwrap();
    assert_eq!(bundle.authorities().len(), 1, "never merged");
    assert_eq!(bundle.authorities()[0].der(), b.ca().der());

    // Expelled.
    let none: [Arc<Member>; 0] = [];
    directory.send_replace(Members::new(&domain("a.example"), none).unwrap());
    let answer = get(channel, &["c.example"], &["hpci"], answer.revision).await;
    assert!(answer.members.is_empty());
    assert_eq!(answer.unknown, ["c.example"]);
    world.stop().await;
}

#[tokio::test]
async fn an_age_grows_with_the_clock() {
    let c = Site::new("c.example");
    let then = sekisho_testkit::clock::present();
    let all = [Arc::new(listed(&c, then))];
    let (_directory, members) = watch::channel(Members::new(&domain("a.example"), all).unwrap());
    let source = Followed::new(members, |_| false);
    let world = World::start_with_directory(Arc::new(source)).await;
    world.clock.set(then + Duration::from_secs(90));
    let answer = get(world.local().await, &["c.example"], &[], 0).await;
    assert_eq!(answer.members[0].age_seconds, 90);
    world.stop().await;
}

#[tokio::test]
async fn questions_are_bounded_and_only_agents_and_administrators_ask() {
    let world = World::start().await;
    let ask = |channel: Channel, request: GetMembersRequest| async move {
        let answer = FederationClient::new(channel).get_members(request).await;
        answer.map_err(|status| status.code()).map(drop)
    };
    let local = world.local().await;
    let many = GetMembersRequest {
        trust_domains: (0..1025).map(|one| format!("s{one}.example")).collect(),
        ..Default::default()
    };
    assert_eq!(ask(local.clone(), many).await, Err(Code::InvalidArgument));
    for name in ["B.example", "spiffe://b.example", "b/c", ""] {
        let bad = GetMembersRequest {
            trust_domains: vec![name.into()],
            ..Default::default()
        };
        assert_eq!(ask(local.clone(), bad).await, Err(Code::InvalidArgument));
    }
    let bad = GetMembersRequest {
        marks: vec!["No Mark".into()],
        ..Default::default()
    };
    assert_eq!(ask(local, bad).await, Err(Code::InvalidArgument));
    let agent = world.agent().await;
    let known = world.tls(Some(&agent)).await.unwrap();
    assert_eq!(ask(known, GetMembersRequest::default()).await, Ok(()));
    let stranger = world.tls(None).await.unwrap();
    let refused = ask(stranger, GetMembersRequest::default()).await;
    assert_eq!(refused, Err(Code::PermissionDenied));
    world.stop().await;
}
