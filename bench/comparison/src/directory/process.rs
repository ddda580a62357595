//! What a directory costs the processes that are there in a federation: the authority of a site that wants
//! all members, and the host that thousands of sites ask.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use sekisho_certs::{SystemClock, id::parse_trust_domain, tls};
use sekisho_federation::{
    client::{Allowed, WebRoots},
    directory::client::{Client, Settings, Source, Wanted, Web},
};
use serde::Serialize;

use super::{made::Made, site::WANTED};
use crate::child::{Program, Running};

/// Members that one entry is federated with.
const OF_ENTRY: usize = 100;
/// How long an authority may take to load all of them.
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(200);
/// Members that change one after the other.
const TIMES: usize = 9;

/// What an authority has.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Held {
    /// Resident bytes.
    resident: u64,
    /// Of that, not of files.
    anonymous: u64,
}

/// What it costs processes.
#[derive(Debug, Serialize)]
pub(super) struct Processes {
    /// An authority that follows the directory and wants nobody.
    before: Held,
    /// The same with the bundles of all members.
    with: Held,
    /// CPU to load and store all of them, in seconds.
    loaded: f64,
    /// CPU for one that has changed, all being held, in seconds: median of nine.
    changed: f64,
    /// Polls of the host, each by a site of its own.
    polls: usize,
    /// CPU of the host for them where nothing has changed, in seconds.
    idle: f64,
    /// The same where ten minutes have passed in which all are busy.
    busy: f64,
}

fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn held(process: &Running) -> anyhow::Result<Held> {
    let memory = process.memory()?;
    Ok(Held {
        resident: memory.resident,
        anonymous: memory.anonymous,
    })
}

struct Site<'a> {
    sekisho: &'a Path,
    socket: PathBuf,
    process: Running,
}

impl Site<'_> {
    fn command(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = Command::new(self.sekisho)
            .args(arguments)
            .arg("--socket")
            .arg(&self.socket)
            .output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {error}");
        Ok(())
    }

    /// Waits until it has stored the bundles of so many.
    fn has(&self, count: usize) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let log = self.process.log();
            let there = log.matches("bundle taken from the directory").count();
            if there >= count {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                bail!("{there} of {count} bundles are there");
            }
            thread::sleep(LOOK);
        }
    }
}

fn entries(names: &[String]) -> String {
    let entry = |(number, names): (usize, &[String])| {
        let list = names.join(", ");
        format!(
            "  - {{spiffe_id: /w{number}, parent: /spire/agent/bench, selectors: [\"unix:uid:{number}\"], \
             federates_with: [{list}]}}\n"
        )
    };
    let all: String = names.chunks(OF_ENTRY).enumerate().map(entry).collect();
    format!("entries:\n{all}")
}

/// An authority that wants all members.
fn authority(
    sekisho: &Path,
    made: &mut Made,
    folder: &Path,
) -> anyhow::Result<(Held, Held, f64, f64)> {
    let scratch = tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name);
    let root = folder.join("metadata/1.root.json");
    let file = at("authority.yaml");
    let text = format!(
        "site: own.example\nauthority: {{data: data, socket: api.sock}}\n\
         federation: {{directory: \"{}\", root: \"{}\"}}\n",
        folder.display(),
        root.display()
    );
    fs::write(&file, text)?;
    let names: Vec<String> = made.names().collect();
    fs::write(at("entries.yaml"), entries(&names))?;
    let program = Program::new(sekisho, &["authority", "-c", &file.to_string_lossy()]);
    let mut process = Running::start(&program, &at("authority.log"))?;
    let socket = at("api.sock");
    process.until("the administrators' socket", |_| {
        std::os::unix::net::UnixStream::connect(&socket).is_ok()
    })?;
    let site = Site {
        sekisho,
        socket,
        process,
    };
    site.command(&["federation", "directory", "--refresh"])?;
    let before = held(&site.process)?;
    let began = site.process.cpu()?;
    let entries = at("entries.yaml");
    site.command(&["apply", "--yes", "--file", &entries.to_string_lossy()])?;
    site.has(names.len())?;
    let loaded = (site.process.cpu()? - began).as_secs_f64();
    let with = held(&site.process)?;
    let mut changes = Vec::new();
    for time in 0..TIMES {
        made.speak_of(time)?;
        made.host()?;
        let began = site.process.cpu()?;
        site.command(&["federation", "directory", "--refresh"])?;
        site.has(names.len() + time + 1)?;
        changes.push((site.process.cpu()? - began).as_secs_f64());
    }
    changes.sort_by(f64::total_cmp);
    let middle = changes.get(TIMES / 2).copied();
    Ok((
        before,
        with,
        loaded,
        middle.context("nothing was measured")?,
    ))
}

/// A site that asks the host over TLS, with what it has learned in `data`.
struct Asks {
    url: String,
    root: PathBuf,
    roots: WebRoots,
}

impl Asks {
    fn sync(&self, data: &Path, wanted: &Wanted) -> anyhow::Result<()> {
        let clock = Arc::new(SystemClock);
        let allowed = Allowed::with(["127.0.0.0/8".parse()?]);
        let provider = Arc::new(tls::provider());
        let web = Web::new(&self.url, self.roots.clone(), allowed, provider, clock)?;
        let settings = Settings {
            own: parse_trust_domain("own.example")?,
            source: Source::Web(Box::new(web)),
            root: self.root.clone(),
            data: data.to_owned(),
            max_stale: None,
            rekey_wait: None,
        };
        let mut client = Client::open(settings, Arc::new(SystemClock))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(client.sync(wanted))?;
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// A host that so many sites ask, each over a connection of its own.
fn host(
    sekisho: &Path,
    made: &mut Made,
    folder: &Path,
    changed: usize,
    polls: usize,
) -> anyhow::Result<(f64, f64)> {
    let scratch = tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?;
    fs::write(at("web.pem"), certificate.pem())?;
    fs::write(at("web.key"), key.serialize_pem())?;
    let address = free()?;
    let arguments = [
        "directory".to_owned(),
        "serve".into(),
        folder.display().to_string(),
        "--listen".into(),
        address.to_string(),
        "--cert".into(),
        at("web.pem").display().to_string(),
        "--tls-key".into(),
        at("web.key").display().to_string(),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut serving = Running::start(&Program::new(sekisho, &arguments), &at("serve.log"))?;
    serving.listens(address)?;
    let root: CertificateDer<'static> = certificate.der().clone();
    let asks = Asks {
        url: format!("https://localhost:{}/", address.port()),
        root: folder.join("metadata/1.root.json"),
        roots: WebRoots::Given(vec![root]),
    };
    let twenty = Wanted {
        domains: made.names().take(WANTED).collect(),
        ..Wanted::default()
    };
    asks.sync(&at("site"), &twenty)?;
    let poll = |wanted: &Wanted, from: &Path| {
        let mut cpu = Duration::ZERO;
        for _ in 0..polls {
            copy(from, &at("copy"))?;
            let before = serving.cpu()?;
            asks.sync(&at("copy"), wanted)?;
            cpu += serving.cpu()?.saturating_sub(before);
            fs::remove_dir_all(at("copy"))?;
        }
        Ok::<_, anyhow::Error>(cpu.as_secs_f64())
    };
    let idle = poll(&twenty, &at("site"))?;
    made.speak(changed)?;
    made.host()?;
    let busy = poll(&twenty, &at("site"))?;
    Ok((idle, busy))
}

/// Measures. The directory has been hosted.
pub(super) fn measure(
    sekisho: &Path,
    made: &mut Made,
    folder: &Path,
    changed: usize,
    polls: usize,
) -> anyhow::Result<Processes> {
    let (before, with, loaded, one) = authority(sekisho, made, folder)?;
    let (idle, busy) = host(sekisho, made, folder, changed, polls)?;
    Ok(Processes {
        before,
        with,
        loaded,
        changed: one,
        polls,
        idle,
        busy,
    })
}

impl Processes {
    pub(super) fn lines(&self) -> Vec<String> {
        let mib = |held: &Held| {
            let [resident, anonymous] = [held.resident, held.anonymous].map(|bytes| bytes >> 20);
            format!("{resident} ({anonymous} anonymous)")
        };
        let thousand = |cpu: f64| {
            let polls = u32::try_from(self.polls).map_or(f64::NAN, f64::from);
            format!("{:.2} s", cpu / polls * 1000.0)
        };
        vec![
            format!(
                "| an authority before, and with the bundles of all members: MiB | {}; {} |",
                mib(&self.before),
                mib(&self.with)
            ),
            format!(
                "| an authority: loading and storing all of them; then one that has changed: CPU | {:.1} s; {:.1} ms |",
                self.loaded,
                self.changed * 1e3
            ),
            format!(
                "| the host, for 1,000 sites that ask: nothing has changed; ten busy minutes later: CPU | {}; {} |",
                thousand(self.idle),
                thousand(self.busy)
            ),
        ]
    }
}
