//! What of `federation` an authority is told.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sekisho_authority::{
    directory::{self, DirectorySettings, MemberSettings},
    federation::{self, EndpointSettings, FederationSettings, HINTS, Shown},
    store::{Bundle, Declared, EndpointProfile, Origin, Relationship},
};
use sekisho_certs::{TrustBundle, TrustDomain, bundle::json::MAX_BYTES};
use sekisho_federation::{
    acme::AcmeSettings,
    client::{Allowed, WebRoots},
};

use crate::config::{
    AcmeConfig, BundleEndpointConfig, Config, DirectoryPlace, PeerConfig, ShownConfig, services,
};

/// For so long a new CA is in the directory before it signs.
const DIRECTORY: Duration = Duration::from_secs(1800);

/// How long a new CA, which lives for `ca_ttl`, is in the bundle before it signs; zero where nobody fetches
/// that.
pub(super) fn announced(file: &Config, ca_ttl: Duration) -> Duration {
    let Some(own) = &file.federation else {
        return Duration::ZERO;
    };
    let endpoint = own.endpoint.as_ref();
    let endpoint = endpoint.map_or(Duration::ZERO, |endpoint| endpoint.refresh * HINTS);
    // The host signs every ten minutes, and others ask every five: twice that, or what the life of a CA
    // has room for.
    let directory = own
        .directory
        .as_ref()
        .map_or(Duration::ZERO, |_| DIRECTORY.min(ca_ttl / 3));
    endpoint.max(directory)
}

/// What is told of the directories; `None` without any.
pub(super) fn directories(file: &Config, data: &Path) -> Option<DirectorySettings> {
    let own = file.federation.as_ref()?.directory.as_ref()?;
    let places = own
        .places
        .iter()
        .map(|(at, root)| directory::DirectoryPlace {
            at: place(at),
            root: root.clone(),
        });
    Some(DirectorySettings {
        places: places.collect(),
        threshold: own.threshold,
        data: data.join("directory"),
        max_stale: own.max_stale,
        rekey_wait: own.rekey_wait,
    })
}

/// How the site speaks to the directories; `None` without any.
///
/// # Errors
/// When the file of services cannot be used: every line of what is wrong.
pub(super) fn member(file: &Config, data: &Path) -> anyhow::Result<Option<MemberSettings>> {
    let own = file
        .federation
        .as_ref()
        .and_then(|own| own.directory.as_ref());
    let Some(own) = own else { return Ok(None) };
    let services = match &own.services {
        None => Vec::new(),
        Some(path) => services::load(path, &file.site)
            .map_err(|errors| anyhow::anyhow!("{}", errors.render(false)))?,
    };
    Ok(Some(MemberSettings {
        places: own.places.iter().map(|(at, _)| place(at)).collect(),
        data: own.member.clone().unwrap_or_else(|| data.join("member")),
        services,
        // Those that the member has named in its request.
        endpoints: Vec::new(),
    }))
}

fn place(at: &DirectoryPlace) -> directory::Place {
    match at {
        DirectoryPlace::Url(url) => directory::Place::Url(url.clone()),
        DirectoryPlace::Folder(folder) => directory::Place::Folder(folder.clone()),
    }
}

/// What `federation` says; the defaults without it. A bundle to begin with that cannot be read is logged:
/// it may not be needed any more.
///
/// # Errors
/// When the CAs of an ACME server cannot be read.
pub(super) fn settings(file: &Config, data: &Path) -> anyhow::Result<FederationSettings> {
    let Some(own) = &file.federation else {
        return Ok(FederationSettings::default());
    };
    let endpoint = own.endpoint.as_ref();
    Ok(FederationSettings {
        allowed: Allowed::with(own.allow.iter().copied()),
        peers: own.peers.iter().map(declared).collect(),
        endpoint: endpoint.map(|own| self::endpoint(own, data)).transpose()?,
    })
}

fn endpoint(own: &BundleEndpointConfig, data: &Path) -> anyhow::Result<EndpointSettings> {
    Ok(EndpointSettings {
        listen: own.listen,
        refresh: own.refresh,
        shown: match &own.shown {
            ShownConfig::Spiffe => Shown::Own,
            ShownConfig::Web { cert, key } => Shown::Web {
                cert: cert.clone(),
                key: key.clone(),
            },
            ShownConfig::Acme(own) => Shown::Acme(AcmeSettings {
                directory: own.directory.clone(),
                email: own.email.clone(),
                domain: own.domain.clone(),
                roots: roots(own)?,
                folder: data.join("acme"),
            }),
        },
    })
}

/// By what an ACME server is known.
///
/// # Errors
/// When the file cannot be read, or has no certificate.
pub(crate) fn roots(own: &AcmeConfig) -> anyhow::Result<WebRoots> {
    let Some(path) = &own.ca else {
        return Ok(WebRoots::System);
    };
    let wrong = || format!("{}: CA certificates in PEM are expected", path.display());
    let roots: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .with_context(wrong)?
        .collect::<Result<_, _>>()
        .with_context(wrong)?;
    anyhow::ensure!(!roots.is_empty(), wrong());
    Ok(WebRoots::Given(roots))
}

fn declared(peer: &PeerConfig) -> Declared {
    let bundle = peer.bundle.as_ref().and_then(|path| {
        let read = bundle(path, &peer.domain);
        read.inspect_err(|error| {
            tracing::error!(domain = %peer.domain, error = %format_args!("{error:#}"), "federation.peers: no bundle to begin with");
        })
        .ok()
    });
    Declared {
        relationship: Relationship {
            origin: Origin::File,
            domain: peer.domain.clone(),
            url: peer.url.clone(),
            profile: match &peer.id {
                Some(id) => EndpointProfile::Spiffe(id.clone()),
                None => EndpointProfile::Web,
            },
        },
        bundle,
    }
}

/// The bundle in a file: SPIFFE JSON or PEM.
///
/// # Errors
/// When it cannot be read, or is none of this domain.
pub(crate) fn bundle(path: &Path, domain: &TrustDomain) -> anyhow::Result<Bundle> {
    use std::io::Read as _;
    let name = || path.display().to_string();
    let mut text = Vec::new();
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    let file = std::fs::File::open(path).with_context(name)?;
    let read = file.take(most.saturating_add(1)).read_to_end(&mut text);
    read.with_context(name)?;
    let bundle = TrustBundle::from_file(domain.clone(), &text).with_context(name)?;
    federation::stored(&bundle).with_context(name)
}
