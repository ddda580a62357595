//! The certificates of the table, made by the command line of OpenSSL: no library is both maker
//! and judge.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
    time::SystemTime,
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sekisho_testkit::{
    BasicConstraints, ExtendedUse, Issued, KeyUse, Profile, ca::shifted, clock::present, program,
};
use tempfile::TempDir;
use time::{OffsetDateTime, macros::format_description};

use crate::{
    cases::{Case, Root},
    conformance::check_issued,
};

/// Arguments of `openssl genpkey`, for each kind of key.
const KINDS: [&[&str]; 3] = [
    &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    &["-algorithm", "ED25519"],
];

/// A certificate needs a key of its own for each place in a path; all tests share them.
const KEYS: [&str; 7] = [
    "a", "b", "stranger", "leaf", "middle-0", "middle-1", "middle-2",
];

/// Makes the certificates of a case with each kind of key, and checks them.
pub(crate) fn check(case: &Case) {
    if !program::is_there("openssl", "openssl") {
        return;
    }
    static MADE: OnceLock<Vec<TempDir>> = OnceLock::new();
    for keys in MADE.get_or_init(|| KINDS.iter().map(|kind| make_keys(kind)).collect()) {
        let present = present();
        let folder = Folder::new(keys.path(), present);
        folder.self_sign("a", &case.root);
        folder.self_sign("b", &Profile::ca("b.example"));
        folder.self_sign("stranger", &case.root);
        let root = match case.signer {
            Root::A => "a",
            Root::B => "b",
            Root::Stranger => "stranger",
        };
        let mut path = vec![root.to_owned()];
        for (index, profile) in case.intermediates.iter().enumerate() {
            let name = format!("middle-{index}");
            folder.sign(path.last().unwrap(), &name, profile);
            path.push(name);
        }
        folder.sign(path.last().unwrap(), "leaf", &case.leaf);
        let below_root = path.iter().skip(1).rev();
        let chain = std::iter::once("leaf").chain(below_root.map(String::as_str));
        let issued = Issued {
            chain: chain.map(|name| folder.certificate(name)).collect(),
            key: PrivateKeyDer::from_pem_file(keys.path().join("leaf.key")).unwrap(),
        };
        let (a, b) = (folder.certificate("a"), folder.certificate("b"));
        check_issued(case, &a, &b, issued, present);
    }
}

fn make_keys(kind: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in KEYS {
        let (key, request) = (format!("{name}.key"), format!("{name}.csr"));
        let arguments = [&["genpkey", "-out", &key], kind].concat();
        openssl(folder.path(), &arguments);
        let subject = [
            "req", "-new", "-key", &key, "-out", &request, "-subj", "/CN=x",
        ];
        openssl(folder.path(), &subject);
    }
    folder
}

/// Calls `openssl` in `folder`.
pub(crate) fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("call openssl");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {complaint}"
    );
}

/// Where the certificates of one case are made.
struct Folder<'a> {
    own: TempDir,
    keys: &'a Path,
    present: SystemTime,
}

impl<'a> Folder<'a> {
    fn new(keys: &'a Path, present: SystemTime) -> Self {
        let own = tempfile::tempdir().unwrap();
        fs::write(own.path().join("index.txt"), "").unwrap();
        Self { own, keys, present }
    }

    fn self_sign(&self, name: &str, profile: &Profile) {
        let key = self.key(name);
        self.call(name, profile, &["-selfsign", "-keyfile", &key]);
    }

    fn sign(&self, issuer: &str, name: &str, profile: &Profile) {
        let (cert, key) = (format!("{issuer}.pem"), self.key(issuer));
        self.call(name, profile, &["-cert", &cert, "-keyfile", &key]);
    }

    fn key(&self, name: &str) -> String {
        self.keys.join(format!("{name}.key")).display().to_string()
    }

    fn call(&self, name: &str, profile: &Profile, issuer: &[&str]) {
        let (config, out) = (format!("{name}.conf"), format!("{name}.pem"));
        fs::write(self.own.path().join(&config), configuration(profile)).unwrap();
        let request = self.keys.join(format!("{name}.csr")).display().to_string();
        let subject = format!("/CN={}", profile.common_name);
        let begins = self.date(profile.begins);
        let ends = self.date(profile.ends);
        let profile = [
            "ca",
            "-batch",
            "-notext",
            "-config",
            &config,
            "-in",
            &request,
            "-out",
            &out,
            "-subj",
            &subject,
            "-startdate",
            &begins,
            "-enddate",
            &ends,
        ];
        openssl(self.own.path(), &[&profile, issuer].concat());
    }

    fn date(&self, seconds: i64) -> String {
        let format = format_description!("[year][month][day][hour][minute][second]Z");
        let time = OffsetDateTime::from(shifted(self.present, seconds));
        time.format(format).unwrap()
    }

    fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.own.path().join(format!("{name}.pem"))).unwrap()
    }
}

/// A configuration of `openssl ca` that issues what the profile says.
pub(crate) fn configuration(profile: &Profile) -> String {
    let mut text = String::from(
        "[ca]\ndefault_ca = own\n\
         [own]\ndatabase = index.txt\nnew_certs_dir = .\nrand_serial = yes\ndefault_md = default\n\
         unique_subject = no\npolicy = any\nx509_extensions = extensions\n\
         [any]\ncommonName = supplied\n\
         [extensions]\nsubjectKeyIdentifier = hash\n",
    );
    let mut put = |name: &str, values: Vec<String>| {
        if !values.is_empty() {
            writeln!(text, "{name} = {}", values.join(",")).unwrap();
        }
    };
    let constraints = match profile.basic_constraints {
        BasicConstraints::Absent => vec![],
        BasicConstraints::EndEntity => vec!["critical,CA:FALSE".to_owned()],
        BasicConstraints::Ca { path_length: None } => vec!["critical,CA:TRUE".to_owned()],
        BasicConstraints::Ca {
            path_length: Some(length),
        } => vec![format!("critical,CA:TRUE,pathlen:{length}")],
    };
    put("basicConstraints", constraints);
    let usages = profile.key_usage.iter().map(|usage| match usage {
        KeyUse::CrlSign => "cRLSign",
        KeyUse::DigitalSignature => "digitalSignature",
        KeyUse::KeyCertSign => "keyCertSign",
        KeyUse::KeyEncipherment => "keyEncipherment",
    });
    let critical = profile.key_usage_critical && !profile.key_usage.is_empty();
    let critical = critical.then_some("critical").into_iter();
    put("keyUsage", critical.chain(usages).map(Into::into).collect());
    let usages = profile.extended_key_usage.iter().map(|usage| match usage {
        ExtendedUse::ClientAuth => "clientAuth",
        ExtendedUse::ServerAuth => "serverAuth",
    });
    put("extendedKeyUsage", usages.map(Into::into).collect());
    let host = profile.permitted_uri_host.iter();
    let host = host.map(|host| format!("critical,permitted;URI:{host}"));
    put("nameConstraints", host.collect());
    if profile.unknown_critical_extension {
        put("1.2.3.4.5", vec!["critical,DER:0500".into()]);
    }
    let names = !profile.uris.is_empty() || !profile.dns_names.is_empty();
    put(
        "subjectAltName",
        names.then(|| "@names".into()).into_iter().collect(),
    );
    text.push_str("[names]\n");
    for (index, uri) in profile.uris.iter().enumerate() {
        writeln!(text, "URI.{index} = {}", uri.replace('#', "\\#")).unwrap();
    }
    for (index, name) in profile.dns_names.iter().enumerate() {
        writeln!(text, "DNS.{index} = {name}").unwrap();
    }
    text
}
