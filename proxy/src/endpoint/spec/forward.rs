//! The forwarding side of an endpoint.

use std::{fmt, net::SocketAddr, path::PathBuf};

use ipnet::IpNet;
use sekisho_certs::{IdList, TrustDomain, tls::MinVersion};

/// The forwarding side. Never without a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// `mtls://HOST:PORT[/NAME]`, or `site://TRUST-DOMAIN/SERVICE`.
    Mtls {
        /// The targets, with the server name each is asked for.
        targets: Vec<MtlsTarget>,
        /// Who may answer.
        expect: IdList,
        /// The oldest TLS version spoken. Default: 1.3.
        min_version: MinVersion,
    },
    /// `tcp://HOST:PORT` or `unix:///PATH`.
    Plain {
        /// The targets.
        targets: Vec<Address>,
    },
}

impl Forward {
    /// The addresses of all targets, in the order of the file.
    #[must_use]
    pub fn addresses(&self) -> Vec<&Address> {
        match self {
            Self::Mtls { targets, .. } => targets.iter().map(|target| &target.address).collect(),
            Self::Plain { targets } => targets.iter().collect(),
        }
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = match self {
            Self::Mtls { targets, .. } => targets
                .iter()
                .map(|target| match (&target.address, &target.server_name) {
                    (Address::Site(service), _) => service.to_string(),
                    (Address::Sites(any), _) => any.to_string(),
                    (address, Some(name)) => format!("mtls://{address} (as {name})"),
                    (address, None) => format!("mtls://{address}"),
                })
                .collect(),
            Self::Plain { targets } => targets.iter().map(ToString::to_string).collect(),
        };
        for (index, name) in names.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name}")?;
        }
        Ok(())
    }
}

/// One mTLS target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MtlsTarget {
    /// Where it is.
    pub address: Address,
    /// The server name sent: `NAME.<trust domain of expect>`. `None`: none is sent; that of a
    /// service of another site is `SERVICE.<trust domain>`.
    pub server_name: Option<String>,
}

/// A target's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and port.
    Ip(SocketAddr),
    /// A DNS name and port, resolved again on a schedule.
    Name(String, u16),
    /// A service of another site, found in that site's catalogue.
    Site(SiteService),
    /// Whichever of these services of other sites the client asks for; the only target then.
    Sites(AnySite),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// `site://TRUST-DOMAIN/SERVICE`: the catalogue says where it is and who answers there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SiteService {
    /// The site.
    pub domain: TrustDomain,
    /// The service's name, a DNS label.
    pub service: String,
    /// Networks that a catalogue may name beside public addresses: `federation: {allow}`.
    pub allow: Vec<IpNet>,
}

/// `site://*`, `site://*/SERVICE`: any service, or this one, of any other site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AnySite {
    /// The only service that may be asked for. `None`: any.
    pub service: Option<String>,
    /// Networks that a catalogue may name beside public addresses: `federation: {allow}`.
    pub allow: Vec<IpNet>,
}

impl fmt::Display for AnySite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Some(service) => write!(f, "site://*/{service}"),
            None => f.write_str("site://*"),
        }
    }
}

impl fmt::Display for SiteService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "site://{}/{}", self.domain, self.service)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Site(service) => write!(f, "{service}"),
            Self::Sites(any) => write!(f, "{any}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}
