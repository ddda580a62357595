//! Which agents are listed or counted.

use clap::Args;
use sekisho_spire_api::{
    server::agent::AgentFilter,
    types::{self, SelectorMatch, selector_match::MatchBehavior},
};

use crate::commands::value;

/// What must be so of an agent; all of it, where several things are named.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Those that have attested in this way, as in join_token
    #[arg(long, value_name = "TYPE", value_parser = value::word)]
    attestation: Option<String>,
    /// Those that have this selector, and maybe others; may be given several times
    #[arg(long = "selector", value_name = "TYPE:VALUE", value_parser = value::selector)]
    selectors: Vec<types::Selector>,
    /// Those that are shut out, or are not
    #[arg(long, value_name = "true|false")]
    banned: Option<bool>,
    /// Those that may attest again without being forgotten first, or may not
    #[arg(long, value_name = "true|false")]
    can_reattest: Option<bool>,
}

impl Filter {
    /// As it is sent.
    pub(super) fn sent(&self) -> AgentFilter {
        AgentFilter {
            by_attestation_type: self.attestation.clone().unwrap_or_default(),
            by_selector_match: (!self.selectors.is_empty()).then(|| SelectorMatch {
                selectors: self.selectors.clone(),
                r#match: MatchBehavior::MatchSuperset.into(),
            }),
            by_banned: self.banned,
            by_can_reattest: self.can_reattest,
            by_expires_before: String::new(),
        }
    }
}
