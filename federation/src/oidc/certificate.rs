//! The certificate by which we are known on the web: from files, which are looked at again when they
//! change.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    client::verify_server_name,
    crypto::CryptoProvider,
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use sekisho_certs::source::Changes;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Why a certificate cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read, or is no PEM of what it should hold.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: rustls_pki_types::pem::Error,
    },
    /// The key cannot be used.
    #[error("{}: {error}", path.display())]
    Key {
        /// The file of the key.
        path: PathBuf,
        /// What is wrong.
        error: rustls::Error,
    },
    /// The file holds no certificate that can be read.
    #[error("{}: no certificate that can be read", path.display())]
    Unreadable {
        /// The file of the certificate.
        path: PathBuf,
    },
}

/// A chain, leaf first, and its key, PEM.
pub struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("cert", &self.cert)
            .finish_non_exhaustive()
    }
}

fn load(
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, CertificateError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |error| CertificateError::File { path, error }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .map_err(file(cert))?
        .collect::<Result<_, _>>()
        .map_err(file(cert))?;
    let readable = chain
        .first()
        .is_some_and(|leaf| X509Certificate::from_der(leaf).is_ok());
    if !readable {
        let path = cert.to_owned();
        return Err(CertificateError::Unreadable { path });
    }
    let read = PrivateKeyDer::from_pem_file(key).map_err(file(key))?;
    let unusable = |error| CertificateError::Key {
        path: key.to_owned(),
        error,
    };
    let signer = provider.key_provider.load_private_key(read);
    let certified = CertifiedKey::new(chain, signer.map_err(unusable)?);
    certified.keys_match().map_err(unusable)?;
    Ok(Arc::new(certified))
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// Each of [`CertificateError`]'s variants.
    pub fn load(
        cert: PathBuf,
        key: PathBuf,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, CertificateError> {
        let current = RwLock::new(load(&cert, &key, &provider)?);
        Ok(Self {
            cert,
            key,
            provider,
            current,
        })
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// When it ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        let current = self.current();
        let parsed = current
            .cert
            .first()
            .and_then(|leaf| X509Certificate::from_der(leaf).ok());
        let end = parsed.map(|(_, leaf)| leaf.validity().not_after.timestamp());
        let seconds = end.and_then(|end| u64::try_from(end).ok());
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unwrap_or_default())
    }

    /// Whether it is one for this name.
    #[must_use]
    pub fn is_for(&self, domain: &str) -> bool {
        let current = self.current();
        let parsed = current
            .cert
            .first()
            .and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
        let name = ServerName::try_from(domain);
        match (parsed, name) {
            (Some(leaf), Ok(name)) => verify_server_name(&leaf, &name).is_ok(),
            _ => false,
        }
    }

    /// Takes what the files have, each time that they change. What cannot be used is told, and what was
    /// shown before is shown on.
    pub async fn follow(&self) {
        let files = [self.cert.as_path(), self.key.as_path()];
        let mut changes = Changes::of(files);
        loop {
            changes.next().await;
            // A folder that was replaced is found anew.
            changes.add(files);
            self.look();
        }
    }

    pub(super) fn look(&self) {
        match load(&self.cert, &self.key, &self.provider) {
            Ok(new) if new.cert == self.current().cert => {}
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
                tracing::info!(file = %self.cert.display(), "another certificate is shown");
            }
            Err(error) => tracing::warn!(%error, "the certificate stays as it was"),
        }
    }
}

impl ResolvesServerCert for Certificate {
    // Which of our domains is meant stands in the request.
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}
