//! What is known of each relationship: for status, for whoever decides by the age of a bundle.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sekisho_certs::TrustDomain;

use super::RefreshError;
use crate::store::{Origin, Peer};

/// What is known of a relationship.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Whose bundle is fetched.
    pub domain: TrustDomain,
    /// Who has named it.
    pub origin: Origin,
    /// When its endpoint last said that what is stored is what counts, in whole seconds; `None`: never.
    pub confirmed: Option<SystemTime>,
    /// When it was last tried since the start of this process; `None`: not yet.
    pub tried: Option<SystemTime>,
    /// Why the last try was in vain; `None` where it was not.
    pub error: Option<String>,
    /// Whether its sequence may go down, once.
    pub rollback: bool,
}

impl PeerState {
    /// How long ago it was confirmed; `None`: never.
    #[must_use]
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        let confirmed = self.confirmed?;
        Some(now.duration_since(confirmed).unwrap_or_default())
    }
}

/// What is known, by the name of the trust domain.
pub type States = BTreeMap<String, PeerState>;

/// Takes on what the store has. False if that is what was known.
pub(super) fn follow(states: &mut Arc<States>, peers: &[Peer]) -> bool {
    let one = |peer: &Peer| {
        let known = states.get(peer.relationship.domain.as_str());
        let state = PeerState {
            domain: peer.relationship.domain.clone(),
            origin: peer.relationship.origin,
            // A fetch may have ended since this was read.
            confirmed: peer.confirmed.max(known.and_then(|known| known.confirmed)),
            tried: known.and_then(|known| known.tried),
            error: known.and_then(|known| known.error.clone()),
            rollback: peer.rollback,
        };
        (state.domain.to_string(), state)
    };
    let new: States = peers.iter().map(one).collect();
    let changed = **states != new;
    if changed {
        *states = Arc::new(new);
    }
    changed
}

/// Takes on how a fetch has ended. False if the relationship has ended since.
pub(super) fn note(
    states: &mut States,
    domain: &TrustDomain,
    at: SystemTime,
    error: Option<&RefreshError>,
) -> bool {
    let Some(known) = states.get_mut(domain.as_str()) else {
        return false;
    };
    known.tried = Some(at);
    known.error = error.map(ToString::to_string);
    if error.is_none() {
        known.confirmed = Some(at);
    }
    true
}

#[cfg(test)]
mod tests {
    use sekisho_certs::id::parse_trust_domain;

    use super::*;
    use crate::store::{EndpointProfile, Relationship};

    fn peer(domain: &str, confirmed: Option<SystemTime>) -> Peer {
        Peer {
            relationship: Relationship {
                origin: Origin::Api,
                domain: parse_trust_domain(domain).unwrap(),
                url: "https://b.example/".parse().unwrap(),
                profile: EndpointProfile::Web,
            },
            confirmed,
            rollback: false,
        }
    }

    #[test]
    fn an_error_stays_beside_the_time_of_the_last_good_answer() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut states = Arc::default();
        let stored = [peer("b.example", Some(at(10))), peer("c.example", None)];
        assert!(follow(&mut states, &stored));
        assert!(!follow(&mut states, &stored), "nothing is new");
        let b = parse_trust_domain("b.example").unwrap();
        let failed = RefreshError::NoEndpointBundle(b.clone());
        assert!(note(Arc::make_mut(&mut states), &b, at(20), Some(&failed)));
        let known = &states["b.example"];
        assert_eq!((known.confirmed, known.tried), (Some(at(10)), Some(at(20))));
        assert_eq!(known.age(at(25)), Some(Duration::from_secs(15)));
        assert!(known.error.as_ref().unwrap().contains("no bundle"));
        assert!(note(Arc::make_mut(&mut states), &b, at(30), None));
        // The store is a little behind.
        follow(&mut states, &stored[..1]);
        let known = &states["b.example"];
        assert_eq!(
            (known.confirmed, known.error.as_ref()),
            (Some(at(30)), None)
        );
        assert!(!states.contains_key("c.example"));
        let c = parse_trust_domain("c.example").unwrap();
        assert!(!note(Arc::make_mut(&mut states), &c, at(30), None));
    }
}
