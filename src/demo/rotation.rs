//! Rotation and reload, while connections carry checked bytes; and a reload that denies.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::ensure;
use indicatif::ProgressBar;
use nix::sys::signal::{Signal, kill};
use sekisho_bench::service::ECHO;
use serde_json::Value;

use super::{
    client,
    sites::{Site, Sites, wait},
};

/// Who sends; the connections are spread over them.
const SENDERS: [&str; 3] = ["osaka", "kyushu", "hokkaido"];
/// Whom the last reload denies, and where.
const DENIED: &str = "kyushu";
const DENIED_AT: &str = "hokkaido";
const DENIED_ENDPOINT: &str = "from-kyushu";
/// Connections held, over the three flows.
const CONNECTIONS: usize = 100;
/// Between two rotations, and two reloads.
const EVERY: Duration = Duration::from_millis(400);
/// SVIDs that every endpoint must have had, of about ten asked for.
const ROTATIONS: u64 = 3;
/// Policies that every site must have had.
const RELOADS: u64 = 1;
/// How long an echo may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    /// Connections that carried bytes from before the first rotation until after the last.
    pub(super) connections: usize,
    /// Connections opened meanwhile that carried bytes.
    pub(super) new_connections: usize,
    /// SVIDs replaced, over all endpoints.
    pub(super) rotations: u64,
    /// Policies replaced, over all sites.
    pub(super) reloads: u64,
    /// Connections that failed and should not have, or gave back other bytes.
    pub(super) broken: usize,
    /// Connections that the last reload ended, as it should.
    pub(super) cut_by_policy: usize,
    /// What was not as expected.
    pub(super) complaints: Vec<String>,
}

impl Rotation {
    /// Whether all was as expected.
    pub(super) fn held(&self) -> bool {
        self.broken == 0 && self.complaints.is_empty()
    }
}

/// Rotates and reloads for `time`; then denies one of the senders, and lets it in again.
pub(super) fn run(sites: &Sites, time: Duration, bar: &ProgressBar) -> anyhow::Result<Rotation> {
    let mut outcome = Rotation::default();
    let senders = SENDERS.iter();
    let senders: Vec<(&'static str, SocketAddr)> = senders
        .map(|name| Ok((*name, sites.of(name)?.sender()?)))
        .collect::<anyhow::Result<_>>()?;
    let stop = Arc::new(AtomicBool::new(false));
    let holders: Vec<Holder> = (0..CONNECTIONS)
        .zip(senders.iter().cycle().copied())
        .map(|(number, (site, sender))| Holder::start(site, sender, number, &stop))
        .collect();
    all_go_on(&holders, |_| true)?;

    let before = Counts::of(sites)?;
    let started = Instant::now();
    let mut round = 0_u32;
    while started.elapsed() < time {
        let begun = Instant::now();
        for site in sites.all() {
            kill(site.pid()?, Signal::SIGUSR1)?;
            edit_policy(site, round)?;
        }
        round += 1;
        for (name, sender) in &senders {
            if client::attempt_plain(*sender)?.answered {
                outcome.new_connections += 1;
            } else {
                outcome.broken += 1;
                let problem = format!("a new connection from {name} got no answer");
                outcome.complaints.push(problem);
            }
        }
        let passed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        bar.set_position(passed);
        thread::sleep(EVERY.saturating_sub(begun.elapsed()));
    }
    let enough = || Counts::of(sites).is_ok_and(|now| now.lacking(&before).is_empty());
    // What is lacking is said below.
    let _ = wait("rotations and reloads", enough);
    let after = Counts::of(sites)?;
    outcome.complaints.extend(after.lacking(&before));
    outcome.rotations = after.rotations().saturating_sub(before.rotations());
    outcome.reloads = after.reloads().saturating_sub(before.reloads());
    all_go_on(&holders, |_| true)?;
    for holder in &holders {
        match (holder.has_ended(), holder.site == DENIED) {
            (false, _) => outcome.connections += 1,
            (true, true) => outcome.broken += 1,
            // Counted at the end, with those that break later.
            (true, false) => {}
        }
    }

    deny_and_restore(sites, &holders, &mut outcome)?;
    stop.store(true, Ordering::Relaxed);
    for holder in holders {
        let denied = holder.site == DENIED;
        match holder.thread.join() {
            Ok(Ok(())) => {}
            // Cut, or counted already.
            Ok(Err(error)) if denied && error.kind() != std::io::ErrorKind::InvalidData => {}
            _ => outcome.broken += 1,
        }
    }
    if outcome.connections != CONNECTIONS {
        let held = outcome.connections;
        let problem = format!("{held} of {CONNECTIONS} connections were held");
        outcome.complaints.push(problem);
    }
    Ok(outcome)
}

/// Exactly the connections of the denied end, and nobody new comes; then it is as it was.
fn deny_and_restore(
    sites: &Sites,
    holders: &[Holder],
    outcome: &mut Rotation,
) -> anyhow::Result<()> {
    let (gate, sender) = (sites.of(DENIED_AT)?, sites.of(DENIED)?.sender()?);
    let is_denied = |holder: &Holder| holder.site == DENIED;
    let held = holders.iter().filter(|holder| !holder.has_ended());
    let held = held.filter(|holder| is_denied(holder)).count();
    let others = |holder: &Holder| !is_denied(holder);
    let mut complain = |problem: String| outcome.complaints.push(problem);

    let path = gate.folder.join("policy/authz.rego");
    let allows = fs::read_to_string(&path)?;
    let inbound = "input.sekisho.direction == \"inbound\"";
    let but = format!("{inbound}\n\tinput.sekisho.client.trust_domain != \"{DENIED}.example\"");
    let denies = allows.replace(inbound, &but);
    ensure!(denies != allows, "{}: no rule to change", path.display());
    let since = gate.log_length()?;
    sekisho_certs::persist::replace(&path, denies.as_bytes(), true)?;
    let all_cut = || {
        let mut denied = holders.iter().filter(|holder| is_denied(holder));
        denied.all(Holder::has_ended)
    };
    if wait("the denied connections to end", all_cut).is_err() {
        complain(format!("a policy that denies {DENIED} did not cut it"));
        return Ok(());
    }
    let by_policy = |line: &Value| {
        let text = |name: &str| line.get(name).and_then(Value::as_str);
        text("endpoint") == Some(DENIED_ENDPOINT)
            && text("end") == Some("cut")
            && text("reason") == Some("policy_denied")
    };
    let cut = gate.accesses(since, held, by_policy)?;
    if cut != held {
        complain(format!(
            "{cut} of {held} connections were cut by the policy"
        ));
    }
    if client::attempt_plain(sender)?.answered {
        complain(format!("{DENIED} was denied, and got in"));
    }
    all_go_on(holders, others)?;

    let denying = revision(gate)?;
    sekisho_certs::persist::replace(&path, allows.as_bytes(), true)?;
    wait("the policy that allows again", || {
        revision(gate).is_ok_and(|now| now != denying)
    })?;
    if !client::attempt_plain(sender)?.answered {
        complain(format!("{DENIED} is allowed again, and got no answer"));
    }
    all_go_on(holders, others)?;
    outcome.cut_by_policy = cut;
    Ok(())
}

/// The policy in force at the endpoint of the denied.
fn revision(site: &Site) -> anyhow::Result<Option<String>> {
    let status = site.status()?;
    let endpoints = status.get("endpoints").and_then(Value::as_array);
    let mut endpoints = endpoints.into_iter().flatten();
    let text = |endpoint: &Value, name: &str| {
        let text = endpoint.get(name).and_then(Value::as_str);
        text.map(ToOwned::to_owned)
    };
    let found =
        endpoints.find(|endpoint| text(endpoint, "name").as_deref() == Some(DENIED_ENDPOINT));
    Ok(found.and_then(|endpoint| text(endpoint, "policy_revision")))
}

/// A connection that is held.
struct Holder {
    /// Whose sender it goes through.
    site: &'static str,
    /// Blocks that came back as they went.
    blocks: Arc<AtomicU64>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Holder {
    fn start(
        site: &'static str,
        sender: SocketAddr,
        number: usize,
        stop: &Arc<AtomicBool>,
    ) -> Self {
        let blocks = Arc::new(AtomicU64::new(0));
        let (stop, counter) = (Arc::clone(stop), Arc::clone(&blocks));
        Self {
            site,
            blocks,
            thread: thread::spawn(move || hold(sender, number, &stop, &counter)),
        }
    }

    fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }
}

/// Waits until each of these has ended, which is counted in the end, or has carried a block that
/// was sent from now on: the second from now, since one may be on its way.
fn all_go_on(holders: &[Holder], which: impl Fn(&Holder) -> bool) -> anyhow::Result<()> {
    let holders = holders.iter().filter(|holder| which(holder));
    let now: Vec<_> = holders.map(|holder| (holder, holder.blocks())).collect();
    wait("every connection to carry bytes", || {
        now.iter()
            .all(|(holder, before)| holder.has_ended() || holder.blocks() >= before + 2)
    })
}

/// Holds one connection and checks what comes back, until told to stop.
fn hold(
    sender: SocketAddr,
    number: usize,
    stop: &AtomicBool,
    blocks: &AtomicU64,
) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(sender)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[ECHO])?;
    let mut round = number;
    while !stop.load(Ordering::Relaxed) {
        let block: Vec<u8> = (0..1024_usize)
            .map(|index| u8::try_from((index + round) % 251).unwrap_or_default())
            .collect();
        stream.write_all(&block)?;
        let mut back = vec![0; block.len()];
        stream.read_exact(&mut back)?;
        if back != block {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        blocks.fetch_add(1, Ordering::Relaxed);
        round += 1;
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Changes a comment: another revision that decides the same.
fn edit_policy(site: &Site, round: u32) -> anyhow::Result<()> {
    let path = site.folder.join("policy/authz.rego");
    let text = fs::read_to_string(&path)?;
    let rules = text
        .split("\n# round ")
        .next()
        .unwrap_or_default()
        .trim_end();
    let text = format!("{rules}\n\n# round {round}\n");
    sekisho_certs::persist::replace(&path, text.as_bytes(), true)?;
    Ok(())
}

/// Rotations and reloads so far, by whose they are; always in the same order.
struct Counts {
    rotations: Vec<(String, u64)>,
    reloads: Vec<(String, u64)>,
}

impl Counts {
    fn of(sites: &Sites) -> anyhow::Result<Self> {
        let mut counts = Self {
            rotations: Vec::new(),
            reloads: Vec::new(),
        };
        let number = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or_default();
        for site in sites.all() {
            let status = site.status()?;
            let endpoints = status.get("endpoints").and_then(Value::as_array);
            for endpoint in endpoints.into_iter().flatten() {
                let name = endpoint.get("name").and_then(Value::as_str);
                let name = format!("{} of {}", name.unwrap_or_default(), site.name);
                let rotations = number(endpoint.pointer("/svid/rotations"));
                counts.rotations.push((name, rotations));
            }
            let reloads = number(status.pointer("/reloads/applied"));
            counts.reloads.push((site.name.to_owned(), reloads));
        }
        Ok(counts)
    }

    fn rotations(&self) -> u64 {
        self.rotations.iter().map(|(_, count)| count).sum()
    }

    fn reloads(&self) -> u64 {
        self.reloads.iter().map(|(_, count)| count).sum()
    }

    /// Who did not do enough since `before`.
    fn lacking(&self, before: &Self) -> Vec<String> {
        let mut lacking = Vec::new();
        let kinds = [
            (&before.rotations, &self.rotations, ROTATIONS, "rotations"),
            (&before.reloads, &self.reloads, RELOADS, "reloads"),
        ];
        for (before, now, least, what) in kinds {
            for ((name, before), (_, now)) in before.iter().zip(now) {
                let count = now.saturating_sub(*before);
                if count < least {
                    lacking.push(format!("{name}: {count} {what}"));
                }
            }
        }
        lacking
    }
}
