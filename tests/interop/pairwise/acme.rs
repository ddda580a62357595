//! A certificate from Pebble, the ACME server that Let's Encrypt tests clients with: for the name
//! `localhost`, proven on the endpoint's own port.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use sekisho_testkit::TestCa;

use super::endpoint::authority;
use crate::support::{Process, World, ports, program::program, wait::until};

/// A server that looks at `endpoint`.
struct Pebble {
    _process: Process,
    directory: String,
    management: SocketAddr,
}

impl Pebble {
    fn start(program: &Path, world: &World, endpoint: SocketAddr) -> Self {
        let (listen, management) = (ports::free(), ports::free());
        let settings = serde_json::json!({"pebble": {
            "listenAddress": listen.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": world.name("web.pem"),
            "privateKey": world.name("web.key"),
            "tlsPort": endpoint.port(),
            "httpPort": 1,
        }});
        world.write("pebble.json", &settings.to_string());
        let mut command = Command::new(program);
        // Otherwise it waits for a while before it looks.
        command.env("PEBBLE_VA_NOSLEEP", "1");
        let process = Process::start(command.arg("-config").arg(world.file("pebble.json")));
        process.wait_for("ACME directory available");
        Self {
            _process: process,
            directory: format!("https://localhost:{}/dir", listen.port()),
            management,
        }
    }

    /// The root below which it signs.
    fn root(&self, curl: &Path, world: &World) -> String {
        let port = self.management.port();
        let output = Command::new(curl)
            .args(["--silent", "--show-error", "--cacert"])
            .arg(world.file("roots.pem"))
            .arg(format!("https://localhost:{port}/roots/0"))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----"), "{text}");
        text
    }
}

#[test]
fn a_certificate_is_had_from_an_acme_server_and_outlives_a_restart() {
    let (pebble, curl) = (program!("pebble"), program!("curl"));
    let world = World::new();
    super::web(&world, &TestCa::new("web.example"));
    let address = ports::free();
    let pebble = Pebble::start(&pebble, &world, address);
    let root = pebble.root(&curl, &world);
    world.write("acme-root.pem", &root);
    let endpoint = |domain: &str| {
        format!(
            "listen: {address}, profile: https_web, acme: {{directory: \"{}\", domain: {domain}, \
             email: admin@a.example, ca: roots.pem}}",
            pebble.directory
        )
    };
    let status = || {
        let output = Command::new(&curl)
            .args([
                "--silent",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
                "--cacert",
            ])
            .arg(world.file("acme-root.pem"))
            .arg(format!("https://localhost:{}/", address.port()))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let first = authority(&world, &endpoint("localhost"));
    first.wait_for("a new certificate");
    assert_eq!(status(), "200");
    let folder = world.file("data/acme");
    let kept = || {
        let files = fs::read_dir(&folder).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    };
    let [account, certificate] = kept().try_into().unwrap();
    for file in [&account, &certificate] {
        let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
    let text = fs::read_to_string(&certificate).unwrap();
    let account = fs::read_to_string(account).unwrap();
    drop(first);
    // Nothing is asked for again.
    let second = authority(&world, &endpoint("localhost"));
    until("an endpoint that answers", || {
        (status() == "200").then_some(())
    });
    assert!(!second.said().contains("a new certificate"));
    drop(second);
    assert_eq!(fs::read_to_string(&certificate).unwrap(), text);
    // Nobody can prove another's name, and what is there is for the old one: none is shown.
    let third = authority(&world, &endpoint("nobody.invalid"));
    third.wait_for("nobody.invalid was not proven to be ours");
    assert_ne!(status(), "200");
    assert_eq!(fs::read_to_string(&certificate).unwrap(), text);
    let [kept_account, _] = kept().try_into().unwrap();
    assert_eq!(
        fs::read_to_string(kept_account).unwrap(),
        account,
        "the same account"
    );
    assert!(!third.said().contains("PRIVATE KEY"));
}
