//! How nodes come in, as `authority.attest` says.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context as _;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sekisho_authority::attest::{
    Attestors,
    evidence::{self, Judge},
    k8s_psat,
    x509pop::Mode,
};
use sekisho_kube::KubeServer;

use crate::config::{Attest, ClusterConfig, EvidenceConfig, environment, kubeconfig};

/// The attestors that are named.
///
/// # Errors
/// When a file of theirs cannot be used.
pub(super) fn attestors(attest: &[Attest]) -> anyhow::Result<Attestors> {
    let mut all = Attestors {
        join_token: false,
        ..Attestors::default()
    };
    for one in attest {
        match one {
            Attest::JoinToken => all.join_token = true,
            Attest::X509PopSpiffe => all.x509pop = Some(Mode::Spiffe),
            Attest::X509Pop { ca } => all.x509pop = Some(roots(ca)?),
            Attest::K8sPsat(clusters) => all.k8s_psat = Some(psat(clusters)?),
            Attest::Evidence(config) => {
                let pieces = attestors(&config.evidence)?;
                all.evidence = Some(evidence::Setting {
                    join_token: pieces.join_token,
                    x509pop: pieces.x509pop,
                    k8s_psat: pieces.k8s_psat,
                    judge: judge(config)?,
                });
            }
        }
    }
    Ok(all)
}

/// The attestation policy.
pub(crate) fn judge(config: &EvidenceConfig) -> anyhow::Result<Judge> {
    let source = config.policy.clone();
    let source = source.map_or(evidence::Source::Default, evidence::Source::Folder);
    Ok(Judge::load(source)?)
}

fn roots(ca: &Path) -> anyhow::Result<Mode> {
    let wrong = || format!("{}: CA certificates in PEM are expected", ca.display());
    let roots: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(ca)
        .with_context(wrong)?
        .collect::<Result<_, _>>()
        .with_context(wrong)?;
    Mode::external(roots)
        .map_err(|place| anyhow::anyhow!("{}: certificate {} is no CA", ca.display(), place + 1))
}

fn psat(clusters: &BTreeMap<String, ClusterConfig>) -> anyhow::Result<k8s_psat::Setting> {
    let clusters = clusters.iter().map(|(name, one)| {
        let cluster = cluster(one).with_context(|| format!("cluster {name}"))?;
        Ok((name.clone(), cluster))
    });
    let clusters = clusters.collect::<anyhow::Result<_>>()?;
    Ok(k8s_psat::Setting { clusters })
}

fn cluster(config: &ClusterConfig) -> anyhow::Result<k8s_psat::Cluster> {
    let server = match &config.kubeconfig {
        Some(path) => kubeconfig::load(path)?,
        None => in_pod()?,
    };
    Ok(k8s_psat::Cluster {
        server,
        accounts: config.accounts.clone(),
        audience: config.audience.clone(),
        node_labels: config.node_labels.clone(),
        pod_labels: config.pod_labels.clone(),
        name_by: config.name_by,
        places: k8s_psat::Places::default(),
    })
}

/// The API server as a pod finds it, with the pod's service account.
fn in_pod() -> anyhow::Result<KubeServer> {
    let (host, port) = api_server()?;
    Ok(KubeServer::api_server().named(host).at(port))
}

/// Where a pod finds the API server.
pub(crate) fn api_server() -> anyhow::Result<(String, u16)> {
    let variable = |name: &str| {
        environment(name)
            .with_context(|| format!("{name} is not set, as it is in a pod: give `kubeconfig`"))
    };
    let host = variable("KUBERNETES_SERVICE_HOST")?;
    let port = variable("KUBERNETES_SERVICE_PORT")?;
    let port = port
        .parse()
        .with_context(|| format!("KUBERNETES_SERVICE_PORT: {port:?}"))?;
    Ok((host, port))
}
