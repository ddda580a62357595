//! What a site's federation keeps to.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use sekisho_federation::{acme::AcmeSettings, client::Allowed};

use crate::store::Declared;

/// So many refresh hints an authority is in our bundle before it signs (SPIFFE_Federation.md §4.1: three
/// to five).
pub const HINTS: u32 = 3;

/// What a site's federation keeps to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FederationSettings {
    /// Where bundles may be fetched. Default: on the public Internet only.
    pub allowed: Allowed,
    /// Whom the configuration file names. Default: nobody.
    pub peers: Vec<Declared>,
    /// Where others fetch our bundle. Default: nowhere.
    pub endpoint: Option<EndpointSettings>,
}

/// Where others fetch our bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How often others are to ask (`spiffe_refresh_hint`), in whole seconds.
    pub refresh: Duration,
    /// How it proves who it is.
    pub shown: Shown,
}

/// How a bundle endpoint proves who it is (SPIFFE_Federation.md §5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// `https_spiffe`: by `spiffe://SITE/spire/server`.
    Own,
    /// `https_web`: by a certificate in files, PEM, read again when they change.
    Web {
        /// The certificate, and those between it and a root.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// `https_web`: by a certificate from an ACME server.
    Acme(AcmeSettings),
}
