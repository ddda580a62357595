//! What a bundle endpoint answers, down to what an authority stores and tells again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sekisho_authority::federation::stored;
use sekisho_certs::{TrustBundle, TrustDomain, bundle::jwk::JwtKey};

fuzz_target!(|answer: &[u8]| {
    let domain = TrustDomain::new("hokkaido.example").expect("a trust domain");
    let Ok(fetched) = TrustBundle::from_json(domain.clone(), answer) else {
        return;
    };
    let Ok(bundle) = stored(&fetched) else {
        return;
    };
    let keys: Vec<_> = bundle
        .jwt
        .iter()
        .map(|key| JwtKey {
            key_id: key.key_id.clone(),
            public_key: key.public_key.clone(),
        })
        .collect();
    let cas = bundle.x509.iter().map(|ca| ca.der.clone().into());
    let told = TrustBundle::new(domain.clone(), cas).expect("what was stored can be told");
    let text = told.with_jwt_keys(&keys).to_json().to_string();
    let again = TrustBundle::from_json(domain, text.as_bytes()).expect("our own writing");
    let again = stored(&again).expect("what was told can be stored");
    assert_eq!((again.x509, again.jwt), (bundle.x509, bundle.jwt));
});
