//! What our bundle endpoint has: our own bundle, and those of other domains as they are stored.

use std::sync::{Arc, Mutex, PoisonError};

use sekisho_certs::{BundleError, TrustBundle, bundle::jwk::JwtKey};
use sekisho_federation::{
    directory::gossip,
    endpoint::{Asked, Document, Documents, Found},
};

use crate::{
    ca::certificates,
    core::Core,
    store::{Bundle, StoreError},
};

/// The documents of an authority.
#[derive(Debug)]
pub(crate) struct Published {
    core: Arc<Core>,
    /// Our own as it was written last.
    own: Mutex<Option<(Arc<Bundle>, Document)>>,
    /// Looks at the store that strangers may cause at a time: agents wait for the same store.
    looks: tokio::sync::Semaphore,
}

/// Those looks; who comes then waits.
const LOOKS: usize = 16;

impl Published {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            own: Mutex::default(),
            looks: tokio::sync::Semaphore::new(LOOKS),
        }
    }

    async fn look(&self, domain: sekisho_certs::TrustDomain) -> Result<Option<Bundle>, StoreError> {
        // It is never closed.
        let _look = self.looks.acquire().await;
        self.core.store.bundle(domain).await
    }

    fn own(&self) -> Result<Document, BundleError> {
        let now = Arc::clone(&self.core.ca.bundle().borrow());
        let mut written = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, document)) = &*written
            && Arc::ptr_eq(of, &now)
        {
            return Ok(document.clone());
        }
        let document = document(&now)?;
        *written = Some((now, document.clone()));
        Ok(document)
    }
}

fn document(bundle: &Bundle) -> Result<Document, BundleError> {
    Ok(Document::new(trust_bundle(bundle)?.to_json().to_string()))
}

/// A bundle as it is told. Only CAs and JWT keys ever are (SPIFFE Trust Domain and Bundle §4.2.2): SPIRE
/// refuses a whole bundle over a `use` that it does not know.
pub(crate) fn trust_bundle(bundle: &Bundle) -> Result<TrustBundle, BundleError> {
    let keys: Vec<_> = bundle
        .jwt
        .iter()
        .map(|key| JwtKey {
            key_id: key.key_id.clone(),
            public_key: key.public_key.clone(),
        })
        .collect();
    let sequence = (bundle.sequence > 0).then_some(bundle.sequence);
    let hint = (!bundle.refresh_hint.is_zero()).then_some(bundle.refresh_hint);
    Ok(
        TrustBundle::new(bundle.domain.clone(), certificates(bundle))?
            .with_jwt_keys(&keys)
            .with_hints(sequence, hint),
    )
}

impl Documents for Published {
    async fn find(&self, asked: Asked) -> Found {
        let written = match asked {
            Asked::Own => self.own(),
            Asked::Of(domain) if domain == self.core.settings.domain => self.own(),
            Asked::Of(domain) => match self.look(domain).await {
                Ok(Some(bundle)) => document(&bundle),
                Ok(None) => return Found::Nothing,
                Err(error) => {
                    tracing::error!(%error, "no bundle for the endpoint");
                    return Found::Unavailable;
                }
            },
            Asked::Other(path) if path == gossip::PATH => {
                return self.core.followed().map_or(Found::Nothing, |handle| {
                    Found::Document(Document::new(handle.gossip().to_json()))
                });
            }
            Asked::Other(path) => {
                let handle = self.core.followed();
                let proof = gossip::asked_about(&path).and_then(|snapshot| handle?.proof(snapshot));
                return proof.map_or(Found::Nothing, |proof| {
                    Found::Document(Document::new(proof.to_json()))
                });
            }
        };
        match written {
            Ok(document) => Found::Document(document),
            Err(error) => {
                // What was stored was checked before.
                tracing::error!(%error, "a bundle cannot be told");
                Found::Unavailable
            }
        }
    }
}
