//! Entries: which processes of this node have which identity.

use std::collections::BTreeSet;

use sekisho_certs::{SpiffeId, TrustDomain, id};
use sekisho_spire_api::types;
use serde::{Deserialize, Serialize};

use crate::selector::Selector;

/// An entry that this node may serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name; identities are told in the order of it.
    pub id: String,
    /// The identity.
    pub spiffe_id: String,
    /// What must be true of a process; all of it.
    pub selectors: BTreeSet<Selector>,
    /// Whose bundles the process gets beside our own.
    pub federates_with: BTreeSet<String>,
    /// A word for those that have several identities.
    pub hint: String,
    /// Rises with every change.
    pub revision: i64,
    /// When it was made, in seconds since 1970.
    pub created_at: i64,
    /// It administers the authority: it is told to nobody who asks in another's name.
    pub admin: bool,
    /// It is a server below: as `admin`.
    pub downstream: bool,
    /// It is kept for somebody else: the Workload API does not serve it.
    pub store_svid: bool,
    /// Its SVID is made when it is asked for, not before.
    pub on_demand: bool,
}

impl Entry {
    /// What an authority has answered; `None` where it lacks a name, an identity of `domain` or
    /// selectors, which SPIRE's agent drops too.
    #[must_use]
    pub fn from_wire(wire: types::Entry, domain: &TrustDomain) -> Option<Self> {
        let spiffe_id = wire.spiffe_id?;
        let named = spiffe_id.trust_domain.strip_prefix("spiffe://");
        let named = named.unwrap_or(&spiffe_id.trust_domain);
        if wire.id.is_empty() || wire.selectors.is_empty() || named != domain.as_str() {
            return None;
        }
        let whole = id::id_below(domain, &spiffe_id.path).ok()?;
        let federates = wire.federates_with.iter();
        let federates = federates.map(|name| name.strip_prefix("spiffe://").unwrap_or(name));
        Some(Self {
            id: wire.id,
            spiffe_id: whole.to_string(),
            selectors: wire.selectors.into_iter().map(Selector::from).collect(),
            federates_with: federates
                .filter(|name| *name != domain.as_str())
                .map(str::to_owned)
                .collect(),
            hint: wire.hint,
            revision: wire.revision_number,
            created_at: wire.created_at,
            admin: wire.admin,
            downstream: wire.downstream,
            store_svid: wire.store_svid,
            on_demand: wire
                .additional_attributes
                .is_some_and(|more| more.disable_x509_svid_prefetch),
        })
    }

    /// The identity.
    ///
    /// # Errors
    /// Never for an entry from [`Entry::from_wire`]; one from a file may be anything.
    pub fn parsed_id(&self) -> Result<SpiffeId, id::IdError> {
        id::parse_workload_id(&self.spiffe_id)
    }

    /// Whether a process of which this is true has the identity.
    #[must_use]
    pub fn matches(&self, selectors: &BTreeSet<Selector>) -> bool {
        self.selectors.is_subset(selectors)
    }
}
