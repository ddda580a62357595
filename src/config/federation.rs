//! `federation`: with whom this site exchanges trust bundles.

mod directory;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use sekisho_authority::federation::HINTS;
use sekisho_certs::{
    SpiffeId, TrustDomain,
    id::{parse_trust_domain, parse_workload_id},
};
use sekisho_federation::client::EndpointUrl;

use super::{
    address,
    authority::{AuthorityConfig, CA_TTL},
    endpoint::networks,
    error::{Problem, Report},
    field::{Field, Map},
    keys,
    location::Location,
    tree::Entry,
    unit::DAY,
    warning::Warning,
};

/// `federation`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FederationConfig {
    /// The directories that are followed. Default: none.
    pub(crate) directory: Option<DirectoryConfig>,
    /// Where others fetch our bundle. Default: nowhere.
    pub(crate) endpoint: Option<BundleEndpointConfig>,
    /// Whose bundles are fetched, in the order of the file. Default: nobody's.
    pub(crate) peers: Vec<PeerConfig>,
    /// Networks in which endpoints may be, beside the public Internet. Default: none.
    pub(crate) allow: Vec<IpNet>,
    /// What is legal but unwise.
    pub(crate) warnings: Vec<Warning>,
}

impl FederationConfig {
    /// Whether the process that has the site's CA has something to do: more is said than where others may
    /// be.
    pub(super) const fn needs_ca(&self) -> bool {
        self.endpoint.is_some() || !self.peers.is_empty() || self.directory.is_some()
    }

    /// Warns where nothing reads it, which stands `at`: neither a CA nor, of `allow`, an endpoint that is
    /// sent to a service of another site.
    pub(super) fn warn_of_no_reader(&mut self, at: &Location, ca: bool, site_services: bool) {
        if ca || (site_services && !self.needs_ca()) {
            return;
        }
        self.warnings.push(Warning {
            location: at.clone(),
            field: "federation".into(),
            message: "nothing here reads it: it belongs beside `authority` or an embedded CA"
                .into(),
        });
    }
}

/// `federation.endpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BundleEndpointConfig {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// How often others are to ask. Default: five minutes.
    pub(crate) refresh: Duration,
    /// How it proves who it is. Default: by its SPIFFE ID.
    pub(crate) shown: ShownConfig,
}

/// `federation.endpoint.profile` and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ShownConfig {
    /// `https_spiffe`.
    Spiffe,
    /// `https_web`.
    Web {
        /// Its certificate and those between it and a root, PEM.
        cert: PathBuf,
        /// Its key, PEM.
        key: PathBuf,
    },
    /// `https_web`, by a certificate from an ACME server.
    Acme(AcmeConfig),
}

/// `federation.endpoint.acme`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AcmeConfig {
    /// The URL of the server's directory.
    pub(crate) directory: String,
    /// For which name.
    pub(crate) domain: String,
    /// To whom the server writes. Default: nobody.
    pub(crate) email: Option<String>,
    /// By what the server itself is known, PEM. Default: the host's roots.
    pub(crate) ca: Option<PathBuf>,
}

/// One of `federation.peers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerConfig {
    /// Whose bundle.
    pub(crate) domain: TrustDomain,
    /// From where.
    pub(crate) url: EndpointUrl,
    /// By which ID the endpoint is known; `None`: by its name in the web's PKI.
    pub(crate) id: Option<SpiffeId>,
    /// The bundle to begin with.
    pub(crate) bundle: Option<PathBuf>,
}

use directory::DirectoryConfig;
pub(crate) use directory::DirectoryPlace;

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
/// How often others are to ask, unless it is given.
const REFRESH: Duration = Duration::from_secs(300);
const URL: &str = "the address of a bundle endpoint, as in https://osaka.example:8443";
const ID: &str = "the SPIFFE ID of the endpoint, as in spiffe://osaka.example/spire/server";
const BUNDLE: &str =
    "a file with the bundle of this site, by which its endpoint is known the first time";
const CERT: &str = "a PEM file: the certificate of the endpoint, then those between it and a root";
const KEY: &str = "a PEM file: the key of the certificate";
const DIRECTORY: &str =
    "the directory of an ACME server, as in https://acme-v02.api.letsencrypt.org/directory";
const DOMAIN: &str = "the name by which others ask, in lower case";
const PEERS: &str = "a map of trust domain to {url, profile, id, bundle}";

/// The two profiles (SPIFFE_Federation.md §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    Spiffe,
    Web,
}

const PROFILES: &[(&str, Profile)] = &[
    ("https_spiffe", Profile::Spiffe),
    ("https_web", Profile::Web),
];

/// Reads `federation`. What is read by whom: `authority` of the same file.
pub(super) fn federation(
    field: &Field<'_>,
    site: Option<&TrustDomain>,
    authority: Option<&AuthorityConfig>,
    report: &mut Report,
) -> Option<FederationConfig> {
    let before = report.count();
    let map = field.map(&keys::FEDERATION, report)?;
    if keys::FEDERATION
        .known
        .iter()
        .all(|key| map.get(key).is_none())
    {
        field.rule(format!("expected {}", keys::FEDERATION.of), report);
    }
    let directory = directory::directory(&map, report);
    let endpoint = map.get_or("endpoint", None, report, |field, report| {
        endpoint(field, authority, report).map(Some)
    });
    let peers = map.get_or("peers", Vec::new(), report, |field, report| {
        let entries = field.entries(PEERS, report)?;
        let all: Vec<_> = entries
            .iter()
            .map(|entry| peer(&Field::new("federation.peers", entry), entry, site, report))
            .collect();
        all.into_iter().collect()
    });
    let allow = map.get_or("allow", Vec::new(), report, networks);
    if report.count() > before {
        return None;
    }
    Some(FederationConfig {
        directory: directory?,
        endpoint: endpoint?,
        peers: peers?,
        allow: allow?,
        warnings: Vec::new(),
    })
}

fn endpoint(
    field: &Field<'_>,
    authority: Option<&AuthorityConfig>,
    report: &mut Report,
) -> Option<BundleEndpointConfig> {
    let map = field.map(&keys::BUNDLE_ENDPOINT, report)?;
    let listen = map.required("listen", address::LOCAL, report);
    let listen = listen.and_then(|field| {
        let parse = |text: &str| address::socket_address(text).ok();
        field.parse(address::LOCAL, report, parse)
    });
    let refresh = map.get_or("refresh", REFRESH, report, |field, report| {
        field.duration(MINUTE..=DAY, report)
    });
    let profile = map.get_or("profile", Profile::Spiffe, report, |field, report| {
        field.choice(PROFILES, report)
    });
    let shown = match profile? {
        Profile::Spiffe => {
            let rule = "with `profile: https_spiffe` the endpoint shows a certificate of the site's own CA";
            map.refuse(&["cert", "key", "acme"], rule, report);
            Some(ShownConfig::Spiffe)
        }
        Profile::Web if map.get("acme").is_some() => {
            let rule = "a certificate comes from files or by `acme`";
            map.refuse(&["cert", "key"], rule, report);
            let field = map.get("acme");
            let acme = field.and_then(|field| acme(&field, report));
            acme.map(ShownConfig::Acme)
        }
        Profile::Web => {
            let mut file = |key, expected| {
                let field = map.required(key, expected, report)?;
                field.path(expected, report)
            };
            let (cert, key) = (file("cert", CERT), file("key", KEY));
            cert.zip(key)
                .map(|(cert, key)| ShownConfig::Web { cert, key })
        }
    };
    if let Some(refresh) = refresh {
        let ca_ttl = authority.map_or(CA_TTL, |own| own.ca_ttl);
        often_enough(&map, refresh, ca_ttl, report);
    }
    Some(BundleEndpointConfig {
        listen: listen?,
        refresh: refresh?,
        shown: shown?,
    })
}

fn acme(field: &Field<'_>, report: &mut Report) -> Option<AcmeConfig> {
    let map = field.map(&keys::ACME, report)?;
    let directory = map.required("directory", DIRECTORY, report);
    let directory = directory.and_then(|field| {
        // The same form: https, a host, no user.
        let parse = |text: &str| text.parse::<EndpointUrl>().ok().map(|url| url.to_string());
        field.parse(DIRECTORY, report, parse)
    });
    let domain = map.required("domain", DOMAIN, report).and_then(|field| {
        let parse = |text: &str| address::is_dns_name(text).then(|| text.to_owned());
        field.parse(DOMAIN, report, parse)
    });
    let email = map.get_or("email", None, report, |field, report| {
        let parse = |text: &str| {
            let (name, host) = text.split_once('@')?;
            let plain = |byte: u8| byte.is_ascii_graphic() && !b"@<>,;?&%\"".contains(&byte);
            let good = !name.is_empty() && name.bytes().all(plain);
            (good && address::is_dns_name(&host.to_ascii_lowercase())).then(|| text.to_owned())
        };
        field.parse("an e-mail address", report, parse).map(Some)
    });
    let ca = map.get_or("ca", None, report, |field, report| {
        let expected = "a PEM file with the CAs by which the ACME server itself is known";
        field.path(expected, report).map(Some)
    });
    Some(AcmeConfig {
        directory: directory?,
        domain: domain?,
        email: email?,
        ca: ca?,
    })
}

/// Between being prepared and signing an authority has a third of its life, and others are to ask three
/// times in it.
fn often_enough(map: &Map<'_>, refresh: Duration, ca_ttl: Duration, report: &mut Report) {
    let longest = ca_ttl / 3 / HINTS;
    if refresh <= longest {
        return;
    }
    let rule = "must be at most a ninth of `authority.ca_ttl`: others are to ask three times between the \
                preparation of a CA and its first signature";
    let at = map.get("refresh").map(|field| field.at().clone());
    let at = at.unwrap_or_else(|| map.key().clone());
    report.push(
        &at,
        "federation.endpoint.refresh",
        Problem::Rule(rule.into()),
    );
}

fn peer(
    field: &Field<'_>,
    entry: &Entry,
    site: Option<&TrustDomain>,
    report: &mut Report,
) -> Option<PeerConfig> {
    let domain = match parse_trust_domain(&entry.key) {
        Ok(domain) => Some(domain),
        Err(error) => {
            report.push(&entry.at, &field.path, error.into());
            None
        }
    };
    if domain.is_some() && domain.as_ref() == site {
        let rule = "is this site itself: its bundle comes from its own CA only";
        report.push(&entry.at, &field.path, Problem::Rule(rule.into()));
        return None;
    }
    let map = field.map(&keys::PEER, report)?;
    let url = map.required("url", URL, report).and_then(|field| {
        let text = field.text(URL, report)?;
        match text.parse::<EndpointUrl>() {
            Ok(url) => Some(url),
            Err(error) => {
                field.rule(format!("expected {URL}: {error}"), report);
                None
            }
        }
    });
    // Never found out from anything else (SPIFFE_Federation.md §7.2).
    let profile = map.required("profile", "https_spiffe or https_web", report);
    let profile = profile.and_then(|field| field.choice(PROFILES, report));
    let bundle = map.get_or("bundle", None, report, |field, report| {
        field.path(BUNDLE, report).map(Some)
    });
    let id = match profile? {
        Profile::Web => {
            let rule = "with `profile: https_web` an endpoint is known by its name";
            map.refuse(&["id"], rule, report);
            None
        }
        Profile::Spiffe => {
            let field = map.required("id", ID, report)?;
            let id = match parse_workload_id(field.text(ID, report)?) {
                Ok(id) => id,
                Err(error) => {
                    field.problem(error.into(), report);
                    return None;
                }
            };
            if Some(id.trust_domain()) == domain.as_ref() {
                map.required("bundle", BUNDLE, report)?;
            }
            Some(id)
        }
    };
    Some(PeerConfig {
        domain: domain?,
        url: url?,
        id,
        bundle: bundle?,
    })
}
