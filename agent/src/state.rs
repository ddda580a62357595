//! What the agent knows, published whole: bundles, entries, and an SVID for each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use sekisho_certs::TrustDomain;

use crate::{
    bundle::{Bundle, Bundles},
    entry::Entry,
    selector::Selector,
    svid::Signed,
};

/// An entry and the SVID for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it says.
    pub entry: Arc<Entry>,
    /// Its SVID, once there is one.
    pub svid: Option<SignedFor>,
}

/// An SVID, and of which state of its entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedFor {
    /// The SVID.
    pub signed: Signed,
    /// Revision and time of making of the entry when it was signed.
    pub of: (i64, i64),
}

/// Everything at one time.
#[derive(Clone, Debug)]
pub struct State {
    /// Our own trust domain.
    pub domain: TrustDomain,
    /// Whether an authority, or a cache, has told what there is.
    pub known: bool,
    /// Bundles, our own among them.
    pub bundles: Bundles,
    /// By the entry's name.
    pub identities: BTreeMap<String, Identity>,
}

impl State {
    /// Nothing yet.
    #[must_use]
    pub const fn empty(domain: TrustDomain) -> Self {
        Self {
            domain,
            known: false,
            bundles: Bundles::new(),
            identities: BTreeMap::new(),
        }
    }

    /// Our own bundle.
    #[must_use]
    pub fn own_bundle(&self) -> Option<&Arc<Bundle>> {
        self.bundles.get(self.domain.as_str())
    }

    /// The identities of a process of which `selectors` are true, in the order of their entries'
    /// names; entries that are kept for somebody else are not among them. Their SVIDs may be missing
    /// or over.
    pub fn of<'a>(
        &'a self,
        selectors: &'a BTreeSet<Selector>,
    ) -> impl Iterator<Item = &'a Identity> + 'a {
        let all = self.identities.values();
        all.filter(|one| !one.entry.store_svid && one.entry.matches(selectors))
    }

    /// The bundles of domains that these identities are federated with, as far as there are any.
    #[must_use]
    pub fn federated<'a>(
        &self,
        identities: impl Iterator<Item = &'a Entry>,
    ) -> BTreeMap<String, Arc<Bundle>> {
        let names: BTreeSet<&String> = identities.flat_map(|entry| &entry.federates_with).collect();
        let known = names.into_iter().filter_map(|name| {
            let bundle = self.bundles.get(name)?;
            Some((name.clone(), Arc::clone(bundle)))
        });
        known.collect()
    }
}

impl Identity {
    /// The SVID, if it may be shown at `now`.
    #[must_use]
    pub fn valid(&self, now: SystemTime) -> Option<&Signed> {
        let svid = self.svid.as_ref().map(|svid| &svid.signed);
        svid.filter(|signed| signed.is_valid_at(now))
    }
}
