//! Whether the keys of a member are its own, by what was seen of it before.

use std::{time::Duration, time::SystemTime};

use sekisho_certs::TrustDomain;

use super::{
    super::Client, super::Synced, super::Traffic, super::record::Pending, super::source::Got, Wrong,
};
use crate::directory::{
    continuity, continuity::Continuity, continuity::KeySet, continuity::Verdict,
};

impl Client {
    /// Whether the keys that a bin has for a member are its own, by what was seen of it before.
    pub(super) async fn follow_keys(
        &mut self,
        domain: &TrustDomain,
        now_keys: &KeySet,
        (bin_version, version): (u64, u64),
        synced: &mut Synced,
        now: SystemTime,
    ) -> Result<Verdict, Wrong> {
        let Some(known) = self.known.get(domain.as_str()) else {
            // Its keys are seen for the first time, and may be revoked already.
            let statements = self.continuity(domain, &mut synced.traffic).await?;
            return match statements.judge(now_keys, false, None, now_keys) {
                Verdict::Revoked => Err(("revoked", "it has revoked its own keys".into())),
                verdict => Ok(verdict),
            };
        };
        let same = known.record.keys.id() == now_keys.id();
        let revoked = known.record.is_revoked();
        if same && revoked {
            return Ok(Verdict::Revoked);
        }
        // What it has said in between, a revocation above all, may have been overtaken.
        let record = &known.record;
        let seen_each = version <= record.version.saturating_add(1);
        if same && seen_each && record.bin_version == bin_version {
            return Ok(Verdict::Same);
        }
        let statements = self.continuity(domain, &mut synced.traffic).await?;
        let Some(known) = self.known.get_mut(domain.as_str()) else {
            return Ok(Verdict::Same);
        };
        let recovery = known.record.recovery.as_deref();
        let verdict = statements.judge(&known.record.keys, revoked, recovery, now_keys);
        match verdict {
            Verdict::Same | Verdict::Continued => Ok(verdict),
            Verdict::Revoked if same => Ok(verdict),
            Verdict::Revoked => {
                // For the operator, who may know better.
                let before = known.record.pending.as_ref();
                known.record.pending = Some(Pending::seen(now_keys, before, now));
                Ok(verdict)
            }
            Verdict::Vetoed => Err((
                "vetoed",
                "its keys before say that the ones of the directory are not its own".into(),
            )),
            Verdict::Unproven => {
                let pending = Pending::seen(now_keys, known.record.pending.as_ref(), now);
                let waited = Duration::from_secs(pending.watched);
                known.record.pending = Some(pending);
                if self.settings.rekey_wait.is_some_and(|wait| waited >= wait) {
                    tracing::warn!(%domain, ?waited, "its new keys have stood in public without a veto");
                    return Ok(Verdict::Continued);
                }
                let known = known.clone();
                self.keep_member(&known, None);
                Err((
                    "rekey",
                    format!(
                        "the directory says that it has the keys {}, and nobody who could know confirms it (sekisho federation accept-rekey {domain}, if its operator confirms that)",
                        continuity::fingerprint(now_keys)
                    ),
                ))
            }
        }
    }

    pub(super) async fn continuity(
        &mut self,
        domain: &TrustDomain,
        traffic: &mut Traffic,
    ) -> Result<Continuity, Wrong> {
        let file = continuity::file_of(domain);
        let source = &mut self.settings.source;
        let mut all = match source.get_small(&file, continuity::MOST, traffic).await {
            Ok(Got::Bytes(bytes)) => Continuity::read(domain, &bytes)
                .map_err(|error| (error.reason(), error.to_string()))?,
            Ok(Got::NotThere | Got::NotModified) => Continuity::default(),
            Err(error) => return Err(("unreachable", error.to_string())),
        };
        // Others may be shown less: what the member's own keys have said is told on.
        for statement in all.iter() {
            self.hear(statement);
        }
        if let Some(known) = self.known.get(domain.as_str()) {
            for one in &known.record.heard {
                all.add(one.clone());
            }
        }
        Ok(all)
    }
}
