use std::{io::Write as _, process::Command};

use tokio::net::{UnixListener, UnixStream};

use super::*;

/// Whether we are root. In CI we must be; elsewhere the test is skipped, and says so loudly.
pub(super) fn is_root(why: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none(), "not root: {why}");
        // Past the test runner, which keeps what a test that passes prints to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED, not root: {why}");
    }
    root
}

fn own() -> Peer {
    Peer::of_pid(std::process::id().cast_signed()).unwrap()
}

fn unix() -> WorkloadAttestorSpec {
    WorkloadAttestorSpec::Unix(UnixSpec::default())
}

/// A bus that nobody listens on.
fn broken(dir: &tempfile::TempDir) -> WorkloadAttestorSpec {
    WorkloadAttestorSpec::Systemd(SystemdSpec {
        bus: dir.path().join("none"),
    })
}

#[test]
fn attestors_and_peers_go_between_threads() {
    fn both<T: Send + Sync + 'static>() {}
    both::<WorkloadAttestors>();
    both::<Peer>();
    fn future<T: Send>(_: T) {}
    future(WorkloadAttestors::new(Vec::new()).attest(&own()));
}

#[tokio::test]
async fn a_client_of_a_socket_is_attested_by_all_attestors() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("s")).unwrap();
    let _client = UnixStream::connect(dir.path().join("s")).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let peer = Peer::of_socket(&stream, Accepted::now()).unwrap();
    let attestors = WorkloadAttestors::new(vec![unix(), WorkloadAttestorSpec::Slurm]);
    let selectors = attestors.attest(&peer).await.unwrap();
    let uid = nix::unistd::geteuid();
    let path = std::env::current_exe().unwrap();
    for value in [format!("uid:{uid}"), format!("path:{}", path.display())] {
        assert!(selectors.contains(&Selector::new("unix", value)));
    }
    assert!(selectors.iter().all(|selector| selector.kind == "unix"));
}

#[tokio::test]
async fn one_that_fails_adds_nothing_and_all_that_fail_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let alone = WorkloadAttestors::new(vec![unix()]);
    let beside = WorkloadAttestors::new(vec![broken(&dir), unix()]);
    let peer = own();
    assert_eq!(
        beside.attest(&peer).await.unwrap(),
        alone.attest(&peer).await.unwrap()
    );
    let failing = WorkloadAttestors::new(vec![broken(&dir), broken(&dir)]);
    let error = failing.attest(&peer).await.unwrap_err();
    assert!(
        matches!(error, WorkloadError::NoneAnswered { pid } if pid == peer.pid()),
        "{error}"
    );
}

#[tokio::test]
async fn none_to_ask_is_no_selectors() {
    let selectors = WorkloadAttestors::new(Vec::new()).attest(&own()).await;
    assert_eq!(selectors.unwrap(), BTreeSet::new());
}

#[tokio::test]
async fn a_process_that_has_ended_has_no_selectors() {
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let peer = Peer::of_pid(child.id().cast_signed()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let error = WorkloadAttestors::new(Vec::new()).attest(&peer).await;
    assert!(matches!(
        error,
        Err(WorkloadError::Peer(PeerError::Ended { .. }))
    ));
}

/// What an attestor has read of it is not told.
#[tokio::test]
async fn a_process_that_ends_while_it_is_attested_has_no_selectors() {
    let dir = tempfile::tempdir().unwrap();
    let bus = dir.path().join("bus");
    let listener = UnixListener::bind(&bus).unwrap();
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let peer = Peer::of_pid(child.id().cast_signed()).unwrap();
    let slow = WorkloadAttestorSpec::Systemd(SystemdSpec { bus });
    let attestors = WorkloadAttestors::new(vec![unix(), slow]);
    let killer = async {
        // The second attestor is at work: it connects to its bus, which then goes away.
        let (stream, _) = listener.accept().await.unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        drop(stream);
    };
    let (outcome, ()) = tokio::join!(attestors.attest(&peer), killer);
    assert!(matches!(
        outcome,
        Err(WorkloadError::Peer(PeerError::Ended { .. }))
    ));
}

#[tokio::test(start_paused = true)]
async fn one_that_never_answers_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let bus = dir.path().join("bus");
    // Accepts, by its backlog, and says nothing.
    let _listener = UnixListener::bind(&bus).unwrap();
    let silent = WorkloadAttestorSpec::Systemd(SystemdSpec { bus });
    let attestors = WorkloadAttestors::new(vec![unix(), silent]);
    let began = tokio::time::Instant::now();
    let selectors = attestors.attest(&own()).await.unwrap();
    assert!(!selectors.is_empty());
    assert_eq!(began.elapsed().as_secs(), systemd::DEADLINE.as_secs());
}
