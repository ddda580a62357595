//! Whole sites in a federation: each an authority, an agent and a proxy, which follow one directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::unistd::getuid;
use serde_json::Value;

use super::keeper::Keeper;
use crate::support::{
    Process, Upstream, http,
    node::SEKISHO,
    ports, program,
    wait::{until, until_within},
};

/// The directory of a federation, and where it is served.
pub(super) struct Federation {
    pub(super) keeper: Keeper,
    pub(super) address: SocketAddr,
    echo: Upstream,
    _server: Process,
}

/// A site: its gate, and where its senders listen, by the site that they lead to.
pub(super) struct Site {
    pub(super) name: &'static str,
    gate: SocketAddr,
    senders: BTreeMap<&'static str, SocketAddr>,
    /// Where its clients say themselves whom they want.
    any: SocketAddr,
    pub(super) folder: PathBuf,
    /// Where administrators come.
    socket: PathBuf,
    _process: Process,
}

/// The files of a site: a gate for all others, a way to all others by `any`, and `more` endpoints.
fn write(
    folder: &Path,
    name: &str,
    [gate, listen, any]: [SocketAddr; 3],
    directory: SocketAddr,
    service: SocketAddr,
    more: &str,
) {
    let who = format!(
        "authority: {{listen: {listen}, data: authority, socket: authority.sock, entries: entries.yaml}}\n\
         agent: {{data: agent, socket: agent.sock}}\n"
    );
    write_as(folder, name, &who, [gate, any], [directory, service], more);
}

/// The same, which has its identities as `who` says.
fn write_as(
    folder: &Path,
    name: &str,
    who: &str,
    [gate, any]: [SocketAddr; 2],
    [directory, service]: [SocketAddr; 2],
    more: &str,
) {
    let write = |file: &str, text: &str| fs::write(folder.join(file), text).unwrap();
    write(
        "site.yaml",
        &format!(
            "site: {name}\n{who}\
             federation: {{directory: \"http://{directory}/\", root: root.json, services: services.yaml, allow: [127.0.0.0/8]}}\n\
             admin: unix://{}\nlog: {{format: json}}\nworkers: 1\nendpoints:\n  \
             in:\n    listen: mtls://{gate}\n    forward: tcp://{service}\n    as: /mdx\n    name: mdx\n    accept: [mark:hpci]\n  \
             any:\n    listen: connect://{any}\n    forward: site://*\n    as: /sender\n    expect: [mark:hpci]\n{more}",
            folder.join("admin.sock").display(),
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
}

impl Federation {
    pub(super) fn new() -> Self {
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
    pub(super) fn site(&self, name: &'static str, others: &[&'static str]) -> Site {
        self.site_as(name, others, None)
    }

    /// A site of one process, whose CA is embedded in it.
    pub(super) fn node(&self, name: &'static str, others: &[&'static str]) -> Site {
        let embedded = "identity: {embedded: {data: authority}}\n";
        self.site_as(name, others, Some(embedded))
    }

    fn site_as(&self, name: &'static str, others: &[&'static str], who: Option<&str>) -> Site {
        let folder = self.keeper.file(&format!("sites/{name}"));
        fs::create_dir_all(&folder).unwrap();
        let gate = ports::free();
        let listen = ports::free();
        let senders: BTreeMap<_, _> = others.iter().map(|other| (*other, ports::free())).collect();
        let any = ports::free();
        let out: String = senders
            .iter()
            .map(|(other, listen)| {
                let to = other.split('.').next().unwrap();
                format!(
                    "  to-{to}:\n    listen: tcp://{listen}\n    forward: site://{other}/mdx\n    as: /sender\n"
                )
            })
            .collect();
        let (directory, service) = (self.address, self.echo.address);
        let socket = match who {
            None => {
                let ports = [gate, listen, any];
                write(&folder, name, ports, directory, service, &out);
                folder.join("authority.sock")
            }
            Some(who) => {
                let (ports, places) = ([gate, any], [directory, service]);
                write_as(&folder, name, who, ports, places, &out);
                folder.join("authority/api.sock")
            }
        };
        let root = self.keeper.file("fed/metadata/1.root.json");
        fs::copy(root, folder.join("root.json")).unwrap();
        let mut command = Command::new(SEKISHO);
        command.args(["run", "-c"]).arg(folder.join("site.yaml"));
        let process = Process::start(&mut command);
        let site = Site {
            name,
            gate,
            senders,
            any,
            folder,
            socket,
            _process: process,
        };
        until("a ready gate", || {
            let (code, _) = http::get_unix(&site.folder.join("admin.sock"), "/live").ok()?;
            (code == 200).then_some(())
        });
        until("a socket of the authority", || {
            site.socket.exists().then_some(())
        });
        site
    }

    /// Each of these follows the directory now, which has shown what is in its folder.
    pub(super) fn look<'a>(&self, sites: impl IntoIterator<Item = &'a Site>) {
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
    pub(super) fn join(&self, site: &Site, marks: &str) {
        let (name, data) = (site.name, site.folder.join("authority/member"));
        let request = site.folder.join("request.json");
        self.keeper.ok(&format!(
            "member request --id {name} --data {} --socket {} --services {} --out {}",
            data.display(),
            site.socket.display(),
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
    pub(super) fn says(&self, other: &str) -> std::io::Result<()> {
        let mut stream = self.connect(other)?;
        exchange(&mut stream)
    }

    pub(super) fn connect(&self, other: &str) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(self.senders[other])?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    }

    pub(super) fn reaches(&self, other: &str) {
        let what = format!("a way from {} to {other}", self.name);
        until_within(Duration::from_secs(150), &what, || self.says(other).ok());
    }

    /// The same by the one endpoint that leads to everybody.
    pub(super) fn asks(&self, other: &str) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.any)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let target = format!("mdx.{other}:443");
        write!(
            stream,
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"
        )?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        if !head.starts_with(b"HTTP/1.1 200 ") {
            let said = String::from_utf8_lossy(&head).into_owned();
            return Err(std::io::Error::other(said));
        }
        exchange(&mut stream)
    }

    /// What curl says of that way, the status of its CONNECT last. The service says back what it hears,
    /// and nobody ends that; a site that is not known is waited for three seconds.
    fn curl(&self, curl: &Path, other: &str) -> String {
        let output = Command::new(curl)
            .env_remove("no_proxy")
            .env_remove("NO_PROXY")
            .args(["--silent", "--proxytunnel", "--http0.9", "--max-time", "8"])
            .args(["--write-out", "%{http_connect}", "--proxy"])
            .arg(format!("http://{}", self.any))
            .arg(format!("http://mdx.{other}/"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(super) fn sekisho(&self, line: &str) -> Value {
        let output = Command::new(SEKISHO)
            .args(line.split(' '))
            .args(["--json", "--socket"])
            .arg(&self.socket)
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

pub(super) fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
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
fn four_sites_and_twenty_have_files_of_the_same_number_of_lines() {
    let keeper = Keeper::new(1);
    let ports = || [ports::free(), ports::free(), ports::free()];
    let mut lines = BTreeSet::new();
    for count in [4, 20] {
        let names: Vec<_> = (1..=count).map(|one| format!("s{one}.example")).collect();
        for name in &names {
            let folder = keeper.file(&format!("{count}/{name}"));
            fs::create_dir_all(&folder).unwrap();
            // In a federation of as many; they find one another by the directory alone.
            write(&folder, name, ports(), ports::free(), ports::free(), "");
            let root = keeper.file("fed/metadata/1.root.json");
            fs::copy(root, folder.join("root.json")).unwrap();
            let files = ["site.yaml", "entries.yaml", "services.yaml"];
            let texts = files.map(|file| fs::read_to_string(folder.join(file)).unwrap());
            let others = names.iter().filter(|other| *other != name);
            for other in others {
                assert!(
                    texts
                        .iter()
                        .all(|text| !text.contains(&format!(" {other}")))
                );
            }
            lines.insert(texts.map(|text| text.lines().count()));
            let output = Command::new(SEKISHO)
                .args(["check", "-c"])
                .arg(folder.join("site.yaml"))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}{error}");
            assert!(said.contains("leads where CONNECT"), "{said}");
        }
    }
    assert_eq!(lines.len(), 1, "{lines:?}");
}

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
    // And by one endpoint to all of them; to themselves and to strangers by none.
    for site in &sites {
        for other in FOUR.into_iter().filter(|other| *other != site.name) {
            let what = format!("one way from {} to {other}", site.name);
            until_within(Duration::from_secs(60), &what, || site.asks(other).ok());
        }
        let error = site.asks(site.name).unwrap_err().to_string();
        assert!(error.starts_with("HTTP/1.1 403 "), "{error}");
    }
    if let Some(curl) = program::find("curl") {
        let said = sites[0].curl(&curl, "nara.example");
        assert!(said.contains("Host: mdx.nara.example"), "{said}");
        assert!(said.ends_with("200"), "{said}");
        assert_eq!(sites[0].curl(&curl, "far.example"), "503");
    }
    let before: Vec<_> = sites.iter().map(Site::files).collect();
    let kobe = federation.site(fifth, &FOUR);
    assert!(kobe.says("tokyo.example").is_err(), "it is no member yet");
    federation.join(&kobe, " --mark hpci");
    // Within four minutes they would look by themselves.
    federation.look(&sites);
    for other in FOUR {
        kobe.reaches(other);
        let what = format!("one way from kobe to {other}");
        until_within(Duration::from_secs(60), &what, || kobe.asks(other).ok());
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
