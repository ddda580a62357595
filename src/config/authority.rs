//! `authority`: the site's CA and its API.

pub(super) mod attest;
pub(super) mod k8s_psat;
mod upstream;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use sekisho_certs::{SpiffeId, id::parse_workload_id};

use super::{
    address,
    agent::{self, AgentConfig},
    error::{Problem, Report},
    field::{Field, Map},
    keys,
    location::Location,
    unit::DAY,
};
use attest::Attest;
pub(crate) use upstream::UpstreamConfig;
pub(super) use upstream::workload_api;

/// Where administrators of this host come unless `authority.socket` says otherwise.
pub(crate) const SOCKET: &str = "/run/sekisho/authority/api.sock";
/// How long a CA lives unless `authority.ca_ttl` says otherwise.
pub(super) const CA_TTL: Duration = Duration::from_secs(24 * 3600);
/// Where an authority keeps its data unless `authority.data` says otherwise.
const DATA: &str = "/var/lib/sekisho/authority";

/// `authority`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthorityConfig {
    /// Where agents come, and administrators from afar. Default: nowhere.
    pub(crate) listen: Option<SocketAddr>,
    /// Where administrators of this host come. Default: `/run/sekisho/authority/api.sock`.
    pub(crate) socket: PathBuf,
    /// The folder of its database and keys. Default: `/var/lib/sekisho/authority`.
    pub(crate) data: PathBuf,
    /// What keys on disk are sealed with. Default: nothing.
    pub(crate) encrypt: Option<Secret>,
    /// How nodes come in. Default: by join token.
    pub(crate) attest: Vec<Attest>,
    /// How long a CA lives. Default: 24 hours.
    pub(crate) ca_ttl: Duration,
    /// How long X.509-SVIDs live. Default: an hour.
    pub(crate) x509_ttl: Duration,
    /// How long JWT-SVIDs live. Default: five minutes.
    pub(crate) jwt_ttl: Duration,
    /// How long agents' SVIDs live. Default: an hour.
    pub(crate) agent_ttl: Duration,
    /// `iss` of JWT-SVIDs. Default: none.
    pub(crate) jwt_issuer: Option<String>,
    /// Who may administer it from afar.
    pub(crate) admins: Vec<SpiffeId>,
    /// Entries that `sekisho run` applies at start. Default: none.
    pub(crate) entries: Option<PathBuf>,
    /// The authority above. Default: none, and it signs for itself.
    pub(crate) upstream: Option<UpstreamConfig>,
    /// As whom it runs, when `sekisho run` starts it as root. Default: as `sekisho run`.
    pub(crate) user: Option<String>,
}

impl AuthorityConfig {
    /// The one inside a process of endpoints whose CA is embedded in `data`, and federated: it has no
    /// agents, and a door for administrators of this host.
    pub(crate) fn embedded(data: &Path) -> Self {
        Self {
            listen: None,
            socket: data.join("api.sock"),
            data: data.to_owned(),
            encrypt: None,
            attest: Vec::new(),
            ca_ttl: CA_TTL,
            x509_ttl: HOUR,
            jwt_ttl: 5 * MINUTE,
            agent_ttl: HOUR,
            jwt_issuer: None,
            admins: Vec::new(),
            entries: None,
            upstream: None,
            user: None,
        }
    }
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Secret {
    /// The name of a variable of the environment.
    Env(String),
    /// A file.
    File(PathBuf),
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// A CA lives six times as long as what it signs, or that is cut short.
const TIMES: u32 = 6;

/// Reads `authority`.
pub(super) fn authority(field: &Field<'_>, report: &mut Report) -> Option<AuthorityConfig> {
    let before = report.count();
    let map = field.map(&keys::AUTHORITY, report)?;
    let listen = map.get_or("listen", None, report, |field, report| {
        let parse = |text: &str| address::socket_address(text).ok();
        field.parse(address::LOCAL, report, parse).map(Some)
    });
    let mut path = |key, default: &str, expected| {
        map.get_or(key, PathBuf::from(default), report, |field, report| {
            field.path(expected, report)
        })
    };
    let socket = path("socket", SOCKET, "the path of a Unix socket");
    let data = path("data", DATA, "the folder of its database and keys");
    let encrypt = map.get_or("encrypt", None, report, |field, report| {
        secret(field, report).map(Some)
    });
    let attest = map.get_or("attest", vec![Attest::JoinToken], report, attest::list);
    let mut ttl = |key, default, range| {
        map.get_or(key, default, report, |field, report| {
            field.duration(range, report)
        })
    };
    let ca_ttl = ttl("ca_ttl", CA_TTL, HOUR..=3660 * DAY);
    let x509_ttl = ttl("x509_ttl", HOUR, MINUTE..=60 * DAY);
    let agent_ttl = ttl("agent_ttl", HOUR, MINUTE..=60 * DAY);
    let jwt_ttl = ttl("jwt_ttl", 5 * MINUTE, Duration::from_secs(10)..=DAY);
    let jwt_issuer = map.get_or("jwt_issuer", None, report, |field, report| {
        let expected = "the URL that stands in tokens as `iss`, as in https://site.example";
        let text = field.parse(expected, report, |text| {
            text.starts_with("https://").then(|| text.to_owned())
        });
        text.map(Some)
    });
    let admins = map.get_or("admins", Vec::new(), report, admins);
    let entries = map.get_or("entries", None, report, |field, report| {
        let expected = "a file of entries, as for `sekisho apply`";
        field.path(expected, report).map(Some)
    });
    let upstream = map.get_or("upstream", None, report, |field, report| {
        upstream::upstream(field, report).map(Some)
    });
    let user = map.get_or("user", None, report, agent::user);
    if let (Some(ca), Some(x509), Some(agent)) = (ca_ttl, x509_ttl, agent_ttl) {
        long_enough(&map, ca, x509.max(agent), report);
    }
    if report.count() > before {
        return None;
    }
    Some(AuthorityConfig {
        listen: listen?,
        socket: socket?,
        data: data?,
        encrypt: encrypt?,
        attest: attest?,
        ca_ttl: ca_ttl?,
        x509_ttl: x509_ttl?,
        jwt_ttl: jwt_ttl?,
        agent_ttl: agent_ttl?,
        jwt_issuer: jwt_issuer?,
        admins: admins?,
        entries: entries?,
        upstream: upstream?,
        user: user?,
    })
}

/// An agent that leads to the authority above cannot be one that waits for ours.
pub(super) fn comes_first(
    top: &Map<'_>,
    authority: &AuthorityConfig,
    agent: &AgentConfig,
    report: &mut Report,
) {
    let Some(UpstreamConfig::Spire { socket, .. }) = &authority.upstream else {
        return;
    };
    // It attests at ours, where no other address is left to it.
    let at_ours = |listen: SocketAddr| agent.authority.iter().all(|to| leads_to(listen, to));
    let waits =
        agent.wants_token() || agent.bootstrap.is_none() || authority.listen.is_some_and(at_ours);
    if agent.socket != *socket || !waits {
        return;
    }
    let rule = "is the socket of `agent` in this file, which waits for this authority: either that \
                one attests at the authority above (`authority`, `bootstrap`, `join_token`), or \
                another agent of it has to be here";
    let at = top.get("authority").map(|field| field.at().clone());
    let at = at.unwrap_or_else(|| top.key().clone());
    let field = "authority.upstream.spire.identity";
    report.push(&at, field, Problem::Rule(rule.into()));
}

/// Whether who goes to `address` comes to this host's `listen`, as far as it can be seen.
fn leads_to(listen: SocketAddr, address: &str) -> bool {
    let local = address.strip_prefix("localhost:");
    let local = local.and_then(|port| Some((Ipv4Addr::LOCALHOST, port.parse().ok()?).into()));
    let Some(to) = local.or_else(|| address.parse::<SocketAddr>().ok()) else {
        return false;
    };
    let (ip, own) = (to.ip(), listen.ip());
    let everywhere = own.is_unspecified() && (ip.is_loopback() || ip.is_unspecified());
    to.port() == listen.port()
        && (ip == own || everywhere || (own.is_loopback() && local.is_some()))
}

fn long_enough(map: &Map<'_>, ca: Duration, svid: Duration, report: &mut Report) {
    if ca >= svid * TIMES {
        return;
    }
    let rule = "must be at least six times as long as `x509_ttl` and `agent_ttl`: a CA signs until \
                the last sixth of its life";
    let at: Option<Location> = map.get("ca_ttl").map(|field| field.at().clone());
    let at = at.unwrap_or_else(|| map.key().clone());
    report.push(&at, "authority.ca_ttl", Problem::Rule(rule.into()));
}

/// Where a secret is.
pub(super) fn secret(field: &Field<'_>, report: &mut Report) -> Option<Secret> {
    let map = field.map(&keys::SECRET, report)?;
    let (file, env) = (map.get("file"), map.get("env"));
    match (file, env) {
        (Some(file), None) => file.path("a file", report).map(Secret::File),
        (None, Some(env)) => {
            let expected = "the name of a variable of the environment";
            env.parse(expected, report, |text| {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                (!text.is_empty() && text.bytes().all(plain)).then(|| Secret::Env(text.into()))
            })
        }
        _ => {
            field.rule("either `file` or `env`", report);
            None
        }
    }
}

fn admins(field: &Field<'_>, report: &mut Report) -> Option<Vec<SpiffeId>> {
    let mut all = Vec::new();
    for item in field.list("a list of SPIFFE IDs", report)? {
        let text = item.text("a SPIFFE ID", report)?;
        match parse_workload_id(text) {
            Ok(id) => all.push(id),
            Err(error) => {
                item.problem(error.into(), report);
                return None;
            }
        }
    }
    Some(all)
}
