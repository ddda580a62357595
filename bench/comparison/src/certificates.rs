//! Two trust domains, a workload in each: `spiffe://a.example/front` and `spiffe://b.example/back`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};

/// The SPIFFE ID of the front proxy.
pub(crate) const FRONT: &str = "spiffe://a.example/front";
/// The SPIFFE ID of the back proxy.
pub(crate) const BACK: &str = "spiffe://b.example/back";

/// Files of one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Papers {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Both of them in one file.
    pub(crate) both: PathBuf,
    /// The CA of its own trust domain.
    pub(crate) own_ca: PathBuf,
    /// The CA of the other end.
    pub(crate) peer_ca: PathBuf,
}

/// Files of both ends.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    pub(crate) front: Papers,
    pub(crate) back: Papers,
}

impl Certificates {
    /// Makes them in `folder`. Keys are on P-256.
    pub(crate) fn make(folder: &Path) -> anyhow::Result<Self> {
        let front_ca = folder.join("a-ca.pem");
        let back_ca = folder.join("b-ca.pem");
        let papers = |name: &str, own: &Path, peer: &Path| Papers {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
            both: folder.join(format!("{name}-both.pem")),
            own_ca: own.to_owned(),
            peer_ca: peer.to_owned(),
        };
        let front = papers("front", &front_ca, &back_ca);
        let back = papers("back", &back_ca, &front_ca);
        issue(FRONT, &front)?;
        issue(BACK, &back)?;
        Ok(Self { front, back })
    }
}

/// A name of its own: to OpenSSL a certificate that is named as its issuer has signed itself.
fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn issue(id: &str, papers: &Papers) -> anyhow::Result<()> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut ca = CertificateParams::default();
    ca.distinguished_name = named(&format!("CA of {id}"));
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = ca.self_signed(&key)?;
    let issuer = Issuer::new(ca, key);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = named(id);
    leaf.subject_alt_names = vec![
        SanType::URI(id.try_into()?),
        // For programs that want a host name.
        SanType::DnsName("localhost".try_into()?),
    ];
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let leaf = leaf.signed_by(&key, &issuer)?;
    let write =
        |path: &Path, text: &str| fs::write(path, text).with_context(|| path.display().to_string());
    write(&papers.own_ca, &root.pem())?;
    write(&papers.certificate, &leaf.pem())?;
    write(&papers.key, &key.serialize_pem())?;
    write(&papers.both, &(leaf.pem() + &key.serialize_pem()))
}
