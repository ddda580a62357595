//! `sekisho node purge` at a server that does not filter.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use clap::Parser as _;
use futures_util::{Stream, stream};
use sekisho_spire_api::server::agent::{
    AttestAgentRequest, AttestAgentResponse, CountAgentsResponse, CreateJoinTokenRequest,
    ListAgentsResponse, PostStatusRequest, PostStatusResponse, RenewAgentRequest,
    RenewAgentResponse,
    agent_server::{Agent, AgentServer},
};
use tokio::net::UnixListener;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::*;

fn agent(name: &str) -> types::Agent {
    types::Agent {
        id: Some(types::Spiffeid {
            trust_domain: "a.example".into(),
            path: format!("/spire/agent/{name}"),
        }),
        can_reattest: true,
        x509svid_expires_at: 100,
        ..Default::default()
    }
}

/// One that may be forgotten, and others that may not, for a reason each.
fn agents() -> Vec<types::Agent> {
    vec![
        agent("old"),
        types::Agent {
            banned: true,
            ..agent("banned")
        },
        types::Agent {
            can_reattest: false,
            ..agent("once")
        },
        types::Agent {
            x509svid_expires_at: i64::MAX,
            ..agent("good")
        },
        types::Agent {
            x509svid_expires_at: 0,
            ..agent("unknown")
        },
        agent("stays"),
    ]
}

/// A server that lists all whatever is asked, two on a page, and does not let `stays` go.
#[derive(Debug, Default)]
struct Fake(Arc<Mutex<Vec<String>>>);

fn unused<T>() -> Result<T, Status> {
    Err(Status::unimplemented("not in this test"))
}

#[tonic::async_trait]
impl Agent for Fake {
    type AttestAgentStream =
        Pin<Box<dyn Stream<Item = Result<AttestAgentResponse, Status>> + Send>>;

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        let token = request.into_inner().page_token;
        let from: usize = token.parse().unwrap_or_default();
        let agents: Vec<_> = agents().into_iter().skip(from).take(2).collect();
        // As SPIRE's: the end is an empty page.
        let next_page_token = match agents.len() {
            0 => String::new(),
            more => (from + more).to_string(),
        };
        Ok(Response::new(ListAgentsResponse {
            agents,
            next_page_token,
        }))
    }

    async fn delete_agent(
        &self,
        request: Request<DeleteAgentRequest>,
    ) -> Result<Response<()>, Status> {
        let name = request.into_inner().id.unwrap().path;
        if name.ends_with("/stays") {
            return Err(Status::internal("no"));
        }
        self.0.lock().unwrap().push(name);
        Ok(Response::new(()))
    }

    async fn count_agents(
        &self,
        _: Request<CountAgentsRequest>,
    ) -> Result<Response<CountAgentsResponse>, Status> {
        unused()
    }

    async fn get_agent(
        &self,
        _: Request<GetAgentRequest>,
    ) -> Result<Response<types::Agent>, Status> {
        unused()
    }

    async fn ban_agent(&self, _: Request<BanAgentRequest>) -> Result<Response<()>, Status> {
        unused()
    }

    async fn attest_agent(
        &self,
        _: Request<Streaming<AttestAgentRequest>>,
    ) -> Result<Response<Self::AttestAgentStream>, Status> {
        unused()
    }

    async fn renew_agent(
        &self,
        _: Request<RenewAgentRequest>,
    ) -> Result<Response<RenewAgentResponse>, Status> {
        unused()
    }

    async fn create_join_token(
        &self,
        _: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<types::JoinToken>, Status> {
        unused()
    }

    async fn post_status(
        &self,
        _: Request<PostStatusRequest>,
    ) -> Result<Response<PostStatusResponse>, Status> {
        unused()
    }
}

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    purge: Purge,
}

/// What the command ends with, and who was forgotten.
async fn purged(words: &[&str]) -> (u8, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let fake = Fake::default();
    let forgotten = Arc::clone(&fake.0);
    let listener = UnixListener::bind(&socket).unwrap();
    let incoming = stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let server = Server::builder().add_service(AgentServer::new(fake));
    let server = tokio::spawn(server.serve_with_incoming(incoming));
    let line = Line::parse_from([&["purge"], words].concat());
    let channel = crate::api::connect(&socket).await.unwrap();
    let code = forget(channel, &line.purge).await.unwrap();
    server.abort();
    let names = forgotten.lock().unwrap().clone();
    (code, names)
}

#[tokio::test]
async fn only_those_that_may_come_back_are_forgotten() {
    let (code, names) = purged(&[]).await;
    assert_eq!(names, ["/spire/agent/old"]);
    assert_eq!(code, cli::FAILED, "one could not be forgotten");
    assert_eq!(purged(&["--dry-run"]).await, (cli::OK, Vec::new()));
}

#[test]
fn an_agent_is_old_from_a_time_on() {
    assert!(is_old(&agent("a"), 100));
    assert!(!is_old(&agent("a"), 99));
}
