//! Which members are looked at, and what is wrong with one.

use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

use sekisho_certs::{TrustDomain, id::parse_trust_domain};

use super::{
    super::Bin, super::Client, super::MOST_BY_MARK, super::Read, super::Synced, super::Traffic,
    super::Wanted, super::record::Fault, super::record::Known, super::record::seconds, Looked,
    Wrong, bin_file, wrong,
};
use crate::directory::{
    metadata::Dated as _, metadata::Targets, names, repository::most, repository::versioned,
};

impl Client {
    /// Brings the members that are known or wanted up to date.
    pub(super) async fn members_of(
        &mut self,
        wanted: &Wanted,
        known_too: bool,
        synced: &mut Synced,
        now: SystemTime,
    ) {
        let mut read = Read::new();
        let mut names: BTreeSet<String> = wanted.domains.clone();
        if known_too {
            names.extend(self.known.keys().cloned());
            names.extend(self.lost.keys().cloned());
        }
        for mark in &wanted.marks {
            let with = self.marks.members(mark).take(MOST_BY_MARK);
            names.extend(with.map(|domain| domain.to_string()));
        }
        if wanted.all {
            names.extend(self.all_names(&mut read, synced).await);
        }
        for name in names {
            let Ok(domain) = parse_trust_domain(&name) else {
                continue;
            };
            if self.may_be(&domain) {
                self.member_now(&domain, &mut read, synced, now).await;
            } else {
                synced.strangers.push(domain);
            }
        }
    }

    /// The names of all members there are.
    pub(super) async fn all_names(&mut self, read: &mut Read, synced: &mut Synced) -> Vec<String> {
        let delegations = self.trusted.delegations();
        let roles = delegations.map(|all| all.roles.clone()).unwrap_or_default();
        let mut names = Vec::new();
        for role in roles {
            if role.name == names::MARKS {
                continue;
            }
            match self.bin(&role.name, read, &mut synced.traffic).await {
                Ok(bin) => {
                    let members = bin.delegations.iter().flat_map(|all| &all.roles);
                    let domains = members.filter_map(|one| names::member_of(&one.name));
                    names.extend(domains.map(|domain| domain.to_string()));
                }
                Err((reason, problem)) => self.without_bin(&role.name, reason, &problem),
            }
        }
        names
    }

    /// A bin: as it was read in this sync, as it is kept, or fetched.
    pub(super) async fn bin(
        &mut self,
        name: &str,
        read: &mut Read,
        traffic: &mut Traffic,
    ) -> Result<Arc<Targets>, Wrong> {
        if let Some(known) = read.get(name) {
            return known.clone();
        }
        let bin = self.fetch_bin(name, traffic).await;
        // What fails for one of its members fails for all, and is asked for once.
        read.insert(name.into(), bin.clone());
        bin
    }

    /// A bin that cannot be had: nobody new comes in by it, and who is known stays.
    fn without_bin(&mut self, name: &str, reason: &str, problem: &str) {
        tracing::warn!(bin = name, reason, problem, "its members stay as they were");
        let fault = self.fault_of(reason, &problem);
        self.broken.entry(name.into()).or_insert(fault);
    }

    async fn fetch_bin(
        &mut self,
        name: &str,
        traffic: &mut Traffic,
    ) -> Result<Arc<Targets>, Wrong> {
        let version = self.trusted.version_of(name);
        if version == 0 || !names::is_flat(name) {
            return Err((
                "missing",
                format!("the snapshot names no version of {name}"),
            ));
        }
        let bin = match self.kept_bin(name) {
            Some(bin) => bin,
            None => {
                let file = versioned(name, version);
                let bytes = self.file(&file, most(name), traffic).await;
                let bytes = bytes.map_err(|error| wrong(&error))?;
                let bin = self.trusted.read_delegated(name, &bytes);
                let bin = bin.map_err(|error| (error.reason(), error.to_string()))?;
                let kept = self.keep_file(&bin_file(name), &bytes);
                kept.map_err(|error| wrong(&error))?;
                bin
            }
        };
        let bin = Arc::new(bin);
        let end = bin.end();
        self.bins.insert(name.into(), Bin { version, end });
        Ok(bin)
    }

    /// A bin as it is kept, if it is the one that counts.
    pub(super) fn kept_bin(&self, name: &str) -> Option<Targets> {
        if !names::is_flat(name) {
            return None;
        }
        let bytes = self.folder.read(&bin_file(name)).ok().flatten()?;
        self.trusted.read_delegated(name, &bytes).ok()
    }

    /// Brings a member up to date. What is wrong with it is kept as its fault.
    pub(super) async fn member_now(
        &mut self,
        domain: &TrustDomain,
        read: &mut Read,
        synced: &mut Synced,
        now: SystemTime,
    ) {
        let name = domain.as_str();
        let role = names::role_of(domain);
        let version = self.trusted.version_of(&role);
        let bin = match self.known.get(name).map(|known| known.bin.clone()) {
            Some(bin) if !bin.is_empty() => bin,
            _ => self
                .trusted
                .bin_of(&names::target_of(domain))
                .unwrap_or_default()
                .into(),
        };
        if let Some(known) = self.known.get(name) {
            let record = &known.record;
            let same = record.version == version
                && *record.bin == *bin
                && self
                    .bins
                    .get(&bin)
                    .is_some_and(|one| one.version == record.bin_version)
                && self.trusted.version_of(&bin) == record.bin_version;
            // What has expired is asked for again when there is another version of it.
            let well = record
                .fault
                .as_ref()
                .is_none_or(|fault| fault.reason == "expired");
            if same && well && record.pending.is_none() {
                return;
            }
        }
        let looked = self.look(domain, &bin, version, read, synced, now).await;
        match looked {
            Ok(Looked::Stranger) => synced.strangers.push(domain.clone()),
            Ok(Looked::Taken) => {}
            Err((reason, problem)) => self.wrong_with(domain, reason, &problem, now),
        }
    }

    /// Keeps what is wrong with a member.
    pub(super) fn wrong_with(
        &mut self,
        domain: &TrustDomain,
        reason: &'static str,
        problem: &str,
        now: SystemTime,
    ) {
        let confirmed = self.confirmed;
        let Some(known) = self.known.get_mut(domain.as_str()) else {
            tracing::warn!(%domain, reason, problem, "not taken as a member");
            let fault = self.fault_of(reason, &problem);
            self.broken.insert(domain.as_str().into(), fault);
            return;
        };
        let record = &mut known.record;
        if record
            .fault
            .as_ref()
            .is_some_and(|fault| fault.reason == reason && fault.problem == problem)
        {
            return;
        }
        tracing::warn!(%domain, reason, problem, "the member stays as it was");
        if record.fault.is_none() {
            record.confirmed = seconds(confirmed);
        }
        record.fault = Some(Fault {
            reason: reason.into(),
            problem: problem.into(),
            since: seconds(now),
        });
        let known = known.clone();
        self.keep_member(&known, None);
    }

    pub(super) fn keep_member(&self, known: &Known, descriptor: Option<&[u8]>) {
        if let Err(error) = self.keep(known, descriptor) {
            tracing::error!(%error, domain = %known.domain, "not kept");
        }
    }
}
