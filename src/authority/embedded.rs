//! The CA of a folder that was embedded without federation before: other sites know its certificate.

use std::{fs, io, path::Path, sync::Arc};

use anyhow::Context as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use sekisho_authority::{
    ca::{
        CaSettings,
        adopt::{Given, adopt},
        keys::KeyFolder,
    },
    store::Store,
};
use sekisho_certs::Clock;
use zeroize::{Zeroize as _, Zeroizing};

/// Takes up `ca.pem` and `ca.key`, where they are there, as the authority that signs. The key lies among
/// those of the authority after that, and nowhere else.
///
/// # Errors
/// When they cannot be read, do not belong together, or another authority signs here already.
pub(super) async fn take_up(
    data: &Path,
    settings: &CaSettings,
    store: &Store,
    keys: &KeyFolder,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<()> {
    let (cert_path, key_path) = (data.join("ca.pem"), data.join("ca.key"));
    let name = |path: &Path| path.display().to_string();
    let text = match super::running::read_secret(&key_path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| name(&key_path)),
    };
    let read = PrivatePkcs8KeyDer::from_pem_slice(&text);
    let mut read =
        read.with_context(|| format!("{}: a key in PEM is expected", name(&key_path)))?;
    let key = Zeroizing::new(read.secret_pkcs8_der().to_vec());
    read.zeroize();
    let certificate = CertificateDer::from_pem_file(&cert_path);
    let certificate = certificate
        .with_context(|| format!("{}: a certificate in PEM is expected", name(&cert_path)))?;
    let given = Given {
        certificate,
        key: PrivatePkcs8KeyDer::from(key.as_slice()),
    };
    let known = adopt(given, settings, store, keys, clock).await;
    let known = known.with_context(|| name(&key_path))?;
    anyhow::ensure!(
        known,
        "{}: another CA signs here already: move this file away",
        name(&key_path)
    );
    // In this order: with the key alone it would be asked for again.
    for path in [&key_path, &cert_path] {
        fs::remove_file(path).with_context(|| name(path))?;
    }
    tracing::info!(
        folder = %data.display(),
        "the CA of this folder is an authority of its database now, and will be rotated"
    );
    Ok(())
}
