//! `sekisho explain`: would this peer be allowed here, and what says so?

use std::sync::Arc;

use clap::Args;
use nix::unistd::{Gid, Group, Uid, User};
use sekisho_certs::{
    Clock as _, IdList, SpiffeId, SystemClock, id,
    source::{SourceSpec, read_files},
    tls,
};
use sekisho_policy::{Client, Direction, Input, Upstream};
use sekisho_proxy::{
    endpoint::spec::{Address, Forward, Listen, LocalClient, LocalClients},
    local::{Account, LocalUser},
};
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

/// The user of this host who comes.
struct Who {
    user: Option<LocalUser>,
    /// Groups given without a user.
    groups: Vec<(u32, Option<String>)>,
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
                steps.push(listed("accept", accept, peer, "not_accepted"));
                steps.extend(self.policy(None));
            }
            (Listen::Mtls { .. }, None) => {}
            (Listen::Tcp { local, .. } | Listen::Unix { local, .. }, _) => {
                steps.push(self.who.explain(local));
            }
        }
        let mut then = None;
        match (&spec.forward, &self.answers) {
            (Forward::Mtls { expect, .. }, Some(peer)) => {
                steps.push(trust(self.endpoint, peer));
                steps.push(listed("expect", expect, peer, "not_expected"));
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
                address: spec.forward.addresses().first().map(ToString::to_string),
            }),
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
        if self.comes.is_none() && self.who.user.is_none() {
            unknown.push("sekisho.client (say who with --user)".to_owned());
        } else if self.comes.is_none() && unix {
            unknown.push("sekisho.client.pid".to_owned());
        }
        let targets = spec.forward.addresses();
        let named = targets.iter().any(|at| matches!(at, Address::Name(..)));
        if self.answers.is_some() && (targets.len() > 1 || named) {
            unknown.push("sekisho.upstream.address (which one answers)".to_owned());
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
        SourceSpec::WorkloadApi { .. } => wanted,
    }
}

impl Who {
    /// As `run` looks up who comes.
    fn look_up(user: Option<&str>, groups: &[String]) -> Result<Self, String> {
        let groups = groups.iter().map(|name| group(name));
        let groups = groups.collect::<Result<Vec<_>, _>>()?;
        let Some(given) = user else {
            return Ok(Self { user: None, groups });
        };
        let failed = |error| format!("cannot look up the user {given}: {error}");
        let number = given.parse().ok();
        let account = match (User::from_name(given).map_err(failed)?, number) {
            (None, Some(number)) => User::from_uid(Uid::from_raw(number)).map_err(failed)?,
            (account, _) => account,
        };
        let (uid, mut known) = match (account, number) {
            (Some(user), _) => {
                let gids = std::ffi::CString::new(user.name.as_str())
                    .ok()
                    .and_then(|name| nix::unistd::getgrouplist(&name, user.gid).ok())
                    .unwrap_or_else(|| vec![user.gid]);
                let account = Account {
                    groups: gids.into_iter().map(named).collect(),
                    user: Some(user.name),
                };
                (user.uid.as_raw(), account)
            }
            // A process may run under a number without a name: it has no groups that are known.
            (None, Some(number)) => (number, Account::default()),
            (None, None) => return Err(format!("this host has no user {given}")),
        };
        for group in groups {
            if !known.groups.contains(&group) {
                known.groups.push(group);
            }
        }
        let user = LocalUser {
            uid,
            pid: None,
            account: Arc::new(known),
        };
        Ok(Self {
            user: Some(user),
            groups: Vec::new(),
        })
    }

    fn is_on(&self, line: &LocalClient) -> bool {
        let line = LocalClients::Only(vec![line.clone()]);
        match (&self.user, &line) {
            (Some(user), _) => user.is_among(&line),
            // Nobody's number is among groups.
            (None, LocalClients::Only(lines))
                if lines
                    .iter()
                    .any(|line| matches!(line, LocalClient::Group(_))) =>
            {
                let account = Arc::new(Account {
                    user: None,
                    groups: self.groups.clone(),
                });
                LocalUser {
                    uid: u32::MAX,
                    pid: None,
                    account,
                }
                .is_among(&line)
            }
            (None, _) => false,
        }
    }

    fn explain(&self, clients: &LocalClients) -> Step {
        let LocalClients::Only(lines) = clients else {
            return Step {
                asked: "local",
                ok: true,
                answer: "any process of this host".into(),
                reason: None,
            };
        };
        let matched = lines.iter().find(|line| self.is_on(line));
        Step {
            asked: "local",
            ok: matched.is_some(),
            answer: match (matched, &self.user) {
                (Some(line), _) => format!("matches {line}"),
                (None, Some(user)) => format!("{} matches no line", user.name()),
                (None, None) => {
                    let lines = lines.iter().map(ToString::to_string).collect::<Vec<_>>();
                    format!("only {}: say who with --user", lines.join(", "))
                }
            },
            reason: matched.is_none().then(|| "local_user".into()),
        }
    }

    fn client(&self) -> Client {
        let groups = match &self.user {
            Some(user) => &user.account.groups,
            None => &self.groups,
        };
        Client::Local {
            user: self.user.as_ref().and_then(|who| who.account.user.clone()),
            uid: self.user.as_ref().map(|who| who.uid),
            groups: groups.iter().filter_map(|(_, name)| name.clone()).collect(),
            pid: None,
        }
    }
}

/// A group by name or number, as [`Account::groups`] has it.
fn group(given: &str) -> Result<(u32, Option<String>), String> {
    let failed = |error| format!("cannot look up the group {given}: {error}");
    match (Group::from_name(given).map_err(failed)?, given.parse()) {
        (Some(group), _) => Ok((group.gid.as_raw(), Some(group.name))),
        (None, Ok(number)) => Ok(named(Gid::from_raw(number))),
        (None, Err(_)) => Err(format!("this host has no group {given}")),
    }
}

/// With its name, where it has one.
fn named(gid: Gid) -> (u32, Option<String>) {
    let group = Group::from_gid(gid).ok().flatten();
    (gid.as_raw(), group.map(|group| group.name))
}

fn trust(endpoint: &EndpointConfig, peer: &SpiffeId) -> Step {
    let domain = peer.trust_domain();
    let spec = &endpoint.spec;
    let found = world::bundle_of(endpoint, &spec.site, domain, SystemClock.now());
    let (ok, answer) = match found {
        // Whom no list names is not trusted, whatever bundles there are.
        _ if !spec.names_domain(domain) => (false, format!("no list here names {domain}")),
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
