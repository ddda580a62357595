//! `sekisho check`: everything verified without opening a port.

mod far;
mod parts;
pub(crate) mod world;

use std::path::Path;

use sekisho_certs::{Clock as _, IdList, SystemClock};
use sekisho_proxy::endpoint::spec::{Forward, Listen, LocalClients};
use serde_json::json;

use crate::{
    authority, cli,
    config::{Attest, ConfigErrors, EXPOSED, EndpointConfig, entries, kubeconfig},
    node::{self, Loaded},
    output::{self, Colour, paint},
};

/// Does it.
pub(crate) fn check(path: &Path, as_json: bool) -> u8 {
    let loaded = match node::load(path) {
        Ok(loaded) => loaded,
        Err(error) => return invalid(|colour| error.render(colour), as_json),
    };
    let config = &loaded.config;
    let entries = config
        .authority
        .as_ref()
        .and_then(|own| own.entries.as_ref());
    if let Some(file) = entries
        && let Err(errors) = entries::load(file, &config.site)
    {
        return invalid(|colour| errors.render(colour), as_json);
    }
    let attest = config.authority.as_ref().map(|own| own.attest.as_slice());
    let attest = attest.unwrap_or_default();
    if let Err(errors) = clusters(attest) {
        return invalid(|colour| errors.render(colour), as_json);
    }
    if let Err(error) = attestation_policy(attest) {
        return invalid(|_| format!("{error:#}"), as_json);
    }
    let (agent, now) = (config.agent.as_ref(), SystemClock.now());
    let specs: Vec<_> = config.endpoints.iter().map(|one| &one.spec).collect();
    let far = far::warnings(&specs);
    let findings: Vec<_> = loaded
        .config
        .endpoints
        .iter()
        .zip(far)
        .map(|(endpoint, far)| {
            let mut found = world::look(endpoint, agent, now);
            found.warnings.extend(far);
            (endpoint, found)
        })
        .collect();
    let authority = config.authority.as_ref();
    let mut authority = authority.map(|own| parts::authority(own, &config.site, now));
    if let Some(found) = &mut authority
        && config.exposes_authority()
    {
        found.warnings.push(EXPOSED.into());
    }
    let oidc = config.oidc.as_ref();
    let oidc = oidc.map(|own| parts::oidc(own, agent, now));
    let federation = config.federation.as_ref();
    let federation = federation.map(|own| parts::federation(own, &config.site, now));
    let parts = [
        ("authority", authority),
        ("federation", federation),
        ("oidc", oidc),
    ];
    let parts: Vec<_> = parts
        .into_iter()
        .filter_map(|(name, found)| Some((name, found?)))
        .collect();
    let of_parts = parts.iter().map(|(_, found)| found);
    let ok = findings
        .iter()
        .map(|(_, found)| found)
        .chain(of_parts)
        .all(|found| found.problems.is_empty());
    if as_json {
        let rows: Vec<_> = findings
            .iter()
            .map(|(endpoint, found)| {
                json!({
                    "endpoint": endpoint.spec.name,
                    "does": does(&loaded, endpoint),
                    "problems": found.problems,
                    "warnings": warnings(endpoint, found),
                })
            })
            .collect();
        let mut document = serde_json::Map::new();
        document.insert("ok".into(), ok.into());
        document.insert("site".into(), loaded.config.site.to_string().into());
        document.insert("endpoints".into(), rows.into());
        for (name, found) in &parts {
            let told = json!({"problems": found.problems, "warnings": found.warnings});
            document.insert((*name).into(), told);
        }
        output::json(&document.into());
    } else {
        print(&loaded, &parts, &findings, ok);
    }
    if ok { cli::OK } else { cli::FAILED }
}

fn invalid(render: impl Fn(bool) -> String, as_json: bool) -> u8 {
    if as_json {
        let text = render(false);
        output::json(&json!({"ok": false, "errors": text.lines().collect::<Vec<_>>()}));
    } else {
        output::complain(render(output::colour_err()));
    }
    cli::INVALID
}

/// Reads the kubeconfig files that the authority will read.
fn clusters(attest: &[Attest]) -> Result<(), ConfigErrors> {
    for one in attest {
        let known = match one {
            Attest::K8sPsat(known) => known,
            Attest::Evidence(config) => {
                clusters(&config.evidence)?;
                continue;
            }
            _ => continue,
        };
        for path in known.values().filter_map(|one| one.kubeconfig.as_ref()) {
            kubeconfig::load(path)?;
        }
    }
    Ok(())
}

/// Loads the policy that will weigh evidence.
fn attestation_policy(attest: &[Attest]) -> anyhow::Result<()> {
    for one in attest {
        if let Attest::Evidence(config) = one {
            authority::judge(config)?;
        }
    }
    Ok(())
}

fn warnings(endpoint: &EndpointConfig, found: &world::Found) -> Vec<String> {
    let unwise = endpoint.warnings.iter().map(ToString::to_string);
    unwise.chain(found.warnings.iter().cloned()).collect()
}

fn print(
    loaded: &Loaded,
    parts: &[(&str, world::Found)],
    findings: &[(&EndpointConfig, world::Found)],
    ok: bool,
) {
    let colour = output::colour_out();
    output::line(paint(
        format_args!("site {}", loaded.config.site),
        Colour::Bold,
        colour,
    ));
    for (name, found) in parts {
        output::line(format_args!("\n{}", paint(name, Colour::Bold, colour)));
        told(&found.problems, &found.warnings, colour);
    }
    for (endpoint, found) in findings {
        let name = paint(&endpoint.spec.name, Colour::Bold, colour);
        output::line(format_args!("\n{name} ({})", endpoint.location));
        for line in does(loaded, endpoint) {
            output::line(format_args!("  {line}"));
        }
        told(&found.problems, &warnings(endpoint, found), colour);
    }
    let verdict = if ok {
        paint("\nready to run", Colour::Green, colour)
    } else {
        paint(
            "\nnot everything is there: what has a problem will not be ready",
            Colour::Red,
            colour,
        )
    };
    output::line(verdict);
}

fn told(problems: &[String], warnings: &[String], colour: bool) {
    for problem in problems {
        output::line(format_args!(
            "  {} {problem}",
            paint("problem:", Colour::Red, colour)
        ));
    }
    for warning in warnings {
        output::line(format_args!(
            "  {} {warning}",
            paint("warning:", Colour::Yellow, colour)
        ));
    }
}

/// What an endpoint would do, and who could reach it, in sentences.
fn does(loaded: &Loaded, endpoint: &EndpointConfig) -> Vec<String> {
    let spec = &endpoint.spec;
    let mut lines = vec![format!("{} -> {}", spec.listen, spec.forward)];
    if let Some(id) = &spec.own_id {
        lines.push(format!("speaks as {id}"));
    }
    match &spec.listen {
        Listen::Mtls { accept, .. } => {
            lines.push(format!("answers to the name {}", spec.server_name));
            lines.push(format!("reached by {}", names(accept)));
        }
        Listen::Tcp { local, from, .. } => {
            lines.push(format!("used by {}", users(local)));
            for net in from {
                lines.push(format!("used from {net}"));
            }
        }
        Listen::Connect { local, .. } => {
            lines.push(format!("used by {}", users(local)));
            lines.push("leads where CONNECT SERVICE.TRUST-DOMAIN:PORT asks".into());
        }
        Listen::Unix { local, .. } => lines.push(format!("used by {}", users(local))),
    }
    if let Forward::Mtls { expect, .. } = &spec.forward {
        lines.push(format!("expects {}", names(expect)));
    }
    if let Some(policy) = loaded.policy_of(endpoint) {
        let path = policy.decision_path().replace('/', ".");
        lines.push(format!(
            "and only if data.{path} allows (revision {})",
            policy.revision()
        ));
    }
    lines
}

fn names(list: &IdList) -> String {
    match list {
        IdList::Federated => "every workload of every trusted domain".into(),
        IdList::Named(patterns) => {
            let names = patterns.iter().map(ToString::to_string);
            names.collect::<Vec<_>>().join(", ")
        }
    }
}

fn users(local: &LocalClients) -> String {
    match local {
        LocalClients::Anyone => "any process of this host that reaches it".into(),
        LocalClients::Only(lines) => {
            let lines = lines.iter().map(ToString::to_string);
            lines.collect::<Vec<_>>().join(", ")
        }
    }
}
