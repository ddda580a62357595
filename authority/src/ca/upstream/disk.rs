//! An authority above whose key lies on this host (SPIRE's upstream authority `disk`).

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sekisho_certs::TrustDomain;

use super::{Signed, Upstream, UpstreamError};
use crate::ca::{csr, issue::X509Ca};

/// Files of an authority above. They are read for each signature: whoever replaces them need not
/// restart anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The site.
    pub domain: TrustDomain,
    /// PEM: its certificate first, then those between it and a root.
    pub certificates: PathBuf,
    /// PEM: its key, in PKCS#8, SEC 1 or PKCS#1.
    pub key: PathBuf,
    /// PEM: the roots above it; not needed for one that is a root itself.
    pub roots: Option<PathBuf>,
}

fn all(path: &Path) -> Result<Vec<CertificateDer<'static>>, UpstreamError> {
    let wrong = |error: rustls_pki_types::pem::Error| {
        UpstreamError::Refused(format!("{}: {error}", path.display()))
    };
    let all = CertificateDer::pem_file_iter(path).map_err(wrong)?;
    all.collect::<Result<_, _>>().map_err(wrong)
}

impl Disk {
    fn signed(
        &self,
        request: &[u8],
        now: SystemTime,
        ttl: Duration,
    ) -> Result<Signed, UpstreamError> {
        let refused = |error: String| UpstreamError::Refused(error);
        let at = |error: String| refused(format!("{}: {error}", self.key.display()));
        let csr = csr::Request::parse(request).map_err(|error| refused(error.to_string()))?;
        let chain = all(&self.certificates)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| at(error.to_string()))?;
        let key = KeyPair::try_from(&key).map_err(|error| at(error.to_string()))?;
        let roots = match &self.roots {
            Some(path) => all(path)?,
            None => chain.first().cloned().into_iter().collect(),
        };
        let above = X509Ca::restore(chain, key).map_err(|error| at(error.to_string()))?;
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let number = since.unwrap_or_default().as_secs();
        let issued = above.downstream(&self.domain, &csr.public_key, number, now, ttl);
        let issued = issued.map_err(|error| refused(error.to_string()))?;
        Ok(Signed {
            chain: issued.chain,
            roots,
        })
    }
}

#[tonic::async_trait]
impl Upstream for Disk {
    async fn sign(
        &self,
        request: Vec<u8>,
        now: SystemTime,
        ttl: Duration,
    ) -> Result<Signed, UpstreamError> {
        let this = self.clone();
        let signed = tokio::task::spawn_blocking(move || this.signed(&request, now, ttl)).await;
        signed.map_err(|error| UpstreamError::Refused(error.to_string()))?
    }
}
