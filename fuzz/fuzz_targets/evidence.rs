//! What anybody may send to an authority that takes several pieces of evidence: an offer, and pieces that
//! are bound to nothing. No panic, and nobody comes in.

#![no_main]

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use libfuzzer_sys::fuzz_target;
use sekisho_authority::{
    attest::{
        AttestError, Challenge,
        evidence::{self, Judge, Setting, Source, With},
        x509pop::Mode,
    },
    store::{By, Store},
};
use sekisho_certs::{TrustDomain, id, tls};
use tokio::runtime::Runtime;

static DOMAIN: LazyLock<TrustDomain> =
    LazyLock::new(|| id::parse_trust_domain("a.example").unwrap());
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
});
static SETTING: LazyLock<Setting> = LazyLock::new(|| Setting {
    join_token: true,
    x509pop: Some(Mode::Spiffe),
    k8s_psat: None,
    judge: Judge::load(Source::Default).unwrap(),
});
static STORE: LazyLock<Store> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("sekisho-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    Store::open(&folder.join("db")).unwrap()
});

struct Answer<'a>(&'a [u8]);

#[tonic::async_trait]
impl Challenge for Answer<'_> {
    async fn challenge(&mut self, _: Vec<u8>) -> Result<Vec<u8>, AttestError> {
        Ok(self.0.to_vec())
    }
}

fuzz_target!(|data: &[u8]| {
    let [at, data @ ..] = data else { return };
    let (payload, answer) = data.split_at(data.len().min(usize::from(*at)));
    // Half of the time an offer that leads further.
    let offers: [&[u8]; 4] = [
        payload,
        br#"{"version":1,"kinds":["x509pop"]}"#,
        br#"{"version":1,"kinds":["join_token"]}"#,
        br#"{"version":1,"kinds":["join_token","x509pop"]}"#,
    ];
    let offer = offers[usize::from(*at) % offers.len()];
    let with = With {
        setting: &SETTING,
        domain: &DOMAIN,
        own: &[],
        algorithms: tls::provider().signature_verification_algorithms,
        store: &STORE,
        by: By {
            caller: "fuzz".into(),
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        },
        address: None,
    };
    let mut answer = Answer(answer);
    let attested = evidence::attest(offer, b"public key", &with, &mut answer);
    assert!(RUNTIME.block_on(attested).is_err(), "without a root or a token nobody is let in");
});
