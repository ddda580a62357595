//! Bundles as they are sent: those of a directory are the same for every agent and every turn.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use sekisho_certs::{TrustBundle, TrustDomain};

/// More are not remembered: a directory has ten thousand.
const MOST: usize = 20_000;

/// Documents by trust domain, each with the bundle that it is of.
#[derive(Debug, Default)]
pub(super) struct Encoded(Mutex<HashMap<TrustDomain, Document>>);

#[derive(Debug)]
struct Document {
    of: Arc<TrustBundle>,
    text: Arc<[u8]>,
}

impl Encoded {
    /// The SPIFFE bundle document of a bundle.
    pub(super) fn document(&self, bundle: &Arc<TrustBundle>) -> Arc<[u8]> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(bundle.trust_domain())
            && Arc::ptr_eq(&known.of, bundle)
        {
            return Arc::clone(&known.text);
        }
        let text: Arc<[u8]> = bundle.to_json().to_string().into_bytes().into();
        if all.len() >= MOST {
            all.clear();
        }
        let document = Document {
            of: Arc::clone(bundle),
            text: Arc::clone(&text),
        };
        all.insert(bundle.trust_domain().clone(), document);
        text
    }
}

#[cfg(test)]
mod tests {
    use sekisho_testkit::Site;

    use super::*;

    #[test]
    fn a_document_is_made_once_for_each_bundle() {
        let encoded = Encoded::default();
        let (one, other) = (Site::new("b.example"), Site::new("b.example"));
        let first = encoded.document(one.bundle());
        assert!(Arc::ptr_eq(&first, &encoded.document(one.bundle())));
        let second = encoded.document(other.bundle());
        assert_ne!(first, second);
        assert_eq!(&*second, other.bundle().to_json().to_string().as_bytes());
    }
}
