//! `sekisho explain`: would this peer be allowed here, and what says so?

use clap::Args;
use sekisho_certs::{Clock as _, IdList, SpiffeId, SystemClock, TrustDomain, id};
use sekisho_policy::{Client, Direction, Input, Upstream};
use sekisho_proxy::endpoint::spec::{Forward, Listen, LocalClient, LocalClients};
use serde_json::{Value, json};

use crate::{
    check::world,
    cli::{self, ConfigArgs},
    config::EndpointConfig,
    node::{self, Loaded},
    output::{self, Colour, paint},
};

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
    /// The user of this host who comes, at an endpoint that listens without mTLS
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A group of that user; may be given several times
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
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
    let peer = match id::parse_workload_id(&args.peer) {
        Ok(peer) => peer,
        Err(error) => {
            output::complain(error);
            return cli::INVALID;
        }
    };
    let steps = steps(args, &loaded, endpoint, &peer);
    let allowed = steps.iter().all(|step| step.ok);
    if args.json {
        let rows = steps.iter().map(|step| {
            json!({"asked": step.asked, "ok": step.ok, "answer": step.answer, "reason": step.reason})
        });
        let rows: Vec<Value> = rows.collect();
        output::json(
            &json!({"endpoint": args.endpoint, "peer": args.peer, "allowed": allowed, "steps": rows}),
        );
    } else {
        print(&steps, allowed);
    }
    if allowed { cli::OK } else { cli::FAILED }
}

fn print(steps: &[Step], allowed: bool) {
    let colour = output::colour_out();
    for step in steps {
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
    let verdict = if allowed {
        paint("allowed", Colour::Green, colour)
    } else {
        paint("refused", Colour::Red, colour)
    };
    output::line(verdict);
}

fn steps(
    args: &ExplainArgs,
    loaded: &Loaded,
    endpoint: &EndpointConfig,
    peer: &SpiffeId,
) -> Vec<Step> {
    let spec = &endpoint.spec;
    let mut steps = Vec::new();
    let inbound = matches!(spec.listen, Listen::Mtls { .. });
    let list = match (&spec.listen, &spec.forward) {
        (Listen::Mtls { accept, .. }, _) => Some(("accept", accept, "not_accepted")),
        (_, Forward::Mtls { expect, .. }) => Some(("expect", expect, "not_expected")),
        _ => None,
    };
    match list {
        Some((name, list, reason)) => {
            steps.push(trust(endpoint, &spec.site, peer));
            steps.push(listed(name, list, peer, reason));
        }
        None => steps.push(Step {
            asked: "peer",
            ok: false,
            answer: "neither side of this endpoint is mTLS: no peer with a SPIFFE ID comes here"
                .into(),
            reason: None,
        }),
    }
    if !inbound {
        steps.push(local(args, endpoint));
    }
    if let Some(policy) = loaded.policy_of(endpoint) {
        let input = input(args, endpoint, peer, inbound);
        let decision = policy.evaluator().decide(&input);
        let said = decision.message.map(|said| format!(": {said}"));
        steps.push(Step {
            asked: "policy",
            ok: decision.allowed,
            answer: format!(
                "data.{} at revision {}{}",
                policy.decision_path().replace('/', "."),
                policy.revision(),
                said.unwrap_or_default()
            ),
            reason: decision.reason.map(|reason| reason.to_string()),
        });
    }
    steps
}

fn trust(endpoint: &EndpointConfig, site: &TrustDomain, peer: &SpiffeId) -> Step {
    let domain = peer.trust_domain();
    let (ok, answer) = match world::bundle_of(endpoint, site, domain, SystemClock.now()) {
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

fn listed(name: &'static str, list: &IdList, peer: &SpiffeId, reason: &str) -> Step {
    match list.find(peer) {
        Some(line) => Step {
            asked: name,
            ok: true,
            answer: format!("matches {line}"),
            reason: None,
        },
        None => Step {
            asked: name,
            ok: false,
            answer: format!("{peer} matches no line"),
            reason: Some(reason.into()),
        },
    }
}

fn local(args: &ExplainArgs, endpoint: &EndpointConfig) -> Step {
    let clients = match &endpoint.spec.listen {
        Listen::Tcp { local, .. } | Listen::Unix { local, .. } => local,
        Listen::Mtls { .. } => &LocalClients::Anyone,
    };
    let LocalClients::Only(lines) = clients else {
        return Step {
            asked: "local",
            ok: true,
            answer: "any process of this host".into(),
            reason: None,
        };
    };
    let matched = lines.iter().find(|line| match line {
        LocalClient::User(name) => args.user.as_ref() == Some(name),
        LocalClient::Group(name) => args.group.contains(name),
    });
    Step {
        asked: "local",
        ok: matched.is_some(),
        answer: match (matched, &args.user) {
            (Some(line), _) => format!("matches {line}"),
            (None, Some(user)) => format!("{user} matches no line"),
            (None, None) => {
                let lines = lines.iter().map(ToString::to_string).collect::<Vec<_>>();
                format!("only {}: say who with --user", lines.join(", "))
            }
        },
        reason: matched.is_none().then(|| "local_user".into()),
    }
}

fn input(args: &ExplainArgs, endpoint: &EndpointConfig, peer: &SpiffeId, inbound: bool) -> Input {
    let spec = &endpoint.spec;
    Input {
        site: spec.site.to_string(),
        endpoint: spec.name.clone(),
        direction: if inbound {
            Direction::Inbound
        } else {
            Direction::Outbound
        },
        service: spec.name.clone(),
        source: None,
        destination: None,
        own_id: spec.own_id.clone(),
        sni: inbound.then(|| spec.server_name.clone()),
        client: if inbound {
            Client::Workload(peer.clone())
        } else {
            Client::Local {
                user: args.user.clone(),
                uid: None,
                groups: args.group.clone(),
                pid: None,
            }
        },
        upstream: (!inbound).then(|| Upstream {
            id: Some(peer.clone()),
            address: spec.forward.addresses().first().map(ToString::to_string),
        }),
        claimed: std::collections::BTreeMap::new(),
    }
}
