//! The certificate of an `https_web` endpoint from an ACME server (RFC 8555), by a proof on the endpoint's
//! own port (`tls-alpn-01`, RFC 8737). Account and certificate are kept in files (0600).
//!
//! What this refuses to show: a certificate that is not for the domain that was asked for, or not for the
//! key that was made for it.

mod files;
mod https;
#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::{
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use sekisho_certs::Clock;
use zeroize::Zeroizing;

use crate::{
    client::{Allowed, Client, WebRoots},
    endpoint::ACME,
};
use files::{Files, Kept};
use https::Https;

/// How often it is looked at whether a new certificate is due.
const LOOK: Duration = Duration::from_secs(60);
/// The first pause after a failure, and the longest: servers count them.
const FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);
/// How long a server may take to look at a proof, or to sign.
const PATIENCE: Duration = Duration::from_secs(120);
/// A certificate is renewed when this part of its life is left.
const LEFT: u32 = 3;

/// From where a certificate comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeSettings {
    /// The URL of the server's directory. By using it its terms of service are agreed to.
    pub directory: String,
    /// To whom the server writes (an e-mail address). Default: nobody.
    pub email: Option<String>,
    /// For which name, lower case.
    pub domain: String,
    /// By what the server itself is known.
    pub roots: WebRoots,
    /// The folder in which account and certificate are kept.
    pub folder: PathBuf,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The server refuses, or cannot be reached.
    #[error("{directory}: {error}")]
    Server {
        /// Which.
        directory: String,
        /// What it says.
        error: instant_acme::Error,
    },
    /// It does not believe that the name is ours.
    #[error("{domain} was not proven to be ours: {problem}")]
    NotProven {
        /// Which name.
        domain: String,
        /// What it says.
        problem: String,
    },
    /// It has no way of proof that can be gone here.
    #[error("{0} does not offer tls-alpn-01")]
    NoChallenge(String),
    /// What it has signed cannot be shown.
    #[error("the certificate cannot be used: {0}")]
    Unusable(String),
    /// A key or a request cannot be made.
    #[error(transparent)]
    Make(#[from] rcgen::Error),
    /// A file cannot be kept or read.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(String),
}

/// A certificate that is asked for, kept and renewed.
#[derive(Debug)]
pub struct Acme {
    settings: AcmeSettings,
    files: Files,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
    current: RwLock<Option<Arc<Kept>>>,
    /// What is shown to whoever looks whether the name is ours.
    proof: RwLock<Option<Arc<CertifiedKey>>>,
}

impl Acme {
    /// Takes up what is kept in the folder, which is made where it is not there. One that cannot be used
    /// is logged, and asked for anew.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(
        settings: AcmeSettings,
        provider: Arc<CryptoProvider>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AcmeError> {
        let files = Files::open(&settings)?;
        let kept = files.certificate(&settings.domain, &provider);
        let kept = kept.unwrap_or_else(|error| {
            tracing::warn!(%error, "the certificate that was kept is not used");
            None
        });
        Ok(Self {
            settings,
            files,
            provider,
            clock,
            current: RwLock::new(kept.map(Arc::new)),
            proof: RwLock::default(),
        })
    }

    /// When the certificate that is shown ends; `None`: there is none.
    #[must_use]
    pub fn not_after(&self) -> Option<SystemTime> {
        self.kept().map(|kept| kept.not_after)
    }

    /// Has a certificate that is good, for as long as it is let. The endpoint has to serve by it
    /// meanwhile.
    pub async fn keep(&self) {
        let mut pause = FIRST;
        loop {
            let wait = if self.is_due() {
                match self.obtain().await {
                    Ok(()) => {
                        pause = FIRST;
                        LOOK
                    }
                    Err(error) => {
                        let domain = &self.settings.domain;
                        tracing::error!(%domain, %error, again_in = ?pause, "no new certificate");
                        let wait = pause;
                        pause = (pause * 2).min(LONGEST);
                        wait
                    }
                }
            } else {
                LOOK
            };
            tokio::time::sleep(wait).await;
        }
    }

    fn kept(&self) -> Option<Arc<Kept>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    fn is_due(&self) -> bool {
        let Some(kept) = self.kept() else { return true };
        let life = kept.not_after.duration_since(kept.not_before);
        let left = kept.not_after.duration_since(self.clock.now());
        left.unwrap_or_default() <= life.unwrap_or_default() / LEFT
    }

    fn show_proof(&self, proof: Option<Arc<CertifiedKey>>) {
        *self.proof.write().unwrap_or_else(PoisonError::into_inner) = proof;
    }

    fn server(&self, error: instant_acme::Error) -> AcmeError {
        AcmeError::Server {
            directory: self.settings.directory.clone(),
            error,
        }
    }

    /// Asks for a certificate and takes it.
    ///
    /// # Errors
    /// Each of [`AcmeError`]'s variants; what was shown before is shown on.
    pub async fn obtain(&self) -> Result<(), AcmeError> {
        let obtained = self.order().await;
        self.show_proof(None);
        let kept = obtained?;
        tracing::info!(domain = %self.settings.domain, directory = %self.settings.directory, "a new certificate");
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(kept));
        Ok(())
    }

    async fn order(&self) -> Result<Kept, AcmeError> {
        let account = self.account().await?;
        let names = [Identifier::Dns(self.settings.domain.clone())];
        let ordered = account.new_order(&NewOrder::new(&names)).await;
        let mut order = ordered.map_err(|error| self.server(error))?;
        self.prove(&mut order).await?;
        let policy = RetryPolicy::new().timeout(PATIENCE);
        let ready = order.poll_ready(&policy).await;
        if order.state().status == OrderStatus::Invalid {
            return Err(self.not_proven(&mut order).await);
        }
        ready.map_err(|error| self.server(error))?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([self.settings.domain.clone()])?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key)?;
        let finalized = order.finalize_csr(request.der()).await;
        finalized.map_err(|error| self.server(error))?;
        let chain = order.poll_certificate(&policy).await;
        let chain = chain.map_err(|error| self.server(error))?;
        let key = Zeroizing::new(key.serialize_pem());
        let text = Zeroizing::new([key.as_str(), chain.as_str()].concat());
        let kept = Kept::read(&text, &self.settings.domain, &self.provider)?;
        if kept.not_after <= self.clock.now() {
            return Err(AcmeError::Unusable("it has expired".into()));
        }
        self.files.put_certificate(&text)?;
        Ok(kept)
    }

    /// Has what the server wants to see be shown, and tells it to look.
    async fn prove(&self, order: &mut Order) -> Result<(), AcmeError> {
        let mut all = order.authorizations();
        while let Some(one) = all.next().await {
            let mut one = one.map_err(|error| self.server(error))?;
            if one.status == AuthorizationStatus::Valid {
                continue;
            }
            let challenge = one.challenge(ChallengeType::TlsAlpn01);
            let Some(mut challenge) = challenge else {
                return Err(AcmeError::NoChallenge(self.settings.directory.clone()));
            };
            let digest = challenge.key_authorization().digest();
            self.show_proof(Some(self.proof(digest.as_ref())?));
            let looked = challenge.set_ready().await;
            looked.map_err(|error| self.server(error))?;
        }
        Ok(())
    }

    /// The certificate of RFC 8737 §3 for this digest, of 32 bytes.
    fn proof(&self, digest: &[u8]) -> Result<Arc<CertifiedKey>, AcmeError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([self.settings.domain.clone()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let certificate = params.self_signed(&key)?.der().clone();
        let der = PrivatePkcs8KeyDer::from(key.serialize_der());
        let key = self.provider.key_provider.load_private_key(der.into());
        let key = key.map_err(|error| AcmeError::Tls(error.to_string()))?;
        Ok(Arc::new(CertifiedKey::new(vec![certificate], key)))
    }

    /// What the server says of a proof that it does not believe.
    async fn not_proven(&self, order: &mut Order) -> AcmeError {
        let mut problem = "the server does not say why".to_owned();
        let mut all = order.authorizations();
        while let Some(Ok(mut one)) = all.next().await {
            if let Ok(state) = one.refresh().await {
                let errors = state.challenges.iter().filter_map(|it| it.error.as_ref());
                problem = errors
                    .map(ToString::to_string)
                    .next_back()
                    .unwrap_or(problem);
            }
        }
        AcmeError::NotProven {
            domain: self.settings.domain.clone(),
            problem,
        }
    }

    /// The account that is kept, or a new one.
    async fn account(&self) -> Result<Account, AcmeError> {
        let settings = &self.settings;
        let client = Client::new(
            settings.roots.clone(),
            // It is nobody's word but the administrator's.
            Allowed::default(),
            Arc::clone(&self.provider),
            Arc::clone(&self.clock),
        );
        let https = Https::new(&client).await;
        let https = https.map_err(|error| AcmeError::Tls(error.to_string()))?;
        let builder = Account::builder_with_http(Box::new(https));
        if let Some(credentials) = self.files.account()? {
            let known = builder.from_credentials(credentials).await;
            return known.map_err(|error| self.server(error));
        }
        let contact = settings.email.as_ref().map(|it| format!("mailto:{it}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let created = builder.create(&new, settings.directory.clone(), None).await;
        let (account, credentials) = created.map_err(|error| self.server(error))?;
        self.files.put_account(&credentials)?;
        Ok(account)
    }
}

impl ResolvesServerCert for Acme {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut protocols = hello.alpn().into_iter().flatten();
        // RFC 8737 §3: that one alone.
        if protocols.next() == Some(ACME) && protocols.next().is_none() {
            let ours = hello.server_name() == Some(self.settings.domain.as_str());
            let proof = self.proof.read().unwrap_or_else(PoisonError::into_inner);
            return proof.clone().filter(|_| ours);
        }
        self.kept().map(|kept| Arc::clone(&kept.certified))
    }
}
