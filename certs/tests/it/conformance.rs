//! Checks a case of the table, by the verifier alone and inside handshakes of both roles.

use std::{
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use rustls_pki_types::CertificateDer;
use sekisho_certs::{
    BundleSet, IdList, Material, StoreSpec, TlsContext, Trust, TrustBundle, TrustDomain,
    VerifyError,
    source::Supply,
    tls::{MinVersion, provider, verify_error},
};
use sekisho_testkit::{
    Issued, KeyKind, Profile, Site, TestCa, TestClock,
    ca::shifted,
    clock::present,
    danger,
    handshake::{Refused, in_memory},
};

use crate::cases::{Case, Expected, Root};

/// Makes the certificates of a case by the test kit, and checks them.
pub(crate) fn check(case: &Case) {
    let present = present();
    let root = |profile: &Profile| TestCa::root(profile, KeyKind::EcP256, present);
    let a = root(&case.root);
    let b = root(&Profile::ca("b.example"));
    let stranger = root(&case.root);
    let mut signer = match case.signer {
        Root::A => &a,
        Root::B => &b,
        Root::Stranger => &stranger,
    };
    let mut intermediates: Vec<TestCa> = Vec::new();
    for profile in &case.intermediates {
        let next = intermediates
            .last()
            .unwrap_or(signer)
            .intermediate(profile, KeyKind::EcP256);
        intermediates.push(next);
    }
    signer = intermediates.last().unwrap_or(signer);
    let issued = signer.issue(&case.leaf);
    check_issued(case, a.der(), b.der(), issued, present);
}

/// Checks certificates that were made already.
pub(crate) fn check_issued(
    case: &Case,
    a: &CertificateDer<'static>,
    b: &CertificateDer<'static>,
    mut issued: Issued,
    present: SystemTime,
) {
    let domain = |name| TrustDomain::new(name).unwrap();
    let b = TrustBundle::new(domain("b.example"), [b.clone()]).expect("the bundle of b.example");
    let a = match (
        TrustBundle::new(domain("a.example"), [a.clone()]),
        case.expected,
    ) {
        (Ok(bundle), Expected::Accepted | Expected::Refused(..)) => bundle,
        (Err(error), Expected::BundleRefused(text)) => {
            assert!(error.to_string().contains(text), "{error}");
            return;
        }
        (result, expected) => panic!("{expected:?}, but the bundle is {result:?}"),
    };
    if !case.sends_intermediates {
        issued.chain.truncate(1);
    }
    let mut bundles = BundleSet::default();
    bundles.insert(Arc::new(a)).unwrap();
    bundles.insert(Arc::new(b)).unwrap();
    let now = shifted(present, case.at);

    let trust = Trust::new(
        bundles.clone(),
        provider().signature_verification_algorithms,
    );
    let verified = trust.verify(&issued.chain, now);
    if let Ok(peer) = &verified {
        assert_eq!(vec![peer.id().to_string()], case.leaf.uris);
        assert!(trust.still_trusts(peer));
    }
    judge(case, &verified.map(drop), "by Trust::verify");

    let gate = Gate::new(bundles, now, present);
    for versions in [&[&TLS13], &[&TLS12]] {
        judge(case, &gate.client_comes(&issued, versions), "as a client");
        judge(case, &gate.server_answers(&issued, versions), "as a server");
    }
}

fn judge(case: &Case, outcome: &Result<(), VerifyError>, how: &str) {
    match (case.expected, outcome) {
        (Expected::Accepted, Ok(())) => {}
        (Expected::Refused(reason, text), Err(error))
            if error.reason() == reason && error.to_string().contains(text) => {}
        (expected, outcome) => panic!("{expected:?}, but {how}: {outcome:?}"),
    }
}

/// An endpoint whose both sides are mTLS.
struct Gate {
    material: Material,
    present: SystemTime,
}

static OWN: LazyLock<Issued> = LazyLock::new(|| Site::new("own.example").svid("/gate"));

impl Gate {
    fn new(bundles: BundleSet, now: SystemTime, present: SystemTime) -> Self {
        let context = TlsContext {
            provider: Arc::new(provider()),
            clock: TestClock::at(now),
        };
        let spec = StoreSpec {
            name: "gate".into(),
            site: TrustDomain::new("own.example").unwrap(),
            own_id: None,
            lists: vec![IdList::Federated],
            resumption: false,
            listen: Some(MinVersion::Tls12),
            forward: Some((MinVersion::Tls12, IdList::Federated)),
        };
        let supply = Supply {
            svids: vec![Arc::new(OWN.svid())],
            bundles,
            ..Supply::default()
        };
        let nothing = Material::empty(&context, "");
        let material = Material::derive(&spec, &supply, &BundleSet::default(), &nothing, &context);
        Self { material, present }
    }

    fn client_comes(
        &self,
        peer: &Issued,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<(), VerifyError> {
        let client = Arc::new(danger::client_config(Some(peer), versions));
        let server = Arc::clone(self.material.server(self.present).unwrap());
        match in_memory(client, server) {
            Ok(_) => Ok(()),
            Err(Refused::ByServer(error)) => Err(verify_error(&error).expect("our error").clone()),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn server_answers(
        &self,
        peer: &Issued,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<(), VerifyError> {
        let client = Arc::clone(self.material.client(self.present).unwrap());
        let server = Arc::new(danger::server_config(peer, versions));
        match in_memory(client, server) {
            Ok(_) => Ok(()),
            Err(Refused::ByClient(error)) => Err(verify_error(&error).expect("our error").clone()),
            Err(other) => panic!("{other:?}"),
        }
    }
}
