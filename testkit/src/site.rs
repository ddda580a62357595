//! One institution: a trust domain with its CA.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use sekisho_certs::{SpiffeId, TrustBundle, TrustDomain};

use crate::{
    ca::{Issued, KeyKind, TestCa},
    clock::present,
    profile::Profile,
};

/// A trust domain, its CA and its bundle.
#[derive(Debug)]
pub struct Site {
    domain: TrustDomain,
    ca: TestCa,
    bundle: Arc<TrustBundle>,
}

/// The files of one workload.
#[derive(Clone, Debug)]
pub struct Files {
    /// The chain in PEM.
    pub cert: PathBuf,
    /// The key in PEM.
    pub key: PathBuf,
    /// The site's CA in PEM.
    pub bundle_pem: PathBuf,
    /// The site's bundle in SPIFFE JSON.
    pub bundle_json: PathBuf,
}

impl Site {
    /// A site with a new CA, at the host's time.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::at(name, present())
    }

    /// A site with a new CA, whose validity is counted from `present`.
    ///
    /// # Panics
    /// When `name` is no trust domain.
    #[must_use]
    pub fn at(name: &str, present: SystemTime) -> Self {
        Self::with_ca(
            name,
            TestCa::root(&Profile::ca(name), KeyKind::default(), present),
        )
    }

    /// A site with this CA.
    ///
    /// # Panics
    /// When `name` is no trust domain or the CA may not stand in its bundle.
    #[must_use]
    pub fn with_ca(name: &str, ca: TestCa) -> Self {
        Self {
            domain: TrustDomain::new(name).expect("a trust domain"),
            bundle: Arc::new(ca.bundle(name)),
            ca,
        }
    }

    /// Its trust domain.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Its CA.
    #[must_use]
    pub const fn ca(&self) -> &TestCa {
        &self.ca
    }

    /// Its bundle.
    #[must_use]
    pub const fn bundle(&self) -> &Arc<TrustBundle> {
        &self.bundle
    }

    /// The ID of the workload at `path`, such as `/broker`.
    ///
    /// # Panics
    /// When `path` is none.
    #[must_use]
    pub fn id(&self, path: &str) -> SpiffeId {
        sekisho_certs::id::id_below(&self.domain, path).expect("a path")
    }

    /// The profile of an SVID for the workload at `path`.
    #[must_use]
    pub fn leaf(&self, path: &str) -> Profile {
        Profile::leaf(&self.id(path).to_string())
    }

    /// A new SVID for the workload at `path`.
    #[must_use]
    pub fn svid(&self, path: &str) -> Issued {
        self.ca.issue(&self.leaf(path))
    }

    /// Writes a new SVID for the workload at `/name` and the bundle into `folder`: `name.pem`,
    /// `name.key`, `<trust domain>.pem` and `<trust domain>.json`.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn write_files(&self, folder: &Path, name: &str) -> Files {
        let (cert, key) = self.svid(&format!("/{name}")).write(folder, name);
        let bundle_pem = folder.join(format!("{}.pem", self.domain));
        std::fs::write(&bundle_pem, self.ca.pem()).expect("write the bundle");
        Files {
            cert,
            key,
            bundle_pem,
            bundle_json: self.write_bundle(folder),
        }
    }

    /// Writes the bundle into `folder` as `<trust domain>.json`.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn write_bundle(&self, folder: &Path) -> PathBuf {
        let path = folder.join(format!("{}.json", self.domain));
        std::fs::write(&path, self.bundle.to_json().to_string()).expect("write the bundle");
        path
    }
}
