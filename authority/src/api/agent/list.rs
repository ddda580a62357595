//! Nodes as they are asked for and told.

use sekisho_spire_api::{server::agent::AgentFilter as SentFilter, types};
use time::{PrimitiveDateTime, macros::format_description};
use tonic::Status;

use super::wire;
use crate::store::{Node, NodeFilter};

/// What is asked for.
pub(super) fn filter(sent: Option<SentFilter>) -> Result<NodeFilter, Status> {
    let sent = sent.unwrap_or_default();
    let selectors = sent.by_selector_match.map(wire::selector_match).transpose();
    Ok(NodeFilter {
        attestation_type: Some(sent.by_attestation_type).filter(|kind| !kind.is_empty()),
        // As SPIRE does here, and only here.
        selectors: selectors.map_err(|error| Status::internal(error.message()))?,
        banned: sent.by_banned,
        can_reattest: sent.by_can_reattest,
        expires_before: expires_before(&sent.by_expires_before),
    })
}

/// `2006-01-02 15:04:05 -0700 -07`; anything else filters nothing, as in SPIRE.
fn expires_before(text: &str) -> Option<std::time::SystemTime> {
    let mut words = text.split(' ');
    let (date, clock, zone) = (words.next()?, words.next()?, words.next()?);
    words.next()?;
    if words.next().is_some() {
        return None;
    }
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let local = PrimitiveDateTime::parse(&format!("{date} {clock}"), format).ok()?;
    let offset = time::UtcOffset::parse(
        zone,
        format_description!("[offset_hour sign:mandatory][offset_minute]"),
    );
    Some(local.assume_offset(offset.ok()?).into())
}

/// Which fields of an agent: all where none is named.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mask(Option<types::AgentMask>);

impl Mask {
    pub(super) const fn new(sent: Option<types::AgentMask>) -> Self {
        Self(sent)
    }

    fn has(self, field: impl FnOnce(types::AgentMask) -> bool) -> bool {
        self.0.is_none_or(field)
    }
}

/// A node as it is told: the fields of a mask, its ID always.
pub(super) fn to_agent(node: &Node, mask: Mask) -> types::Agent {
    let mut told = types::Agent {
        id: wire::to_id(&node.id),
        ..Default::default()
    };
    if mask.has(|mask| mask.attestation_type) {
        told.attestation_type.clone_from(&node.attestation_type);
    }
    if let Some(active) = &node.active {
        if mask.has(|mask| mask.x509svid_serial_number) {
            told.x509svid_serial_number.clone_from(&active.serial);
        }
        if mask.has(|mask| mask.x509svid_expires_at) {
            told.x509svid_expires_at = wire::seconds(active.not_after);
        }
    }
    if mask.has(|mask| mask.selectors) {
        told.selectors = wire::to_selectors(&node.selectors);
    }
    if mask.has(|mask| mask.banned) {
        told.banned = node.banned;
    }
    if mask.has(|mask| mask.can_reattest) {
        told.can_reattest = node.can_reattest;
    }
    if mask.has(|mask| mask.agent_version) {
        told.agent_version.clone_from(&node.version);
    }
    told
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_time_is_read_in_the_one_form_that_spires_command_line_sends() {
        let at = |text| expires_before(text);
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_136_239_445);
        assert_eq!(at("2006-01-02 15:04:05 -0700 -07"), Some(expected));
        assert_eq!(at("2006-01-02 22:04:05 +0000 UTC"), Some(expected));
        for other in [
            "",
            "2006-01-02",
            "2006-01-02T15:04:05Z",
            "2006-01-02 15:04:05 -0700",
            "a b c d",
        ] {
            assert_eq!(at(other), None, "{other}");
        }
    }
}
