//! A trust over time: what it remembers of chains, and when it forgets.

use std::{sync::Arc, time::Duration};

use rustls::version::TLS13;
use sekisho_certs::{
    BundleSet, IdList, Material, Reason, StoreSpec, TlsContext, Trust, TrustBundle, VerifyError,
    source::Supply,
    tls::{MinVersion, provider, verify_error},
};
use sekisho_testkit::{
    Profile, Site, TestClock, danger,
    handshake::{Refused, in_memory},
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn trust<'a>(bundles: impl IntoIterator<Item = &'a Arc<TrustBundle>>) -> Trust {
    let mut set = BundleSet::default();
    for bundle in bundles {
        set.insert(Arc::clone(bundle)).unwrap();
    }
    Trust::new(set, provider().signature_verification_algorithms)
}

fn reason(result: &Result<sekisho_certs::VerifiedPeer, VerifyError>) -> Option<Reason> {
    result.as_ref().err().map(VerifyError::reason)
}

#[test]
fn a_chain_that_verified_before_is_refused_once_it_expired() {
    let site = Site::new("a.example");
    let (trust, issued) = (trust([site.bundle()]), site.svid("/x"));
    let now = site.ca().present();
    assert!(trust.verify(&issued.chain, now).is_ok());
    assert!(trust.verify(&issued.chain, now + HOUR).is_ok());
    let late = trust.verify(&issued.chain, now + HOUR + SECOND);
    assert_eq!(reason(&late), Some(Reason::Expired));
    let early = trust.verify(&issued.chain, now - 11 * SECOND);
    assert_eq!(reason(&early), Some(Reason::NotYetValid));
    assert!(trust.verify(&issued.chain, now).is_ok());
}

#[test]
fn a_chain_that_verified_before_is_refused_once_its_root_expired() {
    let present = sekisho_testkit::clock::present();
    let root = Profile::ca("a.example").valid_between(-60, 60);
    let ca = sekisho_testkit::TestCa::root(&root, Default::default(), present);
    let site = Site::with_ca("a.example", ca);
    let (trust, issued) = (trust([site.bundle()]), site.svid("/x"));
    let peer = trust.verify(&issued.chain, present).unwrap();
    assert_eq!(peer.not_after(), present + 60 * SECOND);
    assert!(trust.verify(&issued.chain, present + 61 * SECOND).is_err());
}

#[test]
fn a_chain_that_verified_before_is_refused_by_a_trust_without_its_ca() {
    let (old, new) = (Site::new("a.example"), Site::new("a.example"));
    let issued = old.svid("/x");
    let now = old.ca().present();
    assert!(trust([old.bundle()]).verify(&issued.chain, now).is_ok());
    let refused = trust([new.bundle()]).verify(&issued.chain, now);
    assert_eq!(reason(&refused), Some(Reason::BadChain));
    let refused = trust([]).verify(&issued.chain, now);
    assert_eq!(reason(&refused), Some(Reason::UnknownTrustDomain));
}

/// Row "a member's CA is stolen" of docs/federation.md.
#[test]
fn a_stolen_ca_speaks_for_its_own_trust_domain_alone_and_until_its_next_bundle() {
    let (a, b) = (Site::new("a.example"), Site::new("b.example"));
    let present = a.ca().present();
    let both = trust([a.bundle(), b.bundle()]);
    // Whoever has the CA of a makes whatever a could make.
    let own = a.ca().issue(&Profile::leaf("spiffe://a.example/thief"));
    assert!(both.verify(&own.chain, present).is_ok());
    // Not what b could: neither by a leaf, nor by a CA between that says it is b's.
    let forged = a.ca().issue(&Profile::leaf("spiffe://b.example/x"));
    let between = a
        .ca()
        .intermediate(&Profile::ca("b.example"), Default::default());
    let below = between.issue(&Profile::leaf("spiffe://b.example/x"));
    let mut with_root = forged.chain.clone();
    with_root.push(b.ca().der().clone());
    for chain in [&forged.chain, &below.chain, &with_root] {
        let refused = both.verify(chain, present);
        assert_eq!(reason(&refused), Some(Reason::BadChain));
    }
    // A new bundle of a takes it away at once, whatever it has made before.
    let after = Site::new("a.example");
    let next = trust([after.bundle(), b.bundle()]);
    let refused = next.verify(&own.chain, present);
    assert_eq!(reason(&refused), Some(Reason::BadChain));
    assert!(next.verify(&after.svid("/x").chain, present).is_ok());
}

#[test]
fn an_empty_bundle_trusts_nobody() {
    let site = Site::new("a.example");
    let nobody = TrustBundle::new(site.domain().clone(), []).unwrap();
    let refused = trust([&Arc::new(nobody)]).verify(&site.svid("/x").chain, site.ca().present());
    assert_eq!(reason(&refused), Some(Reason::BadChain));
}

#[test]
fn a_chain_is_not_mistaken_for_another_that_starts_with_the_same_leaf() {
    let site = Site::new("a.example");
    let middle = Profile::ca("a.example").with_common_name("middle");
    let middle = site.ca().intermediate(&middle, Default::default());
    let (trust, issued) = (trust([site.bundle()]), middle.issue(&site.leaf("/x")));
    let now = site.ca().present();
    assert!(trust.verify(&issued.chain, now).is_ok());
    assert!(trust.verify(&issued.chain[..1], now).is_err());
}

#[test]
fn a_running_peer_is_trusted_after_its_leaf_expired() {
    let site = Site::new("a.example");
    let (first, issued) = (trust([site.bundle()]), site.svid("/x"));
    let peer = first.verify(&issued.chain, site.ca().present()).unwrap();
    assert!(first.still_trusts(&peer));
    let renewed = trust([site.bundle(), Site::new("b.example").bundle()]);
    assert!(
        renewed
            .verify(&issued.chain, peer.not_after() + HOUR)
            .is_err()
    );
    assert!(renewed.still_trusts(&peer));
}

#[test]
fn a_running_peer_is_not_trusted_after_its_ca_left_the_bundle() {
    let (old, new) = (Site::new("a.example"), Site::new("a.example"));
    let peer = trust([old.bundle()])
        .verify(&old.svid("/x").chain, old.ca().present())
        .unwrap();
    assert!(!trust([new.bundle()]).still_trusts(&peer));
    assert!(!trust([]).still_trusts(&peer));
}

#[test]
fn a_running_peer_is_trusted_when_its_ca_stays_beside_a_new_one() {
    let (old, new) = (Site::new("a.example"), Site::new("a.example"));
    let peer = trust([old.bundle()])
        .verify(&old.svid("/x").chain, old.ca().present())
        .unwrap();
    let both = [new.ca().der().clone(), old.ca().der().clone()];
    let both = Arc::new(TrustBundle::new(old.domain().clone(), both).unwrap());
    assert!(trust([&both]).still_trusts(&peer));
}

#[test]
fn a_running_peer_is_trusted_when_its_ca_was_renewed_with_the_same_key() {
    let old = Site::new("a.example");
    let present = old.ca().present();
    let peer = trust([old.bundle()])
        .verify(&old.svid("/x").chain, present)
        .unwrap();
    // Its validity begins after the handshake.
    let renewed = old
        .ca()
        .renewed(&Profile::ca("a.example").valid_between(60, 7200));
    let renewed = Arc::new(renewed.bundle("a.example"));
    assert!(trust([&renewed]).still_trusts(&peer));
}

#[test]
fn a_peer_with_another_key_of_the_same_name_is_not_confused() {
    let site = Site::new("a.example");
    let (one, other) = (site.svid("/x"), site.svid("/x"));
    let trust = trust([site.bundle()]);
    let now = site.ca().present();
    let one = trust.verify(&one.chain, now).unwrap();
    let other = trust.verify(&other.chain, now).unwrap();
    assert_eq!(one.id(), other.id());
    assert_ne!(one.serial(), other.serial());
}

#[test]
fn more_than_ten_certificates_are_refused_unread() {
    let site = Site::new("a.example");
    let mut issued = site.svid("/x");
    issued.chain.resize(10, site.ca().der().clone());
    let trust = trust([site.bundle()]);
    assert!(trust.verify(&issued.chain, site.ca().present()).is_ok());
    issued.chain.push(site.ca().der().clone());
    let refused = trust.verify(&issued.chain, site.ca().present());
    assert!(refused.unwrap_err().to_string().contains("more than 10"));
}

#[test]
fn a_peer_with_certificates_to_spare_is_verified_each_time() {
    let site = Site::new("a.example");
    let mut issued = site.svid("/x");
    issued.chain.push(vec![0x30; 32 * 1024].into());
    let trust = trust([site.bundle()]);
    let now = site.ca().present();
    for _ in 0..2 {
        let peer = trust.verify(&issued.chain, now).unwrap();
        assert_eq!(peer.id(), &site.id("/x"));
        assert!(trust.still_trusts(&peer));
    }
    let late = trust.verify(&issued.chain, now + HOUR + SECOND);
    assert_eq!(reason(&late), Some(Reason::Expired));
}

/// An endpoint whose both sides are mTLS, with this list for both.
fn gate(site: &Site, bundles: &[&Site], expect: IdList) -> Material {
    let context = TlsContext {
        provider: Arc::new(provider()),
        clock: TestClock::at(site.ca().present()),
    };
    let spec = StoreSpec {
        name: "gate".into(),
        site: site.domain().clone(),
        own_id: None,
        lists: vec![expect.clone()],
        resumption: false,
        listen: Some(MinVersion::Tls13),
        forward: Some((MinVersion::Tls13, expect)),
    };
    let mut supply = Supply {
        svids: vec![Arc::new(site.svid("/gate").svid())],
        ..Supply::default()
    };
    for site in bundles {
        supply.bundles.insert(Arc::clone(site.bundle())).unwrap();
    }
    let nothing = Material::empty(&context, "");
    Material::derive(&spec, &supply, &BundleSet::default(), &nothing, &context)
}

#[test]
fn who_answers_must_be_expected_and_who_comes_is_left_to_the_permit() {
    let (a, b) = (Site::new("a.example"), Site::new("b.example"));
    let expect = IdList::Named(vec!["spiffe://b.example/x".parse().unwrap()]);
    let gate = gate(&a, &[&a, &b], expect);
    let now = a.ca().present();
    let answers = |path| {
        let server = danger::server_config(&b.svid(path), &[&TLS13]);
        in_memory(Arc::clone(gate.client(now).unwrap()), Arc::new(server))
    };
    assert!(answers("/x").is_ok());
    let Err(Refused::ByClient(error)) = answers("/y") else {
        panic!("not refused by the client");
    };
    let error = verify_error(&error).unwrap();
    assert_eq!(error.reason(), Reason::NotExpected);
    assert_eq!(error.claimed_id(), Some(&b.id("/y")));

    let comes = danger::client_config(Some(&b.svid("/y")), &[&TLS13]);
    assert!(in_memory(Arc::new(comes), Arc::clone(gate.server(now).unwrap())).is_ok());
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let a = Site::new("a.example");
    let gate = gate(&a, &[&a], IdList::Federated);
    let server = Arc::clone(gate.server(a.ca().present()).unwrap());
    let client = Arc::new(danger::client_config(None, &[&TLS13]));
    let Err(Refused::ByServer(error)) = in_memory(client, server) else {
        panic!("not refused by the server");
    };
    assert_eq!(error, rustls::Error::NoCertificatesPresented);
}

#[test]
fn a_peer_with_the_certificate_but_not_the_key_is_refused() {
    let (a, b) = (Site::new("a.example"), Site::new("b.example"));
    let gate = gate(&a, &[&a, &b], IdList::Federated);
    let now = a.ca().present();
    let mut thief = b.svid("/x");
    thief.key = b.svid("/x").key;
    let client = Arc::new(danger::client_config(Some(&thief), &[&TLS13]));
    let server = Arc::clone(gate.server(now).unwrap());
    assert!(matches!(
        in_memory(client, server),
        Err(Refused::ByServer(_))
    ));
    let server = Arc::new(danger::server_config(&thief, &[&TLS13]));
    let client = Arc::clone(gate.client(now).unwrap());
    assert!(matches!(
        in_memory(client, server),
        Err(Refused::ByClient(_))
    ));
}
