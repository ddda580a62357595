//! Users of this host at a plain side.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, ExitStatus},
};

use nix::sys::signal::Signal;

use crate::support::{
    Node, Process, Upstream, World, http, pair, ports,
    program::{is_root, program},
};

const ROOT: u32 = 0;
/// `nobody`, or a number without a name: the same to the list.
const SOMEBODY: u32 = 65_534;

const PAGE: &str = "for root only";

struct Host {
    world: World,
    upstream: Upstream,
    sending: Node,
    _receiving: Node,
}

impl Host {
    /// A pair of nodes of which the sending one listens at `listen`, for root alone.
    fn start(listen: impl FnOnce(&World) -> String) -> Self {
        let world = World::new();
        let upstream = Upstream::start(|stream| http::answer(&stream, PAGE.as_bytes()));
        let gate = ports::free();
        let back = pair::receiving(&world, gate, upstream.address);
        let receiving = Node::start(&world, "b.example", &back);
        let endpoints = format!(
            "  out:
    listen: {}
    local: [user:root]
    forward: mtls://{gate}
    identity: {}
    expect: [spiffe://b.example/back]
",
            listen(&world),
            world.identity(&world.a, "front")
        );
        Self {
            sending: Node::start(&world, "a.example", &endpoints),
            _receiving: receiving,
            upstream,
            world,
        }
    }

    /// Root gets the page, somebody else nothing, however they come.
    fn serves_root_only(&self, get: impl Fn(u32) -> (ExitStatus, String)) {
        let (status, said) = get(SOMEBODY);
        assert!(!status.success(), "{said}");
        assert!(!said.contains(PAGE), "{said}");
        let line = self.sending.refused("local_user");
        let user = line["client_user"].as_str().unwrap();
        assert!(["nobody", "65534"].contains(&user), "{line:#}");
        assert_eq!(self.upstream.accepted(), 0);

        let (status, said) = get(ROOT);
        assert!(status.success(), "{said}");
        assert!(said.contains(PAGE), "{said}");
        assert_eq!(self.sending.closed()["client_user"], "root");
        assert_eq!(self.upstream.accepted(), 1);
    }
}

/// What curl says as this user.
fn curl(program: &Path, user: u32, arguments: &[&str]) -> (ExitStatus, String) {
    let mut command = Command::new(program);
    command.uid(user).gid(user).current_dir("/");
    command.args([
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--max-time",
        "30",
    ]);
    Process::start(command.args(arguments)).ended()
}

#[test]
fn another_user_cannot_use_a_unix_socket_of_root() {
    let program = program!("curl");
    if !is_root("it takes root to become another user") {
        return;
    }
    let host = Host::start(|world| format!("unix://{}", world.name("out.sock")));
    let socket = host.world.name("out.sock");
    // Only the list stands between them and the endpoint.
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    host.serves_root_only(|user| {
        curl(
            &program,
            user,
            &["--unix-socket", &socket, "http://localhost/"],
        )
    });
}

fn over_loopback(address: impl Fn(SocketAddr) -> SocketAddr) {
    let program = program!("curl");
    if !is_root("it takes root to become another user") {
        return;
    }
    let listen = address(ports::free());
    let host = Host::start(|_| format!("tcp://{listen}"));
    let url = format!("http://{listen}/");
    host.serves_root_only(|user| curl(&program, user, &["--globoff", &url]));
}

#[test]
fn another_user_cannot_use_a_loopback_port_of_root() {
    over_loopback(|address| address);
}

#[test]
fn another_user_cannot_use_an_ipv6_loopback_port_of_root() {
    over_loopback(|address| SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], address.port())));
}

#[test]
fn a_client_that_has_left_before_it_was_looked_at_is_nobody_and_not_root() {
    if !is_root("it takes root to become another user") {
        return;
    }
    let address = ports::free();
    let host = Host::start(|_| format!("tcp://{address}"));
    // Held back, the node finds sockets that nobody holds any more: the kernel shows them as
    // root's.
    host.sending.process.signal(Signal::SIGSTOP);
    for _ in 0..5 {
        let status = Command::new("/bin/bash")
            .uid(SOMEBODY)
            .gid(SOMEBODY)
            .current_dir("/")
            .args([
                "-c",
                &format!("echo for root > /dev/tcp/127.0.0.1/{}", address.port()),
            ])
            .status()
            .unwrap();
        assert!(status.success());
    }
    host.sending.process.signal(Signal::SIGCONT);
    for _ in 0..5 {
        host.sending.refused("local_user");
    }
    assert_eq!(host.upstream.accepted(), 0);
}
