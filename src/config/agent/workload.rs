//! `agent.workloads`: how processes are attested.

use sekisho_agent::workload::{DockerSpec, K8sSpec, SystemdSpec, UnixSpec, WorkloadAttestorSpec};
use sekisho_kube::{KubeLogin, KubeServer};

use crate::config::{
    error::Report,
    field::{Field, Map},
    keys,
};

const FORM: &str = "a list of unix, systemd, docker, k8s and slurm, or {docker: {…}} with settings";

/// Reads the list.
pub(super) fn list(field: &Field<'_>, report: &mut Report) -> Option<Vec<WorkloadAttestorSpec>> {
    let mut all = Vec::new();
    for item in field.list(FORM, report)? {
        let one = if item.as_text().is_some() {
            item.parse(FORM, report, plain)?
        } else {
            with_settings(&item, report)?
        };
        let same = |known: &WorkloadAttestorSpec| {
            std::mem::discriminant(known) == std::mem::discriminant(&one)
        };
        if all.iter().any(same) {
            item.rule("this kind of attestation is there already", report);
            return None;
        }
        all.push(one);
    }
    Some(all)
}

fn plain(name: &str) -> Option<WorkloadAttestorSpec> {
    Some(match name {
        "unix" => WorkloadAttestorSpec::Unix(UnixSpec::default()),
        "systemd" => WorkloadAttestorSpec::Systemd(SystemdSpec::default()),
        "docker" => WorkloadAttestorSpec::Docker(DockerSpec::default()),
        "k8s" => WorkloadAttestorSpec::K8s(Box::default()),
        "slurm" => WorkloadAttestorSpec::Slurm,
        _ => return None,
    })
}

fn with_settings(item: &Field<'_>, report: &mut Report) -> Option<WorkloadAttestorSpec> {
    let before = report.count();
    let map = item.map(&keys::WORKLOAD, report)?;
    let kinds = ["unix", "systemd", "docker", "k8s"];
    let mut given = kinds
        .iter()
        .filter_map(|kind| Some((*kind, map.get(kind)?)));
    let (Some((kind, field)), None) = (given.next(), given.next()) else {
        if report.count() == before {
            item.rule("one kind of attestation in each item of the list", report);
        }
        return None;
    };
    match kind {
        "unix" => unix(&field, report),
        "systemd" => {
            let map = field.map(&keys::SYSTEMD, report)?;
            let bus = map.required("bus", "the path of the system bus's socket", report)?;
            let bus = bus.path("the path of the system bus's socket", report)?;
            Some(WorkloadAttestorSpec::Systemd(SystemdSpec { bus }))
        }
        "docker" => {
            let map = field.map(&keys::DOCKER, report)?;
            let socket = map.required("socket", "the path of Docker's socket", report)?;
            let socket = socket.path("the path of Docker's socket", report)?;
            Some(WorkloadAttestorSpec::Docker(DockerSpec { socket }))
        }
        _ => k8s(&field, report),
    }
}

fn unix(field: &Field<'_>, report: &mut Report) -> Option<WorkloadAttestorSpec> {
    let default = UnixSpec::default();
    let map = field.map(&keys::UNIX, report)?;
    let discover_path = map.get_or("path", default.discover_path, report, Field::boolean);
    let digest = map.get_or("sha256", default.digest, report, Field::boolean);
    let size_limit = map.get_or("size_limit", default.size_limit, report, |field, report| {
        let size = field.size(1..=1 << 40, report)?;
        u64::try_from(size).ok().map(Some)
    });
    Some(WorkloadAttestorSpec::Unix(UnixSpec {
        discover_path: discover_path?,
        size_limit: size_limit?,
        digest: digest?,
    }))
}

fn k8s(field: &Field<'_>, report: &mut Report) -> Option<WorkloadAttestorSpec> {
    let before = report.count();
    let map = field.map(&keys::K8S, report)?;
    let kubelet = kubelet(&map, report);
    let labels = map.get_or("namespace_labels", false, report, Field::boolean);
    if report.count() > before {
        return None;
    }
    Some(WorkloadAttestorSpec::K8s(Box::new(K8sSpec {
        kubelet: kubelet?,
        namespace_labels: labels?.then(KubeServer::api_server),
        ..K8sSpec::default()
    })))
}

fn kubelet(map: &Map<'_>, report: &mut Report) -> Option<KubeServer> {
    if let Some(port) = map.get("read_only_port") {
        let rule = "the read-only port has no TLS and no log-in";
        map.refuse(
            &["node", "port", "ca", "token", "cert", "key"],
            rule,
            report,
        );
        let port = port.number(1..=65_535, report)?;
        return u16::try_from(port).ok().map(KubeServer::kubelet_read_only);
    }
    let mut server = KubeServer::kubelet();
    if let Some(node) = map.get("node") {
        server = server.named(node.text("the name of this node", report)?);
    }
    if let Some(port) = map.get("port") {
        let port = port.number(1..=65_535, report)?;
        server = server.at(u16::try_from(port).ok()?);
    }
    let path = |key: &str, report: &mut Report| match map.get(key) {
        Some(field) => field.path("a file", report).map(Some),
        None => Some(None),
    };
    if let Some(ca) = path("ca", report)? {
        server = server.with_ca(ca);
    }
    match (
        path("token", report)?,
        path("cert", report)?,
        path("key", report)?,
    ) {
        (None, None, None) => {}
        (Some(token), None, None) => server = server.with_login(KubeLogin::Token(token.into())),
        (None, Some(certificate), Some(key)) => {
            server = server.with_login(KubeLogin::Certificate {
                certificate: certificate.into(),
                key: key.into(),
            });
        }
        _ => {
            let rule = "either `token`, or `cert` and `key`";
            map.refuse(&["token", "cert", "key"], rule, report);
            return None;
        }
    }
    Some(server)
}
