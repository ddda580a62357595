//! What a whole site has in memory: authority, agent, and a proxy with three endpoints and a policy.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, bail};
use sekisho_bench::{
    process,
    service::{ECHO, Service},
};
use serde::Serialize;

use super::{
    Options,
    authority::{free, start},
};

const SITE: &str = "bench.example";
/// As long as an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process of it. In bytes.
#[derive(Debug, Serialize)]
pub(super) struct Process {
    pub(super) name: &'static str,
    /// `VmRSS`.
    pub(super) resident: u64,
    /// Of that, not of files.
    pub(super) anonymous: u64,
    /// What is shared, divided by those that share it: `Pss`.
    pub(super) proportional: u64,
}

/// All of it. In bytes; the supervisor counts as none of the three.
#[derive(Debug, Serialize)]
pub(super) struct Site {
    pub(super) processes: Vec<Process>,
    /// Of authority, agent and proxy together.
    pub(super) resident: u64,
    pub(super) proportional: u64,
}

/// The policy of the example site, more or less.
const POLICY: &str = "package sekisho.authz\n\ndefault allow := false\n\n\
    allow if { input.sekisho.direction == \"inbound\"; input.sekisho.client.path_segments == [\"out\"] }\n\n\
    allow if { input.sekisho.endpoint == \"out\"; \
    input.sekisho.upstream.spiffe_id == \"spiffe://bench.example/in\" }\n";

/// Starts it, sends through it, and looks.
pub(super) fn run(options: &Options) -> anyhow::Result<Site> {
    let folder = tempfile::tempdir()?;
    let [address] = free()?;
    let service = Service::start(address)?;
    let sender = files(folder.path(), service.address())?;
    let file = folder.path().join("site.yaml");
    let mut run = start(options, "run", &file, folder.path())?;
    let ready = folder.path().join("run.log");
    run.until("a site that carries traffic", |_| echo(sender).is_ok())
        .with_context(|| fs::read_to_string(&ready).unwrap_or_default())?;
    for _ in 0..options.connections {
        echo(sender)?;
    }
    let mut processes = Vec::new();
    for (name, command) in [
        ("the authority", "authority"),
        ("the agent", "agent"),
        ("the proxy", "run"),
        ("the supervisor", ""),
    ] {
        let pid = match command {
            "" => run.pid(),
            command => child(run.pid(), command)?,
        };
        let memory = process::memory(pid)?;
        processes.push(Process {
            name,
            resident: memory.resident,
            anonymous: memory.anonymous,
            proportional: proportional(pid)?,
        });
    }
    let three = processes.iter().take(3);
    Ok(Site {
        resident: three.clone().map(|one| one.resident).sum(),
        proportional: three.map(|one| one.proportional).sum(),
        processes,
    })
}

/// Writes the files of the site; returns where it is sent to.
fn files(folder: &Path, service: SocketAddr) -> anyhow::Result<SocketAddr> {
    let [listen, gate, sender, third] = free()?;
    let uid = nix::unistd::getuid();
    fs::create_dir(folder.join("policy"))?;
    fs::write(folder.join("policy/authz.rego"), POLICY)?;
    let entries = ["in", "out", "third"]
        .map(|name| format!("  - {{spiffe_id: /{name}, selectors: [\"unix:uid:{uid}\"]}}\n"));
    fs::write(
        folder.join("entries.yaml"),
        format!("entries:\n{}", entries.concat()),
    )?;
    let text = format!(
        "site: {SITE}\n\
         authority: {{listen: {listen}, data: authority, socket: authority.sock, entries: entries.yaml}}\n\
         agent: {{data: agent, socket: agent.sock}}\npolicy: policy/\nendpoints:\n  \
         in:\n    listen: mtls://{gate}\n    forward: tcp://{service}\n    as: /in\n    \
         accept: [spiffe://{SITE}/out]\n  \
         out:\n    listen: tcp://{sender}\n    forward: mtls://{gate}/in\n    as: /out\n    \
         expect: [spiffe://{SITE}/in]\n  \
         third:\n    listen: mtls://{third}\n    forward: tcp://{service}\n    as: /third\n    \
         accept: [spiffe://{SITE}/out]\n"
    );
    fs::write(folder.join("site.yaml"), text)?;
    Ok(sender)
}

/// A connection that carries something there and back.
fn echo(to: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut sent = vec![7; 1024];
    if let Some(first) = sent.first_mut() {
        *first = ECHO;
    }
    stream.write_all(&sent)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    if back.is_empty() {
        bail!("nothing came back");
    }
    Ok(())
}

/// The child that was started with this word as its command.
fn child(parent: u32, command: &str) -> anyhow::Result<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    for pid in children.split_whitespace() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        if words.nth(1) == Some(command.as_bytes()) {
            return Ok(pid.parse()?);
        }
    }
    bail!("{command} does not run")
}

fn proportional(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kibibytes = line.and_then(|line| line.strip_suffix("kB"));
    let kibibytes: u64 = kibibytes.context("no Pss")?.trim().parse()?;
    Ok(kibibytes * 1024)
}
