//! Account and certificate on disk.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use instant_acme::AccountCredentials;
use rustls::{
    client::verify_server_name, crypto::CryptoProvider, server::ParsedCertificate,
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use sekisho_certs::{hex, persist, sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::{AcmeError, AcmeSettings};

/// Most bytes of a file.
const MOST: u64 = 1024 * 1024;

/// A chain and its key, with when it is good.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

impl Kept {
    /// Of key and chain in PEM, for `domain`.
    ///
    /// # Errors
    /// [`AcmeError::Unusable`].
    pub(super) fn read(
        text: &str,
        domain: &str,
        provider: &CryptoProvider,
    ) -> Result<Self, AcmeError> {
        fn unusable(error: impl ToString) -> AcmeError {
            AcmeError::Unusable(error.to_string())
        }
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(unusable)?;
        let leaf = chain.first().ok_or_else(|| unusable("there is none"))?;
        let name = ServerName::try_from(domain).map_err(unusable)?;
        let parsed = ParsedCertificate::try_from(leaf).map_err(unusable)?;
        verify_server_name(&parsed, &name).map_err(unusable)?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(unusable)?;
        let at = |seconds: i64| {
            let seconds = u64::try_from(seconds).unwrap_or_default();
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
        };
        let validity = parsed.validity();
        let (begin, end) = (validity.not_before, validity.not_after);
        let (not_before, not_after) = (at(begin.timestamp()), at(end.timestamp()));
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(unusable)?;
        let key = provider.key_provider.load_private_key(key);
        let certified = CertifiedKey::new(chain, key.map_err(unusable)?);
        certified.keys_match().map_err(unusable)?;
        Ok(Self {
            certified: Arc::new(certified),
            not_before,
            not_after,
        })
    }
}

/// Where they are.
#[derive(Debug)]
pub(super) struct Files {
    account: PathBuf,
    certificate: PathBuf,
}

impl Files {
    /// In the folder, which is made (0700) where it is not there.
    pub(super) fn open(settings: &AcmeSettings) -> Result<Self, AcmeError> {
        let folder = &settings.folder;
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(folder);
        made.map_err(|error| AcmeError::File {
            path: folder.clone(),
            error,
        })?;
        // Each server has an account of its own.
        let mut server = hex(&sha256(settings.directory.as_bytes()));
        server.truncate(16);
        Ok(Self {
            account: folder.join(format!("account-{server}.json")),
            certificate: folder.join("certificate.pem"),
        })
    }

    fn get(path: &Path) -> Result<Option<Zeroizing<String>>, AcmeError> {
        use io::Read as _;
        let failed = |error| AcmeError::File {
            path: path.into(),
            error,
        };
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut text = Zeroizing::new(String::with_capacity(16 * 1024));
        file.take(MOST).read_to_string(&mut text).map_err(failed)?;
        Ok(Some(text))
    }

    fn put(path: &Path, text: &str) -> Result<(), AcmeError> {
        let put = persist::replace(path, text.as_bytes(), false);
        put.map_err(|error| AcmeError::File {
            path: path.into(),
            error,
        })
    }

    /// The certificate that is kept; `None` if there is none.
    pub(super) fn certificate(
        &self,
        domain: &str,
        provider: &CryptoProvider,
    ) -> Result<Option<Kept>, AcmeError> {
        let text = Self::get(&self.certificate)?;
        text.map(|text| Kept::read(&text, domain, provider))
            .transpose()
    }

    pub(super) fn put_certificate(&self, text: &str) -> Result<(), AcmeError> {
        Self::put(&self.certificate, text)
    }

    /// The account that is kept; `None` if there is none.
    pub(super) fn account(&self) -> Result<Option<AccountCredentials>, AcmeError> {
        let Some(text) = Self::get(&self.account)? else {
            return Ok(None);
        };
        let read = serde_json::from_str(&text);
        read.map(Some).map_err(|error| AcmeError::File {
            path: self.account.clone(),
            error: io::Error::other(error),
        })
    }

    pub(super) fn put_account(&self, account: &AccountCredentials) -> Result<(), AcmeError> {
        let text = serde_json::to_string(account);
        let text = Zeroizing::new(text.map_err(|error| AcmeError::File {
            path: self.account.clone(),
            error: io::Error::other(error),
        })?);
        Self::put(&self.account, &text)
    }
}

#[cfg(test)]
mod tests {
    use sekisho_certs::tls;
    use sekisho_testkit::{Issued, Profile, TestCa};

    use super::*;

    fn text(of: &Issued) -> String {
        [of.key_pem(), of.chain_pem()].concat()
    }

    #[test]
    fn only_a_certificate_for_the_name_and_its_own_key_is_shown() {
        let ca = TestCa::new("web.example");
        let web = |name| {
            let leaf = Profile::leaf("spiffe://unused.example/x").with_uris([]);
            ca.issue(&leaf.with_dns_names([name]))
        };
        let (one, other) = (web("a.example"), web("a.example"));
        let read = |text: &str, domain| Kept::read(text, domain, &tls::provider());
        let kept = read(&text(&one), "a.example").unwrap();
        assert!(kept.not_before < kept.not_after);
        let mixed = [one.key_pem(), other.chain_pem()].concat();
        for (text, domain) in [
            (text(&one), "b.example"),
            (mixed, "a.example"),
            (one.key_pem(), "a.example"),
            (one.chain_pem(), "a.example"),
            (String::new(), "a.example"),
        ] {
            let error = read(&text, domain).unwrap_err();
            assert!(matches!(error, AcmeError::Unusable(_)), "{error}");
        }
    }

    #[test]
    fn files_are_for_the_owner_alone_and_accounts_are_told_apart_by_server() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let settings = |directory: &str| AcmeSettings {
            directory: directory.into(),
            email: None,
            domain: "a.example".into(),
            roots: crate::client::WebRoots::default(),
            folder: place.path().join("acme"),
        };
        let one = Files::open(&settings("https://one.example/dir")).unwrap();
        let other = Files::open(&settings("https://other.example/dir")).unwrap();
        assert_ne!(one.account, other.account);
        assert!(one.account().unwrap().is_none());
        assert!(
            one.certificate("a.example", &tls::provider())
                .unwrap()
                .is_none()
        );
        one.put_certificate("x").unwrap();
        let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&one.certificate), 0o600);
        assert_eq!(mode(&settings("").folder), 0o700);
        one.certificate("a.example", &tls::provider()).unwrap_err();
        fs::write(&one.account, "{}").unwrap();
        let error = one.account().err().unwrap();
        assert!(error.to_string().contains("account-"), "{error}");
    }
}
