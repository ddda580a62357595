//! A site of one file: its authority, its agent and its endpoints, attested, cut off, and under a CA
//! that is rotated.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getuid},
};
use sekisho_certs::hex;
use sekisho_spire_api::server::{
    agent::{ListAgentsRequest, agent_client::AgentClient},
    entry::{ListEntriesRequest, entry_client::EntryClient},
    local_authority::{
        ActivateX509AuthorityRequest, GetX509AuthorityStateRequest, PrepareX509AuthorityRequest,
        RevokeX509AuthorityRequest, TaintX509AuthorityRequest,
        local_authority_client::LocalAuthorityClient,
    },
};
use serde_json::Value;
use tonic::Code;

use crate::support::{World, node::SEKISHO, program::is_root, wait::until, whole::Whole};

/// Connections that are held while the CA is rotated.
const HELD: usize = 200;

fn echo() -> SocketAddr {
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

/// Connects and gets its own words back.
fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"the same words come back")?;
    let mut back = [0; 24];
    stream.read_exact(&mut back)?;
    assert_eq!(&back, b"the same words come back");
    Ok(())
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
}

fn lines(whole: &Whole) -> Vec<Value> {
    let said = whole.process.said();
    let lines = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines
        .filter(|line: &Value| line["target"] == "access")
        .collect()
}

#[test]
fn each_endpoint_has_its_own_attested_svid_and_another_executable_has_none() {
    let world = World::new();
    let path = fs::canonicalize(SEKISHO).unwrap();
    let digest = {
        let bytes = fs::read(&path).unwrap();
        hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes).as_ref())
    };
    let selectors = format!(
        "[\"unix:uid:{}\", \"unix:path:{}\", \"unix:sha256:{digest}\"]",
        getuid(),
        path.display()
    );
    let whole = Whole::start(&world, echo(), &selectors);
    exchange(&mut connect(whole.sender)).unwrap();
    let logged = until("both ends in the log", || {
        let lines = lines(&whole);
        (lines.len() == 2).then_some(lines)
    });
    for line in logged {
        let own = format!("spiffe://a.example/{}", line["endpoint"].as_str().unwrap());
        assert_eq!(
            (&line["own_id"], &line["decision"]),
            (&own.into(), &"allowed".into())
        );
    }
    // The same user, another executable: this test.
    let error = whole
        .runtime
        .block_on(Whole::ask(whole.agent.clone()))
        .unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::PermissionDenied, "no identity issued")
    );
    // Three processes, none of which has another's data open.
    for (command, allowed) in [
        ("authority", "/authority/"),
        ("agent", "/agent/"),
        ("run", ""),
    ] {
        let pid = whole.child(command).unwrap();
        let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        for file in files.filter_map(|file| fs::read_link(file.unwrap().path()).ok()) {
            let file = file.to_string_lossy().into_owned();
            let of_others = ["/authority/", "/agent/"]
                .iter()
                .filter(|folder| **folder != allowed);
            let own = world.name("");
            assert!(
                !file.starts_with(&own)
                    || of_others.into_iter().all(|folder| !file.contains(folder)),
                "{command} has {file}"
            );
        }
    }
}

#[test]
fn whatever_process_is_killed_the_site_goes_on() {
    let world = World::new();
    let whole = Whole::start(&world, echo(), &format!("[\"unix:uid:{}\"]", getuid()));
    let mut held = connect(whole.sender);
    exchange(&mut held).unwrap();
    let before = whole.endpoint("in")["svid"]["serial"].clone();
    for command in ["authority", "agent"] {
        let pid = whole.child(command).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        exchange(&mut held).unwrap();
        exchange(&mut connect(whole.sender)).unwrap();
        until("another process in its place", || {
            whole.child(command).filter(|new| *new != pid)
        });
    }
    // The agent has gone on from its cache: nothing was signed anew, and no token was made.
    until("the agent again", || {
        whole.runtime.block_on(Whole::ask(whole.agent.clone())).ok()
    });
    assert_eq!(nodes_of_tokens(&whole), (1, 1));
    assert_eq!(whole.endpoint("in")["svid"]["serial"], before);
    exchange(&mut held).unwrap();
}

/// How many agents there are, and how many entries that tokens have made.
fn nodes_of_tokens(whole: &Whole) -> (usize, usize) {
    whole.runtime.block_on(async {
        let channel = Whole::channel(whole.authority.clone()).await;
        let agents = AgentClient::new(channel.clone())
            .list_agents(ListAgentsRequest::default())
            .await;
        let entries = EntryClient::new(channel)
            .list_entries(ListEntriesRequest::default())
            .await;
        let entries = entries.unwrap().into_inner().entries.into_iter();
        let of_tokens = entries.filter(|entry| {
            let parent = entry.parent_id.as_ref().unwrap();
            parent.path.starts_with("/spire/agent/join_token/")
        });
        let agents = agents.unwrap().into_inner().agents.len();
        (agents, of_tokens.count())
    })
}

/// What a process was told by its environment.
fn environment(whole: &Whole, command: &str) -> Vec<String> {
    let pid = whole.child(command).unwrap();
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let all = environment.split(|byte| *byte == 0);
    all.filter(|one| !one.is_empty())
        .map(|one| String::from_utf8_lossy(one).into_owned())
        .collect()
}

#[test]
fn no_process_is_told_the_secret_of_another() {
    let world = World::new();
    let whole = Whole::start_sealed(&world, echo(), &format!("[\"unix:uid:{}\"]", getuid()));
    let secret = |command| {
        let all = environment(&whole, command);
        assert!(all.iter().any(|one| one.starts_with("PATH=")), "{all:?}");
        let of = |name: &str| all.iter().any(|one| one.starts_with(name));
        (of("SEKISHO_TEST_SECRET="), of("SEKISHO_TEST_OTHER="))
    };
    assert_eq!(secret("authority"), (true, false));
    assert_eq!(secret("agent"), (false, false));
    assert_eq!(secret("run"), (false, false));
}

#[test]
fn endpoints_run_as_the_user_whom_the_file_names_with_its_groups() {
    if !is_root("it takes root to start a process as another user") {
        return;
    }
    let user = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let world = World::new();
    // The user has to read the file, and to open its admin socket.
    fs::set_permissions(world.name(""), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(world.name(""), Some(user.uid.as_raw()), None).unwrap();
    let whole = Whole::start_as(&world, echo(), "[\"unix:user:nobody\"]", "nobody");
    exchange(&mut connect(whole.sender)).unwrap();
    let pid = whole.child("run").unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
    assert_eq!(line("Uid:"), vec![uid; 4]);
    assert_eq!(line("Gid:"), vec![gid.clone(); 4]);
    assert_eq!(line("Groups:"), [gid]);
    assert_eq!(line("CapEff:"), ["0000000000000000"]);
    let authority = whole.child("authority").unwrap();
    assert_eq!(fs::metadata(format!("/proc/{authority}")).unwrap().uid(), 0);
}

/// A connection that exchanges words again and again, until it is told to stop or is cut.
struct Holder {
    thread: JoinHandle<()>,
    cut: Arc<AtomicBool>,
    exchanges: Arc<AtomicUsize>,
}

impl Holder {
    fn start(to: SocketAddr, stop: &Arc<AtomicBool>) -> Self {
        let mut stream = connect(to);
        exchange(&mut stream).unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let exchanges = Arc::new(AtomicUsize::new(1));
        let (is_cut, count, stop) = (Arc::clone(&cut), Arc::clone(&exchanges), Arc::clone(stop));
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if exchange(&mut stream).is_err() {
                    is_cut.store(true, Ordering::Relaxed);
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(50));
            }
        });
        Self {
            thread,
            cut,
            exchanges,
        }
    }
}

/// prepare, activate, taint, revoke, as an administrator does it: each step when the nodes have seen
/// the one before.
#[test]
fn a_ca_is_rotated_under_load() {
    let world = World::new();
    let whole = Whole::start(&world, echo(), &format!("[\"unix:uid:{}\"]", getuid()));
    let stop = Arc::new(AtomicBool::new(false));
    let older: Vec<Holder> = (0..HELD)
        .map(|_| Holder::start(whole.sender, &stop))
        .collect();
    let (newer_opened, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let opener = {
        let (stop, opened, failed, to) = (
            Arc::clone(&stop),
            Arc::clone(&newer_opened),
            Arc::clone(&failed),
            whole.sender,
        );
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match exchange(&mut connect(to)) {
                    Ok(()) => opened.fetch_add(1, Ordering::Relaxed),
                    Err(_) => failed.fetch_add(1, Ordering::Relaxed),
                };
            }
        })
    };
    let mut admin = LocalAuthorityClient::new(
        whole
            .runtime
            .block_on(Whole::channel(whole.authority.clone())),
    );
    let authorities = |count: usize| {
        until("the CAs at both ends", || {
            let known = |name: &str| {
                whole.endpoint(name)["authorities"]["a.example"]
                    .as_array()
                    .unwrap()
                    .len()
            };
            (known("in") == count && known("out") == count).then_some(())
        });
    };
    let serials = || ["in", "out"].map(|name| whole.endpoint(name)["svid"]["serial"].clone());
    authorities(1);
    let old = whole.runtime.block_on(async {
        let state = admin
            .get_x509_authority_state(GetX509AuthorityStateRequest {})
            .await;
        let old = state.unwrap().into_inner().active.unwrap().authority_id;
        admin
            .prepare_x509_authority(PrepareX509AuthorityRequest {})
            .await
            .unwrap();
        old
    });
    authorities(2);
    let before = serials();
    whole.runtime.block_on(async {
        let state = admin
            .get_x509_authority_state(GetX509AuthorityStateRequest {})
            .await;
        let authority_id = state.unwrap().into_inner().prepared.unwrap().authority_id;
        admin
            .activate_x509_authority(ActivateX509AuthorityRequest { authority_id })
            .await
            .unwrap();
        admin
            .taint_x509_authority(TaintX509AuthorityRequest {
                authority_id: old.clone(),
            })
            .await
            .unwrap();
    });
    until("SVIDs by the new CA", || {
        let now = serials();
        (now[0] != before[0] && now[1] != before[1]).then_some(())
    });
    assert!(
        older
            .iter()
            .all(|holder| !holder.cut.load(Ordering::Relaxed)),
        "cut by a taint"
    );
    let newer: Vec<Holder> = (0..20)
        .map(|_| Holder::start(whole.sender, &stop))
        .collect();
    whole.runtime.block_on(async {
        let authority_id = old.clone();
        admin
            .revoke_x509_authority(RevokeX509AuthorityRequest { authority_id })
            .await
            .unwrap();
    });
    authorities(1);
    until("the older ones to be cut", || {
        older
            .iter()
            .all(|holder| holder.cut.load(Ordering::Relaxed))
            .then_some(())
    });
    let so_far: Vec<usize> = newer
        .iter()
        .map(|one| one.exchanges.load(Ordering::Relaxed))
        .collect();
    until("the newer ones to go on", || {
        let mut both = newer.iter().zip(&so_far);
        both.all(|(one, before)| one.exchanges.load(Ordering::Relaxed) >= before + 2)
            .then_some(())
    });
    assert!(
        newer
            .iter()
            .all(|holder| !holder.cut.load(Ordering::Relaxed))
    );
    stop.store(true, Ordering::Relaxed);
    opener.join().unwrap();
    for holder in older.into_iter().chain(newer) {
        holder.thread.join().unwrap();
    }
    assert_eq!(failed.load(Ordering::Relaxed), 0, "new connections failed");
    let opened = newer_opened.load(Ordering::Relaxed);
    assert!(opened > 50, "{opened} new connections");
    let (status, metrics) = whole.get("/metrics");
    assert_eq!(status, 200);
    let counts: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("sekisho_connections_total") && !line.ends_with(" 0"))
        .filter(|line| !line.contains("reason=\"\"") && !line.contains("reason=\"closed\""))
        .collect();
    assert!(
        counts.iter().all(|line| line.contains("bundle_changed")),
        "{counts:?}"
    );
    eprintln!("{HELD} held, {opened} new ones, none refused; then: {counts:?}");
}
