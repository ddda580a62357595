//! The sending side where the client says by HTTP CONNECT where it wants to go.

use std::time::Duration;

use sekisho_certs::{Reason, members::Wish};
use tokio::time::Instant;

use super::{
    Refusal,
    way::{At, Established, Way},
};
use crate::{
    connect::{self, Wanted},
    endpoint::spec::{Forward, SiteService},
    peer::Peers,
    permit::Permit,
    stream::Stream,
    transport::Transport,
};

/// How long a client waits while a site that is not known here is asked for: one that this host trusts
/// to come in, and by its connection counted. A peer's handshake waits for nothing of the kind.
const ASK: Duration = Duration::from_secs(3);

impl Way<'_> {
    /// Reads what the client wants, once it may want something, and goes there.
    pub(super) async fn requested(
        mut self,
        mut at: At,
        mut transport: Transport,
    ) -> Result<Box<Established>, Refusal> {
        match self.request(&mut at, &mut transport).await {
            Ok(peers) => {
                let stream = Stream::plain(transport, &at.memory);
                self.onward(at, stream, peers, None).await
            }
            Err((status, refusal)) => {
                connect::refuse(transport, status, refusal.reason).await;
                Err(refusal)
            }
        }
    }

    /// With what to answer where it is refused.
    async fn request(
        &mut self,
        at: &mut At,
        transport: &mut Transport,
    ) -> Result<Peers, (&'static str, Refusal)> {
        let told = |refusal: Refusal| (connect::status(refusal.reason), refusal);
        let client = self
            .client(&at.snapshot, transport)
            .await
            .map_err(|error| told(Refusal::new(error.reason(), error)))?;
        self.live.details().set_client(&client);
        let peers = Peers {
            client,
            upstream: None,
        };
        let allowed = |at: &At| Permit::may_dial(&at.snapshot, &peers).map_err(Refusal::denied);
        allowed(at).map_err(told)?;
        let time = at.snapshot.spec.timeouts.handshake.min(connect::TIME);
        let wanted = connect::read(transport, time)
            .await
            .map_err(|error| (error.status(), Refusal::new(error.reason(), error)))?;
        self.wanted = Some(self.find(at, wanted).await.map_err(told)?);
        // What changed while a site was asked for counts before anybody is dialled.
        allowed(at).map_err(told)?;
        self.facts.trust_revision = at.snapshot.material.trust_revision();
        Ok(peers)
    }

    /// The service, once its site is known. Where it is not, it is asked for, and the answer waited for
    /// a little.
    async fn find(&self, at: &mut At, wanted: Wanted) -> Result<SiteService, Refusal> {
        let Wanted { domain, service } = wanted;
        self.live.details().upstream = Some(format!("site://{domain}/{service}"));
        let until = Instant::now() + ASK;
        loop {
            let (spec, material) = (&at.snapshot.spec, &at.snapshot.material);
            let not_expected = |why: String| Err(Refusal::new(Reason::NotExpected, why));
            let (Forward::Mtls { expect, .. }, Some(any)) = (&spec.forward, spec.any_site()) else {
                return not_expected("the forwarding side changed its kind".into());
            };
            if domain == spec.site {
                return not_expected(format!("{domain} is this site, and not led to from here"));
            }
            if any.service.as_ref().is_some_and(|only| *only != service) {
                return not_expected(format!("{any} does not lead to the service {service}"));
            }
            if !expect.could_name(&domain) {
                return not_expected(format!("no line of `expect` names {domain}"));
            }
            let members = material.members();
            let trusted = material.trust().bundles().get(&domain).is_some();
            let member = members.get(&domain);
            if let Some(member) = member.filter(|member| trusted || member.bundle().is_some()) {
                if !expect.names_domain(&domain, members) {
                    return not_expected(format!("no line of `expect` names {domain}"));
                }
                let site = SiteService {
                    domain,
                    service,
                    allow: any.allow.clone(),
                };
                if member.services().contains_key(&site.service) {
                    return Ok(site);
                }
                let detail = format!("{site}: not in its site's catalogue");
                return Err(Refusal::new(Reason::UpstreamUnreachable, detail));
            }
            let unknown = |why: &str| {
                let detail = format!("{domain}: {why}");
                Err(Refusal::new(Reason::UnknownTrustDomain, detail))
            };
            match material.want(expect, &domain) {
                Some(Wish::Asked | Wish::Pending | Wish::Kept) => {}
                Some(Wish::Unknown) => return unknown("no member, a moment ago"),
                Some(Wish::Limited) => return unknown("too many new names at once"),
                None => return unknown("nobody here knows of other sites"),
            }
            match tokio::time::timeout_at(until, at.changes.changed()).await {
                Ok(Ok(())) => at.refresh()?,
                Ok(Err(_)) => {
                    return Err(Refusal::new(Reason::Drained, "the endpoint was removed"));
                }
                Err(_) => return unknown("not known here yet; it is asked for"),
            }
        }
    }
}
