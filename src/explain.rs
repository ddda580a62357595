//! `sekisho explain`: would this peer be allowed here, and what says so?

mod who;

use std::sync::Arc;

use clap::Args;
use sekisho_certs::{
    Clock as _, IdList, Member, Members, SpiffeId, SystemClock, TrustDomain, id,
    members::Source,
    source::{SourceSpec, read_files},
    tls,
};
use sekisho_policy::{Client, Direction, Input, Upstream};
use sekisho_proxy::endpoint::spec::{Address, AnySite, EndpointSpec, Forward, Listen};
use serde_json::{Value, json};

use crate::{
    check::world,
    cli::{self, ConfigArgs},
    config::EndpointConfig,
    node::{self, Loaded},
    output::{self, Colour, paint},
};
use who::Who;

/// What to explain.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The endpoint's name
    endpoint: String,
    /// The peer at its mTLS side: who comes, or who answers
    #[arg(value_name = "SPIFFE-ID")]
    peer: String,
    #[command(flatten)]
    config: ConfigArgs,
    /// The user of this host who comes, at an endpoint that listens without mTLS, in the groups
    /// that the account database says
    #[arg(long, value_name = "NAME|NUMBER")]
    user: Option<String>,
    /// One more group of that user; may be given several times
    #[arg(long, value_name = "NAME|NUMBER")]
    group: Vec<String>,
    /// Who answers, at an endpoint with mTLS on both sides
    #[arg(long, value_name = "SPIFFE-ID")]
    upstream: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One question and its answer.
struct Step {
    asked: &'static str,
    ok: bool,
    answer: String,
    reason: Option<String>,
}

/// All that can be said.
struct Told {
    steps: Vec<Step>,
    /// What policy would see at run time and did not see here.
    unknown: Vec<String>,
    /// What follows at run time and was not asked here.
    then: Option<&'static str>,
}

/// Does it. Nothing is dialled and no port is opened; whether the peer has a key that proves the
/// ID is for the handshake to say.
pub(crate) fn explain(args: &ExplainArgs) -> u8 {
    let loaded = match node::load(&args.config.config) {
        Ok(loaded) => loaded,
        Err(error) => {
            output::complain(error.render(output::colour_err()));
            return cli::INVALID;
        }
    };
    let mut endpoints = loaded.config.endpoints.iter();
    let Some(endpoint) = endpoints.find(|endpoint| endpoint.spec.name == args.endpoint) else {
        let names = loaded
            .config
            .endpoints
            .iter()
            .map(|endpoint| endpoint.spec.name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        output::complain(format_args!(
            "no endpoint {:?}; there are: {names}",
            args.endpoint
        ));
        return cli::INVALID;
    };
    let case = match Case::of(args, &loaded, endpoint) {
        Ok(case) => case,
        Err(problem) => {
            output::complain(problem);
            return cli::INVALID;
        }
    };
    let told = case.explain();
    let allowed = told.steps.iter().all(|step| step.ok);
    if args.json {
        let rows = told.steps.iter().map(|step| {
            json!({"asked": step.asked, "ok": step.ok, "answer": step.answer, "reason": step.reason})
        });
        let rows: Vec<Value> = rows.collect();
        output::json(&json!({
            "endpoint": args.endpoint,
            "peer": args.peer,
            "upstream": args.upstream,
            "allowed": allowed,
            "steps": rows,
            "not_known_here": told.unknown,
            "then": told.then,
        }));
    } else {
        print(&told, allowed);
    }
    if allowed { cli::OK } else { cli::FAILED }
}

fn print(told: &Told, allowed: bool) {
    let colour = output::colour_out();
    for step in &told.steps {
        let (mark, tint) = if step.ok {
            ("yes", Colour::Green)
        } else {
            ("no ", Colour::Red)
        };
        let reason = step.reason.as_ref().map(|reason| format!(" [{reason}]"));
        output::line(format_args!(
            "{}  {:<8} {}{}",
            paint(mark, tint, colour),
            step.asked,
            step.answer,
            reason.unwrap_or_default()
        ));
    }
    if !told.unknown.is_empty() {
        let unknown = told.unknown.join(", ");
        output::line(format_args!("not known here: {unknown}"));
    }
    if let Some(then) = told.then {
        output::line(format_args!("then: {then}"));
    }
    let verdict = if allowed {
        paint("allowed", Colour::Green, colour)
    } else {
        paint("refused", Colour::Red, colour)
    };
    output::line(verdict);
}

/// Who meets at which endpoint.
struct Case<'a> {
    loaded: &'a Loaded,
    endpoint: &'a EndpointConfig,
    /// Who comes to an mTLS side.
    comes: Option<SpiffeId>,
    /// Who answers at an mTLS side, where that is given.
    answers: Option<SpiffeId>,
    own_id: Option<SpiffeId>,
    who: Who,
}

impl<'a> Case<'a> {
    fn of(
        args: &ExplainArgs,
        loaded: &'a Loaded,
        endpoint: &'a EndpointConfig,
    ) -> Result<Self, String> {
        let id = |text: &str| id::parse_workload_id(text).map_err(|error| error.to_string());
        let spec = &endpoint.spec;
        let peer = id(&args.peer)?;
        let given = args.upstream.as_deref().map(id).transpose()?;
        let inbound = matches!(spec.listen, Listen::Mtls { .. });
        let onward = matches!(spec.forward, Forward::Mtls { .. });
        if given.is_some() && !(inbound && onward) {
            let name = &spec.name;
            return Err(format!(
                "--upstream is for endpoints with mTLS on both sides, {name} is {} -> {}",
                spec.listen, spec.forward
            ));
        }
        let (comes, answers) = match (inbound, onward) {
            (true, _) => (Some(peer), given),
            (false, true) => (None, Some(peer)),
            (false, false) => (None, None),
        };
        Ok(Self {
            loaded,
            endpoint,
            comes,
            answers,
            own_id: own_id(endpoint),
            who: Who::look_up(args.user.as_deref(), &args.group)?,
        })
    }

    /// In the order of `run`: who comes, the policy's first word where that side is mTLS; then who
    /// answers, and the policy once more.
    fn explain(&self) -> Told {
        let spec = &self.endpoint.spec;
        let mut steps = Vec::new();
        match (&spec.listen, &self.comes) {
            (Listen::Mtls { accept, .. }, Some(peer)) => {
                steps.push(trust(self.endpoint, peer));
                steps.push(listed(spec, "accept", accept, peer, "not_accepted"));
                steps.extend(self.policy(None));
            }
            (Listen::Mtls { .. }, None) => {}
            (
                Listen::Tcp { local, .. }
                | Listen::Connect { local, .. }
                | Listen::Unix { local, .. },
                _,
            ) => {
                steps.push(self.who.explain(local));
            }
        }
        let mut then = None;
        match (&spec.forward, &self.answers) {
            (Forward::Mtls { expect, .. }, Some(peer)) => {
                if let Some(any) = spec.any_site() {
                    steps.push(asked_for(spec, any, peer));
                }
                steps.push(trust(self.endpoint, peer));
                steps.push(listed(spec, "expect", expect, peer, "not_expected"));
                steps.extend(self.policy(Some(peer)));
            }
            (Forward::Mtls { .. }, None) => {
                then = Some(
                    "once an upstream has answered, `expect` and a second decision of the policy: \
                     give its ID with --upstream",
                );
            }
            (Forward::Plain { .. }, _) if self.comes.is_none() => {
                steps.push(Step {
                    asked: "peer",
                    ok: false,
                    answer: "neither side of this endpoint is mTLS: no peer with a SPIFFE ID \
                             comes here"
                        .into(),
                    reason: None,
                });
                steps.extend(self.policy(None));
            }
            (Forward::Plain { .. }, _) => {}
        }
        Told {
            steps,
            unknown: self.unknown(),
            then,
        }
    }

    fn policy(&self, answers: Option<&SpiffeId>) -> Option<Step> {
        let policy = self.loaded.policy_of(self.endpoint)?;
        let decision = policy.evaluator().decide(&self.input(answers));
        let said = decision.message.map(|said| format!(": {said}"));
        Some(Step {
            asked: "policy",
            ok: decision.allowed,
            answer: format!(
                "data.{} at revision {}{}",
                policy.decision_path().replace('/', "."),
                policy.revision(),
                said.unwrap_or_default()
            ),
            reason: decision.reason.map(|reason| reason.to_string()),
        })
    }

    fn input(&self, answers: Option<&SpiffeId>) -> Input {
        let spec = &self.endpoint.spec;
        Input {
            site: spec.site.to_string(),
            endpoint: spec.name.clone(),
            direction: spec.direction(),
            service: spec.name.clone(),
            source: None,
            destination: None,
            own_id: self.own_id.clone(),
            sni: self.comes.as_ref().map(|_| spec.server_name.clone()),
            client: match &self.comes {
                Some(peer) => Client::Workload(peer.clone()),
                None => self.who.client(),
            },
            upstream: answers.map(|id| Upstream {
                id: Some(id.clone()),
                // Of any site, no address is known before the client has said which.
                address: match spec.any_site() {
                    Some(_) => None,
                    None => spec.forward.addresses().first().map(ToString::to_string),
                },
            }),
            federation: None,
            claimed: std::collections::BTreeMap::new(),
        }
    }

    /// What policy sees at run time and cannot see here, by the names it has there.
    fn unknown(&self) -> Vec<String> {
        let spec = &self.endpoint.spec;
        let mut unknown = Vec::new();
        if self.loaded.policy_of(self.endpoint).is_none() {
            return unknown;
        }
        let unix = matches!(spec.listen, Listen::Unix { .. });
        if !unix {
            unknown.push("attributes.source.address".to_owned());
            unknown.push("attributes.destination.address".to_owned());
        }
        if self.own_id.is_none() && self.endpoint.identity.is_some() {
            let side = match spec.direction() {
                Direction::Inbound => "destination",
                Direction::Outbound => "source",
            };
            unknown.push(format!("attributes.{side}.principal (our own ID)"));
        }
        if self.comes.is_none() && !self.who.is_known() {
            unknown.push("sekisho.client (say who with --user)".to_owned());
        } else if self.comes.is_none() && unix {
            unknown.push("sekisho.client.pid".to_owned());
        }
        let targets = spec.forward.addresses();
        let named = targets
            .iter()
            .any(|at| matches!(at, Address::Name(..) | Address::Site(_) | Address::Sites(_)));
        if self.answers.is_some() && (targets.len() > 1 || named) {
            unknown.push("sekisho.upstream.address (which one answers)".to_owned());
        }
        let mut peers = self.comes.iter().chain(&self.answers);
        let foreign = peers.any(|peer| *peer.trust_domain() != spec.site);
        if foreign && node::federation::teller(self.endpoint).is_some() {
            unknown.push("sekisho.federation (what is known of the other site)".to_owned());
        }
        if !spec.proxy_protocol.accept_from.is_empty() {
            unknown.push("sekisho.claimed".to_owned());
        }
        unknown
    }
}

/// The ID our side would show; `None` where only a running source knows.
fn own_id(endpoint: &EndpointConfig) -> Option<SpiffeId> {
    let spec = &endpoint.spec;
    let wanted = spec.own_id.clone();
    match endpoint.identity.as_ref()? {
        SourceSpec::Files { cert, key } => {
            let svid = read_files(cert, key, &tls::provider()).ok();
            wanted.or_else(|| svid.map(|svid| svid.id().clone()))
        }
        // A CA of our own mints what it is asked for; without `as`, the endpoint's name.
        SourceSpec::Embedded { .. } => {
            wanted.or_else(|| id::id_below(&spec.site, &format!("/{}", spec.name)).ok())
        }
        SourceSpec::WorkloadApi { .. } | SourceSpec::Delegated { .. } => wanted,
    }
}

/// Whether a client may ask for a service of the peer's site.
fn asked_for(spec: &EndpointSpec, any: &AnySite, peer: &SpiffeId) -> Step {
    let domain = peer.trust_domain();
    let service = any.service.as_deref().unwrap_or("SERVICE");
    let ok = *domain != spec.site;
    Step {
        asked: "target",
        ok,
        answer: if ok {
            format!("CONNECT {service}.{domain}:PORT, if its catalogue lists it: known at run time")
        } else {
            format!("{domain} is this site, and not led to from here")
        },
        reason: (!ok).then(|| "not_expected".into()),
    }
}

fn trust(endpoint: &EndpointConfig, peer: &SpiffeId) -> Step {
    let domain = peer.trust_domain();
    let spec = &endpoint.spec;
    let found = world::bundle_of(endpoint, &spec.site, domain, SystemClock.now());
    let (ok, answer) = match found {
        // Whom no list names is not trusted, whatever bundles there are.
        _ if !spec.names_domain(domain, &if_marked(spec, domain)) => {
            (false, format!("no list here names {domain}"))
        }
        world::Bundle::Here(count) => (true, format!("a bundle of {domain} with {count} CAs")),
        world::Bundle::FromSource(source) => {
            (true, format!("bundles come from {source}, at run time"))
        }
        world::Bundle::Missing => (false, format!("no bundle for {domain}")),
    };
    Step {
        asked: "trust",
        ok,
        answer,
        reason: (!ok).then(|| "unknown_trust_domain".into()),
    }
}

fn listed(
    spec: &EndpointSpec,
    name: &'static str,
    list: &IdList,
    peer: &SpiffeId,
    reason: &str,
) -> Step {
    let domain = peer.trust_domain();
    let certain = list.find(peer, &Members::default());
    let marked = list.find(peer, &if_marked(spec, domain));
    let answer = match (certain, marked) {
        (Some(line), _) => format!("matches {line}"),
        (None, Some(line)) => {
            format!("matches {line}, if {domain} carries that mark: known at run time")
        }
        (None, None) => {
            return Step {
                asked: name,
                ok: false,
                answer: format!("{peer} matches no line"),
                reason: Some(reason.into()),
            };
        }
    };
    Step {
        asked: name,
        ok: true,
        answer,
        reason: None,
    }
}

/// `domain` as a member that carries every mark that a list here names; nobody, where it is our own,
/// which never carries any.
fn if_marked(spec: &EndpointSpec, domain: &TrustDomain) -> Members {
    let marks = spec.lists().flat_map(IdList::marks).cloned().collect();
    let member = Member::new(domain.clone(), Source::Directory, SystemClock.now());
    let member = member.with_marks(marks);
    let members = member.and_then(|member| Members::new(&spec.site, [Arc::new(member)]));
    members.unwrap_or_default()
}
