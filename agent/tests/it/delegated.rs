//! The Delegated Identity API: for whom, by whom, and nobody else.

use std::sync::Arc;

use sekisho_agent::{
    delegate::watch_delegated,
    members::{Wants, watch_members},
    selector::Selector,
};
use sekisho_authority::members::Followed;
use sekisho_certs::{
    IdList, Member, Members, SpiffeId,
    id::parse_workload_id,
    members::{Feed, Source},
    tls,
};
use sekisho_spire_api::{
    agent::delegated_identity::{
        FetchJwtsviDsRequest, SubscribeToX509sviDsRequest, SubscribeToX509sviDsResponse,
        delegated_identity_client::DelegatedIdentityClient,
    },
    server::entry::{BatchDeleteEntryRequest, entry_client::EntryClient},
    types,
};
use sekisho_testkit::{Site as Foreign, TestClock, wait_until};
use tokio::sync::watch;
use tonic::{Code, Status};

use crate::harness::{Running, Site, channel, domain, entry};

/// This process is `/proxy`; `/kafka` and `/db` are other processes.
async fn site(delegates: Vec<(SpiffeId, IdList)>) -> (Site, Running) {
    populated(Site::start().await, delegates).await
}

async fn populated(site: Site, delegates: Vec<(SpiffeId, IdList)>) -> (Site, Running) {
    let token = site.token().await;
    let settings = site.agent_settings(&token).await;
    let mut agent = site.run_with(settings, delegates).await;
    agent.turned().await;
    let of_user = |path: &str, user: &str| types::Entry {
        selectors: vec![selector(user)],
        ..entry(path, &agent.path())
    };
    let admin = types::Entry {
        admin: true,
        ..of_user("/kafka/admin", "kafka")
    };
    site.create(vec![
        entry("/proxy", &agent.path()),
        of_user("/kafka", "kafka"),
        of_user("/db", "db"),
        admin,
    ])
    .await;
    assert_eq!(agent.turn().await.problem, None);
    (site, agent)
}

fn selector(user: &str) -> types::Selector {
    types::Selector {
        r#type: "unix".into(),
        value: format!("user:{user}"),
    }
}

fn id(path: &str) -> SpiffeId {
    parse_workload_id(&format!("spiffe://hokkaido.example{path}")).unwrap()
}

fn only(path: &str) -> IdList {
    IdList::Named(vec![id(path).to_string().parse().unwrap()])
}

async fn subscribe(
    agent: &Running,
    selectors: Vec<types::Selector>,
    pid: i32,
) -> Result<SubscribeToX509sviDsResponse, Status> {
    let mut client = DelegatedIdentityClient::new(channel(&agent.admin).await);
    let request = SubscribeToX509sviDsRequest { selectors, pid };
    let mut stream = client.subscribe_to_x509svi_ds(request).await?.into_inner();
    Ok(stream.message().await?.unwrap())
}

fn paths(message: &SubscribeToX509sviDsResponse) -> Vec<String> {
    let svids = message.x509_svids.iter();
    svids
        .map(|svid| svid.x509_svid.clone().unwrap().id.unwrap().path)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_gets_what_is_listed_for_it_and_nothing_else() {
    let (_site, agent) = site(vec![(id("/proxy"), only("/kafka"))]).await;
    let kafka = subscribe(&agent, vec![selector("kafka")], 0).await.unwrap();
    assert_eq!(paths(&kafka), ["/kafka"], "no administrator's");
    let db = subscribe(&agent, vec![selector("db")], 0).await.unwrap();
    assert!(paths(&db).is_empty());
    // By pid: this very process, which is not on the list.
    let pid = i32::try_from(std::process::id()).unwrap();
    let own = subscribe(&agent, Vec::new(), pid).await.unwrap();
    assert!(paths(&own).is_empty());
    for (selectors, pid, code) in [
        (Vec::new(), 0, Code::InvalidArgument),
        (vec![selector("kafka")], 7, Code::InvalidArgument),
        (vec![types::Selector::default()], 0, Code::InvalidArgument),
        (Vec::new(), i32::MAX, Code::NotFound),
    ] {
        let error = subscribe(&agent, selectors, pid).await.unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
    }
    let mut client = DelegatedIdentityClient::new(channel(&agent.admin).await);
    let jwt = |user: &str| FetchJwtsviDsRequest {
        audience: vec!["a".into()],
        selectors: vec![selector(user)],
        pid: 0,
    };
    let svids = client
        .fetch_jwtsvi_ds(jwt("kafka"))
        .await
        .unwrap()
        .into_inner()
        .svids;
    assert_eq!(svids.len(), 1);
    let error = client.fetch_jwtsvi_ds(jwt("db")).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_no_delegate_gets_nothing() {
    let (_site, agent) = site(vec![(id("/other"), only("/kafka"))]).await;
    let error = subscribe(&agent, vec![selector("kafka")], 0)
        .await
        .unwrap_err();
    let words = "caller not configured as an authorized delegate";
    assert_eq!(
        (error.code(), error.message()),
        (Code::PermissionDenied, words)
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_supplied_by_it_and_loses_what_is_taken_from_it() {
    let (site, mut agent) = site(vec![(id("/proxy"), only("/kafka"))]).await;
    let provider = Arc::new(tls::provider());
    let selectors = vec![Selector::new("unix", "user:kafka")];
    let mut supply = watch_delegated(agent.admin.clone(), selectors, provider);
    let there = wait_until(&mut supply, "an SVID", |supply| !supply.svids.is_empty()).await;
    assert_eq!(there.svids[0].id(), &id("/kafka"));
    assert!(there.bundles.get(id("/kafka").trust_domain()).is_some());
    // The delegate itself is put out: what it had is withdrawn.
    let mut admin = EntryClient::new(site.admin().await);
    let ids = vec!["proxy".into()];
    admin
        .batch_delete_entry(BatchDeleteEntryRequest { ids })
        .await
        .unwrap();
    agent.turn().await;
    wait_until(&mut supply, "nothing", |supply| supply.svids.is_empty()).await;
    agent.stop().await;
}

/// A directory with one member, marked.
async fn with_member(other: &Foreign) -> Site {
    let mut site = Site::start().await;
    site.stop_authority().await;
    let now = sekisho_testkit::clock::present();
    let member = Member::new(other.domain().clone(), Source::Directory, now)
        .with_marks(["hpci".parse().unwrap()].into())
        .unwrap()
        .with_bundle(Arc::clone(other.bundle()))
        .unwrap();
    let members = Members::new(&domain(), [Arc::new(member)]).unwrap();
    let known = watch::Sender::new(members).subscribe();
    site.directory = Some(Arc::new(Followed::new(known, |_| false)));
    site.start_authority().await;
    site
}

fn watched(site: &Site, agent: &Running) -> (watch::Sender<Wants>, Feed) {
    let (keep, wants) = watch::channel(Wants {
        marks: ["hpci".parse().unwrap()].into(),
        ..Wants::default()
    });
    let clock = Arc::<TestClock>::clone(&site.clock);
    let feed = watch_members(agent.admin.clone(), domain(), wants, clock);
    (keep, feed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_is_told_of_other_sites_and_nobody_else_is_at_that_door() {
    let other = Foreign::new("b.example");
    let (site, mut agent) = populated(
        with_member(&other).await,
        vec![(id("/proxy"), only("/kafka"))],
    )
    .await;
    let (_keep, mut feed) = watched(&site, &agent);
    agent.turn().await;
    let members = wait_until(&mut feed.members, "a member", |all| all.len() == 1).await;
    assert!(members.get(other.domain()).unwrap().bundle().is_some());
    agent.stop().await;

    let (site, agent) = populated(
        with_member(&other).await,
        vec![(id("/other"), only("/kafka"))],
    )
    .await;
    let (_keep, mut feed) = watched(&site, &agent);
    let words = "caller not configured as an authorized delegate";
    wait_until(&mut feed.problem, "a refusal", |problem| {
        problem.as_ref().is_some_and(|told| told.contains(words))
    })
    .await;
    assert_eq!(feed.members.borrow().len(), 0);
    agent.stop().await;
}
