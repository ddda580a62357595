//! `oidc`: discovery for those who verify our tokens and know nothing of SPIFFE.

use std::{fmt, net::SocketAddr, path::PathBuf};

use sekisho_federation::oidc::Issuer;

use super::{
    address,
    agent::{self, AgentConfig},
    authority::{AuthorityConfig, workload_api},
    error::{Problem, Report},
    field::{Field, Map},
    keys,
};

/// `oidc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OidcConfig {
    /// Where it listens.
    pub(crate) listen: OidcListen,
    /// The names by which it is asked, in lower case.
    pub(crate) domains: Vec<String>,
    /// Whom tokens name as `iss`. Default: `https://` and the first of the domains.
    pub(crate) issuer: Issuer,
    /// Where the keys are said to be. Default: `/keys` below the issuer.
    pub(crate) jwks_uri: Option<String>,
    /// The Workload API that has the keys. Default: that of `agent` in the same file, or where ours
    /// is by default.
    pub(crate) source: PathBuf,
    /// As whom it runs, when `sekisho run` starts it as root. Default: as `sekisho run`.
    pub(crate) user: Option<String>,
}

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OidcListen {
    /// By TLS.
    Tls {
        /// Where.
        address: SocketAddr,
        /// Its certificate and those between it and a root, PEM.
        cert: PathBuf,
        /// Its key, PEM.
        key: PathBuf,
    },
    /// Plain, for a proxy in front.
    Unix(PathBuf),
}

impl fmt::Display for OidcListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls { address, .. } => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

const LISTEN: &str = "ADDRESS:PORT, or unix:///PATH for a proxy in front of it";
const DOMAINS: &str = "a list of domains, as in [oidc.example.org]";
const CERT: &str = "a PEM file: the certificate for `domains`, then those between it and a root";
const KEY: &str = "a PEM file: the key of the certificate";
const ISSUER: &str = "an issuer, as in https://oidc.example.org";

/// Reads `oidc`; `agent` is that of the same file.
pub(super) fn oidc(
    field: &Field<'_>,
    agent: Option<&AgentConfig>,
    report: &mut Report,
) -> Option<OidcConfig> {
    let before = report.count();
    let map = field.map(&keys::OIDC, report)?;
    let listen = listen(&map, report);
    let domains = map.required("domains", DOMAINS, report);
    let domains = domains.and_then(|field| self::domains(&field, report));
    let issuer = match (
        map.get("issuer"),
        domains.as_ref().and_then(|all| all.first()),
    ) {
        (Some(field), _) => issuer(&field, domains.as_deref(), report),
        (None, Some(first)) => format!("https://{first}").parse().ok(),
        (None, None) => None,
    };
    let jwks_uri = map.get_or("jwks_uri", None, report, |field, report| {
        let form = "the URL of the keys, as in https://cdn.example.org/keys";
        let parse = |text: &str| {
            let same = text.parse::<Issuer>().is_ok();
            same.then(|| text.to_owned())
        };
        field.parse(form, report, parse).map(Some)
    });
    let default = agent.map_or_else(|| agent::SOCKET.into(), |own| own.socket.clone());
    let source = map.get_or("source", default, report, workload_api);
    let user = map.get_or("user", None, report, agent::user);
    if report.count() > before {
        return None;
    }
    Some(OidcConfig {
        listen: listen?,
        domains: domains?,
        issuer: issuer?,
        jwks_uri: jwks_uri?,
        source: source?,
        user: user?,
    })
}

fn listen(map: &Map<'_>, report: &mut Report) -> Option<OidcListen> {
    let field = map.required("listen", LISTEN, report)?;
    let text = field.text(LISTEN, report)?;
    if text.starts_with("unix:") {
        let rule = "the proxy in front of a Unix socket has the certificate";
        map.refuse(&["cert", "key"], rule, report);
        return match address::unix(text) {
            Ok(path) => Some(OidcListen::Unix(path)),
            Err(expected) => {
                field.wrong(expected, report);
                None
            }
        };
    }
    let parse = |text: &str| address::socket_address(text).ok();
    let address = field.parse(LISTEN, report, parse);
    let mut file = |key, expected| {
        let field = map.required(key, expected, report)?;
        field.path(expected, report)
    };
    let (cert, key) = (file("cert", CERT), file("key", KEY));
    Some(OidcListen::Tls {
        address: address?,
        cert: cert?,
        key: key?,
    })
}

fn domains(field: &Field<'_>, report: &mut Report) -> Option<Vec<String>> {
    const FORM: &str = "a domain in lower case, without a port (others than ASCII as xn--…)";
    let mut all: Vec<String> = Vec::new();
    for item in field.list(DOMAINS, report)? {
        let domain = item.parse(FORM, report, |text| {
            let known =
                address::is_dns_name(text) && format!("https://{text}").parse::<Issuer>().is_ok();
            known.then(|| text.to_owned())
        })?;
        if all.contains(&domain) {
            item.rule("this domain is there already", report);
            return None;
        }
        all.push(domain);
    }
    Some(all)
}

/// Who is sent to the issuer has to find us there.
fn issuer(field: &Field<'_>, domains: Option<&[String]>, report: &mut Report) -> Option<Issuer> {
    let issuer: Issuer = match field.text(ISSUER, report)?.parse() {
        Ok(issuer) => issuer,
        Err(error) => {
            field.rule(format!("{error}"), report);
            return None;
        }
    };
    let known = domains.is_none_or(|all| all.iter().any(|domain| domain == issuer.host()));
    if !known {
        let rule = format!("its host, {}, must be one of `domains`", issuer.host());
        field.rule(rule, report);
        return None;
    }
    Some(issuer)
}

/// Tokens and the document have to name the same issuer: without `authority.jwt_issuer` it is taken
/// from here.
pub(super) fn agree(
    top: &Map<'_>,
    authority: &mut AuthorityConfig,
    oidc: &OidcConfig,
    report: &mut Report,
) {
    let issuer = oidc.issuer.as_str();
    match &authority.jwt_issuer {
        Some(other) if other != issuer => {
            let rule = format!(
                "is not the issuer of `oidc`, {issuer:?}: whoever verifies tokens by that document \
                 refuses them"
            );
            let at = top.get("authority").and_then(|field| {
                let entries = field.entries("", report)?;
                let own = entries.iter().find(|entry| entry.key == "jwt_issuer")?;
                Some(own.value.at.clone())
            });
            let at = at.unwrap_or_else(|| top.key().clone());
            report.push(&at, "authority.jwt_issuer", Problem::Rule(rule));
        }
        _ => authority.jwt_issuer = Some(issuer.into()),
    }
}
