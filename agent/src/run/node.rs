//! The agent's own certificate, and what was kept of everything.

use std::{sync::Arc, time::SystemTime};

use sekisho_certs::{BundleSet, Trust, TrustBundle};

use super::Agent;
use crate::{
    cache::{Kept, KeptNode, KeptSvid},
    members::ask::kept as members,
    state::{Identity, SignedFor, State},
    svid::Signed,
};

/// An agent that has attested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its certificate.
    pub signed: Signed,
    /// Whether it may attest again under the same ID.
    pub reattestable: bool,
}

impl Node {
    pub(super) fn kept(&self) -> KeptNode {
        KeptNode {
            held: (*self.signed.held).clone(),
            reattestable: self.reattestable,
        }
    }
}

/// What is kept of a state.
pub(super) fn kept(state: &State) -> Kept {
    let svids = state.identities.iter().filter_map(|(name, identity)| {
        let svid = identity.svid.as_ref()?;
        let kept = KeptSvid {
            held: Arc::clone(&svid.signed.held),
            of: svid.of,
        };
        Some((name.clone(), kept))
    });
    let entries = state.identities.values();
    Kept {
        bundles: state.bundles.clone(),
        entries: entries.map(|one| Arc::clone(&one.entry)).collect(),
        svids: svids.collect(),
        ..Kept::new(&state.domain)
    }
}

impl Agent {
    /// Takes up what was kept: what is still good of it is served, to whoever attests again.
    pub(super) fn take_up(&mut self, mut kept: Kept) {
        let now = self.clock.now();
        let domain = self.settings.domain.clone();
        let own = kept.bundles.get(domain.as_str());
        let Some(own) = own.and_then(|own| own.trust(&domain).ok()) else {
            tracing::warn!("what was kept has no bundle of this site; begins anew");
            return;
        };
        let Some(trust) = self.trust_of(own) else {
            return;
        };
        let check =
            |held, wanted: Option<&_>| Signed::check(held, wanted, &trust, now, &self.provider);
        let node = kept.node.take().and_then(|node| {
            let signed = check(node.held, None);
            let told = |error: &_| tracing::info!(%error, "the agent's own certificate is over");
            Some(Node {
                signed: signed.inspect_err(told).ok()?,
                reattestable: node.reattestable,
            })
        });
        let mut state = State::empty(domain);
        self.put_out = kept.put_out;
        if kept.put_out {
            // The bundle is needed to come back; until then nobody is served.
            tracing::warn!("this node was put out: what was kept is not served");
            kept.entries.clear();
        }
        state.known = !kept.put_out;
        for entry in &kept.entries {
            let svid = kept.svids.remove(&entry.id).and_then(|svid| {
                let id = entry.parsed_id().ok()?;
                let signed = check((*svid.held).clone(), Some(&id)).ok()?;
                Some(SignedFor {
                    signed,
                    of: svid.of,
                })
            });
            let identity = Identity {
                entry: Arc::clone(entry),
                svid,
            };
            state.identities.insert(entry.id.clone(), identity);
        }
        state.bundles = kept.bundles;
        if !kept.put_out {
            let members = members::take_up(&kept.members, now);
            self.desk.take_up(members, now);
        }
        let svids = state.identities.values();
        let svids = svids.filter(|one| one.valid(now).is_some()).count();
        tracing::info!(
            entries = state.identities.len(),
            svids,
            agent = node.is_some(),
            "goes on from what was kept"
        );
        self.node = node;
        self.state.send_replace(Arc::new(state));
        let own = self.node.as_ref();
        self.health.send_modify(|health| {
            health.node = own.map(|node| (node.signed.id.clone(), node.signed.not_after));
        });
    }

    /// A bundle, ready for verifying.
    pub(super) fn trust_of(&self, bundle: TrustBundle) -> Option<Arc<Trust>> {
        let mut set = BundleSet::default();
        if let Err(error) = set.insert(Arc::new(bundle)) {
            tracing::error!(%error, "the site's bundle cannot be used");
            return None;
        }
        let algorithms = self.provider.signature_verification_algorithms;
        Some(Arc::new(Trust::new(set, algorithms)))
    }

    /// When an SVID is to be replaced.
    pub(super) fn renewal(&self, signed: &Signed) -> SystemTime {
        signed.renew_at(self.settings.availability, share(&signed.serial))
    }
}

/// A number from 0 to 1 that stays with a serial number, so that what was signed together is not
/// replaced together, and a restart changes nothing.
fn share(serial: &str) -> f64 {
    let tail = serial.get(serial.len().saturating_sub(8)..);
    let number = tail.and_then(|tail| u32::from_str_radix(tail, 16).ok());
    f64::from(number.unwrap_or_default()) / f64::from(u32::MAX)
}
