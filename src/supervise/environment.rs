//! What each process is told by its environment: no more than it needs.

use std::collections::BTreeMap;

use super::child::Part;
use crate::config::{self, Config, NodeProof, Piece, Secret};

/// What libraries of every process look at: the loader, the resolver, temporary files, times, colours,
/// and what is told of a fault.
const EVERYWHERE: &[&str] = &[
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "RES_OPTIONS",
    "NO_COLOR",
    "RUST_BACKTRACE",
];
/// Where the host keeps its CAs, for bundles that are fetched from the web.
const WEB: &[&str] = &["SSL_CERT_FILE", "SSL_CERT_DIR"];
/// Where a pod finds its API server.
const KUBERNETES: &[&str] = &["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"];

/// The names of what a process is to have. What the file names in `${…}` goes to all of them, as each
/// reads the whole file.
fn names(part: Part, config: &Config) -> Vec<&str> {
    let mut names: Vec<&str> = config.variables.iter().map(String::as_str).collect();
    names.extend(EVERYWHERE);
    match part {
        Part::Authority => {
            names.extend(WEB);
            names.extend(KUBERNETES);
            let own = config.authority.as_ref();
            names.extend(own.and_then(|own| variable(own.encrypt.as_ref()?)));
        }
        Part::Agent => {
            names.extend(KUBERNETES);
            let own = config.agent.as_ref();
            match own.and_then(|own| own.attest.as_ref()) {
                Some(NodeProof::JoinToken(secret)) => names.extend(variable(secret)),
                Some(NodeProof::Evidence(pieces)) => {
                    names.extend(pieces.iter().filter_map(|piece| match piece {
                        Piece::JoinToken(secret) => variable(secret),
                        _ => None,
                    }));
                }
                _ => {}
            }
        }
        Part::Oidc | Part::Proxy => {}
    }
    names
}

fn variable(secret: &Secret) -> Option<&str> {
    match secret {
        Secret::Env(name) => Some(name),
        Secret::File(_) => None,
    }
}

/// The environment of a process.
pub(super) fn of(part: Part, config: &Config) -> BTreeMap<&str, String> {
    let names = names(part, config).into_iter();
    names
        .filter_map(|name| Some((name, config::environment(name)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_goes_to_its_own_part_and_a_variable_of_the_file_to_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("site.yaml");
        let text = "site: ${SITE}\nauthority: {listen: 127.0.0.1:8081, encrypt: {env: CA_SECRET}}\n\
                    agent: {join_token: {env: NODE_TOKEN}}\n";
        std::fs::write(&file, text).unwrap();
        let env = |name: &str| (name == "SITE").then(|| "a.example".into());
        let config = config::load(&file, &env).unwrap();
        let has = |part, name| names(part, &config).contains(&name);
        for part in [Part::Authority, Part::Agent, Part::Oidc, Part::Proxy] {
            assert!(has(part, "SITE") && has(part, "PATH"), "{part:?}");
            assert!(!has(part, "AWS_SECRET_ACCESS_KEY"), "{part:?}");
            assert_eq!(has(part, "CA_SECRET"), part == Part::Authority, "{part:?}");
            assert_eq!(has(part, "NODE_TOKEN"), part == Part::Agent, "{part:?}");
        }
        assert!(has(Part::Agent, "KUBERNETES_SERVICE_HOST"));
        assert!(!has(Part::Proxy, "KUBERNETES_SERVICE_HOST"));
    }
}
