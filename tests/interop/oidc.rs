//! Discovery of the site's keys on the web, with clients that know nothing of SPIFFE.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Output},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getuid},
};
use sekisho_spire_api::{
    server::{
        local_authority::{
            PrepareJwtAuthorityRequest, local_authority_client::LocalAuthorityClient,
        },
        svid::{MintJwtsvidRequest, svid_client::SvidClient},
    },
    types,
};
use sekisho_testkit::Profile;
use serde_json::{Value, json};

use crate::support::{
    Process, World, http,
    node::SEKISHO,
    ports,
    program::{self, program},
    wait::until,
    whole::Whole,
};

struct Site {
    world: World,
    process: Process,
    address: SocketAddr,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    /// An authority, an agent and discovery by one `sekisho run`; nobody has an entry.
    fn start() -> Self {
        let world = World::new();
        let (listen, address) = (ports::free(), ports::free());
        world.write(
            "site.yaml",
            &format!(
                "site: a.example\n\
                 authority: {{listen: {listen}, data: authority, socket: authority.sock, entries: entries.yaml}}\n\
                 agent: {{data: agent, socket: agent.sock}}\n\
                 oidc: {{listen: {address}, domains: [localhost], cert: web.pem, key: web.key, \
                 issuer: \"https://localhost:{}\"}}\n\
                 log: {{format: json}}\n",
                address.port()
            ),
        );
        certificate(&world);
        let site = Self {
            process: {
                entries(&world, "/somebody/else", 4_000_000_000);
                let mut command = Command::new(SEKISHO);
                command.args(["run", "-c"]).arg(world.file("site.yaml"));
                Process::start(&mut command)
            },
            address,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            world,
        };
        until("discovery that answers", || {
            (site.status("/live") == 200).then_some(())
        });
        site
    }

    fn issuer(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    fn curl(&self, path: &str, more: &[&str]) -> Output {
        let mut command = Command::new("curl");
        command
            .args([
                "--silent",
                "--show-error",
                "--noproxy",
                "*",
                "--max-time",
                "20",
            ])
            .arg("--cacert")
            .arg(self.world.file("a.example.pem"))
            .args(more)
            .arg(format!("{}{path}", self.issuer()));
        command.output().unwrap()
    }

    fn status(&self, path: &str) -> u16 {
        let output = self.curl(
            path,
            &["--output", "/dev/null", "--write-out", "%{http_code}"],
        );
        String::from_utf8(output.stdout).unwrap().parse().unwrap()
    }

    fn json(&self, path: &str) -> Value {
        let output = self.curl(path, &["--fail"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{path}: {error}"))
    }

    fn kids(&self) -> Vec<String> {
        let keys = self.json("/keys")["keys"].clone();
        let keys = keys.as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    }

    fn token(&self) -> String {
        self.runtime.block_on(async {
            let channel = Whole::channel(self.world.file("authority.sock")).await;
            let request = MintJwtsvidRequest {
                id: Some(types::Spiffeid {
                    trust_domain: "a.example".into(),
                    path: "/job".into(),
                }),
                audience: vec!["cloud".into()],
                ttl: 0,
            };
            let answer = SvidClient::new(channel).mint_jwtsvid(request).await;
            answer.unwrap().into_inner().svid.unwrap().token
        })
    }

    fn child(&self, command: &str) -> i32 {
        let own = self.process.id().to_string();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
        let found = children.split_whitespace().find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(command.as_bytes())
        });
        found.unwrap().parse().unwrap()
    }
}

fn certificate(world: &World) {
    let profile = Profile::leaf("spiffe://a.example/web").with_dns_names(["localhost"]);
    world.a.ca().issue(&profile).write(world.path(), "web");
}

fn entries(world: &World, path: &str, uid: u32) {
    let text = format!("entries: [{{spiffe_id: {path}, selectors: [\"unix:uid:{uid}\"]}}]\n");
    // As a whole: it is read as soon as it is there.
    world.write("entries.new", &text);
    fs::rename(world.file("entries.new"), world.file("entries.yaml")).unwrap();
}

#[test]
fn a_token_is_verified_by_its_issuer_alone() {
    let _curl = program!("curl");
    let (python, Some(packages)) = (program!("python3"), program::packages("py-spiffe")) else {
        return;
    };
    let site = Site::start();
    // The agent knows this process, and has no identity for it.
    assert_eq!((site.status("/keys"), site.status("/ready")), (503, 503));
    entries(&site.world, "/oidc", getuid().as_raw());
    until("keys", || (site.status("/ready") == 200).then_some(()));

    let document = site.json("/.well-known/openid-configuration");
    let issuer = site.issuer();
    let expected = json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/keys"),
        "authorization_endpoint": "",
        "response_types_supported": ["id_token"],
        "subject_types_supported": [],
        "id_token_signing_alg_values_supported": ["RS256", "ES256", "ES384"],
    });
    assert_eq!(document, expected);
    let output = site.curl("/keys", &["--include", "--fail"]);
    let head = String::from_utf8(output.stdout)
        .unwrap()
        .to_ascii_lowercase();
    assert!(head.contains("cache-control: no-cache, no-store"), "{head}");
    let key = site.json("/keys")["keys"][0].clone();
    assert_eq!((&key["use"], &key["alg"]), (&json!("sig"), &json!("ES256")));
    assert_eq!(key.get("d"), None);
    // By another name it is nobody.
    let other = ["--header", "Host: evil.example"];
    let refused = site.curl(
        "/keys",
        &[&other[..], &["--write-out", "%{http_code}"]].concat(),
    );
    assert!(refused.stdout.ends_with(b"400"));

    let verify = |audience: &str, token: &str| -> Value {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/clients/oidc.py");
        let mut command = Command::new(&python);
        let output = command
            .env("PYTHONPATH", &packages)
            .env("no_proxy", "*")
            .arg(script)
            .arg(site.issuer())
            .arg(site.world.file("a.example.pem"))
            .args([audience, token])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"))
    };
    let token = site.token();
    let claims = verify("cloud", &token)["claims"].clone();
    assert_eq!(claims["sub"], "spiffe://a.example/job", "{claims}");
    assert_eq!(claims["iss"], site.issuer());
    assert_eq!(
        verify("other", &token),
        json!({"refused": "InvalidAudienceError"})
    );
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{signed}.{flipped}{}", &signature[1..]);
    assert_eq!(
        verify("cloud", &forged),
        json!({"refused": "InvalidSignatureError"})
    );
}

#[test]
fn a_new_key_is_told_before_it_signs_and_the_keys_outlive_their_source() {
    let _curl = program!("curl");
    let site = Site::start();
    entries(&site.world, "/oidc", getuid().as_raw());
    until("keys", || (site.status("/ready") == 200).then_some(()));
    let first = site.kids();
    assert_eq!(first.len(), 1);
    let prepared = site.runtime.block_on(async {
        let channel = Whole::channel(site.world.file("authority.sock")).await;
        let mut client = LocalAuthorityClient::new(channel);
        let answer = client.prepare_jwt_authority(PrepareJwtAuthorityRequest {});
        let prepared = answer.await.unwrap().into_inner().prepared_authority;
        prepared.unwrap().authority_id
    });
    until("the new key", || {
        site.kids().contains(&prepared).then_some(())
    });
    let both = site.kids();
    // It has nothing of the authority's or the agent's in its hands.
    let files = fs::read_dir(format!("/proc/{}/fd", site.child("oidc"))).unwrap();
    for file in files.filter_map(|file| fs::read_link(file.unwrap().path()).ok()) {
        let file = file.to_string_lossy().into_owned();
        let own = ["/authority/", "/agent/"]
            .iter()
            .all(|folder| !file.contains(folder));
        assert!(own, "{file}");
    }
    let agent = site.child("agent");
    kill(Pid::from_raw(agent), Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(agent), Signal::SIGKILL).unwrap();
    assert_eq!(site.kids(), both);
    // Another certificate, without a restart.
    let shown = || {
        let output = site.curl("/live", &["--verbose", "--fail"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut lines = text.lines();
        lines
            .find(|line| line.contains("start date") || line.contains("expire date"))
            .map(str::to_owned)
    };
    let before = shown();
    assert!(before.is_some());
    let pid = site.child("oidc");
    let mut profile = Profile::leaf("spiffe://a.example/web").with_dns_names(["localhost"]);
    (profile.begins, profile.ends) = (-3600, 7200);
    site.world
        .a
        .ca()
        .issue(&profile)
        .write(site.world.path(), "web");
    until("the new certificate", || (shown() != before).then_some(()));
    assert_eq!(site.child("oidc"), pid);
}

#[test]
fn behind_a_proxy_it_is_a_socket_for_a_group() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    world.write(
        "oidc.yaml",
        &format!(
            "site: a.example\noidc: {{listen: \"unix://{}\", domains: [localhost], source: \"unix://{}\"}}\n",
            world.name("run/oidc.sock"),
            world.name("nobody.sock")
        ),
    );
    let mut command = Command::new(SEKISHO);
    let process = Process::start(command.args(["oidc", "-c"]).arg(world.file("oidc.yaml")));
    process.wait_for("no keys from the source");
    let socket: PathBuf = world.file("run/oidc.sock");
    let mode = fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o660);
    let (status, text) = http::get_unix(&socket, "/.well-known/openid-configuration").unwrap();
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["issuer"], "https://localhost");
    assert_eq!(http::get_unix(&socket, "/keys").unwrap().0, 503);
    // What is missing is told beforehand.
    let check = |file: &str| {
        let mut command = Command::new(SEKISHO);
        let output = command
            .args(["check", "--json", "-c"])
            .arg(world.file(file));
        let output = output.output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), told["oidc"]["problems"].clone())
    };
    let (code, problems) = check("oidc.yaml");
    assert_eq!(code, Some(1));
    let text = problems.to_string();
    assert!(text.contains("no socket of an agent at"), "{text}");
    certificate(&world);
    world.write(
        "tls.yaml",
        &format!(
            "site: a.example\noidc: {{listen: 127.0.0.1:8443, domains: [localhost, b.example], \
             cert: web.pem, key: web.key, source: \"unix://{}\"}}\n",
            socket.display()
        ),
    );
    let (code, problems) = check("tls.yaml");
    assert_eq!(code, Some(1));
    let text = problems.to_string();
    assert!(
        text.contains("is not for b.example") && !text.contains("localhost"),
        "{text}"
    );
}
