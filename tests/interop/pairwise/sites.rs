//! Sites that are federated with one another: ours by `sekisho run`, and one of go-spiffe alone.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
    thread,
    time::Duration,
};

use nix::unistd::getuid;
use serde_json::Value;

use crate::support::{Process, World, http, node::SEKISHO, ports, wait::until};

/// Where others reach a site.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// `https_spiffe`.
    pub(super) spiffe: SocketAddr,
    /// `https_web`, known as `localhost`.
    pub(super) web: SocketAddr,
    /// Its workload, `/w`, by mTLS.
    pub(super) gate: SocketAddr,
    /// What it is told to do.
    pub(super) control: SocketAddr,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            spiffe: ports::free(),
            web: ports::free(),
            gate: ports::free(),
            control: ports::free(),
        }
    }
}

/// A site of ours.
pub(super) struct Ours {
    pub(super) world: World,
    pub(super) process: Process,
    name: &'static str,
    /// Where its workload goes out, by the peer's name.
    out: Vec<(&'static str, SocketAddr)>,
}

/// Sends back what comes.
pub(super) fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                // Whoever leaves, leaves.
                let _ = std::io::copy(&mut reader, &mut stream);
            });
        }
    });
    address
}

impl Ours {
    /// Starts `name` in its folder, federated as `federation` says (YAML, two spaces deep), with a way
    /// out to each of `peers`. It believes the roots of the web in `roots`.
    pub(super) fn start(
        world: World,
        name: &'static str,
        (gate, federation): (SocketAddr, &str),
        peers: [(&'static str, SocketAddr); 2],
        roots: &Path,
    ) -> Self {
        let accept = peers
            .map(|(peer, _)| format!("spiffe://{peer}/w"))
            .join(", ");
        let mut text = format!(
            "site: {name}\n\
             authority: {{listen: {}, data: authority, socket: authority.sock, entries: entries.yaml}}\n\
             agent: {{data: agent, socket: agent.sock}}\n\
             federation:\n  allow: [127.0.0.0/8, \"::1/128\"]\n{federation}\
             admin: unix://{}\nlog: {{format: json}}\nworkers: 1\nendpoints:\n  \
             in:\n    listen: mtls://{gate}\n    forward: tcp://{}\n    as: /w\n    accept: [{accept}]\n",
            ports::free(),
            world.name("admin.sock"),
            echo(),
        );
        let mut out = Vec::new();
        for (peer, to) in peers {
            let from = ports::free();
            let place = peer.split('.').next().unwrap();
            text.push_str(&format!(
                "  to-{place}:\n    listen: tcp://{from}\n    forward: mtls://{to}/in\n    as: /w\n    \
                 expect: [spiffe://{peer}/w]\n"
            ));
            out.push((peer, from));
        }
        world.write("site.yaml", &text);
        world.write(
            "entries.yaml",
            &format!(
                "entries:\n  - {{spiffe_id: /w, selectors: [\"unix:uid:{}\"], federates_with: [\"*\"]}}\n",
                getuid()
            ),
        );
        let mut command = Command::new(SEKISHO);
        command.args(["run", "-c"]).arg(world.file("site.yaml"));
        let process = Process::start(command.env("SSL_CERT_FILE", roots));
        let site = Self {
            world,
            process,
            name,
            out,
        };
        until("an authority that answers", || {
            (site.run("ca show").status.code() == Some(0)).then_some(())
        });
        site
    }

    /// Runs a command at its authority.
    pub(super) fn run(&self, line: &str) -> Output {
        let mut command = Command::new(SEKISHO);
        command.args(line.split(' ')).arg("--socket");
        command
            .arg(self.world.file("authority.sock"))
            .output()
            .unwrap()
    }

    pub(super) fn json(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {line}: {told}", self.name);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Takes the ID of the authority that `ca show` has in a place.
    pub(super) fn ca(&self, place: &str) -> String {
        let all = self.json("ca show");
        let found = all
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["slot"] == place);
        found.unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// Has its endpoints know so many CAs of another domain.
    pub(super) fn wait_for_cas(&self, domain: &str, count: usize) {
        let place = domain.split('.').next().unwrap();
        let out = format!("to-{place}");
        until(&format!("{count} CAs of {domain} at {}", self.name), || {
            // What time would do within the hint.
            self.run(&format!("federation refresh {domain}"));
            let (_, text) = http::get_unix(&self.world.file("admin.sock"), "/status").ok()?;
            let status: Value = serde_json::from_str(&text).ok()?;
            let known = |row: &Value| row["authorities"][domain].as_array().map_or(0, Vec::len);
            let rows = status["endpoints"].as_array()?.iter();
            let mut rows = rows.filter(|row| row["name"] == "in" || row["name"] == out.as_str());
            rows.all(|row| known(row) == count).then_some(())
        });
    }

    /// Serial numbers of the SVIDs that its endpoints have.
    pub(super) fn serials(&self) -> Vec<Value> {
        let (_, text) = http::get_unix(&self.world.file("admin.sock"), "/status").unwrap();
        let status: Value = serde_json::from_str(&text).unwrap();
        let rows = status["endpoints"].as_array().unwrap().iter();
        rows.map(|row| row["svid"]["serial"].clone()).collect()
    }

    /// A connection to the workload of a peer, through its own.
    pub(super) fn connect(&self, peer: &str) -> std::io::Result<TcpStream> {
        let (_, address) = self.out.iter().find(|(name, _)| *name == peer).unwrap();
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(stream)
    }

    /// Whether words come back from the workload of a peer.
    pub(super) fn reaches(&self, peer: &str) -> Result<(), String> {
        let connected = self.connect(peer);
        let exchanged = connected.and_then(|mut stream| exchange(&mut stream));
        exchanged.map_err(|error| error.to_string())
    }
}

/// Has words come back.
pub(super) fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    const WORDS: &[u8; 24] = b"the same words come back";
    stream.write_all(WORDS)?;
    let mut back = [0; 24];
    stream.read_exact(&mut back)?;
    assert_eq!(&back, WORDS);
    Ok(())
}

/// The site of go-spiffe.
pub(super) struct Go {
    /// Killed with it.
    _process: Process,
    pub(super) places: Places,
}

impl Go {
    pub(super) fn start(program: &Path, world: &World, places: Places, words: &[String]) -> Self {
        let mut command = Command::new(program);
        command.args([
            "-domain",
            "c.example",
            "-accept",
            "spiffe://a.example/w,spiffe://b.example/w",
        ]);
        for (name, address) in [
            ("-spiffe", places.spiffe),
            ("-web", places.web),
            ("-gate", places.gate),
            ("-control", places.control),
        ] {
            command.arg(name).arg(address.to_string());
        }
        for (name, file) in [
            ("-cert", "web.pem"),
            ("-key", "web.key"),
            ("-roots", "roots.pem"),
        ] {
            command.arg(name).arg(world.file(file));
        }
        let process = Process::start(command.args(words));
        process.wait_for("listening");
        let site = Self {
            _process: process,
            places,
        };
        until("a site that is told what to do", || {
            http::get_tcp(places.control, "/bundle").ok().map(drop)
        });
        site
    }

    pub(super) fn ask(&self, path: &str) -> (u16, String) {
        http::get_tcp(self.places.control, path).unwrap()
    }

    pub(super) fn tell(&self, path: &str) {
        let (status, text) = self.ask(path);
        assert_eq!(status, 200, "{path}: {text}");
    }

    pub(super) fn wait_for_cas(&self, domain: &str, count: usize) {
        until(&format!("{count} CAs of {domain} at go-spiffe"), || {
            let known = self.ask(&format!("/known?domain={domain}"));
            (known == (200, count.to_string())).then_some(())
        });
    }

    pub(super) fn reaches(&self, peer: &str, gate: SocketAddr) -> Result<(), String> {
        let path = format!("/dial?address={gate}&id=spiffe://{peer}/w&name=in.{peer}");
        match self.ask(&path) {
            (200, _) => Ok(()),
            (_, text) => Err(text),
        }
    }
}
