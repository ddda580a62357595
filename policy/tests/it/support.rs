//! Policies in directories of their own, and inputs to put to them.

use std::{collections::BTreeMap, fs, path::Path};

use sekisho_certs::{SpiffeId, id::parse_workload_id};
use sekisho_policy::{
    Client, DEFAULT_DECISION, Decision, Direction, Input, Limits, LoadError, Policy,
};
use tempfile::TempDir;

/// A directory with these files.
pub(crate) fn files(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

/// `body` in the package of the default decision.
pub(crate) fn authz(body: &str) -> TempDir {
    files(&[("authz.rego", &format!("package sekisho.authz\n\n{body}\n"))])
}

pub(crate) fn load(dir: &Path) -> Result<Policy, LoadError> {
    Policy::load(dir, DEFAULT_DECISION, Limits::default())
}

/// What the policy with `body` says of `input`.
pub(crate) fn decide(body: &str, input: &Input) -> Decision {
    let dir = authz(body);
    let policy = load(dir.path()).unwrap_or_else(|error| panic!("{body}: {error}"));
    policy.evaluator().decide(input)
}

/// The error of loading `body`.
pub(crate) fn refusal(body: &str) -> LoadError {
    match load(authz(body).path()) {
        Ok(_) => panic!("loaded: {body}"),
        Err(error) => error,
    }
}

pub(crate) fn id(text: &str) -> SpiffeId {
    parse_workload_id(text).unwrap()
}

/// The sender at Osaka comes to Hokkaido's broker.
pub(crate) fn inbound() -> Input {
    Input {
        site: "hokkaido.example".into(),
        endpoint: "from-osaka".into(),
        direction: Direction::Inbound,
        service: "kafka".into(),
        source: Some("192.0.2.7:40123".parse().unwrap()),
        destination: Some("[2001:db8::1]:9443".parse().unwrap()),
        own_id: Some(id("spiffe://hokkaido.example/broker/osaka")),
        sni: Some("from-osaka.hokkaido.example".into()),
        client: Client::Workload(id("spiffe://osaka.example/lab/sender")),
        upstream: None,
        federation: None,
        claimed: BTreeMap::new(),
    }
}
