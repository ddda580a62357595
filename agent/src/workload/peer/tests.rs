use std::{
    fs,
    process::{Child, Command, Stdio},
};

use tokio::net::UnixListener;

use super::*;

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
    if !nix::unistd::geteuid().is_root() {
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
fn who_is_another_user_than_at_the_connection_is_refused_unless_it_was_root() {
    let child = sleeper();
    let mut peer = Peer::of_pid(pid(&child)).unwrap();
    let now = peer.uid;
    peer.uid = now + 1;
    assert!(matches!(
        peer.check(),
        Err(PeerError::Changed { before, now: seen, .. }) if before == now + 1 && seen == now
    ));
    peer.uid = 0;
    peer.check().unwrap();
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
