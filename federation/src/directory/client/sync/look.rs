//! What the directory says of one member.

use std::time::SystemTime;

use sekisho_certs::TrustDomain;

use super::{
    super::Client, super::Read, super::Synced, super::record::Record, super::record::Standing,
    super::record::seconds, super::source::Got, Looked, Wrong,
};
use crate::directory::{
    continuity, continuity::KeySet, continuity::Verdict, descriptor, descriptor::Descriptor,
    membership::Shown, metadata, metadata::Dated as _, metadata::Delegations,
    metadata::MetadataError, metadata::Targets, names, repository::most, repository::suspended_of,
    repository::versioned,
};

impl Client {
    /// By which keys the directory has us, by the bin that registrars have signed. Who is no member any more stands
    /// in the snapshot still.
    pub(super) async fn look_for_us(&mut self, synced: &mut Synced) {
        self.admitted = None;
        let role = names::role_of(&self.settings.own);
        if self.trusted.version_of(&role) == 0 {
            return;
        }
        let target = names::target_of(&self.settings.own);
        let bin: Box<str> = self.trusted.bin_of(&target).unwrap_or_default().into();
        let Ok(bin) = self.bin(&bin, &mut Read::new(), &mut synced.traffic).await else {
            return;
        };
        let nobody = Delegations::default();
        let there = bin.delegations.as_ref().unwrap_or(&nobody);
        let delegated = there.roles.iter().find(|one| one.name == role);
        let keys = delegated.and_then(|one| KeySet::of_role(there, one));
        self.admitted = Some(Shown {
            version: self.trusted.version_of(&role),
            keys: keys.map(|keys| keys.id()),
        });
    }

    /// What the directory says of a member now.
    pub(super) async fn look(
        &mut self,
        domain: &TrustDomain,
        bin_name: &str,
        version: u64,
        read: &mut Read,
        synced: &mut Synced,
        now: SystemTime,
    ) -> Result<Looked, Wrong> {
        let bin = self.bin(bin_name, read, &mut synced.traffic).await?;
        let bin_version = bin.number();
        let role = names::role_of(domain);
        let there = bin.delegations.clone().unwrap_or_default();
        let Some(delegated) = there.roles.iter().find(|one| one.name == role) else {
            let out = suspended_of(&bin);
            let suspended = out.roles.iter().any(|one| one.name == role);
            return Ok(self.is_none(domain, suspended, bin_version));
        };
        if !metadata::is_exactly(delegated, &names::target_of(domain)) {
            let text = "it is delegated other targets than exactly its own".to_owned();
            return Err(("delegation", text));
        }
        let keys = KeySet::of_role(&there, delegated);
        let keys =
            keys.ok_or_else(|| ("delegation", "it has fewer keys than have to sign".into()))?;
        if let Some(accepted) = self.accepted.get(domain.as_str())
            && *accepted != keys.id()
        {
            let text = "the directory has other keys of it than those that were accepted".into();
            return Err(("rekey", text));
        }
        if let Some(seen) = self.lost.get_mut(domain.as_str()) {
            let text = format!(
                "what was known of it cannot be read any more; its keys are {} by the directory (sekisho federation accept-rekey {domain}, if its operator confirms that)",
                continuity::fingerprint(&keys)
            );
            *seen = Some(keys);
            return Err(("lost", text));
        }
        let followed = self.follow_keys(domain, &keys, (bin_version, version), synced, now);
        let followed = followed.await?;
        if followed == Verdict::Revoked {
            // What the host says of versions was not read.
            self.is_revoked(domain, bin_version, 0);
            return Ok(Looked::Taken);
        }
        if version == 0 {
            return Err((
                "missing",
                format!("the snapshot names no version of {role}"),
            ));
        }
        if let Some(known) = self.known.get(domain.as_str())
            && version < known.record.version
        {
            let text = format!("version {version}, and {} was seen", known.record.version);
            return Err(("rollback", text));
        }
        let file = versioned(&role, version);
        let bytes = self
            .settings
            .source
            .get(&file, most(&role), &mut synced.traffic)
            .await;
        let Got::Bytes(bytes) = bytes.map_err(|error| ("unreachable", error.to_string()))? else {
            return Err(("missing", format!("{file} is missing")));
        };
        let checked = |error: MetadataError| (error.reason(), error.to_string());
        let signed = metadata::parse::<Targets>(&file, &bytes).map_err(checked)?;
        metadata::signed_by_delegates(&file, &there, &signed, &role).map_err(checked)?;
        metadata::is_version(&file, &signed.signed, version).map_err(checked)?;
        if continuity::is_statement(&signed.signed) {
            let revoked = continuity::revocation_of(domain, &signed.signed);
            if revoked.is_some_and(|said| said.from == keys.id()) {
                self.is_revoked(domain, bin_version, version);
                return Ok(Looked::Taken);
            }
            return Err((
                "malformed",
                format!("{file}: a statement, and no role of targets"),
            ));
        }
        metadata::fresh(&file, &signed.signed, now).map_err(checked)?;
        let target = names::target_of(domain);
        if signed.signed.targets.len() != 1 {
            return Err((
                "malformed",
                format!("{file}: it has to have the one target {target}"),
            ));
        }
        let (_, bytes) = self
            .target(
                &signed.signed,
                &target,
                descriptor::MOST,
                &mut synced.traffic,
            )
            .await?;
        synced.fetched.push(domain.clone());
        let read = Descriptor::read(domain, &bytes);
        let descriptor = read.map_err(|error| ("descriptor", error.to_string()))?;
        let record = Record {
            keys,
            recovery: descriptor.recovery.clone(),
            version,
            bin_version,
            end: seconds(signed.signed.end()),
            confirmed: seconds(now),
            standing: Standing::Member,
            pending: None,
            heard: Vec::new(),
            revoked: None,
            bin: bin_name.into(),
            rollback: false,
            fault: None,
        };
        // What is over takes nobody in, and no new keys; a member that is known and distrusts itself is heard.
        let is_known = self.known.contains_key(domain.as_str()) && followed == Verdict::Same;
        if !is_known || !descriptor.bundle.authorities().is_empty() {
            metadata::fresh(&versioned(bin_name, bin_version), &*bin, now)
                .map_err(|error| (error.reason(), error.to_string()))?;
        }
        self.take(domain, bin_name, record, descriptor, &bytes, now)?;
        Ok(Looked::Taken)
    }
}
