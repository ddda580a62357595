//! What becomes of a member.

use std::sync::Arc;

use sekisho_certs::TrustDomain;

use super::{
    super::Client, super::ca_keys, super::record::Known, super::record::Record,
    super::record::Standing, Looked, Wrong,
};
use crate::directory::descriptor::Descriptor;

impl Client {
    /// Takes what a member says, if it may say it.
    pub(super) fn take(
        &mut self,
        domain: &TrustDomain,
        bin: &str,
        mut record: Record,
        descriptor: Descriptor,
        text: &[u8],
    ) -> Result<(), Wrong> {
        let before = self.known.get(domain.as_str());
        if let Some(before) = before {
            let sequence = |one: &Descriptor| one.bundle.sequence().unwrap_or_default();
            let (found, known) = (sequence(&descriptor), sequence(&before.descriptor));
            if found < known && !before.record.rollback {
                let text = format!(
                    "its bundle went back: `spiffe_sequence` is {found}, and was {known} (sekisho federation accept-rollback, if its operator confirms that)"
                );
                return Err(("rollback", text));
            }
            if before.record.keys.id() == record.keys.id() {
                record.heard.clone_from(&before.record.heard);
            }
            // Its first word stands: a thief of its keys would name another.
            record.recovery = before.record.recovery.clone().or(record.recovery);
        }
        let known = Known {
            domain: domain.clone(),
            record,
            descriptor: Arc::new(descriptor),
            bin: bin.into(),
        };
        for key in ca_keys(&known) {
            if let Some(owner) = self.owners.get(&key)
                && **owner != *domain.as_str()
            {
                let text = format!("it delivers a CA key that already belongs to {owner}");
                return Err(("shared_key", text));
            }
        }
        if let Some(before) = self.known.get(domain.as_str()) {
            let old: Vec<_> = ca_keys(before).collect();
            for key in old {
                self.owners.remove(&key);
            }
        }
        for key in ca_keys(&known) {
            self.owners.insert(key, domain.as_str().into());
        }
        tracing::info!(%domain, version = known.record.version, "member taken");
        self.keep_member(&known, Some(text));
        self.broken.remove(domain.as_str());
        // From here on its keys follow one another as everybody's do.
        self.accepted.remove(domain.as_str());
        self.known.insert(domain.to_string(), known);
        Ok(())
    }

    /// It is no member: by a bin that the registrars have signed. What was known of its keys stays
    /// known, should it come back.
    pub(super) fn is_none(
        &mut self,
        domain: &TrustDomain,
        suspended: bool,
        bin_version: u64,
    ) -> Looked {
        let Some(known) = self.known.get_mut(domain.as_str()) else {
            return Looked::Stranger;
        };
        let standing = if suspended {
            Standing::Suspended
        } else {
            Standing::Expelled
        };
        if known.record.standing != standing {
            let standing = standing.as_str();
            tracing::warn!(%domain, standing, "no member any more: it is not trusted");
        }
        known.record.standing = standing;
        known.record.bin_version = bin_version;
        known.record.bin = known.bin.to_string();
        known.record.pending = None;
        known.record.fault = None;
        let known = known.clone();
        // Its keys are free for whoever can show that they are its own.
        self.owners.retain(|_, owner| **owner != *domain.as_str());
        self.keep_member(&known, None);
        Looked::Taken
    }

    pub(super) fn is_revoked(&mut self, domain: &TrustDomain, bin_version: u64, version: u64) {
        let Some(known) = self.known.get_mut(domain.as_str()) else {
            return;
        };
        if known.record.standing != Standing::Revoked {
            tracing::warn!(%domain, "it has revoked its own keys: it is not trusted");
        }
        known.record.standing = Standing::Revoked;
        known.record.revoked = Some(known.record.keys.id());
        known.record.bin_version = bin_version;
        known.record.bin = known.bin.to_string();
        known.record.version = known.record.version.max(version);
        known.record.fault = None;
        let known = known.clone();
        self.keep_member(&known, None);
    }
}
