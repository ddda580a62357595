//! What holds for every input.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proptest::prelude::*;
use sekisho_certs::{
    BundleSet, IdPattern, Svid, Trust, TrustBundle, TrustDomain, id::parse_workload_id,
    tls::provider,
};
use sekisho_testkit::{Issued, Site};

static SITE: LazyLock<Site> = LazyLock::new(|| Site::new("a.example"));
static ISSUED: LazyLock<Issued> = LazyLock::new(|| SITE.svid("/x"));

fn trust() -> Trust {
    let mut bundles = BundleSet::default();
    bundles
        .insert(std::sync::Arc::clone(SITE.bundle()))
        .unwrap();
    Trust::new(bundles, provider().signature_verification_algorithms)
}

fn now() -> SystemTime {
    SITE.ca().present()
}

fn domain() -> impl Strategy<Value = String> {
    "[a-z0-9._-]{1,20}"
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,9}", 1..5)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

/// Every byte of `der` but those at `places`, which are replaced.
fn damaged(der: &[u8], places: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    let mut der = der.to_vec();
    for (place, byte) in places {
        let place = place.index(der.len());
        der[place] = *byte;
    }
    der
}

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4)
}

proptest! {
    #[test]
    fn a_pattern_is_written_as_it_was_read(
        domain in domain(), path in path(), star in any::<bool>()
    ) {
        prop_assume!(path != "/spire" && !path.starts_with("/spire/"));
        let text = format!("spiffe://{domain}{path}{}", if star { "/*" } else { "" });
        let pattern: IdPattern = text.parse().unwrap();
        prop_assert_eq!(pattern.to_string(), text);
        prop_assert_eq!(pattern.trust_domain().unwrap().as_str(), domain);
        prop_assert_eq!(pattern.exact().is_some(), !star);
    }

    #[test]
    fn whatever_is_read_as_a_pattern_is_written_as_it_was(
        text in "(spiffe://)?[a-zA-Z0-9./*:%@?#_-]{0,30}"
    ) {
        if let Ok(pattern) = text.parse::<IdPattern>() {
            prop_assert_eq!(pattern.to_string(), text);
        }
    }

    #[test]
    fn a_pattern_matches_whole_segments_of_its_own_domain_only(
        domain in domain(), other in domain(), path in path(), below in path(),
        tail in "[a-z0-9]{1,5}"
    ) {
        prop_assume!(path != "/spire" && !path.starts_with("/spire"));
        let id = |domain: &str, path: &str| {
            parse_workload_id(&format!("spiffe://{domain}{path}")).unwrap()
        };
        let exact: IdPattern = format!("spiffe://{domain}{path}").parse().unwrap();
        let star: IdPattern = format!("spiffe://{domain}{path}/*").parse().unwrap();
        let deeper = format!("{path}{below}");
        prop_assert!(exact.matches(&id(&domain, &path)));
        prop_assert!(!exact.matches(&id(&domain, &deeper)));
        prop_assert!(star.matches(&id(&domain, &deeper)));
        prop_assert!(!star.matches(&id(&domain, &path)));
        // `/kafka/*` is not `/kafkaesque`.
        let longer = format!("{path}{tail}");
        prop_assert!(!star.matches(&id(&domain, &longer)));
        prop_assert_eq!(star.matches(&id(&other, &deeper)), other == domain);
    }

    #[test]
    fn no_text_makes_the_parser_of_patterns_panic(text in any::<String>()) {
        let _ = text.parse::<IdPattern>();
    }

    #[test]
    fn no_bytes_make_the_parser_of_bundles_panic(text in any::<Vec<u8>>()) {
        let domain = TrustDomain::new("a.example").unwrap();
        let _ = TrustBundle::from_file(domain.clone(), &text);
        let _ = BundleSet::from_bundle_map(&text);
        let json = [b"{\"keys\":", text.as_slice(), b"}"].concat();
        let _ = TrustBundle::from_file(domain, &json);
    }

    #[test]
    fn no_damage_makes_the_parser_of_bundles_panic(places in damage()) {
        let text = SITE.bundle().to_json().to_string();
        let text = damaged(text.as_bytes(), &places);
        let domain = SITE.domain().clone();
        if let Ok(bundle) = TrustBundle::from_file(domain.clone(), &text) {
            let again = TrustBundle::from_value(domain, &bundle.to_json()).unwrap();
            prop_assert_eq!(again, bundle);
        }
    }

    #[test]
    fn no_damage_to_a_ca_makes_bundles_panic(places in damage()) {
        let der = damaged(SITE.ca().der(), &places);
        let domain = SITE.domain().clone();
        if let Ok(bundle) = TrustBundle::new(domain.clone(), [der.into()]) {
            let again = TrustBundle::from_value(domain, &bundle.to_json()).unwrap();
            prop_assert_eq!(again, bundle);
        }
    }

    #[test]
    fn no_bytes_are_verified(der in any::<Vec<u8>>(), more in any::<Vec<u8>>()) {
        prop_assert!(trust().verify(&[der.into(), more.into()], now()).is_err());
    }

    #[test]
    fn a_certificate_that_was_changed_is_not_verified(places in damage()) {
        let whole = &ISSUED.chain[0];
        let der = damaged(whole, &places);
        let same = der == whole.as_ref();
        prop_assert_eq!(trust().verify(&[der.into()], now()).is_ok(), same);
    }

    #[test]
    fn a_changed_certificate_beside_ours_makes_no_difference(places in damage()) {
        let middle = damaged(SITE.ca().der(), &places);
        let chain = [ISSUED.chain[0].clone(), middle.into()];
        prop_assert!(trust().verify(&chain, now()).is_ok());
    }

    #[test]
    fn a_certificate_is_verified_in_its_time_only(seconds in 0_u64..u64::from(u32::MAX) * 2) {
        let at = UNIX_EPOCH + Duration::from_secs(seconds);
        let svid = ISSUED.svid();
        prop_assert_eq!(trust().verify(svid.chain(), at).is_ok(), svid.is_valid_at(at));
    }

    #[test]
    fn no_bytes_are_an_svid(der in any::<Vec<u8>>()) {
        let key = ISSUED.key.clone_key();
        prop_assert!(Svid::new(vec![der.into()], key, &provider()).is_err());
    }
}
