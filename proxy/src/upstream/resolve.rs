//! Names of targets, resolved again on a schedule; the last good answer serves while DNS fails.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, time::Instant};

use super::Upstream;
use crate::endpoint::spec::Address;

/// How often a name is resolved again.
const EVERY: Duration = Duration::from_secs(30);
/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a failure answers for those who ask next.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// Addresses used of one answer.
const MAX_ADDRESSES: usize = 16;

/// The addresses a name last had.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    known: Mutex<Vec<SocketAddr>>,
    /// One question at a time, and when the last one failed.
    asking: tokio::sync::Mutex<Option<Instant>>,
}

impl Resolved {
    /// What is known; empty before the first answer.
    pub(super) fn known(&self) -> Vec<SocketAddr> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// What is known, or else the answer to a question that all who wait for it share. A failure
    /// answers for a second.
    pub(super) async fn known_or_ask(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let known = self.known();
        if !known.is_empty() {
            return Ok(known);
        }
        let mut failed = self.asking.lock().await;
        let known = self.known();
        if !known.is_empty() {
            return Ok(known);
        }
        if failed.is_some_and(|at| at.elapsed() < FAILED_FOR) {
            return Err(io::Error::other("did not resolve a moment ago"));
        }
        let answer = self.ask(name, port).await;
        *failed = answer.is_err().then(Instant::now);
        answer
    }

    /// Asks, and remembers a good answer.
    pub(super) async fn ask(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let answer = tokio::time::timeout(ANSWER, tokio::net::lookup_host((name, port))).await;
        let mut addresses: Vec<_> = answer
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??
            .collect();
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone_from(&addresses);
        Ok(addresses)
    }
}

/// Keeps the names of `upstream` resolved until it is dropped.
pub(super) fn keep(upstream: &Arc<Upstream>, runtime: &Handle) {
    let named = |upstream: &Upstream| {
        let mut targets = upstream.targets.iter();
        targets.any(|target| matches!(target.address(), Address::Name(..)))
    };
    if !named(upstream) {
        return;
    }
    let upstream = Arc::downgrade(upstream);
    runtime.spawn(async move {
        while let Some(pass) = Weak::upgrade(&upstream) {
            for target in &pass.targets {
                let Address::Name(name, port) = target.address() else {
                    continue;
                };
                if let Err(error) = target.resolved.ask(name, *port).await {
                    let kept = target.resolved.known().len();
                    tracing::warn!(name, %error, kept, "target's name not resolved");
                }
            }
            drop(pass);
            tokio::time::sleep(EVERY).await;
        }
    });
}
