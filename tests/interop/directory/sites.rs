//! Whole sites in a federation: each an authority, an agent and a proxy, which follow one directory.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use nix::unistd::getuid;
use serde_json::Value;

use super::keeper::Keeper;
use crate::support::{
    Process, Upstream, http,
    node::SEKISHO,
    ports,
    wait::{until, until_within},
};

/// The directory of a federation, and where it is served.
struct Federation {
    keeper: Keeper,
    address: SocketAddr,
    echo: Upstream,
    _server: Process,
}

/// A site: its gate, and where its senders listen, by the site that they lead to.
struct Site {
    name: &'static str,
    gate: SocketAddr,
    senders: BTreeMap<&'static str, SocketAddr>,
    folder: PathBuf,
    _process: Process,
}

impl Federation {
    fn new() -> Self {
        let keeper = Keeper::new(1);
        let address = ports::free();
        let line = format!("serve @/fed --listen {address} --host-key @/keys/host.key --accept");
        let server = Process::start(&mut keeper.command(&line));
        until("a directory", || TcpStream::connect(address).ok());
        Self {
            keeper,
            address,
            echo: Upstream::echo(),
            _server: server,
        }
    }

    /// A site that sends to these others, not a member yet.
    fn site(&self, name: &'static str, others: &[&'static str]) -> Site {
        let folder = self.keeper.file(&format!("sites/{name}"));
        fs::create_dir_all(&folder).unwrap();
        let gate = ports::free();
        let listen = ports::free();
        let senders: BTreeMap<_, _> = others.iter().map(|other| (*other, ports::free())).collect();
        let write = |file: &str, text: &str| fs::write(folder.join(file), text).unwrap();
        let out: String = senders
            .iter()
            .map(|(other, listen)| {
                let to = other.split('.').next().unwrap();
                format!(
                    "  to-{to}:\n    listen: tcp://{listen}\n    forward: site://{other}/mdx\n    as: /sender\n"
                )
            })
            .collect();
        write(
            "site.yaml",
            &format!(
                "site: {name}\n\
                 authority: {{listen: {listen}, data: authority, socket: authority.sock, entries: entries.yaml}}\n\
                 agent: {{data: agent, socket: agent.sock}}\n\
                 federation: {{directory: \"http://{}/\", root: root.json, services: services.yaml, allow: [127.0.0.0/8]}}\n\
                 admin: unix://{}\nlog: {{format: json}}\nworkers: 1\nendpoints:\n  \
                 in:\n    listen: mtls://{gate}\n    forward: tcp://{}\n    as: /mdx\n    name: mdx\n    accept: [mark:hpci]\n{out}",
                self.address,
                folder.join("admin.sock").display(),
                self.echo.address,
            ),
        );
        let selectors = format!("[\"unix:uid:{}\"]", getuid());
        write(
            "entries.yaml",
            &format!(
                "entries:\n  - {{spiffe_id: /mdx, selectors: {selectors}}}\n  - {{spiffe_id: /sender, selectors: {selectors}}}\n"
            ),
        );
        write(
            "services.yaml",
            &format!("services: [{{name: mdx, gateways: [\"{gate}\"]}}]\n"),
        );
        let root = self.keeper.file("fed/metadata/1.root.json");
        fs::copy(root, folder.join("root.json")).unwrap();
        let mut command = Command::new(SEKISHO);
        command.args(["run", "-c"]).arg(folder.join("site.yaml"));
        let process = Process::start(&mut command);
        let site = Site {
            name,
            gate,
            senders,
            folder,
            _process: process,
        };
        until("a ready gate", || {
            let (code, _) = http::get_unix(&site.folder.join("admin.sock"), "/live").ok()?;
            (code == 200).then_some(())
        });
        until("a socket of the authority", || {
            site.folder.join("authority.sock").exists().then_some(())
        });
        site
    }

    /// Each of these follows the directory now, which has shown what is in its folder.
    fn look<'a>(&self, sites: impl IntoIterator<Item = &'a Site>) {
        let kept = || self.keeper.ok("status @/fed");
        until_within(Duration::from_secs(60), "a new snapshot", || {
            let report = self.keeper.run("verify --offline @/fed --json");
            let report: Value = serde_json::from_slice(&report.stdout).ok()?;
            let (members, all) = (report["members"].as_array()?, kept());
            (members.len() == all["members"].as_array()?.len()).then_some(())
        });
        for site in sites {
            site.sekisho("federation directory --refresh");
        }
    }

    /// One command at the site, two registrars at the other side.
    fn join(&self, site: &Site, marks: &str) {
        let (name, data) = (site.name, site.folder.join("authority/member"));
        let request = site.folder.join("request.json");
        self.keeper.ok(&format!(
            "member request --id {name} --data {} --socket {} --services {} --out {}",
            data.display(),
            site.folder.join("authority.sock").display(),
            site.folder.join("services.yaml").display(),
            request.display(),
        ));
        self.keeper.both(&format!(
            "member admit {} @/fed --yes{marks}",
            request.display()
        ));
    }
}

impl Site {
    /// Says something through the sender to `other`, and hears it back.
    fn says(&self, other: &str) -> std::io::Result<()> {
        let mut stream = self.connect(other)?;
        exchange(&mut stream)
    }

    fn connect(&self, other: &str) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(self.senders[other])?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    }

    fn reaches(&self, other: &str) {
        let what = format!("a way from {} to {other}", self.name);
        until_within(Duration::from_secs(150), &what, || self.says(other).ok());
    }

    fn sekisho(&self, line: &str) -> Value {
        let output = Command::new(SEKISHO)
            .args(line.split(' '))
            .args(["--json", "--socket"])
            .arg(self.folder.join("authority.sock"))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {error}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Its files that people have written.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        ["site.yaml", "entries.yaml", "services.yaml", "root.json"]
            .map(|file| (file.to_owned(), fs::read(self.folder.join(file)).unwrap()))
            .to_vec()
    }
}

fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping")?;
    let mut back = [0; 4];
    stream.read_exact(&mut back)?;
    assert_eq!(&back, b"ping");
    Ok(())
}

const FOUR: [&str; 4] = [
    "tokyo.example",
    "osaka.example",
    "kyoto.example",
    "nara.example",
];

#[test]
fn a_fifth_site_joins_and_no_file_of_the_others_changes() {
    let federation = Federation::new();
    let fifth = "kobe.example";
    let sites: Vec<Site> = FOUR
        .iter()
        .map(|name| {
            let others: Vec<_> = FOUR.into_iter().filter(|other| other != name).collect();
            federation.site(name, &others)
        })
        .collect();
    for site in &sites {
        federation.join(site, " --mark hpci");
    }
    federation.look(&sites);
    for site in &sites {
        site.senders.keys().for_each(|other| site.reaches(other));
    }
    let before: Vec<_> = sites.iter().map(Site::files).collect();
    let kobe = federation.site(fifth, &FOUR);
    assert!(kobe.says("tokyo.example").is_err(), "it is no member yet");
    federation.join(&kobe, " --mark hpci");
    // Within five minutes they would look by themselves.
    federation.look(&sites);
    for other in FOUR {
        kobe.reaches(other);
    }
    let after: Vec<_> = sites.iter().map(Site::files).collect();
    assert_eq!(before, after);
    // Who has lost its mark is not let in any more, and its connections end.
    let mut held = kobe.connect("tokyo.example").unwrap();
    exchange(&mut held).unwrap();
    federation
        .keeper
        .both(&format!("member mark {fifth} @/fed"));
    until_within(Duration::from_secs(60), "a new snapshot", || {
        let told = sites[0].sekisho("federation directory --refresh");
        let members = told[0]["members"].as_array().unwrap().clone();
        let kobe = members.iter().find(|one| one["trust_domain"] == fifth)?;
        (kobe["marks"].as_array()?.is_empty()).then_some(())
    });
    until_within(Duration::from_secs(60), "the end of what was held", || {
        exchange(&mut held).err()
    });
    assert!(kobe.says("tokyo.example").is_err());
    kobe.reaches("osaka.example");
    let _ = kobe.gate;
}

#[test]
fn a_site_rotates_its_ca_and_speaks_for_itself_and_is_cut_off_when_it_is_expelled() {
    let federation = Federation::new();
    let (tokyo, osaka) = (
        federation.site("tokyo.example", &["osaka.example"]),
        federation.site("osaka.example", &["tokyo.example"]),
    );
    federation.join(&tokyo, " --mark hpci");
    federation.join(&osaka, " --mark hpci");
    federation.look([&tokyo, &osaka]);
    tokyo.reaches("osaka.example");
    osaka.reaches("tokyo.example");
    let mut held = tokyo.connect("osaka.example").unwrap();
    exchange(&mut held).unwrap();
    let sequence = |at: &Site, of: &str| {
        let told = at.sekisho("federation directory --refresh");
        let members = told[0]["members"].as_array().unwrap().clone();
        let one = members.iter().find(|one| one["trust_domain"] == of);
        one.map_or(0, |one| one["bundle_sequence"].as_u64().unwrap())
    };
    let mut known = sequence(&osaka, "tokyo.example");
    for _ in 0..2 {
        // A new CA is said to the directory before it signs: by the authority, without anybody.
        tokyo.sekisho("ca prepare");
        known = until_within(
            Duration::from_secs(90),
            "the new CA at the other site",
            || Some(sequence(&osaka, "tokyo.example")).filter(|now| *now > known),
        );
        let shown = tokyo.sekisho("ca show");
        let text = shown.to_string();
        let slots = shown.as_array().unwrap_or_else(|| panic!("{text}"));
        let prepared = slots.iter().find(|slot| slot["slot"] == "prepared");
        let id = prepared.unwrap_or_else(|| panic!("{text}"))["id"]
            .as_str()
            .unwrap();
        tokyo.sekisho(&format!("ca activate {id} --force"));
        exchange(&mut held).unwrap();
        tokyo.reaches("osaka.example");
        osaka.reaches("tokyo.example");
    }
    // Expelled: cut off on both sides of every connection, and nothing new.
    federation.keeper.both("member expel tokyo.example @/fed");
    until_within(Duration::from_secs(60), "that it is gone", || {
        let told = osaka.sekisho("federation directory --refresh");
        let members = told[0]["members"].as_array().unwrap().clone();
        let one = members
            .iter()
            .find(|one| one["trust_domain"] == "tokyo.example")?;
        (one["standing"] == "expelled").then_some(())
    });
    until_within(Duration::from_secs(30), "the end of what was held", || {
        exchange(&mut held).err()
    });
    assert!(tokyo.says("osaka.example").is_err());
    assert!(osaka.says("tokyo.example").is_err());
}
