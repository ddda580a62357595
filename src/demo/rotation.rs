//! Rotation and reload, while connections carry checked bytes.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use nix::sys::signal::{Signal, kill};
use sekisho_bench::service::ECHO;
use serde_json::Value;

use super::sites::{Site, Sites};

/// Connections held, over the three flows.
const CONNECTIONS: usize = 100;
/// Between two rotations, and two reloads.
const EVERY: Duration = Duration::from_millis(400);
/// How long an echo may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    pub(super) connections: usize,
    /// SVIDs replaced, over all endpoints.
    pub(super) rotations: u64,
    /// Policies replaced, over all sites.
    pub(super) reloads: u64,
    /// Connections that failed, or gave back other bytes.
    pub(super) broken: usize,
}

/// Rotates and reloads for `time`.
pub(super) fn run(sites: &Sites, time: Duration, bar: &ProgressBar) -> anyhow::Result<Rotation> {
    let senders = ["osaka", "kyushu", "hokkaido"];
    let senders: Vec<SocketAddr> = senders
        .iter()
        .map(|name| sites.of(name)?.sender())
        .collect::<anyhow::Result<_>>()?;
    let stop = Arc::new(AtomicBool::new(false));
    let broken = Arc::new(AtomicUsize::new(0));
    let before = counts(sites)?;
    let threads: Vec<_> = (0..CONNECTIONS)
        .zip(senders.iter().cycle().copied())
        .map(|(number, sender)| {
            let (stop, broken) = (Arc::clone(&stop), Arc::clone(&broken));
            thread::spawn(move || {
                if hold(sender, number, &stop).is_err() {
                    broken.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let started = Instant::now();
    let mut round = 0_u32;
    while started.elapsed() < time {
        for site in sites.all() {
            kill(site.pid()?, Signal::SIGUSR1)?;
            edit_policy(site, round)?;
        }
        round += 1;
        let passed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        bar.set_position(passed);
        thread::sleep(EVERY);
    }
    let reloaded = |sites: &Sites| counts(sites).is_ok_and(|(_, reloads)| reloads > before.1);
    super::sites::wait("a reload", || reloaded(sites))?;
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        if thread.join().is_err() {
            broken.fetch_add(1, Ordering::Relaxed);
        }
    }
    let after = counts(sites)?;
    Ok(Rotation {
        connections: CONNECTIONS,
        rotations: after.0.saturating_sub(before.0),
        reloads: after.1.saturating_sub(before.1),
        broken: broken.load(Ordering::Relaxed),
    })
}

/// Holds one connection and checks what comes back, until told to stop.
fn hold(sender: SocketAddr, number: usize, stop: &AtomicBool) -> std::io::Result<()> {
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

/// Rotations and reloads of all sites so far.
fn counts(sites: &Sites) -> anyhow::Result<(u64, u64)> {
    let mut sum = (0, 0);
    for site in sites.all() {
        let status = site.status()?;
        let number = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or_default();
        let endpoints = status.get("endpoints").and_then(Value::as_array);
        for endpoint in endpoints.into_iter().flatten() {
            sum.0 += number(endpoint.pointer("/svid/rotations"));
        }
        sum.1 += number(status.pointer("/reloads/applied"));
    }
    Ok(sum)
}
