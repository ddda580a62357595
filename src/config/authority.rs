//! `authority`: the site's CA and its API, in a file with `site` and `log`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use sekisho_certs::{SpiffeId, TrustDomain, id::parse_workload_id};

use super::{
    address,
    admin::{self, Log},
    error::{Problem, Report},
    field::{Field, Map},
    keys,
    location::Location,
    top,
    tree::Node,
    unit::DAY,
};

/// A file of an authority, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthorityFile {
    /// The trust domain of this site.
    pub(crate) site: TrustDomain,
    /// What is logged and how.
    pub(crate) log: Log,
    /// The rest.
    pub(crate) authority: AuthorityConfig,
}

/// `authority`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthorityConfig {
    /// Where agents come, and administrators from afar. Default: nowhere.
    pub(crate) listen: Option<SocketAddr>,
    /// Where administrators of this host come.
    pub(crate) socket: PathBuf,
    /// The folder of its database and keys.
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
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Secret {
    /// The name of a variable of the environment.
    Env(String),
    /// A file.
    File(PathBuf),
}

/// A kind of node attestation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attest {
    /// By join token.
    JoinToken,
    /// By certificate of one of these CAs (a PEM file), and its key.
    X509Pop {
        /// The file.
        ca: PathBuf,
    },
    /// By SVID of our own below `/spire-exchange/`, and its key.
    X509PopSpiffe,
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// A CA lives six times as long as what it signs, or that is cut short.
const TIMES: u32 = 6;

/// Reads the tree of a file.
pub(super) fn read(root: &Node, report: &mut Report) -> Option<AuthorityFile> {
    let field = Field {
        path: String::new(),
        key: &root.at,
        node: root,
    };
    let top = field.map(&keys::AUTHORITY_FILE, report)?;
    let site = top.required("site", top::SITE, report);
    let site = site.and_then(|field| top::site(&field, report));
    let log = top.get_or("log", Log::default(), report, admin::log);
    let authority = top
        .required("authority", keys::AUTHORITY.of, report)
        .and_then(|field| authority(&field, report));
    Some(AuthorityFile {
        site: site?,
        log: log?,
        authority: authority?,
    })
}

fn authority(field: &Field<'_>, report: &mut Report) -> Option<AuthorityConfig> {
    let before = report.count();
    let map = field.map(&keys::AUTHORITY, report)?;
    let listen = map.get_or("listen", None, report, |field, report| {
        let parse = |text: &str| address::socket_address(text).ok();
        field.parse(address::LOCAL, report, parse).map(Some)
    });
    let socket = map.required("socket", "the path of a Unix socket", report);
    let socket = socket.and_then(|field| field.path("the path of a Unix socket", report));
    let data = map.required("data", "the folder of its database and keys", report);
    let data = data.and_then(|field| field.path("the folder of its database and keys", report));
    let encrypt = map.get_or("encrypt", None, report, |field, report| {
        secret(field, report).map(Some)
    });
    let attest = map.get_or("attest", vec![Attest::JoinToken], report, attest);
    let mut ttl = |key, default, range| {
        map.get_or(key, default, report, |field, report| {
            field.duration(range, report)
        })
    };
    let ca_ttl = ttl("ca_ttl", 24 * HOUR, HOUR..=3660 * DAY);
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
    })
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

fn secret(field: &Field<'_>, report: &mut Report) -> Option<Secret> {
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

fn attest(field: &Field<'_>, report: &mut Report) -> Option<Vec<Attest>> {
    const FORM: &str = "a list of join_token, {x509pop: {ca: FILE}} or {x509pop: spiffe}";
    let mut all = Vec::new();
    for item in field.list(FORM, report)? {
        let one = if item.as_text() == Some("join_token") {
            Attest::JoinToken
        } else if item.as_text().is_some() {
            item.wrong(FORM, report);
            return None;
        } else {
            let map = item.map(&keys::ATTEST, report)?;
            let pop = map.required("x509pop", "spiffe or {ca: FILE}", report)?;
            if pop.as_text() == Some("spiffe") {
                Attest::X509PopSpiffe
            } else {
                let map = pop.map(&keys::X509POP, report)?;
                let ca = map.required("ca", "a PEM file of CA certificates", report)?;
                Attest::X509Pop {
                    ca: ca.path("a PEM file of CA certificates", report)?,
                }
            }
        };
        let same = |known: &Attest| std::mem::discriminant(known) == std::mem::discriminant(&one);
        let pop = |known: &Attest| !matches!(known, Attest::JoinToken);
        if all
            .iter()
            .any(|known| same(known) || (pop(known) && pop(&one)))
        {
            item.rule("this kind of attestation is there already", report);
            return None;
        }
        all.push(one);
    }
    Some(all)
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
