use rustls::{ClientConfig, ServerConfig};
use sekisho_certs::tls;
use sekisho_testkit::{
    Profile, TestCa, TestClock, danger,
    handshake::{Refused, in_memory},
};

use super::*;

/// The name that handshakes in memory ask for.
const DOMAIN: &str = "service.example";

fn acme(domain: &str, clock: &Arc<TestClock>) -> (tempfile::TempDir, Acme) {
    let place = tempfile::tempdir().unwrap();
    let leaf = Profile::leaf("spiffe://unused.example/x")
        .with_uris([])
        .with_dns_names([DOMAIN]);
    let issued = TestCa::new("web.example").issue(&leaf);
    let text = [issued.key_pem(), issued.chain_pem()].concat();
    std::fs::write(place.path().join("certificate.pem"), text).unwrap();
    let settings = AcmeSettings {
        directory: "https://acme.example/dir".into(),
        email: None,
        domain: domain.into(),
        roots: WebRoots::default(),
        folder: place.path().into(),
    };
    let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(clock);
    let acme = Acme::open(settings, Arc::new(tls::provider()), clock).unwrap();
    (place, acme)
}

#[test]
fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
    let clock = TestClock::new();
    let (_place, kept) = acme(DOMAIN, &clock);
    let end = kept.not_after().unwrap();
    assert!(!kept.is_due());
    // It lives for an hour, and began ten seconds ago.
    let left = Duration::from_secs(3610 / 3);
    clock.set(end - left - Duration::from_secs(1));
    assert!(!kept.is_due());
    clock.set(end - left);
    assert!(kept.is_due());
    clock.set(end + left);
    assert!(kept.is_due());
    // One for another name is none.
    let (_place, other) = acme("other.example", &clock);
    assert_eq!(other.not_after(), None);
    assert!(other.is_due());
}

fn server(acme: &Arc<Acme>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(tls::provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::<Acme>::clone(acme));
    config.alpn_protocols = vec![b"http/1.1".to_vec(), ACME.to_vec()];
    Arc::new(config)
}

fn client(protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = danger::client_config(None, &[&rustls::version::TLS13]);
    config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
    Arc::new(config)
}

#[test]
fn the_proof_is_for_who_asks_for_nothing_else_and_by_our_name() {
    let clock = TestClock::new();
    let (_place, acme) = acme(DOMAIN, &clock);
    let acme = Arc::new(acme);
    let shown = |acme: &Arc<Acme>, protocols: &[&[u8]]| {
        let (client, _) = in_memory(client(protocols), server(acme))?;
        Ok::<_, Refused>(client.peer_certificates().unwrap()[0].clone())
    };
    let web = acme.kept().unwrap().certified.cert[0].clone();
    assert_eq!(shown(&acme, &[b"http/1.1"]).unwrap(), web);
    // Nobody has been asked yet.
    shown(&acme, &[ACME]).unwrap_err();
    let proof = acme.proof(&[7; 32]).unwrap();
    acme.show_proof(Some(Arc::clone(&proof)));
    assert_eq!(shown(&acme, &[ACME]).unwrap(), proof.cert[0]);
    assert_eq!(shown(&acme, &[b"http/1.1"]).unwrap(), web);
    assert_eq!(shown(&acme, &[ACME, b"http/1.1"]).unwrap(), web);
    acme.show_proof(None);
    shown(&acme, &[ACME]).unwrap_err();
    // By another name.
    let (_place, other) = self::acme("other.example", &clock);
    let other = Arc::new(other);
    other.show_proof(Some(proof));
    shown(&other, &[ACME]).unwrap_err();
}
