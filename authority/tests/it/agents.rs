//! The life of an agent: from a token to an SVID of a workload, and out.

use std::time::Duration;

use prost::Message as _;
use sekisho_spire_api::{
    rpc,
    server::{
        agent::{
            AgentX509svidParams, BanAgentRequest, DeleteAgentRequest, ListAgentsRequest,
            PostStatusRequest, RenewAgentRequest, agent_client::AgentClient,
        },
        bundle::{GetBundleRequest, bundle_client::BundleClient},
        debug::{GetInfoRequest, debug_client::DebugClient},
        entry::{
            GetAuthorizedEntriesRequest, ListEntriesRequest, SyncAuthorizedEntriesRequest,
            entry_client::EntryClient,
        },
        svid::{BatchNewX509svidRequest, NewX509svidParams, svid_client::SvidClient},
    },
    types::{self, PermissionDeniedDetails, permission_denied_details::Reason},
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tonic::{Code, Status};

use crate::harness::{Identity, World, entry, identity, request};

/// The reason in the details of a denial.
fn reason(status: &Status) -> Option<Reason> {
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    let whole = rpc::Status::decode(status.details()).unwrap();
    let detail = whole.details.first()?;
    let name = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";
    assert_eq!(detail.type_url, name);
    let details = PermissionDeniedDetails::decode(detail.value.as_slice()).unwrap();
    Some(details.reason())
}

async fn authorized(world: &World, agent: &Identity) -> Result<Vec<types::Entry>, Status> {
    let mut client = EntryClient::new(world.tls(Some(agent)).await.unwrap());
    let answer = client
        .get_authorized_entries(GetAuthorizedEntriesRequest::default())
        .await?;
    Ok(answer.into_inner().entries)
}

#[tokio::test]
async fn a_token_makes_an_agent_which_gets_the_svids_of_its_entries_and_no_others() {
    let world = World::start().await;
    let agent = world.agent().await;
    let path = agent.id.strip_prefix("spiffe://a.example").unwrap();
    assert!(path.starts_with("/spire/agent/join_token/"));
    let created = world
        .create(vec![
            entry("/w", path, "unix:uid:1000"),
            entry("/other", "/spire/agent/join_token/other", "unix:uid:1000"),
        ])
        .await;
    assert!(
        created
            .iter()
            .all(|status| status.code == 0 && status.message == "OK")
    );
    let entries = authorized(&world, &agent).await.unwrap();
    let [own] = entries.as_slice() else {
        panic!("{entries:?}");
    };
    let (key, csr) = request();
    let param = |entry_id: &str, csr: &[u8]| NewX509svidParams {
        entry_id: entry_id.into(),
        csr: csr.to_vec(),
    };
    let mut client = SvidClient::new(world.tls(Some(&agent)).await.unwrap());
    let request = BatchNewX509svidRequest {
        params: vec![
            param(&own.id, &csr),
            param("nonsense", &csr),
            param(&own.id, b"x"),
        ],
    };
    let results = client
        .batch_new_x509svid(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    let codes: Vec<_> = results
        .iter()
        .map(|it| it.status.as_ref().unwrap().code)
        .collect();
    assert_eq!(codes, [0, 5, 3]);
    let svid = identity(results[0].svid.clone().unwrap(), &key);
    assert_eq!(svid.id, "spiffe://a.example/w");
    // It is a workload's: it is verified, and may nothing here.
    let error = authorized(&world, &svid).await.unwrap_err();
    assert_eq!(reason(&error), Some(Reason::AgentNotAttested));
    world.stop().await;
}

#[tokio::test]
async fn a_token_is_good_for_one_attempt() {
    let world = World::start().await;
    let token = world.token().await;
    world.attest("join_token", token.as_bytes()).await.unwrap();
    for payload in [token.as_bytes(), b"unknown", b"\xff"] {
        let status = world.attest("join_token", payload).await.err().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    let late = world.token().await;
    world.clock.advance(Duration::from_secs(601));
    let status = world
        .attest("join_token", late.as_bytes())
        .await
        .err()
        .unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = world.attest("nonsense", b"x").await.err().unwrap();
    assert_eq!(status.code(), Code::FailedPrecondition);
    world.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_takes_over_when_it_is_used() {
    let world = World::start().await;
    let agent = world.agent().await;
    let mut client = AgentClient::new(world.tls(Some(&agent)).await.unwrap());
    let (key, csr) = request();
    let renewal = RenewAgentRequest {
        params: Some(AgentX509svidParams { csr }),
    };
    let svid = client
        .renew_agent(renewal)
        .await
        .unwrap()
        .into_inner()
        .svid
        .unwrap();
    let renewed = identity(svid, &key);
    authorized(&world, &agent).await.unwrap();
    authorized(&world, &renewed).await.unwrap();
    let error = authorized(&world, &agent).await.unwrap_err();
    assert_eq!(reason(&error), Some(Reason::AgentNotActive));
    authorized(&world, &renewed).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn whoever_is_put_out_is_told_why() {
    let world = World::start().await;
    let (banned, evicted, late) = (
        world.agent().await,
        world.agent().await,
        world.agent().await,
    );
    let mut admin = AgentClient::new(world.local().await);
    let id = |agent: &Identity| {
        let path = agent.id.strip_prefix("spiffe://a.example").unwrap();
        crate::harness::spiffe_id(path)
    };
    admin
        .ban_agent(BanAgentRequest { id: id(&banned) })
        .await
        .unwrap();
    admin
        .delete_agent(DeleteAgentRequest { id: id(&evicted) })
        .await
        .unwrap();
    let error = authorized(&world, &banned).await.unwrap_err();
    assert_eq!(reason(&error), Some(Reason::AgentBanned));
    let agents = admin.list_agents(ListAgentsRequest::default()).await;
    let agents = agents.unwrap().into_inner().agents;
    let told = agents.iter().find(|agent| agent.banned).unwrap();
    assert!(told.x509svid_expires_at > 0 && told.x509svid_serial_number.is_empty());
    let error = authorized(&world, &evicted).await.unwrap_err();
    assert_eq!(reason(&error), Some(Reason::AgentNotAttested));
    // A connection that outlives its certificate.
    let mut open = EntryClient::new(world.tls(Some(&late)).await.unwrap());
    open.get_authorized_entries(GetAuthorizedEntriesRequest::default())
        .await
        .unwrap();
    world.clock.advance(Duration::from_secs(3601));
    let error = open
        .get_authorized_entries(GetAuthorizedEntriesRequest::default())
        .await;
    assert_eq!(reason(&error.unwrap_err()), Some(Reason::AgentExpired));
    world.stop().await;
}

#[tokio::test]
async fn nobody_calls_what_is_not_theirs() {
    let world = World::start().await;
    let agent = world.agent().await;
    let list = ListEntriesRequest::default;
    for channel in [
        world.tls(None).await.unwrap(),
        world.tls(Some(&agent)).await.unwrap(),
    ] {
        let mut client = EntryClient::new(channel.clone());
        let error = client.list_entries(list()).await.unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied);
        let method = "authorization denied for method /spire.api.server.entry.v1.Entry/ListEntries";
        assert_eq!(error.message(), method);
        assert!(error.details().is_empty());
        // For this host only: there is no such service at this door.
        let mut client = DebugClient::new(channel.clone());
        let error = client.get_info(GetInfoRequest {}).await.unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied);
        let mut client = BundleClient::new(channel);
        let bundle = client
            .get_bundle(GetBundleRequest::default())
            .await
            .unwrap();
        assert_eq!(bundle.into_inner().x509_authorities.len(), 1);
    }
    let mut local = AgentClient::new(world.local().await);
    let error = local
        .post_status(PostStatusRequest::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    let agents = local
        .list_agents(ListAgentsRequest::default())
        .await
        .unwrap();
    assert_eq!(agents.into_inner().agents.len(), 1);
    let mut local = DebugClient::new(world.local().await);
    let info = local
        .get_info(GetInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((info.agents_count, info.entries_count), (1, 0));
    world.stop().await;
}

#[tokio::test]
async fn many_entries_are_synced_by_revisions_and_then_by_name() {
    let world = World::start().await;
    let agent = world.agent().await;
    let path = agent.id.strip_prefix("spiffe://a.example").unwrap();
    let all = (0..1201)
        .map(|at| entry(&format!("/w{at}"), path, "unix:uid:1"))
        .collect();
    world.create(all).await;
    let mut client = EntryClient::new(world.tls(Some(&agent)).await.unwrap());
    let (ask, asked) = tokio::sync::mpsc::channel(4);
    let first = SyncAuthorizedEntriesRequest::default();
    ask.send(first).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(asked);
    let mut answers = client
        .sync_authorized_entries(requests)
        .await
        .unwrap()
        .into_inner();
    let mut ids = Vec::new();
    let mut pages = Vec::new();
    loop {
        let page = answers.message().await.unwrap().unwrap();
        assert!(page.entries.is_empty());
        pages.push(page.entry_revisions.len());
        ids.extend(page.entry_revisions.into_iter().map(|revision| revision.id));
        if !page.more {
            break;
        }
    }
    assert_eq!(pages, [500, 500, 201]);
    ids.truncate(499);
    ids.push("unknown".into());
    let second = SyncAuthorizedEntriesRequest {
        ids,
        ..Default::default()
    };
    ask.send(second).await.unwrap();
    let page = answers.message().await.unwrap().unwrap();
    assert_eq!((page.entries.len(), page.more), (499, false));
    drop(ask);
    assert!(answers.message().await.unwrap().is_none());
    world.stop().await;
}

#[tokio::test]
async fn entries_that_do_not_fit_into_a_message_are_synced_in_several() {
    let world = World::start().await;
    let agent = world.agent().await;
    let path = agent.id.strip_prefix("spiffe://a.example").unwrap();
    let long = format!("unix:{}", "x".repeat(300_000));
    for batch in 0..2 {
        let all = (0..10).map(|at| entry(&format!("/w{batch}-{at}"), path, &long));
        let created = world.create(all.collect()).await;
        assert!(created.iter().all(|status| status.code == 0));
    }
    let mut client = EntryClient::new(world.tls(Some(&agent)).await.unwrap());
    let (ask, asked) = tokio::sync::mpsc::channel(4);
    let first = SyncAuthorizedEntriesRequest::default();
    ask.send(first).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(asked);
    let mut answers = client
        .sync_authorized_entries(requests)
        .await
        .unwrap()
        .into_inner();
    let page = answers.message().await.unwrap().unwrap();
    assert_eq!((page.entries.len(), page.entry_revisions.len()), (0, 20));
    assert!(!page.more);
    let second = SyncAuthorizedEntriesRequest {
        ids: page.entry_revisions.into_iter().map(|it| it.id).collect(),
        ..Default::default()
    };
    ask.send(second).await.unwrap();
    let mut pages = Vec::new();
    loop {
        // The client takes 4 MiB, as agents do.
        let page = answers.message().await.unwrap().unwrap();
        pages.push(page.entries.len());
        if !page.more {
            break;
        }
    }
    assert_eq!(pages, [10, 10]);
    // The server ends when its calls have.
    drop(ask);
    assert!(answers.message().await.unwrap().is_none());
    world.stop().await;
}

#[tokio::test]
async fn the_door_bears_so_many_connections_and_no_more() {
    let world = World::start_with(|settings| settings.connections.connections = 1).await;
    let mut first = BundleClient::new(world.tls(None).await.unwrap());
    let get = GetBundleRequest::default;
    first.get_bundle(get()).await.unwrap();
    world.tls(None).await.unwrap_err();
    // Who is in stays in, and what is given back can be taken.
    first.get_bundle(get()).await.unwrap();
    drop(first);
    let again = async { while world.tls(None).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(10), again)
        .await
        .unwrap();
    world.stop().await;
}

#[tokio::test]
async fn handshakes_that_are_not_finished_shut_out_their_own_network_only() {
    let world = World::start_with(|settings| settings.connections.handshakes_of_one = 2).await;
    let silent = [
        TcpStream::connect(world.address).await.unwrap(),
        TcpStream::connect(world.address).await.unwrap(),
    ];
    let mut third = TcpStream::connect(world.address).await.unwrap();
    // Closed, without a word.
    let mut byte = [0];
    assert_eq!(third.read(&mut byte).await.unwrap_or(0), 0);
    world.tls(None).await.unwrap_err();
    drop(silent);
    let again = async { while world.tls(None).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(10), again)
        .await
        .unwrap();
    world.stop().await;
}
