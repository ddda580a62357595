//! A SPIFFE Bundle Map.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sekisho_certs::BundleSet;

fuzz_target!(|text: &[u8]| {
    let Ok(set) = BundleSet::from_bundle_map(text) else {
        return;
    };
    let text = set.to_bundle_map().to_string();
    let again = BundleSet::from_bundle_map(text.as_bytes()).expect("our own writing");
    assert_eq!(again, set);
});
