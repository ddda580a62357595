//! Whether what `authority`, `federation` and `oidc` name is there.

use std::{
    os::unix::fs::FileTypeExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sekisho_authority::ca::{
    CaSettings,
    upstream::{Disk, trial},
};
use sekisho_certs::{TrustDomain, tls};
use sekisho_federation::{directory::client::root_version, oidc::Certificate};

use super::world::{Found, exposed};
use crate::{
    authority::federation::{bundle, roots},
    config::{
        AgentConfig, Attest, AuthorityConfig, FederationConfig, OidcConfig, OidcListen,
        ShownConfig, UpstreamConfig, services,
    },
};

/// Looks at what an authority needs: the one above signs a CA that is thrown away, where it is files.
pub(super) fn authority(own: &AuthorityConfig, site: &TrustDomain, now: SystemTime) -> Found {
    let mut found = Found::default();
    found.warnings.extend(past_evidence(&own.attest));
    match &own.upstream {
        Some(UpstreamConfig::Disk { cert, key, bundle }) => {
            exposed(&mut found, key);
            let disk = Disk {
                domain: site.clone(),
                certificates: cert.clone(),
                key: key.clone(),
                roots: bundle.clone(),
            };
            let settings = CaSettings {
                domain: site.clone(),
                ttl: own.ca_ttl,
                announced: Duration::ZERO,
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build();
            let tried = runtime.map_err(|error| error.to_string()).and_then(|it| {
                let tried = it.block_on(trial(Arc::new(disk), &settings, now));
                tried.map_err(|error| error.to_string())
            });
            found.problems.extend(tried.err());
        }
        Some(UpstreamConfig::Spire { socket, .. }) if !is_socket(socket) => {
            let path = socket.display();
            found.problems.push(format!(
                "no socket of an agent at {path}: without a CA from before, the authority waits for it"
            ));
        }
        Some(UpstreamConfig::Spire { .. }) | None => {}
    }
    found
}

/// Kinds of attestation that come in by themselves although they are pieces of evidence too.
fn past_evidence(attest: &[Attest]) -> Vec<String> {
    let pieces = attest.iter().find_map(|one| match one {
        Attest::Evidence(config) => Some(config.evidence.as_slice()),
        _ => None,
    });
    let pieces = pieces.unwrap_or_default();
    let alone = attest.iter().map(Attest::kind);
    let both = alone.filter(|kind| pieces.iter().any(|piece| piece.kind() == *kind));
    both.map(|kind| {
        format!(
            "attest: {kind} stands beside sekisho_evidence too: whoever shows it alone comes in without the \
             other pieces, and past the policy"
        )
    })
    .collect()
}

/// Looks at what federation needs: roots of directories, services, the certificate of the endpoint, and
/// the bundles to begin with.
pub(super) fn federation(own: &FederationConfig, site: &TrustDomain, now: SystemTime) -> Found {
    let mut found = Found::default();
    let unwise = own.warnings.iter().map(ToString::to_string);
    found.warnings.extend(unwise);
    match own.endpoint.as_ref().map(|endpoint| &endpoint.shown) {
        Some(ShownConfig::Web { cert, key }) => drop(certificate(&mut found, cert, key, now)),
        Some(ShownConfig::Acme(acme)) => {
            let wrong = roots(acme).err();
            found
                .problems
                .extend(wrong.map(|error| format!("{error:#}")));
        }
        Some(ShownConfig::Spiffe) | None => {}
    }
    if let Some(directory) = &own.directory {
        for (_, root) in &directory.places {
            let wrong = root_version(root).err();
            found.problems.extend(wrong.map(|error| error.to_string()));
        }
        if let Some(path) = &directory.services {
            let wrong = services::load(path, site).err();
            let wrong = wrong.map(|errors| errors.render(false));
            found.problems.extend(wrong);
        }
    }
    for peer in &own.peers {
        let Some(path) = &peer.bundle else { continue };
        match bundle(path, &peer.domain) {
            Ok(bundle) if bundle.x509.is_empty() => {
                let path = path.display();
                let problem = format!("{path}: no CA of {}: nobody of it is trusted", peer.domain);
                found.problems.push(problem);
            }
            Ok(_) => {}
            Err(error) => found.problems.push(format!("{error:#}")),
        }
    }
    found
}

/// Looks at the files of a certificate for the web.
fn certificate(found: &mut Found, cert: &Path, key: &Path, now: SystemTime) -> Option<Certificate> {
    exposed(found, key);
    let loaded = Certificate::load(cert.into(), key.into(), Arc::new(tls::provider()));
    let certificate = match loaded {
        Ok(certificate) => certificate,
        Err(error) => {
            found.problems.push(error.to_string());
            return None;
        }
    };
    if certificate.not_after() <= now {
        let path = cert.display();
        let problem = format!("{path}: the certificate has expired");
        found.problems.push(problem);
    }
    Some(certificate)
}

/// Looks at what discovery needs. The socket of `agent`, where the same file starts one, is not there
/// yet.
pub(super) fn oidc(own: &OidcConfig, agent: Option<&AgentConfig>, now: SystemTime) -> Found {
    let mut found = Found::default();
    let comes = agent.is_some_and(|agent| agent.socket == own.source);
    if !comes && !is_socket(&own.source) {
        let path = own.source.display();
        found
            .problems
            .push(format!("no socket of an agent at {path}"));
    }
    let OidcListen::Tls { cert, key, .. } = &own.listen else {
        return found;
    };
    if let Some(certificate) = certificate(&mut found, cert, key, now) {
        for domain in own.domains.iter().filter(|it| !certificate.is_for(it)) {
            let path = cert.display();
            found
                .problems
                .push(format!("{path}: the certificate is not for {domain}"));
        }
    }
    found
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EvidenceConfig;

    #[test]
    fn a_kind_that_comes_in_past_evidence_is_told() {
        let pop = || Attest::X509Pop {
            ca: "ca.pem".into(),
        };
        let evidence = || {
            Attest::Evidence(EvidenceConfig {
                evidence: vec![Attest::JoinToken, pop()],
                policy: None,
            })
        };
        for quiet in [
            vec![Attest::JoinToken, pop()],
            vec![evidence()],
            vec![evidence(), Attest::K8sPsat([].into())],
        ] {
            assert_eq!(past_evidence(&quiet), [""; 0]);
        }
        for told in [[evidence(), pop()], [Attest::X509PopSpiffe, evidence()]] {
            let told = past_evidence(&told);
            assert!(
                told.len() == 1 && told[0].contains("x509pop stands"),
                "{told:?}"
            );
        }
    }

    #[test]
    fn what_federation_names_is_looked_at() {
        use sekisho_testkit::Site;

        use crate::config::{AcmeConfig, BundleEndpointConfig, PeerConfig};

        let folder = tempfile::tempdir().unwrap();
        let (b, c) = (Site::new("b.example"), Site::new("c.example"));
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let peer = |bundle| PeerConfig {
            domain: b.domain().clone(),
            url: "https://b.example".parse().unwrap(),
            id: Some(b.id("/spire/server")),
            bundle: Some(bundle),
        };
        let looked = |peer: Option<PeerConfig>, shown| {
            let own = FederationConfig {
                endpoint: Some(BundleEndpointConfig {
                    listen: "127.0.0.1:1".parse().unwrap(),
                    refresh: Duration::from_secs(300),
                    shown,
                }),
                peers: peer.into_iter().collect(),
                ..FederationConfig::default()
            };
            federation(&own, b.domain(), SystemTime::UNIX_EPOCH).problems
        };
        let spiffe = || ShownConfig::Spiffe;
        let good = file("b.pem", &b.ca().pem());
        assert_eq!(looked(Some(peer(good)), spiffe()), [""; 0]);
        let empty = file("empty.json", r#"{"keys": []}"#);
        for (bundle, said) in [
            (file("c.pem", &c.ca().pem()), "another trust domain"),
            (empty, "no CA of b.example"),
            (folder.path().join("gone"), "gone: "),
        ] {
            let problems = looked(Some(peer(bundle)), spiffe());
            assert!(
                problems.len() == 1 && problems[0].contains(said),
                "{problems:?}"
            );
        }
        let web = ShownConfig::Web {
            cert: folder.path().join("none.pem"),
            key: folder.path().join("none.key"),
        };
        assert_eq!(looked(None, web).len(), 1);
        let acme = AcmeConfig {
            directory: "https://acme.example".into(),
            domain: "a.example".into(),
            email: None,
            ca: Some(file("ca.pem", "no PEM")),
        };
        let problems = looked(None, ShownConfig::Acme(acme));
        assert!(
            problems[0].contains("ca.pem: CA certificates in PEM"),
            "{problems:?}"
        );
    }
}
