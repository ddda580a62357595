//! `sekisho.federation.v1.Federation`: what is known of other sites, for agents.

mod encoded;
mod wire;

use std::{collections::BTreeSet, sync::Arc};

use sekisho_certs::{TrustDomain, id};
use sekisho_spire_api::federation::{
    GetMembersRequest, GetMembersResponse, federation_server::Federation as Service,
};
use tonic::{Request, Response, Status};

use super::status;
use crate::{core::Core, members::Wanted};
use encoded::Encoded;

/// Names in one question.
const MOST_DOMAINS: usize = 1024;
/// Marks in one question.
const MOST_MARKS: usize = 64;

/// The service.
#[derive(Clone, Debug)]
pub struct MembersService {
    core: Arc<Core>,
    encoded: Arc<Encoded>,
}

impl MembersService {
    /// On the state of an authority.
    #[must_use]
    pub fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            encoded: Arc::default(),
        }
    }
}

fn wanted(request: &GetMembersRequest) -> Result<Wanted, Status> {
    if request.trust_domains.len() > MOST_DOMAINS || request.marks.len() > MOST_MARKS {
        let text = format!("at most {MOST_DOMAINS} trust domains and {MOST_MARKS} marks");
        return Err(Status::invalid_argument(text));
    }
    let domains = request.trust_domains.iter();
    let domains = domains.map(|name| id::parse_trust_domain(name));
    let domains: Result<BTreeSet<TrustDomain>, _> = domains.collect();
    let marks: Result<_, _> = request.marks.iter().map(|mark| mark.parse()).collect();
    let bad = |what: &str, error: String| Status::invalid_argument(format!("{what}: {error}"));
    Ok(Wanted {
        domains: domains.map_err(|error| bad("trust domain", error.to_string()))?,
        marks: marks
            .map_err(|error: sekisho_certs::members::MemberError| bad("mark", error.to_string()))?,
    })
}

#[tonic::async_trait]
impl Service for MembersService {
    async fn get_members(
        &self,
        request: Request<GetMembersRequest>,
    ) -> Result<Response<GetMembersResponse>, Status> {
        let request = request.into_inner();
        let wanted = wanted(&request)?;
        let answer = self.core.members(&wanted).await;
        let answer = answer.map_err(|error| status::store("failed to look up members", &error))?;
        let answer = wire::answer(
            answer,
            &wanted,
            self.core.now(),
            request.revision,
            &self.encoded,
        );
        Ok(Response::new(answer))
    }
}
