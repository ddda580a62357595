//! What the authority knows of other sites, for its agents' proxies: pairwise peers out of the store,
//! and members of a directory, where one is plugged in.

mod followed;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::SystemTime,
};

use sekisho_certs::{Mark, Member, TrustDomain, members::Source};

use crate::{
    core::Core,
    federation::trust_bundle,
    store::{Bundle, Peer, StoreError},
};

pub use followed::Followed;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// By name.
    pub domains: BTreeSet<TrustDomain>,
    /// Those that carry one of these.
    pub marks: BTreeSet<Mark>,
}

/// What is known of it now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// By name and by mark, each once. One that is not loaded has no bundle.
    pub members: Vec<Arc<Member>>,
    /// Of the names that were asked for, those of nobody. A name that may still turn out to be
    /// somebody's is in neither.
    pub unknown: Vec<TrustDomain>,
}

/// Somebody who knows members: a directory's client.
///
/// Asked on each sync of each agent, so it answers out of memory; what is not loaded it begins to
/// load, at its own rate.
pub trait MemberSource: fmt::Debug + Send + Sync + 'static {
    /// What is known now of what is wanted.
    fn get(&self, wanted: &Wanted) -> Answer;
}

impl Core {
    /// What is known of what is wanted.
    ///
    /// The bundle of a pairwise peer comes from its relationship alone, whatever a directory says of
    /// that site; its marks and services are the directory's. A bundle that an administrator has set
    /// by hand counts as a peer's, where no directory knows its site.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn members(&self, wanted: &Wanted) -> Result<Answer, StoreError> {
        let own = &self.settings.domain;
        let mut answer = match &self.directory {
            Some(directory) => directory.get(wanted),
            None => Answer {
                members: Vec::new(),
                unknown: wanted.domains.iter().cloned().collect(),
            },
        };
        // Nobody tells us about ourselves.
        answer.members.retain(|member| member.trust_domain() != own);
        let mut members: BTreeMap<TrustDomain, Arc<Member>> = answer
            .members
            .into_iter()
            .map(|member| (member.trust_domain().clone(), member))
            .collect();
        let related = self.store.peers().await?;
        let related: BTreeMap<&TrustDomain, &Peer> = related
            .iter()
            .map(|peer| (&peer.relationship.domain, peer))
            .collect();
        let by_name = wanted.domains.iter().filter(|domain| *domain != own);
        let asked: BTreeSet<TrustDomain> = by_name
            .filter(|domain| related.contains_key(*domain) || !members.contains_key(*domain))
            .chain(
                members
                    .keys()
                    .filter(|domain| related.contains_key(*domain)),
            )
            .cloned()
            .collect();
        for domain in asked {
            let stored = self.store.bundle(domain.clone()).await?;
            let peer = related.get(&domain).copied();
            if stored.is_some() || peer.is_some() {
                let listed = members.get(&domain);
                // One that was never confirmed is as old as can be; what an administrator has set by
                // hand nobody confirms, and it counts as of now.
                let confirmed = peer.map_or_else(
                    || self.now(),
                    |peer| peer.confirmed.unwrap_or(SystemTime::UNIX_EPOCH),
                );
                let peer = Member::new(domain.clone(), Source::Peer, confirmed);
                let peer = completed(peer, stored.as_ref(), listed);
                members.insert(domain, Arc::new(peer));
            }
        }
        answer
            .unknown
            .retain(|domain| !members.contains_key(domain));
        answer.members = members.into_values().collect();
        Ok(answer)
    }
}

/// A pairwise peer with its bundle as it is stored, and what a directory says of it.
fn completed(mut peer: Member, stored: Option<&Bundle>, listed: Option<&Arc<Member>>) -> Member {
    let domain = peer.trust_domain().clone();
    if let Some(listed) = listed {
        let marks = peer.clone().with_marks(listed.marks().clone());
        let all = marks.and_then(|peer| peer.with_services(listed.services().values().cloned()));
        match all {
            Ok(all) => peer = all,
            Err(error) => tracing::warn!(%domain, %error, "what a directory says is left out"),
        }
    }
    let Some(stored) = stored else { return peer };
    match trust_bundle(stored) {
        // It is of this very domain.
        Ok(bundle) => peer.clone().with_bundle(Arc::new(bundle)).unwrap_or(peer),
        Err(error) => {
            tracing::warn!(%domain, %error, "a stored bundle cannot be used");
            peer
        }
    }
}
