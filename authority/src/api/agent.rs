//! `spire.api.server.agent.v1`: how nodes come in, stay in, and are put out.

mod attest;
mod list;

use std::{sync::Arc, time::Duration};

use sekisho_spire_api::{
    server::agent::{
        AttestAgentRequest, BanAgentRequest, CountAgentsRequest, CountAgentsResponse,
        CreateJoinTokenRequest, DeleteAgentRequest, GetAgentRequest, ListAgentsRequest,
        ListAgentsResponse, PostStatusRequest, PostStatusResponse, RenewAgentRequest,
        RenewAgentResponse, agent_server::Agent as Service,
    },
    types::{self, permission_denied_details::Reason},
};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::{status, svid::to_svid, wire};
use crate::{
    attest::join_token,
    ca::csr::Request as Csr,
    caller::{Caller, denied},
    core::Core,
    entry::{self, Draft, Selector},
    limit::Costly,
    store::{Certificate, Node, Token},
};
use list::{Mask, to_agent};

/// Most bytes of what an agent says of its version.
const VERSION: usize = 255;

/// The service.
#[derive(Clone, Debug)]
pub struct AgentService(Arc<Core>);

impl AgentService {
    /// On the state of an authority.
    #[must_use]
    pub const fn new(core: Arc<Core>) -> Self {
        Self(core)
    }

    fn agent_id(&self, sent: Option<&types::Spiffeid>) -> Result<sekisho_certs::SpiffeId, Status> {
        let id = wire::own_id("agent ID", sent, &self.0.settings.domain)
            .map_err(|error| status::entry("invalid agent ID", &error))?;
        if !id.path().starts_with("/spire/agent/") {
            return Err(Status::invalid_argument(format!(
                "invalid agent ID: \"{id}\" is not an agent in trust domain"
            )));
        }
        Ok(id)
    }
}

#[tonic::async_trait]
impl Service for AgentService {
    type AttestAgentStream = attest::Answers;

    async fn count_agents(
        &self,
        request: Request<CountAgentsRequest>,
    ) -> Result<Response<CountAgentsResponse>, Status> {
        let filter = list::filter(request.into_inner().filter)?;
        let page = self.0.store.nodes(filter, 0, usize::MAX).await;
        let page = page.map_err(|error| status::store("failed to count agents", &error))?;
        let count = i32::try_from(page.items.len()).unwrap_or(i32::MAX);
        Ok(Response::new(CountAgentsResponse { count }))
    }

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        let request = request.into_inner();
        let filter = list::filter(request.filter)?;
        let (after, most) = wire::page(request.page_size, &request.page_token)?;
        let page = self.0.store.nodes(filter, after, most).await;
        let page = page.map_err(|error| status::store("failed to list agents", &error))?;
        let mask = Mask::new(request.output_mask);
        Ok(Response::new(ListAgentsResponse {
            agents: page.items.iter().map(|node| to_agent(node, mask)).collect(),
            next_page_token: wire::next_page(request.page_size, &page),
        }))
    }

    async fn get_agent(
        &self,
        request: Request<GetAgentRequest>,
    ) -> Result<Response<types::Agent>, Status> {
        let request = request.into_inner();
        let id = self.agent_id(request.id.as_ref())?;
        let node = self.0.store.node(id).await;
        let node = node.map_err(|error| status::store("failed to fetch agent", &error))?;
        let node = node.ok_or_else(|| Status::not_found("agent not found"))?;
        Ok(Response::new(to_agent(
            &node,
            Mask::new(request.output_mask),
        )))
    }

    async fn delete_agent(
        &self,
        request: Request<DeleteAgentRequest>,
    ) -> Result<Response<()>, Status> {
        let caller = Caller::of(&request)?;
        let id = self.agent_id(request.into_inner().id.as_ref())?;
        let gone = self.0.store.delete_node(self.0.by(caller.name()), id).await;
        let gone = gone.map_err(|error| status::store("failed to remove agent", &error))?;
        if gone {
            Ok(Response::new(()))
        } else {
            Err(Status::not_found("agent not found"))
        }
    }

    async fn ban_agent(&self, request: Request<BanAgentRequest>) -> Result<Response<()>, Status> {
        let caller = Caller::of(&request)?;
        let id = self.agent_id(request.into_inner().id.as_ref())?;
        let ban = |node: &mut Node| {
            node.banned = true;
            // Its end is told on: `spire-server agent purge` goes by it.
            if let Some(active) = &mut node.active {
                active.serial.clear();
            }
            node.next = None;
        };
        let by = self.0.by(caller.name());
        let banned = self.0.store.update_node(by, id, "node.ban", ban).await;
        let banned = banned.map_err(|error| status::store("failed to ban agent", &error))?;
        banned
            .map(|_| Response::new(()))
            .ok_or_else(|| Status::not_found("agent not found"))
    }

    async fn attest_agent(
        &self,
        request: Request<Streaming<AttestAgentRequest>>,
    ) -> Result<Response<Self::AttestAgentStream>, Status> {
        let caller = Caller::of(&request)?;
        self.0
            .limits
            .wait(Costly::Attest, caller.address(), 1)
            .await?;
        let answers = attest::answers(
            Arc::clone(&self.0),
            caller.name().into(),
            caller.address(),
            request.into_inner(),
        );
        Ok(Response::new(answers))
    }

    async fn renew_agent(
        &self,
        request: Request<RenewAgentRequest>,
    ) -> Result<Response<RenewAgentResponse>, Status> {
        const WHAT: &str = "failed to renew agent";
        let caller = Caller::of(&request)?;
        let params = request.into_inner().params;
        let params = params.ok_or_else(|| Status::invalid_argument("params cannot be nil"))?;
        self.0
            .limits
            .wait(Costly::X509, caller.address(), 1)
            .await?;
        let id = caller.agent_id().cloned();
        let id = id.ok_or_else(|| Status::internal("caller ID missing from request context"))?;
        let node = self.0.store.node(id.clone()).await;
        let node = node.map_err(|error| status::store(WHAT, &error))?;
        let node = node.ok_or_else(|| Status::not_found("agent not found"))?;
        if node.can_reattest {
            let text = "agent must reattest instead of renew".to_owned();
            return Err(denied(text, Reason::AgentMustReattest));
        }
        let csr = Csr::parse(&params.csr)
            .map_err(|error| Status::invalid_argument(format!("failed to parse CSR: {error}")))?;
        let issued = self.0.agent_svid(&id, &csr, node.svid_ttl)?;
        let next = Certificate {
            serial: issued.serial.clone(),
            not_after: issued.not_after,
        };
        let by = self.0.by(caller.name());
        let renew = move |node: &mut Node| node.next = Some(next);
        let renewed = self
            .0
            .store
            .update_node(by, id.clone(), "node.renew", renew)
            .await;
        let renewed = renewed.map_err(|error| status::store(WHAT, &error))?;
        let renewed = renewed.ok_or_else(|| Status::not_found("agent not found"))?;
        if renewed.banned {
            return Err(denied("agent is banned".into(), Reason::AgentBanned));
        }
        Ok(Response::new(RenewAgentResponse {
            svid: Some(to_svid(&id, &issued, "")),
        }))
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<types::JoinToken>, Status> {
        const WHAT: &str = "failed to create token";
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let ttl = u64::try_from(request.ttl).ok().filter(|ttl| *ttl > 0);
        let ttl =
            ttl.ok_or_else(|| Status::invalid_argument("ttl is required, you must provide one"))?;
        let domain = &self.0.settings.domain;
        let alias = match &request.agent_id {
            None => None,
            Some(sent) => {
                let id = wire::own_id("agent ID", Some(sent), domain)
                    .and_then(|id| entry::workload_id(&id.to_string(), domain));
                Some(id.map_err(|error| status::entry("invalid agent ID", &error))?)
            }
        };
        let value = if request.token.is_empty() {
            Uuid::new_v4().to_string()
        } else {
            request.token.clone()
        };
        let parent = join_token::agent_id(domain, &value).map_err(|error| error.status())?;
        let expires_at = self.0.now() + Duration::from_secs(ttl);
        let token = Token {
            lookup: join_token::token_lookup(&value),
            evidence_key: *join_token::token_key(&value),
            agent_id: alias.clone(),
            expires_at,
        };
        let entry = alias.map(|alias| of_token(parent, alias));
        let by = self.0.by(caller.name());
        let added = self.0.store.add_token(by, token, entry).await;
        if !added.map_err(|error| status::store(WHAT, &error))? {
            return Err(Status::internal(format!("{WHAT}: it exists already")));
        }
        Ok(Response::new(types::JoinToken {
            value,
            expires_at: wire::seconds(expires_at),
        }))
    }

    async fn post_status(
        &self,
        request: Request<PostStatusRequest>,
    ) -> Result<Response<PostStatusResponse>, Status> {
        let caller = Caller::of(&request)?;
        self.0
            .limits
            .wait(Costly::Status, caller.address(), 1)
            .await?;
        let version = request.into_inner().agent_version;
        if version.len() > VERSION {
            return Err(Status::invalid_argument(
                "agent version is longer than 255 bytes",
            ));
        }
        if let Some(id) = caller.agent_id().cloned() {
            let by = self.0.by(caller.name());
            let note = move |node: &mut Node| node.version = version;
            let noted = self.0.store.update_node(by, id, "node.version", note).await;
            noted.map_err(|error| status::store("failed to post status", &error))?;
        }
        Ok(Response::new(PostStatusResponse {}))
    }
}

/// The entry that a token with an agent's ID makes: whoever comes by the token has that ID too.
fn of_token(parent: sekisho_certs::SpiffeId, alias: sekisho_certs::SpiffeId) -> Draft {
    let selector = Selector {
        kind: "spiffe_id".into(),
        value: parent.to_string(),
    };
    Draft {
        id: None,
        spiffe_id: alias,
        parent_id: parent,
        selectors: [selector].into(),
        x509_ttl: Duration::ZERO,
        jwt_ttl: Duration::ZERO,
        federates_with: Vec::new(),
        admin: false,
        downstream: false,
        expires_at: None,
        dns_names: Vec::new(),
        store_svid: false,
        hint: String::new(),
        no_prefetch: false,
        jwt_id: false,
    }
}
