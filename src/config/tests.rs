//! Tests of the whole reader.

use std::path::Path;

use super::{Config, ConfigErrors, EndpointConfig, error::Report, files::Source, read};

mod accepted;
mod agent;
mod apart;
mod arbitrary;
mod authority;
mod document;
mod entries;
mod environment;
mod federation;
mod folder;
mod kubeconfig;
mod oidc;
mod other_sites;
mod path;
mod refused;
mod refused_endpoint;
mod refused_settings;
mod rendered;
mod socket;
mod warnings;

/// Reads `text` as the file `etc/f.yaml`, with two variables in the environment.
fn load_text(text: &str) -> Result<Config, ConfigErrors> {
    let path = Path::new("etc/f.yaml");
    let source = Source {
        file: path.into(),
        text: text.into(),
    };
    let env = |name: &str| match name {
        "TWO" => Some("2".into()),
        "STRUCTURE" => Some("tcp://127.0.0.1:1, x: {y: [z]}\nworkers: 3".into()),
        _ => None,
    };
    read(path, &[source], &env, Report::default())
}

/// A file with one endpoint `x` of these lines, which begin at line 4, column 5.
fn site(endpoint: &str) -> String {
    let mut text = "site: b.example\nendpoints:\n  x:\n".to_owned();
    for line in endpoint.lines() {
        text.push_str("    ");
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The only endpoint of a file that is right.
fn endpoint(text: &str) -> EndpointConfig {
    let mut config = load_text(text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    assert_eq!(config.endpoints.len(), 1);
    config.endpoints.remove(0)
}

/// What is wrong, each as one line, without the name of the file.
fn errors(text: &str) -> Vec<String> {
    let errors = match load_text(text) {
        Ok(config) => panic!("accepted: {config:#?}\n{text}"),
        Err(errors) => errors,
    };
    let lines = errors.errors().iter().map(|error| {
        let line = error.to_string();
        let line = line.strip_prefix("etc/f.yaml").unwrap();
        line.strip_prefix(":").unwrap_or(line).to_owned()
    });
    lines.collect()
}

/// A whole endpoint that lets peers in; lines 4 to 7. More keys may follow.
const INBOUND: &str = "\
listen: mtls://127.0.0.1:7000
forward: tcp://127.0.0.1:7001
accept: [spiffe://a.example/w]
identity: unix:///run/a.sock
";

/// A whole endpoint that lets local clients out; lines 4 to 7.
const OUTBOUND: &str = "\
listen: unix:///run/out.sock
forward: mtls://a.example:7000
expect: [spiffe://a.example/w]
identity: unix:///run/a.sock
";
