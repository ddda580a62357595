//! A CA that was there before the store.

use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use sekisho_certs::issue as plain;

use super::{super::adopt, *};

/// Takes up a CA that was made for `site`, in a.example. Whether it is known there, and its certificate.
async fn adopt_of(world: &World, site: &str) -> Result<(bool, Vec<u8>), CaError> {
    let domain = id::parse_trust_domain(site).unwrap();
    let before = plain::Ca::generate(&domain, world.clock.now(), 100 * DAY).unwrap();
    let pem = before.key_pem();
    let given = adopt::Given {
        certificate: before.der().clone(),
        key: PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap(),
    };
    let store = Store::open(&world.at("db")).unwrap();
    let keys = KeyFolder::open(&world.at("keys"), None).unwrap();
    let settings = CaSettings {
        domain: id::parse_trust_domain("a.example").unwrap(),
        ttl: DAY,
        announced: Duration::ZERO,
    };
    let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(&world.clock);
    let known = adopt::adopt(given, &settings, &store, &keys, &clock).await?;
    Ok((known, before.der().to_vec()))
}

#[tokio::test]
async fn a_ca_from_before_signs_and_gives_way_to_the_next() {
    let world = World::new();
    let (known, before) = adopt_of(&world, "a.example").await.unwrap();
    assert!(known);
    let ca = world.open().await.unwrap();
    assert_eq!(ca.x509().chain()[0].as_ref(), before);
    assert_eq!(bundled(&ca)[0], [ca.x509().id()]);
    let old = ca.x509().id().to_owned();
    let next = ca
        .step(world.by(), Kind::X509, Step::Prepare)
        .await
        .unwrap();
    let activate = Step::Activate(next.clone());
    ca.step(world.by(), Kind::X509, activate).await.unwrap();
    assert_eq!(bundled(&ca)[0], [old, next]);
    drop(ca);
    // Another does not take its place.
    assert!(!adopt_of(&world, "a.example").await.unwrap().0);
}

#[tokio::test]
async fn a_ca_of_another_site_is_refused_and_nothing_is_touched() {
    let world = World::new();
    let error = adopt_of(&world, "b.example").await.unwrap_err();
    assert!(error.to_string().contains("is `site` right?"), "{error}");
    assert_eq!(world.keys(), 0);
    let store = Store::open(&world.at("db")).unwrap();
    assert!(store.authorities(Kind::X509).await.unwrap().is_empty());
    drop(store);
    // Nor is a whole database opened as that of another site.
    drop(world.open().await.unwrap());
    let store = Arc::new(Store::open(&world.at("db")).unwrap());
    let settings = CaSettings {
        domain: id::parse_trust_domain("b.example").unwrap(),
        ttl: DAY,
        announced: Duration::ZERO,
    };
    let keys = KeyFolder::open(&world.at("keys"), None).unwrap();
    let opened = Ca::open(settings, store, keys, Arc::<TestClock>::clone(&world.clock)).await;
    assert!(matches!(opened, Err(CaError::OtherSite { .. })));
}
