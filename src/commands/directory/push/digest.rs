//! What a bundle says, as one short word.

use std::collections::BTreeSet;

use sekisho_certs::{hex, sha256};
use sekisho_spire_api::types;

/// The SHA-256 of all that a bundle says, but for the order of its keys, and for what a server says of
/// them by itself.
pub(super) fn digest(bundle: &types::Bundle) -> String {
    let cas = bundle.x509_authorities.iter();
    let cas: BTreeSet<&[u8]> = cas.map(|one| one.asn1.as_slice()).collect();
    let keys = bundle.jwt_authorities.iter();
    let keys: BTreeSet<(&[u8], &[u8])> = keys
        .map(|key| (key.key_id.as_bytes(), key.public_key.as_slice()))
        .collect();
    let mut text = Vec::new();
    // With its length before each part, no part ends where another begins.
    let mut add = |part: &[u8]| {
        text.extend((part.len() as u64).to_be_bytes());
        text.extend(part);
    };
    add(bundle.trust_domain.as_bytes());
    add(&bundle.refresh_hint.to_be_bytes());
    add(&bundle.sequence_number.to_be_bytes());
    add(&(cas.len() as u64).to_be_bytes());
    cas.into_iter().for_each(&mut add);
    for (id, key) in keys {
        add(id);
        add(key);
    }
    hex(&sha256(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> types::Bundle {
        let ca = |number: u8| types::X509Certificate {
            asn1: vec![number],
            tainted: false,
        };
        let key = |id: &str| types::JwtKey {
            public_key: vec![3],
            key_id: id.into(),
            expires_at: 0,
            tainted: false,
        };
        types::Bundle {
            trust_domain: "a.example".into(),
            x509_authorities: vec![ca(1), ca(2)],
            jwt_authorities: vec![key("one"), key("two")],
            refresh_hint: 300,
            sequence_number: 1,
        }
    }

    #[test]
    fn all_that_a_bundle_says_counts_but_the_order_of_keys() {
        type Change = fn(&mut types::Bundle);
        let changes: [(Change, bool); 11] = [
            (|one| one.x509_authorities.reverse(), true),
            (|one| one.jwt_authorities.reverse(), true),
            (|one| one.jwt_authorities[0].expires_at = 9, true),
            (|one| one.x509_authorities.truncate(1), false),
            (|one| one.x509_authorities[0].asn1 = vec![9], false),
            (|one| one.jwt_authorities.truncate(1), false),
            (|one| one.jwt_authorities[0].public_key = vec![9], false),
            (|one| one.jwt_authorities[0].key_id.push('x'), false),
            (|one| one.refresh_hint = 1, false),
            (|one| one.sequence_number = 0, false),
            (|one| one.trust_domain.push('x'), false),
        ];
        for (number, (change, is_same)) in changes.into_iter().enumerate() {
            let mut other = bundle();
            change(&mut other);
            assert_eq!(digest(&other) == digest(&bundle()), is_same, "{number}");
        }
    }
}
