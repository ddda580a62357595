use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
};

use tokio::{io::AsyncWriteExt as _, net::UnixListener};

use super::*;
use crate::workload::tests::is_root;

fn sleeper() -> Child {
    Command::new("sleep").arg("600").spawn().unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn pid(child: &Child) -> i32 {
    child.id().cast_signed()
}

/// A process of its own that connects to the socket.
fn client(socket: &std::path::Path) -> Child {
    Command::new("python3")
        .arg("-c")
        .arg(
            "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ns.recv(1)",
        )
        .arg(socket)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_client_is_known_while_it_runs_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let child = client(&path);
    let (stream, _) = listener.accept().await.unwrap();
    let peer = Peer::of_socket(&stream, Accepted::now()).unwrap();
    assert_eq!(peer.pid(), pid(&child));
    assert_eq!(peer.uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(peer.gid(), nix::unistd::getegid().as_raw());
    peer.check().unwrap();
    end(child);
    assert!(matches!(peer.check(), Err(PeerError::Ended { .. })));
    // The connection is still there, and names a process that is not.
    let error = Peer::of_socket(&stream, Accepted::now()).unwrap_err();
    assert!(matches!(error, PeerError::Ended { .. }), "{error}");
}

#[tokio::test]
async fn one_that_has_ended_and_is_not_reaped_has_ended() {
    let mut child = sleeper();
    let peer = Peer::of_pid(pid(&child)).unwrap();
    child.kill().unwrap();
    // A zombie: its number is not free, and nothing runs under it.
    sekisho_testkit::wait_for("the process ended", Duration::from_secs(10), || {
        peer.check().is_err()
    })
    .await;
    assert!(process::path(peer.pid(), "stat").exists());
    assert!(matches!(peer.check(), Err(PeerError::Ended { .. })));
    child.wait().unwrap();
}

#[test]
fn no_process_has_these_numbers() {
    for number in [0, -1, i32::MIN] {
        assert!(matches!(Peer::of_pid(number), Err(PeerError::NotFound)));
    }
    let child = sleeper();
    let number = pid(&child);
    end(child);
    assert!(matches!(
        Peer::of_pid(number),
        Err(PeerError::Ended { pid }) if pid == number
    ));
}

#[test]
fn a_thread_is_no_process() {
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        tell.send(nix::unistd::gettid().as_raw()).unwrap();
        stopped.recv().unwrap();
    });
    let error = Peer::of_pid(told.recv().unwrap()).unwrap_err();
    assert!(matches!(error, PeerError::NotFound), "{error}");
    stop.send(()).unwrap();
    thread.join().unwrap();
}

/// A number given to a second process: as on a host where they have gone round. Needs root.
#[test]
fn a_number_that_another_process_now_has_yields_nothing() {
    if !is_root("it takes root to choose the number of the next process") {
        return;
    }
    let first = sleeper();
    let number = pid(&first);
    let peer = Peer::of_pid(number).unwrap();
    end(first);
    // Others start processes meanwhile: the number may be taken, so try again.
    let second = (0..100)
        .find_map(|_| {
            fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).ok()?;
            let child = sleeper();
            if pid(&child) == number {
                return Some(child);
            }
            end(child);
            None
        })
        .expect("the kernel gives numbers again");
    Peer::of_pid(number).unwrap();
    assert!(matches!(peer.check(), Err(PeerError::Ended { .. })));
    end(second);
}

#[test]
fn without_a_descriptor_of_the_kernel_only_an_older_process_is_taken() {
    let child = sleeper();
    let started = process::started(pid(&child)).unwrap();
    let tick =
        Duration::from_secs(1) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap();
    let at = |ticks: u64| Accepted(tick * u32::try_from(ticks).unwrap());
    assert_eq!(at(started).ticks(), started);
    older_than(pid(&child), at(started + 1)).unwrap();
    for accepted in [at(started), at(started - 1)] {
        let error = older_than(pid(&child), accepted).unwrap_err();
        assert!(matches!(error, PeerError::Replaced { .. }), "{error}");
    }
    // And this clock is the one that start times are in.
    let now = Accepted::now().ticks();
    assert!(
        now >= started && now - started < 100 * 60,
        "{now} {started}"
    );
    end(child);
}

#[test]
fn who_is_another_user_or_group_than_at_the_connection_is_refused_unless_it_was_root() {
    let child = sleeper();
    let mut peer = Peer::of_pid(pid(&child)).unwrap();
    let now = (peer.uid, peer.gid);
    for before in [(now.0 + 1, now.1), (now.0 + 1, now.1 + 1)] {
        (peer.uid, peer.gid) = before;
        let error = peer.check().unwrap_err();
        assert!(
            matches!(error, PeerError::Changed { before: was, now: is, .. } if was == before && is == now),
            "{error}"
        );
    }
    peer.uid = 0;
    peer.check().unwrap();
    end(child);
}

/// A client that becomes another program after it has connected, as the kernel allows: by a setgid
/// file, which root makes here.
#[tokio::test]
async fn who_starts_a_setgid_program_is_not_of_its_group() {
    if !is_root("it takes root to make a setgid program of another group") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("program");
    fs::copy("/bin/sleep", &program).unwrap();
    std::os::unix::fs::chown(&program, None, Some(4)).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o2755)).unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    // The socket is left open for the new program.
    let script = "import os,socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                  s.set_inheritable(True)\ns.recv(1)\nos.execv(sys.argv[2],['program','600'])";
    let child = Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "/usr/bin/python3",
            "-c",
            script,
        ])
        .args([&path, &program])
        .spawn()
        .unwrap();
    let accepted = tokio::time::timeout(Duration::from_secs(10), listener.accept()).await;
    let (mut stream, _) = accepted.expect("a client").unwrap();
    let peer = Peer::of_socket(&stream, Accepted::now()).unwrap();
    peer.check().unwrap();
    stream.write_all(b"x").await.unwrap();
    sekisho_testkit::wait_for("the program", Duration::from_secs(10), || {
        fs::read_link(process::path(peer.pid, "exe")).is_ok_and(|exe| exe == program)
    })
    .await;
    let error = peer.check().unwrap_err();
    assert!(
        matches!(
            error,
            PeerError::Changed {
                before: (65534, 65534),
                now: (65534, 4),
                ..
            }
        ),
        "{error}"
    );
    end(child);
}

#[test]
fn a_tcp_client_of_this_host_is_found_over_ipv4_ipv6_and_mapped() {
    for (bind, connect) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("[::1]:0", "[::1]"),
        ("[::]:0", "127.0.0.1"),
    ] {
        let listener = std::net::TcpListener::bind(bind).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut child = Command::new("python3")
            .arg("-c")
            .arg("import socket,sys\ns=socket.create_connection((sys.argv[1],int(sys.argv[2])))\ns.recv(1)")
            .arg(connect.trim_matches(['[', ']']))
            .arg(port.to_string())
            .spawn()
            .unwrap();
        let (stream, remote) = listener.accept().unwrap();
        let local = stream.local_addr().unwrap();
        let peer = Peer::of_tcp(local, remote).unwrap();
        assert_eq!(peer.pid(), pid(&child), "{bind}");
        child.kill().unwrap();
        child.wait().unwrap();
        let error = Peer::of_tcp(local, remote).unwrap_err();
        assert!(matches!(error, PeerError::NotFound), "{error}");
    }
}

#[test]
fn a_tcp_socket_that_two_processes_hold_is_nobodys() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = "import os,socket,sys\n\
                  s=socket.create_connection(('127.0.0.1',int(sys.argv[1])))\n\
                  os.fork()\n\
                  s.send(b'x')\n\
                  s.recv(1)";
    let mut child = Command::new("python3")
        .args(["-c", script, &port.to_string()])
        .spawn()
        .unwrap();
    let (mut stream, remote) = listener.accept().unwrap();
    // One byte of each.
    io::Read::read_exact(&mut stream, &mut [0; 2]).unwrap();
    let error = Peer::of_tcp(stream.local_addr().unwrap(), remote).unwrap_err();
    assert!(matches!(error, PeerError::Ambiguous), "{error}");
    // Both end at the end of the connection.
    drop(stream);
    child.wait().unwrap();
}
