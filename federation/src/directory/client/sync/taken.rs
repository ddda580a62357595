//! What becomes of a member.

use std::{sync::Arc, time::SystemTime};

use sekisho_certs::{TrustBundle, TrustDomain, id::parse_trust_domain};

use super::{
    super::Client, super::record::Known, super::record::Record, super::record::Standing, Looked,
    Wrong,
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
        now: SystemTime,
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
        let bundle = &known.descriptor.bundle;
        let claimed = self.owners.claim(bundle, |name| self.bundle_of(name));
        let losers = claimed.map_err(|another| {
            let owner = another.owner;
            let text = format!("it delivers a CA key that already belongs to {owner}");
            ("shared_key", text)
        })?;
        if let Some(before) = self.known.get(domain.as_str()) {
            self.owners.let_go(&before.descriptor.bundle);
        }
        self.owners.take(bundle);
        for loser in losers
            .iter()
            .filter_map(|name| parse_trust_domain(name).ok())
        {
            let text = format!(
                "it delivers a CA key that {domain} has shown to be its own by a certificate which that key has signed"
            );
            self.wrong_with(&loser, "shared_key", &text, now);
        }
        tracing::info!(%domain, version = known.record.version, "member taken");
        self.keep_member(&known, Some(text));
        self.broken.remove(domain.as_str());
        // From here on its keys follow one another as everybody's do.
        self.accepted.remove(domain.as_str());
        self.known.insert(domain.to_string(), known);
        Ok(())
    }

    /// The bundle that is known of a member.
    pub(super) fn bundle_of(&self, domain: &str) -> Option<&TrustBundle> {
        Some(&self.known.get(domain)?.descriptor.bundle)
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
        self.owners.let_go(&known.descriptor.bundle);
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
