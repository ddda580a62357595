//! `authority.upstream`: the authority above.

use std::path::PathBuf;

use crate::config::{
    address, agent,
    error::Report,
    field::{Field, Map},
    keys,
};

/// `authority.upstream`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamConfig {
    /// Its certificate and key are files here.
    Disk {
        /// PEM: its certificate, then those between it and a root.
        cert: PathBuf,
        /// PEM: its key.
        key: PathBuf,
        /// The roots above it, PEM. `None`: it is a root.
        bundle: Option<PathBuf>,
    },
    /// It is reached by SPIRE's server API.
    Spire {
        /// Its addresses, `HOST:PORT`.
        authority: Vec<String>,
        /// The Workload API of an agent of it, on this host.
        socket: PathBuf,
        /// The path of the SVID that we use there. `None`: the only one.
        path: Option<String>,
    },
}

/// Reads `authority.upstream`.
pub(super) fn upstream(field: &Field<'_>, report: &mut Report) -> Option<UpstreamConfig> {
    let map = field.map(&keys::UPSTREAM, report)?;
    match (map.get("disk"), map.get("spire")) {
        (Some(disk), None) => self::disk(&disk.map(&keys::UPSTREAM_DISK, report)?, report),
        (None, Some(spire)) => self::spire(&spire.map(&keys::UPSTREAM_SPIRE, report)?, report),
        _ => {
            field.rule("either `disk` or `spire`", report);
            None
        }
    }
}

fn disk(map: &Map<'_>, report: &mut Report) -> Option<UpstreamConfig> {
    const CERT: &str = "a PEM file: the certificate of a CA, then those between it and a root";
    const KEY: &str = "a PEM file: the key of that CA";
    const BUNDLE: &str = "a PEM file: the roots above it";
    let mut file = |key, expected| {
        let field = map.required(key, expected, report)?;
        field.path(expected, report)
    };
    let (cert, key) = (file("cert", CERT), file("key", KEY));
    let bundle = map.get_or("bundle", None, report, |field, report| {
        field.path(BUNDLE, report).map(Some)
    });
    Some(UpstreamConfig::Disk {
        cert: cert?,
        key: key?,
        bundle: bundle?,
    })
}

fn spire(map: &Map<'_>, report: &mut Report) -> Option<UpstreamConfig> {
    let authority = map.required("authority", agent::ADDRESSES, report);
    let authority = authority.and_then(|field| agent::address_list(&field, report));
    let socket = map.required("identity", WORKLOAD_API, report);
    let socket = socket.and_then(|field| workload_api(&field, report));
    let path = map.get_or("as", None, report, |field, report| {
        const FORM: &str = "the path of a SPIFFE ID, as in /below";
        let text = field.parse(FORM, report, |text| {
            let site = sekisho_certs::id::parse_trust_domain("site.invalid").ok()?;
            let id = sekisho_certs::id::id_below(&site, text);
            id.is_ok().then(|| text.to_owned())
        });
        text.map(Some)
    });
    Some(UpstreamConfig::Spire {
        authority: authority?,
        socket: socket?,
        path: path?,
    })
}

/// What the place of a Workload API looks like.
const WORKLOAD_API: &str = "unix:///SOCKET, the Workload API of an agent on this host";

/// Reads the place of a Workload API.
pub(in crate::config) fn workload_api(field: &Field<'_>, report: &mut Report) -> Option<PathBuf> {
    let text = field.text(WORKLOAD_API, report)?;
    match address::unix(text) {
        Ok(socket) => Some(socket),
        Err(expected) => {
            field.wrong(expected, report);
            None
        }
    }
}
