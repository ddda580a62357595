//! What anybody may send to an authority before it knows them: signing requests, and certificates with
//! a proof of possession. No panic, and nobody comes in.

#![no_main]

use std::{
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use libfuzzer_sys::fuzz_target;
use sekisho_authority::{
    attest::{
        AttestError, Challenge,
        x509pop::{self, Mode, Setting},
    },
    ca::csr::Request,
};
use sekisho_certs::{TrustDomain, id, tls};

static DOMAIN: LazyLock<TrustDomain> =
    LazyLock::new(|| id::parse_trust_domain("a.example").unwrap());

struct Answer<'a>(&'a [u8]);

#[tonic::async_trait]
impl Challenge for Answer<'_> {
    async fn challenge(&mut self, _: Vec<u8>) -> Result<Vec<u8>, AttestError> {
        Ok(self.0.to_vec())
    }
}

fuzz_target!(|data: &[u8]| {
    // An error is as good as a request.
    let _ = Request::parse(data);
    let [at, data @ ..] = data else { return };
    let (payload, answer) = data.split_at(data.len().min(usize::from(*at) * 16));
    let setting = Setting {
        mode: &Mode::Spiffe,
        domain: &DOMAIN,
        own: &[],
        algorithms: tls::provider().signature_verification_algorithms,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    };
    let mut answer = Answer(answer);
    let attested = pin!(x509pop::attest(payload, &setting, &mut answer));
    match attested.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => assert!(outcome.is_err(), "without a root nobody is let in"),
        Poll::Pending => panic!("there is nothing to wait for"),
    }
});
