//! TLS towards bundle endpoints: 1.2 and 1.3, as the federation standard asks for what Mozilla calls
//! "intermediate" (SPIFFE_Federation.md §5).

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
    version::{TLS12, TLS13},
};
use rustls_pki_types::CertificateDer;
use sekisho_certs::{
    BundleSet, IdList, SpiffeId, Trust, TrustBundle, clock::TlsTime, tls::PeerVerifier,
};

use super::{Client, FetchError, Profile, WebRoots};

impl Client {
    /// A configuration by which only an endpoint of `profile` is spoken to.
    pub(crate) async fn tls(&self, profile: &Profile) -> Result<Arc<ClientConfig>, FetchError> {
        let verifier: Arc<dyn ServerCertVerifier> = match profile {
            Profile::Spiffe { id, bundle } => self.by_id(id, bundle)?,
            Profile::Web => {
                let roots = Arc::new(roots(&self.roots).await?);
                let provider = Arc::clone(&self.provider);
                WebPkiServerVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|error| FetchError::Roots(error.to_string()))?
            }
        };
        let time = Arc::new(TlsTime(Arc::clone(&self.clock)));
        let mut config = ClientConfig::builder_with_details(Arc::clone(&self.provider), time)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Exactly this ID, by exactly its trust domain's bundle (§5.2.2.4).
    fn by_id(
        &self,
        id: &SpiffeId,
        bundle: &Arc<TrustBundle>,
    ) -> Result<Arc<PeerVerifier>, FetchError> {
        let mut set = BundleSet::default();
        set.insert(Arc::clone(bundle))?;
        let algorithms = self.provider.signature_verification_algorithms;
        let trust = Arc::new(Trust::new(set, algorithms));
        let expect = IdList::Named(id.to_string().parse().into_iter().collect());
        let clock = Arc::clone(&self.clock);
        Ok(Arc::new(PeerVerifier::new(trust, clock, Some(expect))))
    }
}

async fn roots(which: &WebRoots) -> Result<RootCertStore, FetchError> {
    let failed = |error: String| FetchError::Roots(error);
    let certificates: Vec<CertificateDer<'static>> = match which {
        WebRoots::Given(given) => given.clone(),
        WebRoots::System => {
            // It reads files.
            let load = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
            let loaded = load.await.map_err(|error| failed(error.to_string()))?;
            if loaded.certs.is_empty()
                && let Some(error) = loaded.errors.first()
            {
                return Err(failed(error.to_string()));
            }
            loaded.certs
        }
    };
    let mut store = RootCertStore::empty();
    let (_, ignored) = store.add_parsable_certificates(certificates);
    if ignored > 0 {
        tracing::debug!(ignored, "roots of the web's PKI that cannot be read");
    }
    Ok(store)
}
