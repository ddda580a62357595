//! A trust bundle as found in a file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sekisho_certs::{TrustBundle, TrustDomain};

fuzz_target!(|text: &[u8]| {
    let domain = TrustDomain::new("hokkaido.example").expect("a trust domain");
    let Ok(bundle) = TrustBundle::from_file(domain.clone(), text) else {
        return;
    };
    let again = TrustBundle::from_value(domain, &bundle.to_json()).expect("our own writing");
    assert_eq!(again, bundle);
});
