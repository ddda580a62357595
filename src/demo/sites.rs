//! The four sites: files, processes, addresses, logs.

use std::{
    fs,
    io::{BufRead, BufReader, Seek as _, SeekFrom},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use sekisho_bench::service::Service;
use sekisho_certs::{TrustBundle, TrustDomain, id::parse_trust_domain, issue::Ca};
use sekisho_spire_api::server::bundle::{GetBundleRequest, bundle_client::BundleClient};
use serde_json::Value;
use tempfile::TempDir;

use super::children::{Children, Kin};
use crate::{
    api::{self, Answered as _, pem},
    config::Admin,
    fetch,
};

/// How long a process may take to be ready, or to write a line of its log.
const PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(10);

/// The files of `compose/sites/<site>/`.
struct Files {
    name: &'static str,
    site: &'static str,
    policy: &'static str,
    entries: &'static str,
    /// Lines of the same site in the prototype (the four-site paper, Table 3).
    prototype_lines: usize,
}

macro_rules! files {
    ($name:literal, $lines:literal) => {
        Files {
            name: $name,
            site: include_str!(concat!("../../compose/sites/", $name, "/site.yaml")),
            policy: include_str!(concat!("../../compose/sites/", $name, "/policy/authz.rego")),
            entries: include_str!(concat!("../../compose/sites/", $name, "/entries.yaml")),
            prototype_lines: $lines,
        }
    };
}

static FILES: [Files; 4] = [
    files!("hokkaido", 484),
    files!("tokyo", 230),
    files!("osaka", 142),
    files!("kyushu", 142),
];

/// One site, running.
pub(super) struct Site {
    pub(super) name: &'static str,
    pub(super) folder: PathBuf,
    pub(super) domain: TrustDomain,
    /// Its own address, 127.0.1.N.
    ip: Ipv4Addr,
    pub(super) admin: SocketAddr,
    /// Where its agent finds its authority.
    authority: SocketAddr,
    /// Where others reach it; `None` for a site that only sends.
    pub(super) gate: Option<SocketAddr>,
    /// Where its own applications send.
    pub(super) send: Option<SocketAddr>,
    /// What stands behind its gate.
    pub(super) service: Option<Service>,
    process: Option<Kin>,
}

/// All four, and the folder they live in.
pub(super) struct Sites {
    list: Vec<Site>,
    pub(super) user: String,
    pub(super) children: Arc<Children>,
    // Removed when dropped, after the processes.
    _folder: TempDir,
}

/// Whose lines the prototype's were.
pub(super) fn prototype_lines(site: &str) -> usize {
    let files = FILES.iter().find(|files| files.name == site);
    files.map_or(0, |files| files.prototype_lines)
}

/// Free ports of an address. All are held until all are had: one that is let go may be given out again at
/// once.
pub(super) fn free<const N: usize>(ip: Ipv4Addr) -> anyhow::Result<[SocketAddr; N]> {
    let mut held = Vec::with_capacity(N);
    let mut addresses = [SocketAddr::from((ip, 0)); N];
    for address in &mut addresses {
        let listener = TcpListener::bind(*address).with_context(|| format!("no port on {ip}"))?;
        *address = listener.local_addr()?;
        held.push(listener);
    }
    Ok(addresses)
}

impl Sites {
    /// Writes the files, starts the processes, hands the bundles round, and waits until all are
    /// ready.
    pub(super) fn start(children: Arc<Children>) -> anyhow::Result<Self> {
        let folder = children.folder()?;
        let user = nix::unistd::User::from_uid(nix::unistd::getuid())?
            .map_or_else(|| nix::unistd::getuid().to_string(), |user| user.name);
        let mut sites = Self {
            list: Vec::new(),
            user,
            children,
            _folder: folder,
        };
        let admins = free::<{ FILES.len() }>(Ipv4Addr::LOCALHOST)?;
        for ((files, last), admin) in FILES.iter().zip(1..).zip(admins) {
            let site = Site::write(files, last, admin, sites._folder.path())?;
            sites.list.push(site);
        }
        for index in 0..sites.list.len() {
            let environment = sites.environment(index);
            if let Some(site) = sites.list.get_mut(index) {
                site.start(&sites.children, &environment)?;
            }
        }
        sites.hand_bundles_round()?;
        for site in &sites.list {
            site.wait_until_ready()?;
        }
        Ok(sites)
    }

    pub(super) fn all(&self) -> &[Site] {
        &self.list
    }

    pub(super) fn of(&self, name: &str) -> anyhow::Result<&Site> {
        let mut list = self.list.iter();
        list.find(|site| site.name == name)
            .with_context(|| format!("no site {name}"))
    }

    fn environment(&self, index: usize) -> Vec<(&'static str, String)> {
        let gate = |name| self.of(name).ok().and_then(|site| site.gate);
        let mut variables = vec![
            ("BROKER_USER", self.user.clone()),
            ("SENDER_USER", self.user.clone()),
            ("PROXY_USER", self.user.clone()),
        ];
        let Some(site) = self.list.get(index) else {
            return variables;
        };
        variables.push(("ADMIN", site.admin.to_string()));
        variables.push(("AUTHORITY", site.authority.to_string()));
        let addresses = [
            ("LISTEN", site.gate),
            ("SEND", site.send),
            ("BROKER", site.service.as_ref().map(Service::address)),
            ("SERVICE", site.service.as_ref().map(Service::address)),
            ("HOKKAIDO", gate("hokkaido")),
            ("TOKYO", gate("tokyo")),
        ];
        let addresses = addresses.into_iter();
        variables.extend(addresses.filter_map(|(name, at)| Some((name, at?.to_string()))));
        variables
    }

    /// What an operator does once: each site's bundle goes to those it talks to. Each knows here
    /// of all the others, and trusts at an endpoint only whom its lists name.
    fn hand_bundles_round(&self) -> anyhow::Result<()> {
        for from in &self.list {
            wait(&format!("{}'s authority", from.name), || {
                from.bundle().is_ok()
            })?;
            let bundle = from.bundle()?.to_json().to_string();
            for to in self.list.iter().filter(|to| to.name != from.name) {
                let name = format!("{}.json", from.domain);
                let partial = to.folder.join("bundles").join(format!(".{name}"));
                fs::write(&partial, &bundle)?;
                fs::rename(&partial, to.folder.join("bundles").join(name))?;
            }
        }
        Ok(())
    }

    /// The lines of `--keep`.
    pub(super) fn how_to_use(&self) -> Vec<String> {
        let mut lines = vec!["\nThe four sites go on until Ctrl-C.".to_owned()];
        for site in &self.list {
            if let Some(send) = site.send {
                lines.push(format!("  {:<9} applications send to {send}", site.name));
            }
            if let Some(service) = &site.service {
                let at = service.address();
                lines.push(format!(
                    "  {:<9} its service is at {at}: stop using the demo's, start",
                    site.name
                ));
                lines.push(format!(
                    "            yours there after changing `forward` in {}",
                    site.folder.join("site.yaml").display()
                ));
            }
            lines.push(format!(
                "  {:<9} curl http://{}/status   (or: sekisho status --admin {})",
                site.name, site.admin, site.admin
            ));
        }
        lines.push("  iperf3: `iperf3 -s -p PORT` behind a gate, `iperf3 -c 127.0.1.N -p PORT` to a sender".into());
        lines.push(
            "  kcat:   `kcat -b HOST:PORT -L` to a sender, with a broker behind the gate".into(),
        );
        lines
    }
}

/// The lines of the access log in this piece of a log; the last one may be half written.
fn access_lines(log: impl BufRead) -> impl Iterator<Item = Value> {
    log.lines()
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
        .filter(|line| line.get("target").and_then(Value::as_str) == Some("access"))
}

impl Site {
    fn write(files: &Files, last: u8, admin: SocketAddr, root: &Path) -> anyhow::Result<Self> {
        let ip = Ipv4Addr::new(127, 0, 1, last);
        let folder = root.join(files.name);
        fs::create_dir_all(folder.join("policy"))?;
        fs::create_dir_all(folder.join("bundles"))?;
        fs::write(folder.join("site.yaml"), files.site)?;
        fs::write(folder.join("policy/authz.rego"), files.policy)?;
        fs::write(folder.join("entries.yaml"), files.entries)?;
        let receives = matches!(files.name, "hokkaido" | "tokyo");
        let sends = files.name != "tokyo";
        let service = || Service::start(SocketAddr::from((ip, 0)));
        // It listens from now on; the others' ports are only known to be free.
        let service = receives.then(service).transpose()?;
        let [authority, gate, send] = free(ip)?;
        Ok(Self {
            name: files.name,
            domain: parse_trust_domain(&format!("{}.example", files.name))?,
            folder,
            ip,
            admin,
            authority,
            gate: receives.then_some(gate),
            send: sends.then_some(send),
            service,
            process: None,
        })
    }

    fn start(
        &mut self,
        children: &Arc<Children>,
        environment: &[(&'static str, String)],
    ) -> anyhow::Result<()> {
        let log = fs::File::create(self.log_path())?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["run", "-c", "site.yaml", "--with-parent"])
            .arg(std::process::id().to_string())
            .current_dir(&self.folder)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.process = Some(children.start(&mut command)?);
        Ok(())
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log.jsonl")
    }

    fn wait_until_ready(&self) -> anyhow::Result<()> {
        // Ready says that it can make handshakes; whom it trusts comes with the bundles.
        let trusts = |status: &Value| {
            let endpoints = status.get("endpoints").and_then(Value::as_array);
            endpoints.is_some_and(|endpoints| {
                endpoints.iter().all(|endpoint| {
                    let trusts = endpoint.get("trusts").and_then(Value::as_array);
                    trusts.is_some_and(|trusts| !trusts.is_empty())
                })
            })
        };
        let ready = wait(&format!("{} to be ready", self.name), || {
            self.ask("/ready").is_ok() && self.status().is_ok_and(|status| trusts(&status))
        });
        ready.with_context(|| {
            let log = fs::read_to_string(self.log_path()).unwrap_or_default();
            format!("its log:\n{log}")
        })
    }

    fn ask(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let body = runtime.block_on(fetch::get(&Admin::Tcp(self.admin), path))?;
        Ok(body.to_vec())
    }

    /// Its `/status`.
    pub(super) fn status(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.ask("/status")?)?)
    }

    /// Its gate, which a receiving site has.
    pub(super) fn gate(&self) -> anyhow::Result<SocketAddr> {
        self.gate
            .with_context(|| format!("{} receives nothing", self.name))
    }

    /// Where its applications send, which a sending site has.
    pub(super) fn sender(&self) -> anyhow::Result<SocketAddr> {
        self.send
            .with_context(|| format!("{} sends nothing", self.name))
    }

    /// Its service, which a receiving site has.
    pub(super) fn service(&self) -> anyhow::Result<&Service> {
        let service = self.service.as_ref();
        service.with_context(|| format!("{} has no service", self.name))
    }

    /// The CA of this site. A demo may take its key; nobody else can read that file.
    pub(super) fn authority(&self) -> anyhow::Result<Ca> {
        let bundle = self.bundle()?;
        let authority = bundle.authorities().first().context("no CA")?;
        let keys = fs::read_dir(self.folder.join("authority/keys"))?;
        for file in keys {
            let path = file?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.starts_with("x509-") {
                let key = pem("PRIVATE KEY", &fs::read(&path)?);
                return Ok(Ca::from_pem(&authority.to_pem(), &key)?);
            }
        }
        bail!("{} has no CA key", self.name)
    }

    /// Its bundle, from its authority.
    pub(super) fn bundle(&self) -> anyhow::Result<TrustBundle> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let bundle = runtime.block_on(async {
            let channel = api::connect(&self.folder.join("authority.sock")).await?;
            BundleClient::new(channel)
                .get_bundle(GetBundleRequest::default())
                .await
                .answered("GetBundle")
        })?;
        let authorities = bundle.x509_authorities.into_iter();
        let authorities = authorities.map(|ca| ca.asn1.into());
        Ok(TrustBundle::new(self.domain.clone(), authorities)?)
    }

    /// The process, to send a signal to.
    pub(super) fn pid(&self) -> anyhow::Result<nix::unistd::Pid> {
        self.process.as_ref().context("not started")?.pid()
    }

    /// Lines of its configuration, entries and policy that say something: no blank ones, no comments.
    pub(super) fn configuration_lines(&self) -> usize {
        let files = FILES.iter().filter(|files| files.name == self.name);
        let texts = files.flat_map(|files| [files.site, files.policy, files.entries]);
        let says = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with('#');
        texts.map(|text| text.lines().filter(says).count()).sum()
    }

    /// Where it listens, in words.
    pub(super) fn describe(&self) -> String {
        let mut words = format!("{}", self.ip);
        if let Some(gate) = self.gate {
            words.push_str(&format!("  receives on :{}", gate.port()));
        }
        if let Some(send) = self.send {
            words.push_str(&format!("  sends from :{}", send.port()));
        }
        words
    }

    /// How long its log is now.
    pub(super) fn log_length(&self) -> anyhow::Result<u64> {
        Ok(fs::metadata(self.log_path())?.len())
    }

    fn log_from(&self, since: u64) -> anyhow::Result<BufReader<fs::File>> {
        let mut file = fs::File::open(self.log_path())?;
        file.seek(SeekFrom::Start(since))?;
        Ok(BufReader::new(file))
    }

    /// How many lines of the access log after `since` pass, once there are `enough` or it has
    /// taken too long.
    pub(super) fn accesses(
        &self,
        since: u64,
        enough: usize,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<usize> {
        let started = Instant::now();
        loop {
            let count = access_lines(self.log_from(since)?).filter(&wanted).count();
            if count >= enough || started.elapsed() > PATIENCE {
                return Ok(count);
            }
            std::thread::sleep(TICK);
        }
    }

    /// The first line of the access log after `since` that passes, waited for.
    pub(super) fn access(
        &self,
        since: u64,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(line) = access_lines(self.log_from(since)?).find(&wanted) {
                return Ok(line);
            }
            std::thread::sleep(TICK);
        }
        bail!(
            "{} logged no such connection within {PATIENCE:?}",
            self.name
        )
    }
}

/// Looks until something is so.
pub(super) fn wait(what: &str, so: impl Fn() -> bool) -> anyhow::Result<()> {
    let started = Instant::now();
    while !so() {
        if started.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} for {what}");
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}
