//! Which entries are listed or counted.

use clap::Args;
use sekisho_certs::TrustDomain;
use sekisho_spire_api::{
    server::entry::EntryFilter,
    types::{
        self, FederatesWithMatch, SelectorMatch, federates_with_match,
        selector_match::MatchBehavior,
    },
};

use crate::commands::value;

/// What must be so of an entry; all of it, where several things are named.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Those of this identity
    #[arg(long, value_name = "ID", value_parser = value::id)]
    spiffe_id: Option<value::Id>,
    /// Those that this node serves
    #[arg(long, value_name = "ID", value_parser = value::id)]
    parent_id: Option<value::Id>,
    /// Those that have this selector, and maybe others; may be given several times
    #[arg(long = "selector", value_name = "TYPE:VALUE", value_parser = value::selector)]
    selectors: Vec<types::Selector>,
    /// Those that get this bundle, and maybe others; may be given several times
    #[arg(long, value_name = "TRUST DOMAIN", value_parser = value::trust_domain)]
    federates_with: Vec<TrustDomain>,
    /// Those with this hint
    #[arg(long, value_name = "WORD", value_parser = value::word)]
    hint: Option<String>,
    /// Those of servers below
    #[arg(long)]
    downstream: bool,
}

impl Filter {
    /// As it is sent.
    pub(super) fn at(&self, site: &TrustDomain) -> anyhow::Result<EntryFilter> {
        let id = |id: &Option<value::Id>| id.as_ref().map(|id| id.at(site)).transpose();
        let selectors = (!self.selectors.is_empty()).then(|| SelectorMatch {
            selectors: self.selectors.clone(),
            r#match: MatchBehavior::MatchSuperset.into(),
        });
        let domains = self.federates_with.iter();
        let federates = (!self.federates_with.is_empty()).then(|| FederatesWithMatch {
            trust_domains: domains.map(ToString::to_string).collect(),
            r#match: federates_with_match::MatchBehavior::MatchSuperset.into(),
        });
        Ok(EntryFilter {
            by_spiffe_id: id(&self.spiffe_id)?,
            by_parent_id: id(&self.parent_id)?,
            by_selectors: selectors,
            by_federates_with: federates,
            by_hint: self.hint.clone(),
            // Anything else than yes lets all pass (spire-api.md §8).
            by_downstream: self.downstream.then_some(true),
        })
    }
}
