//! What the configuration says of a source of identity.

use std::{collections::BTreeMap, path::PathBuf};

use crate::TrustDomain;

/// Where an endpoint's SVID comes from (`identity:`), validated.
///
/// Two equal specs are one source, shared by the endpoints that name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceSpec {
    /// `{embedded: {data: DIR}}`: a small CA in this process, with its state in that folder.
    Embedded {
        /// Holds the CA's key (0600), its `bundle.json` and a lock.
        data: PathBuf,
        /// Whether other sites fetch its bundle, and it theirs: then an authority in this process
        /// signs, whose CAs come and go, and the folder has its database and keys.
        federated: bool,
    },
    /// `{cert, key, bundles}`: PEM files, watched.
    Files {
        /// The SVID: leaf first, then its intermediates.
        cert: PathBuf,
        /// PKCS#8, SEC1 or PKCS#1 PEM. May be the same file as `cert`.
        key: PathBuf,
    },
    /// `unix://SOCKET`: a Workload API, SPIRE's or ours.
    WorkloadApi {
        /// The socket's path.
        socket: PathBuf,
    },
    /// `{delegated: SOCKET, selectors: [TYPE:VALUE]}`: the identities of another process, by the Delegated
    /// Identity API of an agent.
    Delegated {
        /// The socket's path.
        socket: PathBuf,
        /// What is true of that process: type and value.
        selectors: Vec<(String, String)>,
    },
}

/// Where bundles come from beside what the source delivers (`bundles:`), in its three forms.
///
/// They are never for our own trust domain, except with [`SourceSpec::Files`], which has no other
/// source of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BundlesSpec {
    /// A map of trust domain to file, PEM or SPIFFE bundle JSON.
    Files(BTreeMap<String, PathBuf>),
    /// A SPIFFE Bundle Map file (Trust_Domain_and_Bundle.md §5.1.1).
    Map(PathBuf),
    /// A watched folder of `<trust domain>.json`.
    Folder(PathBuf),
}

impl BundlesSpec {
    /// The trust domains known before any file is read; `None` for a map file or a folder.
    #[must_use]
    pub fn domains(&self) -> Option<Vec<TrustDomain>> {
        match self {
            Self::Files(files) => Some(
                files
                    .keys()
                    .filter_map(|name| crate::id::parse_trust_domain(name).ok())
                    .collect(),
            ),
            Self::Folder(_) | Self::Map(_) => None,
        }
    }
}
