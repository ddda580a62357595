//! An SVID in PEM files, watched.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{SourceError, Supply, changes::Changes};
use crate::svid::Svid;

/// Most bytes read of a certificate or key file.
const MAX_BYTES: u64 = 1024 * 1024;

/// Delivers the SVID in `cert` and `key`, and again whenever the two have changed and belong
/// together: half of a new pair changes nothing. Bundles come from elsewhere
/// ([`super::watch_bundles`]).
///
/// Must be called inside a tokio runtime.
pub fn watch_files(
    cert: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
) -> watch::Receiver<Arc<Supply>> {
    let first = read(&cert, &key, &provider).map_or_else(|error| failed(&[], &error), delivered);
    let (sender, receiver) = watch::channel(Arc::new(first));
    tokio::spawn(async move {
        let mut changes = Changes::of([cert.as_path(), key.as_path()]);
        loop {
            // A change between the first look and the watch must not be missed.
            let next = read(&cert, &key, &provider);
            sender.send_if_modified(|supply| {
                let next = match next {
                    Ok(svid) if supply.problem.is_none() && supply.svids.first() == Some(&svid) => {
                        return false;
                    }
                    Ok(svid) => delivered(svid),
                    Err(error) => failed(&supply.svids, &error),
                };
                let same = next.svids == supply.svids && next.problem == supply.problem;
                *supply = Arc::new(next);
                !same
            });
            tokio::select! {
                () = changes.next() => {}
                () = sender.closed() => return,
            }
            changes.add([cert.as_path(), key.as_path()]);
        }
    });
    receiver
}

fn delivered(svid: Arc<Svid>) -> Supply {
    Supply {
        svids: vec![svid],
        ..Supply::default()
    }
}

fn failed(previous: &[Arc<Svid>], error: &SourceError) -> Supply {
    Supply {
        svids: previous.to_vec(),
        problem: Some(error.to_string().into()),
        ..Supply::default()
    }
}

/// Reads chain and key once.
///
/// # Errors
/// When a file cannot be read, holds no PEM, or the two do not make an SVID.
pub fn read(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<Arc<Svid>, SourceError> {
    let text = read_bounded(cert)?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| SourceError::Pem {
            path: cert.into(),
            problem: "no certificates in PEM (`-----BEGIN CERTIFICATE-----`)",
        })?;
    let text = read_bounded(key)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| SourceError::Pem {
        path: key.into(),
        problem: "no private key in PEM (`-----BEGIN PRIVATE KEY-----`)",
    })?;
    let svid = Svid::new(chain, key, provider).map_err(|error| SourceError::Svid {
        path: cert.into(),
        error,
    })?;
    Ok(Arc::new(svid))
}

/// Reads a file of at most [`MAX_BYTES`]; wiped when dropped, since it may be a key.
pub(crate) fn read_bounded(path: &Path) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let failed = |error| SourceError::Io {
        path: path.into(),
        error,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    // Reserved at once: a vector that grows leaves copies of the key behind.
    let size = file.metadata().map_err(failed)?.len().min(MAX_BYTES) + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0)));
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(SourceError::Pem {
            path: path.into(),
            problem: "larger than 1 MiB",
        });
    }
    Ok(text)
}
