//! `agent`: this node's agent.

pub(super) mod attest;
mod workload;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use sekisho_agent::workload::{UnixSpec, WorkloadAttestorSpec};
use sekisho_certs::{IdList, SpiffeId, id::parse_workload_id};

use super::{
    address,
    authority::AuthorityConfig,
    endpoint::ids,
    error::Report,
    field::{Field, Map},
    keys,
    unit::DAY,
};
use attest::{NodeProof, Piece};

/// Where the Workload API is unless `agent.socket` says otherwise.
pub(crate) const SOCKET: &str = "/run/sekisho/agent/api.sock";
/// Where an agent keeps its cache unless `agent.data` says otherwise.
const DATA: &str = "/var/lib/sekisho/agent";
const MINUTE: Duration = Duration::from_secs(60);

/// `agent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentConfig {
    /// Addresses of authorities, `HOST:PORT`. Default: that of `authority` in the same file.
    pub(crate) authority: Vec<String>,
    /// The site's bundle to begin with. `None`: the supervisor has it.
    pub(crate) bootstrap: Option<PathBuf>,
    /// Workload API and SDS. Default: `/run/sekisho/agent/api.sock`.
    pub(crate) socket: PathBuf,
    /// The same over TCP on loopback. Default: not at all.
    pub(crate) listen: Option<SocketAddr>,
    /// The folder of its cache. Default: `/var/lib/sekisho/agent`.
    pub(crate) data: PathBuf,
    /// How this node proves which one it is. `None`: by a token from the supervisor.
    pub(crate) attest: Option<NodeProof>,
    /// How processes are attested. Default: by `unix`.
    pub(crate) workloads: Vec<WorkloadAttestorSpec>,
    /// For so long the site is to work without an authority. Default: half the life of an SVID.
    pub(crate) availability: Option<Duration>,
    /// Whether the key of the cache is in the kernel's keyring, where there is one. Default: yes.
    pub(crate) keyring: bool,
    /// The Delegated Identity API. Default: none.
    pub(crate) delegated: Option<Delegated>,
    /// As whom it runs, when `sekisho run` starts it as root. Default: as `sekisho run`.
    pub(crate) user: Option<String>,
}

impl AgentConfig {
    /// Whether the supervisor has to give it a token.
    pub(crate) fn wants_token(&self) -> bool {
        match &self.attest {
            None => true,
            Some(NodeProof::Evidence(pieces)) => pieces.contains(&Piece::HandedOver),
            Some(_) => false,
        }
    }
}

/// `agent.delegated`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delegated {
    /// Where it is served, to the owner alone.
    pub(crate) socket: PathBuf,
    /// Who may ask, and for whom.
    pub(crate) delegates: Vec<(SpiffeId, IdList)>,
}

/// Reads `agent`; `beside` is the authority of the same file.
pub(super) fn agent(
    field: &Field<'_>,
    beside: Option<&AuthorityConfig>,
    report: &mut Report,
) -> Option<AgentConfig> {
    let before = report.count();
    let map = field.map(&keys::AGENT, report)?;
    let addresses = addresses(&map, beside, report);
    let bootstrap = match (map.get("bootstrap"), beside) {
        (Some(field), _) => path(&field, BOOTSTRAP, report).map(Some),
        (None, Some(_)) => Some(None),
        (None, None) => {
            map.required("bootstrap", BOOTSTRAP, report);
            None
        }
    };
    let socket = map.get_or("socket", SOCKET.into(), report, |field, report| {
        path(field, "the path of a Unix socket", report)
    });
    let listen = map.get_or("listen", None, report, |field, report| {
        let form = "an address of loopback and a port, as in 127.0.0.1:8090";
        let parse = |text: &str| {
            let address = address::socket_address(text).ok()?;
            address::is_loopback(address).then_some(address)
        };
        field.parse(form, report, parse).map(Some)
    });
    let data = map.get_or("data", DATA.into(), report, |field, report| {
        path(field, "the folder of its cache", report)
    });
    let attest = attest::read(&map, beside.is_some(), report);
    let default = vec![WorkloadAttestorSpec::Unix(UnixSpec::default())];
    let workloads = map.get_or("workloads", default, report, workload::list);
    let availability = map.get_or("availability", None, report, |field, report| {
        field.duration(MINUTE..=60 * DAY, report).map(Some)
    });
    let keyring = map.get_or("seal", true, report, |field, report| {
        field.choice(&[("keyring", true), ("file", false)], report)
    });
    let delegated = map.get_or("delegated", None, report, |field, report| {
        delegated(field, report).map(Some)
    });
    let user = map.get_or("user", None, report, user);
    if report.count() > before {
        return None;
    }
    Some(AgentConfig {
        authority: addresses?,
        bootstrap: bootstrap?,
        socket: socket?,
        listen: listen?,
        data: data?,
        attest: attest?,
        workloads: workloads?,
        availability: availability?,
        keyring: keyring?,
        delegated: delegated?,
        user: user?,
    })
}

const BOOTSTRAP: &str = "the file of the site's bundle to begin with, PEM or SPIFFE bundle JSON";

fn path(field: &Field<'_>, expected: &str, report: &mut Report) -> Option<PathBuf> {
    field.path(expected, report)
}

/// The name of a user of this host, for the one who starts a process as that user.
pub(super) fn user(field: &Field<'_>, report: &mut Report) -> Option<Option<String>> {
    let text = field.parse("the name of a user of this host", report, |text| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        (!text.is_empty() && text.chars().all(plain)).then(|| text.to_owned())
    });
    text.map(Some)
}

fn addresses(
    map: &Map<'_>,
    beside: Option<&AuthorityConfig>,
    report: &mut Report,
) -> Option<Vec<String>> {
    let Some(field) = map.get("authority") else {
        let Some(listen) = beside.and_then(|authority| authority.listen) else {
            map.required("authority", ADDRESSES, report);
            return None;
        };
        return Some(vec![reachable(listen).to_string()]);
    };
    address_list(&field, report)
}

/// What addresses of authorities look like.
pub(super) const ADDRESSES: &str = "a list of addresses, HOST:PORT";

/// Reads addresses of authorities.
pub(super) fn address_list(field: &Field<'_>, report: &mut Report) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for item in field.list(ADDRESSES, report)? {
        let text = item.text(ADDRESSES, report)?;
        match address::host(text) {
            Ok(_) => all.push(text.to_owned()),
            Err(expected) => {
                item.wrong(expected, report);
                return None;
            }
        }
    }
    Some(all)
}

/// Who listens everywhere is reached by loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let mut to = listen;
    if listen.ip().is_unspecified() {
        to.set_ip(match listen {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    to
}

fn delegated(field: &Field<'_>, report: &mut Report) -> Option<Delegated> {
    const FORM: &str = "a map of the SPIFFE ID of a delegate to a list of SPIFFE IDs";
    let map = field.map(&keys::DELEGATED, report)?;
    let socket = map.required("socket", "the path of a Unix socket", report);
    let socket = socket.and_then(|field| path(&field, "the path of a Unix socket", report));
    let listed = map.required("delegates", FORM, report)?;
    let mut delegates = Vec::new();
    for entry in listed.entries(FORM, report)? {
        let below = Field::new(&listed.path, entry);
        match parse_workload_id(&entry.key) {
            Ok(id) => delegates.push((id, ids::read(&below, report)?)),
            Err(error) => {
                report.push(&entry.at, &below.path, error.into());
                return None;
            }
        }
    }
    Some(Delegated {
        socket: socket?,
        delegates,
    })
}
