//! Two sekishos, one at each end: embedded identities, mTLS, a policy that allows this stream only.

use std::{fs, net::SocketAddr, os::unix::fs::chown, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use sekisho_bench::connections::probe;

use super::{
    cells::Setting,
    ground::{End, Ground, NOBODY, User},
    seen::{self, Seen},
};
use crate::child::Running;

/// Where the near one takes streams.
pub(super) const FRONT: SocketAddr = address([127, 0, 0, 1], 7001);
/// Where the far one does, over the line.
const BACK: SocketAddr = address(FAR, 7002);
/// Where the server listens behind it.
pub(super) const SERVER: SocketAddr = address([127, 0, 0, 1], 7003);
/// Where a server listens that is reached without sekisho.
pub(super) const DIRECT: SocketAddr = address(FAR, 5201);
const ADMIN: SocketAddr = address([127, 0, 0, 1], 9901);
/// The far end's address, the default of `sekisho bench wan`.
const FAR: [u8; 4] = [10, 99, 0, 2];
/// How long one byte may take through both.
const PATIENCE: Duration = Duration::from_secs(2);
/// Worker threads of each: one stream is one thread's.
pub(super) const WORKERS: u16 = 1;

const fn address([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, d)),
        port,
    )
}

const POLICY: &str = "package sekisho.authz\n\ndefault allow := false\n\n\
    allow if {\n\tinput.sekisho.endpoint == \"front\"\n\
    \tinput.sekisho.upstream.spiffe_id == \"spiffe://b.example/back\"\n}\n\n\
    allow if {\n\tinput.sekisho.endpoint == \"back\"\n\
    \tinput.sekisho.client.spiffe_id == \"spiffe://a.example/front\"\n}\n";

/// The near one's file, and the far one's.
fn files(setting: Setting) -> [String; 2] {
    let Setting {
        lanes, congestion, ..
    } = setting;
    let path = format!("path: {{lanes: {lanes}, congestion: {congestion}}}");
    let head = |site: &str, data: &str, peer: &str, bundle: &str| {
        format!(
            "site: {site}.example\nidentity: {{embedded: {{data: {data}}}}}\npolicy: policy/\n\
             admin: {ADMIN}\nworkers: {WORKERS}\n\
             bundles: {{{peer}.example: {bundle}/bundle.json}}\nendpoints:\n"
        )
    };
    let near = format!(
        "{}  front:\n    listen: tcp://{FRONT}\n    forward: mtls://{BACK}/back\n    as: /front\n    \
         expect: [spiffe://b.example/back]\n    {path}\n",
        head("a", "near", "b", "far")
    );
    let far = format!(
        "{}  back:\n    listen: mtls://{BACK}\n    forward: tcp://{SERVER}\n    as: /back\n    \
         accept: [spiffe://a.example/front]\n    {path}\n",
        head("b", "far", "a", "near")
    );
    [near, far]
}

/// A running pair.
#[derive(Debug)]
pub(super) struct Pair {
    near: Running,
    far: Running,
}

impl Pair {
    /// Starts both, and waits until a byte has gone through both.
    pub(super) fn start(
        sekisho: &Path,
        setting: Setting,
        ground: &Ground,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let user = if setting.privileged {
            User::Root
        } else {
            User::Nobody
        };
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            fs::write(&file, text).with_context(|| file.display().to_string())
        };
        fs::create_dir_all(folder.join("policy"))?;
        write("policy/authz.rego", POLICY)?;
        let texts = files(setting);
        for (name, text) in ["near", "far"].into_iter().zip(&texts) {
            write(&format!("{name}.yaml"), text)?;
            let data = folder.join(name);
            fs::create_dir_all(&data)?;
            if user == User::Nobody {
                chown(&data, Some(NOBODY), Some(NOBODY))?;
            }
        }
        let start = |end: End, name: &str| {
            let file = folder.join(format!("{name}.yaml"));
            let file = file.to_string_lossy();
            let program = ground.program(end, user, sekisho, &["run", "-c", &file]);
            Running::start(&program, &folder.join(format!("{name}.log")))
        };
        let mut pair = Self {
            far: start(End::Far, "far")?,
            near: start(End::Near, "near")?,
        };
        pair.pass(sekisho, ground, folder)?;
        if user == User::Nobody {
            for one in [&pair.near, &pair.far] {
                powerless(one.pid())?;
            }
        }
        Ok(pair)
    }

    /// Waits for a first byte, to a server that is ended again.
    fn pass(&mut self, sekisho: &Path, ground: &Ground, folder: &Path) -> anyhow::Result<()> {
        let address = SERVER.to_string();
        let arguments = ["bench", "server", "--listen", &address];
        let server = ground.program(End::Far, User::Root, sekisho, &arguments);
        let mut server = Running::start(&server, &folder.join("probed.log"))?;
        server
            .until("listening", |server| server.log().contains("listening at"))
            .context("sekisho bench server")?;
        let name = ground.name(End::Near).to_owned();
        let passed = self.near.until("a first byte through both sekishos", |_| {
            sekisho_wan::inside(&name, || probe(FRONT, PATIENCE)).is_ok()
        });
        self.far.alive().context("the far sekisho")?;
        passed.context("the near sekisho")
    }

    /// An error, if one of them has ended.
    pub(super) fn alive(&mut self) -> anyhow::Result<()> {
        self.near.alive().context("the near sekisho")?;
        self.far.alive().context("the far sekisho")
    }

    /// CPU time of both.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        Ok(self.near.cpu()? + self.far.cpu()?)
    }

    /// What the near one says of the stream now.
    pub(super) fn seen(&self, ground: &Ground) -> anyhow::Result<Option<Seen>> {
        let name = ground.name(End::Near);
        let document = sekisho_wan::inside(name, || seen::ask(ADMIN))
            .context("/connections of the near sekisho")?;
        Ok(seen::busiest(&document))
    }
}

/// Whether a process has no capability and is nobody.
fn powerless(pid: u32) -> anyhow::Result<()> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    if !is_powerless(&status) {
        bail!(
            "sekisho still has privileges (process {pid}): what is measured would be something else"
        );
    }
    Ok(())
}

fn is_powerless(status: &str) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let capabilities = ["CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];
    let none = |name: &&str| {
        let mask = field(name).map(str::trim);
        mask.is_some_and(|mask| !mask.is_empty() && mask.chars().all(|digit| digit == '0'))
    };
    let nobody = |id: &str| id == NOBODY.to_string();
    capabilities.iter().all(none)
        && field("Uid:").is_some_and(|ids| ids.split_whitespace().all(nobody))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_say_what_was_asked_for() {
        let [near, far] = files(Setting {
            privileged: false,
            lanes: "4",
            congestion: "bbr",
        });
        for file in [&near, &far] {
            assert!(
                file.ends_with("    path: {lanes: 4, congestion: bbr}\n"),
                "{file}"
            );
            assert!(file.contains("\npolicy: policy/\n"));
        }
        assert!(near.contains("forward: mtls://10.99.0.2:7002/back\n"));
        assert!(near.contains("bundles: {b.example: far/bundle.json}\n"));
        assert!(far.contains("accept: [spiffe://a.example/front]\n"));
    }

    #[test]
    fn whoever_has_a_capability_is_not_powerless() {
        let zero = "0000000000000000";
        let status = |uid: &str, mask: &str| {
            format!(
                "Name:\tsekisho\nUid:\t{uid}\nCapInh:\t{zero}\nCapPrm:\t{zero}\nCapEff:\t{mask}\n\
                 CapBnd:\t{zero}\nCapAmb:\t{zero}\n"
            )
        };
        let nobody = "65534\t65534\t65534\t65534";
        assert!(is_powerless(&status(nobody, zero)));
        assert!(!is_powerless(&status(nobody, "0000000000001000")));
        assert!(!is_powerless(&status("0\t0\t0\t0", zero)));
        assert!(!is_powerless(""));
    }
}
