//! Whether these peers may be joined on this endpoint: list AND policy.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use sekisho_certs::{IdList, Members, Reason, SpiffeId, VerifiedPeer};
use sekisho_policy::{self as policy, Evaluator, Input, Policy};
use tokio::time::Instant;

use crate::{
    endpoint::{
        Snapshot,
        spec::{Forward, Listen, LocalClients},
    },
    local::LocalUser,
    peer::{Client, Peers},
};

/// A policy that asks for less is asked again this often: each idle connection costs a decision.
const SHORTEST_TTL: Duration = Duration::from_millis(100);
/// And longer than this means for ever.
const LONGEST_TTL: Duration = Duration::from_secs(365 * 86_400);

/// What is known of a connection beside its peers.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Where it came from, by the kernel.
    pub source: Option<SocketAddr>,
    /// Our own address it came to.
    pub destination: Option<SocketAddr>,
    /// The server name asked for: chosen by the client, verified by nobody.
    pub sni: Option<String>,
    /// What a listed sender's PROXY header claims.
    pub claimed: BTreeMap<String, String>,
    /// Revision of the trust that the peers were last verified by.
    pub trust_revision: u64,
}

/// Proof that lists and policy allowed these peers on this endpoint. Nothing is relayed without
/// one; only [`Permit::decide`] makes it.
#[derive(Debug)]
pub struct Permit {
    policy_revision: Option<Arc<str>>,
    decided_at: Instant,
    ttl: Option<Duration>,
}

/// Why there is no permit.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Denied {
    /// The stable word.
    pub reason: Reason,
    /// One sentence for the log.
    pub detail: String,
    /// The policy that said no, where it was a policy.
    pub policy_revision: Option<Arc<str>>,
}

impl Denied {
    fn new(reason: Reason, detail: String) -> Self {
        Self {
            reason,
            detail,
            policy_revision: None,
        }
    }
}

impl Permit {
    /// Decides. Every list of a side whose peer is known must hold it, and the policy, where one
    /// is configured, must allow.
    ///
    /// Asked before the upstream is dialled at a receiving side (`peers.upstream` is `None` then),
    /// and again once a verified upstream has answered.
    ///
    /// # Errors
    /// Why not.
    pub fn decide(snapshot: &Snapshot, facts: &Facts, peers: &Peers) -> Result<Self, Denied> {
        check_lists(snapshot, peers)?;
        let decided_at = Instant::now();
        let Some(policy) = &snapshot.policy else {
            return Ok(Self {
                policy_revision: None,
                decided_at,
                ttl: None,
            });
        };
        let input = input(snapshot, facts, peers);
        let decision = evaluate(policy, &input);
        if decision.allowed {
            return Ok(Self {
                policy_revision: Some(decision.revision),
                decided_at,
                ttl: decision.ttl.map(|ttl| ttl.clamp(SHORTEST_TTL, LONGEST_TTL)),
            });
        }
        let reason = decision.reason.unwrap_or(Reason::PolicyError);
        let said = decision.message.map(|said| format!(": {said}"));
        Err(Denied {
            reason,
            detail: format!("policy{}", said.unwrap_or_else(|| format!(": {reason}"))),
            policy_revision: Some(decision.revision),
        })
    }

    /// Whether the lists alone let these peers go on to a dial: for a sending side, whose policy
    /// wants to know who answers. No permit comes of it.
    ///
    /// # Errors
    /// Why not.
    pub fn may_dial(snapshot: &Snapshot, peers: &Peers) -> Result<(), Denied> {
        check_lists(snapshot, peers)
    }

    /// Decides again, under what holds now, for peers that were verified under older trust.
    ///
    /// # Errors
    /// `bundle_changed` when a peer's chain has no path any more, else as [`Permit::decide`].
    pub fn renew(snapshot: &Snapshot, facts: &mut Facts, peers: &Peers) -> Result<Self, Denied> {
        let material = &snapshot.material;
        if material.trust_revision() != facts.trust_revision {
            if let Some(peer) = peers
                .verified()
                .find(|peer| !material.trust().still_trusts(peer))
            {
                // A member that has lost a mark is not trusted because no list names it any more;
                // that is what its operator should read.
                let members = material.members();
                let member = members.get(peer.id().trust_domain());
                if member.is_some_and(|member| member.bundle().is_some()) {
                    check_lists(snapshot, peers)?;
                }
                return Err(Denied::new(
                    Reason::BundleChanged,
                    format!("a CA that {} needs has left the bundle", peer.id()),
                ));
            }
            facts.trust_revision = material.trust_revision();
        }
        Self::decide(snapshot, facts, peers)
    }

    /// The policy that allowed; `None` where none is configured.
    #[must_use]
    pub const fn policy_revision(&self) -> Option<&Arc<str>> {
        self.policy_revision.as_ref()
    }

    /// When it must be decided again, where the policy gave a `ttl`.
    #[must_use]
    pub fn expires(&self) -> Option<Instant> {
        self.ttl.map(|ttl| self.decided_at + ttl)
    }
}

fn check_lists(snapshot: &Snapshot, peers: &Peers) -> Result<(), Denied> {
    let (spec, members) = (&snapshot.spec, snapshot.material.members());
    match (&spec.listen, &peers.client) {
        (Listen::Mtls { accept, .. }, Client::Workload(peer)) => {
            check_list(accept, peer.id(), members, Reason::NotAccepted, "accept")?;
        }
        (
            Listen::Tcp { local, .. } | Listen::Connect { local, .. } | Listen::Unix { local, .. },
            Client::Local(user),
        ) => {
            if !user.is_among(local) {
                let who = describe(user);
                return Err(Denied::new(
                    Reason::LocalUser,
                    format!("{who} is not on the `local` list"),
                ));
            }
        }
        // Another host that `from` allows has no user: `local` is about processes of this one.
        (Listen::Tcp { .. }, Client::Remote) => {}
        (Listen::Tcp { local, .. } | Listen::Connect { local, .. }, Client::Unknown) => {
            if *local != LocalClients::Anyone {
                return Err(Denied::new(
                    Reason::LocalUser,
                    "the kernel does not tell whose connection this is: it was closed already"
                        .into(),
                ));
            }
        }
        _ => {
            return Err(Denied::new(
                Reason::NotAccepted,
                "the listening side changed its kind".into(),
            ));
        }
    }
    let Some(upstream) = &peers.upstream else {
        return Ok(());
    };
    match (&spec.forward, &upstream.verified) {
        (Forward::Mtls { expect, .. }, Some(peer)) => {
            check_list(expect, peer.id(), members, Reason::NotExpected, "expect")
        }
        (Forward::Plain { .. }, None) => Ok(()),
        _ => Err(Denied::new(
            Reason::NotExpected,
            "the forwarding side changed its kind".into(),
        )),
    }
}

fn describe(user: &LocalUser) -> String {
    match &user.account.user {
        Some(name) => format!("user {name} ({})", user.uid),
        None => format!("user {}", user.uid),
    }
}

fn check_list(
    list: &IdList,
    id: &SpiffeId,
    members: &Members,
    reason: Reason,
    name: &'static str,
) -> Result<(), Denied> {
    if list.contains_among(id, members) {
        Ok(())
    } else {
        Err(Denied::new(
            reason,
            format!("{id} is not on the `{name}` list"),
        ))
    }
}

/// What the policy sees. Public for `sekisho explain`.
#[must_use]
pub fn input(snapshot: &Snapshot, facts: &Facts, peers: &Peers) -> Input {
    let spec = &snapshot.spec;
    Input {
        site: spec.site.to_string(),
        endpoint: spec.name.clone(),
        direction: spec.direction(),
        service: spec.name.clone(),
        source: facts.source,
        destination: facts.destination,
        own_id: snapshot
            .material
            .latest_svid()
            .map(|svid| svid.id().clone())
            .or_else(|| spec.own_id.clone()),
        sni: facts.sni.clone(),
        client: match &peers.client {
            Client::Workload(peer) => policy::Client::Workload(peer.id().clone()),
            Client::Local(user) => policy::Client::Local {
                user: user.account.user.clone(),
                uid: Some(user.uid),
                groups: group_names(user),
                pid: user.pid,
            },
            Client::Remote | Client::Unknown => policy::Client::Unknown,
        },
        // A plain upstream is dialled after the decision, so it is no part of any.
        upstream: peers.upstream.as_ref().and_then(|upstream| {
            Some(policy::Upstream {
                id: Some(upstream.verified.as_ref()?.id().clone()),
                address: Some(upstream.target.clone()),
            })
        }),
        federation: federation(snapshot, peers),
        claimed: facts.claimed.clone(),
    }
}

/// What is known of the other site. The age is read for each decision and nowhere remembered: a
/// policy that minds it says with `ttl` when it wants to be asked again.
fn federation(snapshot: &Snapshot, peers: &Peers) -> Option<policy::Federation> {
    let material = &snapshot.material;
    let foreign = |id: &SpiffeId| *id.trust_domain() != snapshot.spec.site;
    let peer = peers
        .verified()
        .map(VerifiedPeer::id)
        .find(|id| foreign(id))?;
    let member = material.members().get(peer.trust_domain())?;
    Some(policy::Federation {
        source: member.source().as_str(),
        age: material.age(member).as_secs(),
        marks: member.marks().iter().map(ToString::to_string).collect(),
    })
}

fn group_names(user: &LocalUser) -> Vec<String> {
    let groups = user.account.groups.iter();
    groups.filter_map(|(_, name)| name.clone()).collect()
}

/// Evaluators a worker keeps: one for each policy in force, and a few just replaced.
const MAX_EVALUATORS: usize = 64;

thread_local! {
    // One engine per worker: a shared one would be fought for (reference/policy.md).
    static EVALUATORS: RefCell<HashMap<(String, String), Evaluator>> = RefCell::default();
}

fn evaluate(policy: &Policy, input: &Input) -> policy::Decision {
    let key = (
        policy.revision().to_owned(),
        policy.decision_path().to_owned(),
    );
    EVALUATORS.with_borrow_mut(|evaluators| {
        if evaluators.len() >= MAX_EVALUATORS && !evaluators.contains_key(&key) {
            evaluators.clear();
        }
        evaluators
            .entry(key)
            .or_insert_with(|| policy.evaluator())
            .decide(input)
    })
}
