//! One refusal, tried with its defect and without.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use super::{
    children::{Children, Kin},
    client::{self, Attempt, Papers},
    report::Flow,
    sites::{Sites, free, wait},
};

/// A refusal to try.
pub(super) struct Plan {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) what: &'static str,
    /// The reason it must be refused with.
    pub(super) reason: &'static str,
    /// Whose log says so: the site that refuses.
    pub(super) logged_at: &'static str,
    pub(super) way: Way,
}

/// How it is tried.
pub(super) enum Way {
    /// By a client of the demo's, at a gate.
    Raw {
        name: &'static str,
        bad: Papers,
        good: Papers,
    },
    /// Through a sender of its own.
    Probe(Probe),
}

/// A `sekisho run` with two endpoints, `bad` and `good`.
pub(super) struct Probe {
    // Killed when dropped.
    _process: Kin,
    log: PathBuf,
    bad: SocketAddr,
    good: SocketAddr,
}

impl Probe {
    pub(super) fn start(
        children: &Arc<Children>,
        folder: &Path,
        name: &str,
        leaf: &CertificateDer<'_>,
        key: &PrivateKeyDer<'_>,
        endpoints: &str,
    ) -> anyhow::Result<Self> {
        let folder = folder.join(format!("probe-{name}"));
        fs::create_dir_all(&folder)?;
        let pem = |kind: &str, der: &[u8]| {
            format!(
                "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
                STANDARD.encode(der)
            )
        };
        fs::write(folder.join("cert.pem"), pem("CERTIFICATE", leaf))?;
        let key = pem("PRIVATE KEY", key.secret_der());
        sekisho_certs::persist::replace(&folder.join("key.pem"), key.as_bytes(), false)?;
        let [bad, good, admin] = free(Ipv4Addr::new(127, 0, 1, 9))?;
        let text = format!(
            "site: osaka.example\nidentity: {{cert: cert.pem, key: key.pem, bundles: {{hokkaido.example: \
             ../bundles/hokkaido.example.json}}}}\nadmin: {admin}\nlog: {{format: json}}\nendpoints:\n{endpoints}"
        );
        fs::write(folder.join("site.yaml"), text)?;
        let log = folder.join("log.jsonl");
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["run", "-c", "site.yaml", "--with-parent"])
            .arg(std::process::id().to_string())
            .current_dir(&folder)
            .env("BAD", bad.to_string())
            .env("GOOD", good.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?);
        let probe = Self {
            _process: children.start(&mut command)?,
            log,
            bad,
            good,
        };
        wait("a sender to listen", || {
            std::net::TcpStream::connect(bad).is_ok() && std::net::TcpStream::connect(good).is_ok()
        })
        .with_context(|| fs::read_to_string(&probe.log).unwrap_or_default())?;
        Ok(probe)
    }
}

/// Tries it with the defect, and then without.
pub(super) fn try_both(sites: &Sites, plan: Plan) -> anyhow::Result<Flow> {
    let target = sites.of(plan.to)?;
    let service = target.service()?;
    let before = service.accepted();
    let gate = target.gate()?;
    let raw = |name, papers| client::attempt(gate, name, papers, target.bundle()?);
    let (tried, line, good) = match plan.way {
        Way::Raw { name, bad, good } => {
            let site = sites.of(plan.logged_at)?;
            let since = site.log_length()?;
            let tried = raw(name, bad)?;
            let line = site.access(since, from(&tried))?;
            let accepted = service.accepted() - before;
            ((tried, accepted), line, raw(name, good)?)
        }
        Way::Probe(probe) => {
            let tried = client::attempt_plain(probe.bad)?;
            let line = wait_for_line(&probe.log, from(&tried))?;
            let accepted = service.accepted() - before;
            ((tried, accepted), line, client::attempt_plain(probe.good)?)
        }
    };
    let (tried, accepted) = tried;
    let text = |name: &str| {
        line.get(name)
            .and_then(Value::as_str)
            .map(ToOwned::to_owned)
    };
    Ok(Flow {
        from: plan.from.into(),
        to: plan.to.into(),
        what: plan.what.into(),
        expected: "refused",
        outcome: if tried.answered { "allowed" } else { "refused" },
        reason: text("reason"),
        wanted_reason: Some(plan.reason),
        peer: text("client_id")
            .or_else(|| text("claimed_id"))
            .or_else(|| text("client_user").map(|user| format!("user {user}"))),
        bits_per_second: None,
        direct_bits_per_second: None,
        congestion: None,
        upstream_connections: Some(accepted),
        without_defect: Some(if good.answered { "allowed" } else { "refused" }),
    })
}

/// The line of one connection is known by its source.
fn from(attempt: &Attempt) -> impl Fn(&Value) -> bool + use<> {
    let source = attempt.source.to_string();
    move |line| line.get("source").and_then(Value::as_str) == Some(source.as_str())
}

fn wait_for_line(log: &Path, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let find = || {
        let text = fs::read_to_string(log).ok()?;
        let mut lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines.find(|line: &Value| {
            line.get("target").and_then(Value::as_str) == Some("access") && wanted(line)
        })
    };
    wait("a line of the access log", || find().is_some())?;
    find().context("the line has gone")
}
