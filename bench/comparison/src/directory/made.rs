//! A directory and its members, with their keys.

use std::{
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use sekisho_certs::{Clock as _, SystemClock, TrustBundle, TrustDomain, id::parse_trust_domain};
use sekisho_certs::{id::id_below, members::Service};
use sekisho_federation::directory::{
    continuity::KeySet,
    descriptor::Descriptor,
    key::{FileKey, Signer},
    repository::{Init, Lives, Repository, Submission},
};

use super::names::name;

/// How many are admitted at a time.
const AT_ONCE: u32 = 2500;

struct Member {
    domain: TrustDomain,
    key: FileKey,
    recovery: String,
    sequence: u64,
    version: u64,
}

pub(super) struct Made {
    repository: Repository,
    registrars: Vec<FileKey>,
    host: FileKey,
    members: Vec<Member>,
    next: usize,
}

fn keys(folder: &Path, what: &str, count: usize) -> anyhow::Result<Vec<FileKey>> {
    let files = (1..=count).map(|number| folder.join(format!("{what}-{number}.key")));
    let keys = files.map(|file| {
        let key = FileKey::generate()?;
        key.write(&file)?;
        Ok(key)
    });
    keys.collect()
}

fn set(keys: &[FileKey]) -> anyhow::Result<KeySet> {
    let two = NonZeroU64::MIN.saturating_add(1);
    let public = keys.iter().map(Signer::public).collect();
    KeySet::new(public, two).map_err(anyhow::Error::msg)
}

fn signers(keys: &[FileKey]) -> Vec<&dyn Signer> {
    keys.iter().map(|key| key as &dyn Signer).collect()
}

/// A CA as an authority makes it: P-256, named, of a trust domain.
fn ca(domain: &TrustDomain) -> anyhow::Result<rustls_pki_types::CertificateDer<'static>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, domain.as_str());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let uri = format!("spiffe://{domain}");
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    let certificate = params.self_signed(&KeyPair::generate()?)?;
    Ok(certificate.der().clone())
}

impl Member {
    /// What it says now: a CA, a service, how to reach its people.
    fn descriptor(&self) -> anyhow::Result<Descriptor> {
        let domain = &self.domain;
        let bundle = TrustBundle::new(domain.clone(), [ca(domain)?])?;
        let mut descriptor =
            Descriptor::new(Arc::new(bundle.with_hints(Some(self.sequence), None)));
        let id = id_below(domain, "/mdx")?;
        let gateway = format!("gate.{domain}:9443").parse()?;
        descriptor.services = vec![Service::new("mdx", vec![gateway], id, [].into())?];
        descriptor.contacts = vec![format!("noc@{domain}")];
        descriptor.recovery = Some(self.recovery.clone());
        Ok(descriptor)
    }

    fn word(&self) -> anyhow::Result<Submission> {
        let version = NonZeroU64::new(self.version).context("versions begin with 1")?;
        let now = SystemClock.now();
        Ok(Submission::new(
            &self.descriptor()?,
            version,
            &[&self.key],
            now,
        )?)
    }
}

impl Made {
    /// Founds it: two of three institutions, two of three registrars, one host.
    pub(super) fn begin(folder: &Path, bins: usize) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let beside: PathBuf = folder.with_file_name("keys");
        std::fs::create_dir_all(&beside)?;
        let institutions = keys(&beside, "institution", 3)?;
        let registrars = keys(&beside, "registrar", 3)?;
        let host = FileKey::generate()?;
        host.write(&beside.join("host.key"))?;
        let repository = Repository::new(folder);
        let init = Init {
            institutions: set(&institutions)?,
            registrars: set(&registrars)?,
            host: host.public(),
            bins,
        };
        let mut all = signers(&institutions);
        all.extend(signers(&registrars));
        repository.init(&init, &all, SystemClock.now())?;
        Ok(Self {
            repository,
            registrars,
            host,
            members: Vec::new(),
            next: 0,
        })
    }

    /// Admits so many, by two registrars.
    pub(super) fn admit(&mut self, count: u32) -> anyhow::Result<()> {
        for from in (0..count).step_by(usize::try_from(AT_ONCE)?) {
            let mut sent = Vec::new();
            for number in from..count.min(from + AT_ONCE) {
                let member = Member {
                    domain: parse_trust_domain(&name(number))?,
                    key: FileKey::generate()?,
                    recovery: FileKey::generate()?.public().id(),
                    sequence: 1,
                    version: 1,
                };
                let keys = KeySet::new(vec![member.key.public()], NonZeroU64::MIN);
                let keys = keys.map_err(anyhow::Error::msg)?;
                sent.push(member.word()?.with_keys(keys));
                self.members.push(member);
            }
            let sent: Vec<&Submission> = sent.iter().collect();
            let two = self.registrars.get(..2).unwrap_or_default();
            let now = SystemClock.now();
            self.repository.admit_all(&sent, &signers(two), now)?;
        }
        Ok(())
    }

    /// The next members say something new.
    pub(super) fn speak(&mut self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let number = self.next % self.members.len();
            self.next += 1;
            self.speak_of(number)?;
        }
        Ok(())
    }

    /// This member says something new.
    pub(super) fn speak_of(&mut self, number: usize) -> anyhow::Result<()> {
        let member = self.members.get_mut(number).context("no such member")?;
        member.sequence += 1;
        member.version += 1;
        let word = member.word()?;
        self.repository.accept(&word, SystemClock.now())?;
        Ok(())
    }

    /// The names of the members.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.members.iter().map(|member| member.domain.to_string())
    }

    /// Hosts once. Whatever it complains of is an error.
    pub(super) fn host(&self) -> anyhow::Result<()> {
        let now = SystemClock.now();
        let hosted = self.repository.host(&self.host, &Lives::default(), now)?;
        let complaint = hosted.complaints.first();
        anyhow::ensure!(complaint.is_none(), "{complaint:?}");
        Ok(())
    }
}
