//! A peer's chain: the input is cut in two at the place that its first two bytes name.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use sekisho_certs::{
    BundleSet, Clock as _, SystemClock, Trust, TrustBundle, TrustDomain, issue::Ca, tls::provider,
};

static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    let domain = TrustDomain::new("hokkaido.example").expect("a trust domain");
    let ca = Ca::generate(
        &domain,
        SystemClock.now(),
        std::time::Duration::from_secs(3600),
    );
    let bundle = TrustBundle::new(domain, [ca.expect("a CA").der().clone()]);
    let mut set = BundleSet::default();
    set.insert(Arc::new(bundle.expect("a bundle")))
        .expect("an empty set");
    Trust::new(set, provider().signature_verification_algorithms)
});

fuzz_target!(|input: &[u8]| {
    let Some((place, ders)) = input.split_first_chunk::<2>() else {
        return;
    };
    let place = usize::from(u16::from_be_bytes(*place)).min(ders.len());
    let (leaf, intermediate) = ders.split_at(place);
    let chain = [leaf.into(), intermediate.into()];
    // Nobody has the CA's key.
    assert!(TRUST.verify(&chain, SystemClock.now()).is_err());
    // The same bytes as a CA.
    let domain = TrustDomain::new("hokkaido.example").expect("a trust domain");
    if let Ok(bundle) = TrustBundle::new(domain.clone(), [leaf.to_vec().into()]) {
        let again = TrustBundle::from_value(domain, &bundle.to_json()).expect("our own writing");
        assert_eq!(again, bundle);
    }
});
