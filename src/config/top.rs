//! The top level, of one file or of all files of a folder.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use sekisho_certs::{TrustDomain, id::parse_trust_domain, source::SourceSpec};
use sekisho_proxy::endpoint::spec::RecordLayer;

use super::{
    Config, admin,
    agent::{self, AgentConfig},
    apart,
    authority::{self, AuthorityConfig},
    endpoint::{self, Parsed, Shared, settings::record},
    error::{Problem, Report},
    federation::{self, FederationConfig},
    field::{Field, Map},
    identity::{self, Identity, Own},
    keys,
    location::Location,
    oidc, policy,
    tree::{Entry, Kind, Node},
    unit::DAY,
};

/// More endpoints than this are a mistake.
const MOST: usize = 10_000;
/// How long `drain` lasts unless it is given.
const DRAIN: Duration = Duration::from_secs(30);
/// What connections may keep, for slow receivers and of streams over lanes, unless `buffers` is given.
const BUFFERS: usize = 256 << 20;
/// What a site looks like.
pub(super) const SITE: &str = "this site's trust domain, as in hokkaido.example";

/// Reads the configuration from the trees of its files. `None`: reported.
pub(super) fn read(
    path: &Path,
    files: Vec<PathBuf>,
    roots: &[Node],
    report: &mut Report,
) -> Option<Config> {
    let (top, endpoints) = merge(roots, report)?;
    let whole = match roots {
        [only] => only.at.clone(),
        _ => Location::whole(path),
    };
    let top = Map::new(String::new(), whole, top, &keys::TOP, report);

    let mut authority = top
        .get("authority")
        .map(|field| authority::authority(&field, report));
    let agent = top.get("agent").map(|field| {
        let beside = authority.as_ref().and_then(Option::as_ref);
        agent::agent(&field, beside, report)
    });
    let oidc = top.get("oidc").map(|field| {
        let beside = agent.as_ref().and_then(Option::as_ref);
        oidc::oidc(&field, beside, report)
    });
    if let (Some(Some(authority)), Some(Some(agent))) = (&authority, &agent) {
        authority::comes_first(&top, authority, agent, report);
    }
    if let (Some(Some(authority)), Some(Some(oidc))) = (&mut authority, &oidc) {
        oidc::agree(&top, authority, oidc, report);
    }
    let federation = top.get("federation").map(|field| {
        let own = top
            .get("site")
            .and_then(|field| field.text(SITE, &mut Report::default()));
        let own = own.and_then(|text| parse_trust_domain(text).ok());
        let beside = authority.as_ref().and_then(Option::as_ref);
        federation::federation(&field, own.as_ref(), beside, report)
    });
    let of_others = federation.as_ref().and_then(Option::as_ref);
    let federated = authority.is_none() && of_others.is_some_and(FederationConfig::needs_ca);
    let allow = of_others.map_or_else(Vec::new, |config| config.allow.clone());
    let beside = agent.as_ref().and_then(Option::as_ref);
    let shared = shared(&top, beside, allow, federated, report)?;
    let workers = top.get_or("workers", None, report, |field, report| {
        let workers = field.number(1..=256, report)?;
        usize::try_from(workers).ok().map(Some)
    });
    let admin = top.get_or("admin", None, report, |field, report| {
        let admin = admin::admin(field, report)?;
        Some(Some((admin, field.at().clone())))
    });
    let drain = top.get_or("drain", DRAIN, report, |field, report| {
        field.duration(Duration::ZERO..=DAY, report)
    });
    let buffers = top.get_or("buffers", BUFFERS, report, |field, report| {
        field.size(16 << 20..=1 << 40, report)
    });
    let user = top.get_or("user", None, report, agent::user);
    let log = top.get_or("log", admin::Log::default(), report, admin::log);

    if endpoints.len() > MOST {
        let problem = Problem::Rule(format!("more than {MOST} endpoints"));
        report.push(top.key(), "endpoints", problem);
        return None;
    }
    // With several files, one without `endpoints` is no mistake; none with them is.
    if authority.is_none() && agent.is_none() && oidc.is_none() {
        top.required("endpoints", "a map of name to endpoint", report);
    }
    let parsed: Vec<Parsed> = endpoints
        .into_iter()
        .filter_map(|entry| endpoint::read(entry, &shared, report))
        .collect();
    let mut federation = federation.flatten();
    if let (Some(own), Some(field)) = (&mut federation, top.get("federation")) {
        let mut all = parsed.iter();
        let reads = all.any(|one| one.config.spec.site_services().next().is_some());
        let embedded = embedded(&parsed);
        if let [one, other, ..] = embedded[..]
            && federated
        {
            let (one, other) = (one.display(), other.display());
            let rule = format!("is that of one CA, and endpoints name two: {one} and {other}");
            report.push(field.at(), "federation", Problem::Rule(rule));
        }
        for folder in embedded.iter().filter(|_| federated) {
            // A socket's path may have so much (sun_path, unix(7)).
            if AuthorityConfig::embedded(folder).socket.as_os_str().len() > 107 {
                let folder = folder.display();
                let rule =
                    format!("there is no room for a socket in {folder}: its path is too long");
                report.push(field.at(), "federation", Problem::Rule(rule));
            }
        }
        let ca = authority.is_some() || !embedded.is_empty();
        own.warn_of_no_reader(field.at(), ca, reads);
    }
    let admin = admin?;
    let admin_at = admin.as_ref().map(|(admin, at)| (admin, at));
    apart::check(&parsed, admin_at, report);

    Some(Config {
        files,
        site: shared.site,
        authority: authority.flatten(),
        agent: agent.flatten(),
        oidc: oidc.flatten(),
        federation,
        endpoints: parsed.into_iter().map(|parsed| parsed.config).collect(),
        workers: workers?,
        admin: admin.map(|(admin, _)| admin),
        drain: drain?,
        log: log?,
        buffers: buffers?,
        user: user?,
        variables: BTreeSet::new(),
    })
}

/// The folders of the embedded CAs that endpoints name, each once.
fn embedded(parsed: &[Parsed]) -> Vec<&Path> {
    let folders = parsed.iter().filter_map(|one| match &one.config.identity {
        Some(SourceSpec::Embedded { data, .. }) => Some(data.as_path()),
        _ => None,
    });
    let all: BTreeSet<&Path> = folders.collect();
    all.into_iter().collect()
}

/// What endpoints have in common; without `identity` they ask the agent of this node.
fn shared(
    top: &Map<'_>,
    agent: Option<&AgentConfig>,
    allow: Vec<IpNet>,
    federated: bool,
    report: &mut Report,
) -> Option<Shared> {
    let site = top
        .required("site", SITE, report)
        .and_then(|field| site(&field, report));
    let identity = top.get("identity");
    let record = top.get_or("record", RecordLayer::default(), report, record);
    let policy = top.get("policy");
    Some(Shared {
        allow,
        federated,
        record: record.unwrap_or_default(),
        has_policy: policy.is_some(),
        identity: match identity {
            Some(field) => identity::identity(&field, report),
            None => Some(Identity {
                source: SourceSpec::WorkloadApi {
                    socket: agent.map_or_else(|| agent::SOCKET.into(), |own| own.socket.clone()),
                },
                bundles: None,
            }),
        },
        bundles: top.get("bundles").and_then(|field| {
            let own = site.as_ref().map_or(Own::Allowed, Own::Refused);
            identity::bundles(&field, own, report)
        }),
        policy: policy.and_then(|field| policy::read(&field, report)),
        // Without it the endpoints are checked nevertheless, below a name that is nobody's.
        site: site.or_else(|| parse_trust_domain("site.invalid").ok())?,
    })
}

pub(super) fn site(field: &Field<'_>, report: &mut Report) -> Option<TrustDomain> {
    let text = field.text(SITE, report)?;
    match parse_trust_domain(text) {
        Ok(site) => Some(site),
        Err(error) => {
            field.problem(error.into(), report);
            None
        }
    }
}

/// Top-level entries and endpoints of all files, each once.
fn merge<'a>(roots: &'a [Node], report: &mut Report) -> Option<(Vec<&'a Entry>, Vec<&'a Entry>)> {
    let before = report.count();
    let mut top: HashMap<&str, &Entry> = HashMap::new();
    let mut order: Vec<&Entry> = Vec::new();
    let mut names: HashMap<&str, &Entry> = HashMap::new();
    let mut endpoints: Vec<&Entry> = Vec::new();
    for root in roots {
        let Kind::Map(entries) = &root.kind else {
            let field = Field {
                path: String::new(),
                key: &root.at,
                node: root,
            };
            field.wrong(keys::TOP.of, report);
            continue;
        };
        for entry in entries {
            if entry.key == "endpoints" {
                let field = Field::new("", entry);
                let below = field.entries("a map of name to endpoint", report);
                for endpoint in below.unwrap_or_default() {
                    match names.get(endpoint.key.as_str()) {
                        Some(first) => duplicate("endpoints.", endpoint, first, report),
                        None => {
                            names.insert(&endpoint.key, endpoint);
                            endpoints.push(endpoint);
                        }
                    }
                }
                if top.insert(&entry.key, entry).is_none() {
                    order.push(entry);
                }
                continue;
            }
            match top.get(entry.key.as_str()) {
                Some(first) => duplicate("", entry, first, report),
                None => {
                    top.insert(&entry.key, entry);
                    order.push(entry);
                }
            }
        }
    }
    // A file that is no map at all leaves nothing to go on with.
    (!order.is_empty() || report.count() == before).then_some((order, endpoints))
}

fn duplicate(parent: &str, entry: &Entry, first: &Entry, report: &mut Report) {
    let first = first.at.clone();
    let field = format!("{parent}{}", entry.key);
    report.push(&entry.at, &field, Problem::Duplicate { first });
}
