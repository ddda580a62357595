//! TLS of the TCP door: our own SVID, and client certificates that may be shown.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::{
        ClientHello, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use sekisho_certs::{BundleSet, SpiffeId, Trust, TrustBundle, id};

use crate::{
    ca::{CaError, certificates, issue::IssueError},
    caller::{ClientCertificate, Connection},
    core::Core,
    store::{Bundle, StoreError},
};

/// SPIRE's path for a server.
const PATH: &str = "/spire/server";

/// Our own certificate, renewed while it serves.
#[derive(Debug)]
pub(super) struct ServerIdentity {
    current: RwLock<Current>,
}

#[derive(Clone, Debug)]
struct Current {
    certified: Arc<CertifiedKey>,
    /// The authority that has signed it.
    authority: String,
    renew_at: SystemTime,
}

impl ServerIdentity {
    /// The first certificate.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub(super) fn new(core: &Core, provider: &CryptoProvider) -> Result<Arc<Self>, CaError> {
        Ok(Arc::new(Self {
            current: RwLock::new(issue(core, provider)?),
        }))
    }

    /// Takes another one if it is half through, or another authority signs now.
    ///
    /// # Errors
    /// When it cannot be signed: the one before goes on.
    pub(super) fn renew(&self, core: &Core, provider: &CryptoProvider) -> Result<(), CaError> {
        let current = self.current();
        if core.now() < current.renew_at && core.ca.x509().id() == current.authority {
            return Ok(());
        }
        let new = issue(core, provider)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    fn current(&self) -> Current {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn issue(core: &Core, provider: &CryptoProvider) -> Result<Current, CaError> {
    let id = id::id_below(&core.settings.domain, PATH).map_err(|_| IssueError::Unreadable)?;
    let now = core.now();
    let minted = core.mint(&id)?;
    let half = minted.not_after.duration_since(now).unwrap_or_default() / 2;
    let key = provider.key_provider.load_private_key(minted.key);
    let key = key.map_err(|_| IssueError::KeyMismatch)?;
    core.own_chain.store(Arc::new(minted.chain.clone()));
    Ok(Current {
        certified: Arc::new(CertifiedKey::new(minted.chain, key)),
        authority: minted.authority,
        renew_at: now + half,
    })
}

impl ResolvesServerCert for ServerIdentity {
    // The name that is asked for is no matter: there is one server.
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().certified)
    }
}

/// Verifies client certificates, where one is shown.
#[derive(Debug)]
pub(super) struct Callers {
    trust: RwLock<Arc<Trust>>,
    core: Arc<Core>,
    provider: Arc<CryptoProvider>,
}

impl Callers {
    pub(super) async fn new(
        core: Arc<Core>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<Self>, StoreError> {
        let trust = RwLock::new(trust(&core, &provider).await?);
        Ok(Arc::new(Self {
            trust,
            core,
            provider,
        }))
    }

    /// Looks at the bundles again.
    pub(super) async fn renew(&self) -> Result<(), StoreError> {
        let new = trust(&self.core, &self.provider).await?;
        *self.trust.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    fn now(&self) -> Arc<Trust> {
        Arc::clone(&self.trust.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn may_connect(&self, id: &SpiffeId) -> bool {
        let settings = &self.core.settings;
        *id.trust_domain() == settings.domain || settings.admin_ids.contains(id)
    }

    /// What is known of a connection once its handshake is done.
    pub(super) fn connection(
        address: IpAddr,
        chain: Option<&[CertificateDer<'_>]>,
    ) -> Option<Connection> {
        let certificate = match chain.and_then(<[_]>::first) {
            None => None,
            Some(leaf) => Some(Arc::new(read(leaf)?)),
        };
        Some(Connection::Tls {
            address,
            certificate,
        })
    }
}

/// A certificate that the handshake has verified.
fn read(leaf: &CertificateDer<'_>) -> Option<ClientCertificate> {
    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let uri = names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    // It is the only one: that was verified.
    let id = id::parse_workload_id(uri?).ok()?;
    let ends = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
    Some(ClientCertificate {
        id,
        serial: parsed.serial.to_string(),
        not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(ends),
    })
}

/// Our own bundle, and those of domains from which administrators may come.
async fn trust(core: &Core, provider: &CryptoProvider) -> Result<Arc<Trust>, StoreError> {
    let mut set = BundleSet::default();
    let own = Arc::clone(&core.ca.bundle().borrow());
    let mut bundles = vec![(*own).clone()];
    for id in &core.settings.admin_ids {
        let domain = id.trust_domain().clone();
        if domain != core.settings.domain
            && let Some(bundle) = core.store.bundle(domain).await?
        {
            bundles.push(bundle);
        }
    }
    for bundle in bundles {
        add(&mut set, &bundle);
    }
    let algorithms = provider.signature_verification_algorithms;
    Ok(Arc::new(Trust::new(set, algorithms)))
}

fn add(set: &mut BundleSet, bundle: &Bundle) {
    let made = TrustBundle::new(bundle.domain.clone(), certificates(bundle));
    let added = made.and_then(|made| set.insert(Arc::new(made)));
    if let Err(error) = added {
        // Nobody of that domain can connect: what was stored was checked before.
        tracing::error!(%error, "a bundle cannot be used");
    }
}

impl ClientCertVerifier for Callers {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // What SPIRE answers to all that is wrong: the alert `bad_certificate`.
        let refused = || Error::InvalidCertificate(CertificateError::BadEncoding);
        let chain: Vec<_> = std::iter::once(end_entity)
            .chain(intermediates)
            .cloned()
            .collect();
        let peer = self
            .now()
            .verify(&chain, self.core.now())
            .map_err(|error| {
                tracing::info!(%error, "client certificate refused");
                refused()
            })?;
        if !self.may_connect(peer.id()) {
            tracing::info!(id = %peer.id(), "client certificate refused: not of this trust domain");
            return Err(refused());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// TLS 1.2 and 1.3, `h2` and nothing else, nothing resumed.
pub(super) fn config(
    identity: Arc<ServerIdentity>,
    callers: Arc<Callers>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(callers)
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
