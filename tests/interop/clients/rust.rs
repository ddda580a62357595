//! The `spiffe` crate, whose source our own proxy does not use.

use std::{sync::Arc, time::Duration};

use nix::sys::signal::Signal;
use spiffe::{
    SpiffeId, X509Svid,
    x509_source::{SvidPicker, X509SourceBuilder},
};

use super::{echo, selectors};
use crate::support::{World, whole::Whole};

#[derive(Debug)]
struct Named(SpiffeId);

impl SvidPicker for Named {
    fn pick_svid(&self, svids: &[Arc<X509Svid>]) -> Option<usize> {
        svids.iter().position(|svid| *svid.spiffe_id() == self.0)
    }
}

#[test]
fn a_source_of_the_spiffe_crate_has_what_the_agent_says_and_turns_with_it() {
    let world = World::new();
    let whole = Whole::start(&world, echo(), &selectors());
    let id = SpiffeId::new("spiffe://a.example/in").unwrap();
    let endpoint = format!("unix:{}", whole.agent.display());
    whole.runtime.block_on(async {
        let builder = X509SourceBuilder::new().endpoint(endpoint);
        let source = builder.picker(Named(id.clone())).build().await.unwrap();
        let before = source.svid().unwrap();
        assert_eq!(*before.spiffe_id(), id);
        let bundle = source
            .try_bundle_for_trust_domain(id.trust_domain())
            .unwrap();
        assert_eq!(bundle.authorities().len(), 1);
        let mut updated = source.updated();
        whole.process.signal(Signal::SIGUSR1);
        let turned = async {
            while source.svid().unwrap().leaf() == before.leaf() {
                updated.changed().await.unwrap();
            }
        };
        let turned = tokio::time::timeout(Duration::from_secs(60), turned).await;
        turned.expect("another SVID in the same source");
        source.shutdown().await;
    });
}
