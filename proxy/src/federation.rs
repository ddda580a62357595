//! What is known of other sites, for status and metrics.

use std::{
    sync::PoisonError,
    time::{Duration, SystemTime},
};

use sekisho_certs::{
    Member,
    members::{Feed, Source, Wish},
};
use serde::Serialize;

use crate::Proxy;

/// Members that the status lists.
const LISTED: usize = 1000;

/// `federation` in `/status`.
#[derive(Clone, Debug, Serialize)]
pub struct FederationStatus {
    /// Why nothing is told now; what was told before stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How many members are known.
    pub known: usize,
    /// How many of them have their bundle here.
    pub loaded: usize,
    /// Domains that were asked for, with and without an answer.
    pub wanted: usize,
    /// The first 1,000, by name.
    pub members: Vec<MemberStatus>,
}

/// A member's row.
#[derive(Clone, Debug, Serialize)]
pub struct MemberStatus {
    /// Its trust domain.
    pub trust_domain: String,
    /// `peer` or `directory`.
    pub source: &'static str,
    /// Whole seconds since what is known of it was last confirmed.
    pub age_seconds: u64,
    /// Its marks.
    pub marks: Vec<String>,
    /// Its services, by name.
    pub services: Vec<String>,
    /// Whether its bundle is here.
    pub loaded: bool,
}

/// What metrics say.
#[derive(Clone, Debug)]
pub(crate) struct FederationReading {
    /// How many by source, and how old the oldest of them is.
    pub(crate) members: [(Source, usize, Option<Duration>); 2],
    pub(crate) demand: Vec<(Wish, u64)>,
}

fn row(member: &Member, now: SystemTime) -> MemberStatus {
    MemberStatus {
        trust_domain: member.trust_domain().to_string(),
        source: member.source().as_str(),
        age_seconds: member.age(now).as_secs(),
        marks: member.marks().iter().map(ToString::to_string).collect(),
        services: member.services().keys().cloned().collect(),
        loaded: member.bundle().is_some(),
    }
}

impl Proxy {
    /// From where its endpoints know other sites, for status and metrics; in place of those before.
    pub fn set_feeds(&self, feeds: Vec<Feed>) {
        let mut own = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        *own = feeds;
    }

    fn feeds(&self) -> Vec<Feed> {
        let feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.clone()
    }

    /// What is known of other sites; `None` where no endpoint asks.
    #[must_use]
    pub fn federation_status(&self) -> Option<FederationStatus> {
        let feeds = self.feeds();
        if feeds.is_empty() {
            return None;
        }
        let now = self.shared.context.clock.now();
        let mut status = FederationStatus {
            problem: None,
            known: 0,
            loaded: 0,
            wanted: 0,
            members: Vec::new(),
        };
        for feed in feeds {
            if let Some(problem) = &*feed.problem.borrow() {
                status.problem.get_or_insert_with(|| problem.to_string());
            }
            status.wanted += feed
                .demand
                .as_ref()
                .map_or(0, |demand| demand.wanted().len());
            let members = feed.members.borrow().clone();
            status.known += members.len();
            let loaded = members.iter().filter(|member| member.bundle().is_some());
            status.loaded += loaded.count();
            let room = LISTED.saturating_sub(status.members.len());
            let rows = members.iter().take(room).map(|member| row(member, now));
            status.members.extend(rows);
        }
        Some(status)
    }

    pub(crate) fn federation_reading(&self) -> Option<FederationReading> {
        let feeds = self.feeds();
        if feeds.is_empty() {
            return None;
        }
        let now = self.shared.context.clock.now();
        let mut reading = FederationReading {
            members: [Source::Peer, Source::Directory].map(|source| (source, 0, None)),
            demand: Vec::new(),
        };
        for feed in feeds {
            for member in feed.members.borrow().iter() {
                let rows = reading.members.iter_mut();
                for (_, count, oldest) in rows.filter(|row| row.0 == member.source()) {
                    *count += 1;
                    *oldest = (*oldest).max(Some(member.age(now)));
                }
            }
            if let Some(demand) = &feed.demand {
                for (wish, count) in demand.counts() {
                    match reading.demand.iter_mut().find(|(one, _)| *one == wish) {
                        Some((_, sum)) => *sum += count,
                        None => reading.demand.push((wish, count)),
                    }
                }
            }
        }
        Some(reading)
    }
}
