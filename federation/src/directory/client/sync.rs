//! One sync: what has changed in the directory since the last one.

use std::{
    collections::{BTreeSet, HashMap},
    num::NonZeroU64,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sekisho_certs::{TrustDomain, hex, id::parse_trust_domain};

use super::{
    Bin, Client, MOST_BY_MARK, Read, Settings, SyncError, Synced, Traffic, Wanted, ca_keys,
    record::{Fault, Folder, Known, Pending, Record, Standing, seconds},
    source::Got,
    trusted::{self, Trusted},
};
use crate::directory::{
    continuity::{self, Continuity, KeySet, Verdict},
    delta::{self, Delta},
    descriptor::{self, Descriptor},
    marks::{self, Marks},
    metadata::{self, Dated as _, MetadataError, Root, Signed, Targets},
    names,
    repository::{most, suspended_of, target_file, versioned},
};

/// What is wrong with one member: word and text.
type Wrong = (&'static str, String);

/// The root to begin with: the newest that was checked before, or the operator's. Where the operator's is
/// a newer one, it has to be met on the way; that is the second.
pub(super) fn first_root(
    settings: &Settings,
    folder: &Folder,
) -> Result<(Trusted, Option<Signed<Root>>), SyncError> {
    let in_folder = |path: &Path, error| SyncError::Folder {
        path: path.to_owned(),
        error,
    };
    let file = settings.root.display().to_string();
    let given = std::fs::read(&settings.root).map_err(|error| in_folder(&settings.root, error))?;
    let vouched = Trusted::new(&file, &given)?;
    let Some(newest) = folder
        .newest_root()
        .map_err(|error| in_folder(&settings.data, error))?
    else {
        let name = root_file(vouched.root_version());
        let kept = folder.write(&name, &given);
        kept.map_err(|error| in_folder(&folder.path(&name), error))?;
        return Ok((vouched, None));
    };
    let read = |version: u64| {
        let name = root_file(version);
        let read = folder.read(&name);
        read.map_err(|error| in_folder(&folder.path(&name), error))
    };
    let version = vouched.root_version();
    if let Some(before) = read(version)? {
        is_vouched(settings, &vouched.root, &metadata::parse(&file, &before)?)?;
    }
    let bytes = read(newest)?.unwrap_or_default();
    let trusted = Trusted::new(&root_file(newest), &bytes)?;
    let ahead = (version > newest).then_some(vouched.root);
    Ok((trusted, ahead))
}

/// The root in the operator's file.
pub(super) fn vouched(path: &Path) -> Result<Trusted, SyncError> {
    let bytes = std::fs::read(path).map_err(|error| SyncError::Folder {
        path: path.to_owned(),
        error,
    })?;
    Ok(Trusted::new(&path.display().to_string(), &bytes)?)
}

fn root_file(version: u64) -> String {
    format!("roots/{version}.json")
}

fn is_vouched(
    settings: &Settings,
    vouched: &Signed<Root>,
    met: &Signed<Root>,
) -> Result<(), SyncError> {
    if vouched.signed == met.signed {
        return Ok(());
    }
    Err(SyncError::OtherDirectory {
        file: settings.root.display().to_string(),
        folder: settings.data.clone(),
    })
}

impl Client {
    /// Takes up what was checked before, from the folder. What does not hold any more is fetched anew.
    pub(super) fn load(&mut self) {
        let read = |name: &str| self.folder.read(name).ok().flatten();
        let (timestamp, snapshot) = (read("timestamp.json"), read("snapshot.json"));
        let (targets, marks) = (read("targets.json"), read("marks.json"));
        if let Some(stated) = timestamp.and_then(|bytes| self.trusted.stated(&bytes).ok()) {
            // Whether they are over is asked when something is to be confirmed by them.
            let _ = self.trusted.take_timestamp(stated);
            if let Some(bytes) = snapshot {
                let _ = self.trusted.take_snapshot(&bytes);
            }
            if let Some(bytes) = targets {
                let _ = self.trusted.take_targets(&bytes);
            }
        }
        let version = read("marks.version").and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(marks) = marks.and_then(|bytes| Marks::read(&bytes).ok()) {
            self.marks = marks;
            let version = version.and_then(|text| text.parse().ok());
            self.marks_version = version.unwrap_or_default();
        }
        self.place();
        let bins: BTreeSet<Box<str>> = self.known.values().map(|one| one.bin.clone()).collect();
        for name in bins {
            if let Some(bin) = self.kept_bin(&name) {
                let (version, end) = (bin.number(), bin.end());
                self.bins.insert(name, Bin { version, end });
            }
        }
        let mut owners = HashMap::new();
        for known in self.known.values() {
            for key in ca_keys(known) {
                owners.insert(key, known.domain.as_str().into());
            }
        }
        self.owners = owners;
    }

    /// Finds the bin of each member that is known: they are others when the targets are.
    fn place(&mut self) {
        for known in self.known.values_mut() {
            let target = names::target_of(&known.domain);
            known.bin = self.trusted.bin_of(&target).unwrap_or_default().into();
        }
    }

    /// Follows the directory once. What could be taken is taken, whatever this says.
    ///
    /// # Errors
    /// Why the directory as a whole could not be followed. What is wrong with one member is its fault,
    /// in the status.
    pub async fn sync(&mut self, wanted: &Wanted) -> Result<Synced, SyncError> {
        let mut synced = Synced::default();
        let now = self.clock.now();
        self.broken
            .retain(|role, fault| &**role == names::MARKS || fault.reason == "rollback");
        let followed = self.follow(&mut synced.traffic, now).await;
        match &followed {
            Ok(()) => self.fault = None,
            Err(error) => {
                self.raise(error);
                let fault = self.fault_of(error.reason(), error);
                let since = self.fault.as_ref().map(|known| known.since);
                self.fault = Some(Fault {
                    since: since.unwrap_or(fault.since),
                    ..fault
                });
            }
        }
        if followed.is_ok() {
            self.members_of(wanted, &mut synced, now).await;
            self.confirm(now);
        }
        self.publish(now);
        followed.map(|()| synced)
    }

    /// Fetches members between two syncs, by what the last one has found: for a peer who stands at the
    /// door. Nothing is confirmed by it.
    pub async fn fetch(&mut self, wanted: &Wanted) -> Synced {
        let mut synced = Synced::default();
        let now = self.clock.now();
        let in_force = self.trusted.timestamp.is_some()
            && trusted::in_force(&self.trusted, now).is_ok()
            && self.fault.is_none();
        if in_force {
            self.members_of(wanted, &mut synced, now).await;
            self.publish(now);
        }
        synced
    }

    /// Root, timestamp, snapshot, targets and marks, in the order of TUF §5.
    async fn follow(&mut self, traffic: &mut Traffic, now: SystemTime) -> Result<(), SyncError> {
        self.follow_root(traffic).await?;
        self.follow_timestamp(traffic).await?;
        self.follow_snapshot(traffic).await?;
        let version = self.trusted.version_of("targets");
        if version == 0 {
            return Err(SyncError::Missing("the role `targets`".into()));
        }
        if self.trusted.targets.as_ref().map(|one| one.number()) != Some(version) {
            let file = versioned("targets", version);
            let bytes = self.file(&file, most("targets"), traffic).await?;
            self.trusted.take_targets(&bytes)?;
            self.keep_file("targets.json", &bytes)?;
            self.place();
        }
        trusted::in_force(&self.trusted, now)?;
        if let Err((reason, problem)) = self.follow_marks(traffic).await {
            // Marks grant nothing by themselves, and members are members without them.
            tracing::warn!(reason, problem, "marks stay as they were");
            let fault = self.fault_of(reason, &problem);
            self.broken.insert(names::MARKS.into(), fault);
        } else {
            self.broken.remove(names::MARKS);
        }
        Ok(())
    }

    async fn follow_root(&mut self, traffic: &mut Traffic) -> Result<(), SyncError> {
        for _ in 0..trusted::ROOTS {
            let next = self.trusted.root_version().saturating_add(1);
            let file = versioned("root", next);
            let got = self
                .settings
                .source
                .get(&file, most("root"), traffic)
                .await?;
            let Got::Bytes(bytes) = got else {
                break;
            };
            self.trusted.next_root(&bytes)?;
            if let Some(vouched) = &self.vouched
                && vouched.signed.number() == next
            {
                is_vouched(&self.settings, vouched, &self.trusted.root)?;
                self.vouched = None;
            }
            self.keep_file(&root_file(next), &bytes)?;
            tracing::info!(version = next, "the directory has another root");
        }
        if let Some(vouched) = &self.vouched {
            let file = versioned("root", vouched.signed.number());
            return Err(SyncError::Missing(format!(
                "{file}, which the operator vouches for,"
            )));
        }
        Ok(())
    }

    async fn follow_timestamp(&mut self, traffic: &mut Traffic) -> Result<(), SyncError> {
        let file = "metadata/timestamp.json";
        let most = most("timestamp");
        let source = &mut self.settings.source;
        // Where nothing is known yet, "as before" says nothing.
        let got = match &self.trusted.timestamp {
            Some(_) => source.get_if_new(file, most, traffic).await?,
            None => source.get(file, most, traffic).await?,
        };
        match got {
            Got::NotThere => Err(SyncError::Missing(file.into())),
            Got::NotModified if self.trusted.timestamp.is_some() => Ok(()),
            Got::NotModified => Err(SyncError::Missing(file.into())),
            Got::Bytes(bytes) => {
                let stated = self.trusted.stated(&bytes)?;
                self.trusted.take_timestamp(stated)?;
                self.keep_file("timestamp.json", &bytes)
            }
        }
    }

    async fn follow_snapshot(&mut self, traffic: &mut Traffic) -> Result<(), SyncError> {
        let Some(stated) = &self.trusted.timestamp else {
            return Ok(());
        };
        let held = &self.trusted.snapshot;
        let same = held.number == stated.snapshot
            && stated
                .sha256
                .as_ref()
                .is_none_or(|named| *named == held.sha256);
        if same {
            return Ok(());
        }
        let wanted = (stated.snapshot, stated.sha256.clone());
        let bytes = match self.by_deltas(&wanted, traffic).await {
            Some(bytes) => bytes,
            None => {
                let file = versioned("snapshot", wanted.0);
                self.file(&file, most("snapshot"), traffic).await?
            }
        };
        let backwards = self.trusted.take_snapshot(&bytes)?;
        self.broken.retain(|_, fault| fault.reason != "rollback");
        for (role, found, known) in backwards.0 {
            tracing::error!(
                role,
                found,
                known,
                "the host names an older version of a role"
            );
            let problem =
                format!("the host names version {found} of {role}, and named {known} before");
            let fault = self.fault_of("rollback", &problem);
            self.broken.insert(role.into(), fault);
        }
        self.keep_file("snapshot.json", &bytes)
    }

    /// The snapshot that the host has named, built of the one that is held and what has changed since;
    /// `None` where that does not give exactly the bytes that the host has named.
    async fn by_deltas(
        &mut self,
        (number, sha256): &(u64, Option<String>),
        traffic: &mut Traffic,
    ) -> Option<Vec<u8>> {
        let held = self.trusted.snapshot.number;
        let steps = number.checked_sub(held)?;
        if held == 0 || steps > delta::MOST_FOLLOWED {
            return None;
        }
        let mut versions = self.trusted.snapshot.roles.clone();
        for step in held.saturating_add(1)..=*number {
            let file = delta::file_of(step);
            let got = self
                .settings
                .source
                .get_small(&file, delta::MOST, traffic)
                .await;
            let Ok(Got::Bytes(bytes)) = got else {
                return None;
            };
            let delta: Delta = serde_json::from_slice(&bytes).ok()?;
            for (role, version) in &delta.roles {
                versions.insert(role.as_str().into(), *version);
            }
            if step == *number {
                let number = NonZeroU64::new(step)?;
                let all = versions.iter().map(|(role, version)| (&**role, *version));
                let bytes = delta.snapshot(number, all).ok()?;
                let is_it = sha256.as_ref()? == &metadata::sha256(&bytes);
                return is_it.then_some(bytes);
            }
        }
        None
    }

    async fn follow_marks(&mut self, traffic: &mut Traffic) -> Result<(), Wrong> {
        let version = self.trusted.version_of(names::MARKS);
        if version == 0 || version == self.marks_version {
            return Ok(());
        }
        let file = versioned(names::MARKS, version);
        let bytes = self.file(&file, most(names::MARKS), traffic).await;
        let bytes = bytes.map_err(|error| wrong(&error))?;
        let role = self.trusted.read_delegated(names::MARKS, &bytes);
        let role = role.map_err(|error| (error.reason(), error.to_string()))?;
        let (_, bytes) = self
            .target(&role, names::MARKS_TARGET, marks::MOST, traffic)
            .await?;
        let marks = Marks::read(&bytes).map_err(|error| ("malformed", error.to_string()))?;
        self.keep_file("marks.json", &bytes)
            .map_err(|error| wrong(&error))?;
        let text = version.to_string();
        self.keep_file("marks.version", text.as_bytes())
            .map_err(|error| wrong(&error))?;
        self.marks = marks;
        self.marks_version = version;
        Ok(())
    }

    /// A file that has to be there.
    async fn file(
        &mut self,
        file: &str,
        most: usize,
        traffic: &mut Traffic,
    ) -> Result<Vec<u8>, SyncError> {
        match self.settings.source.get_small(file, most, traffic).await? {
            Got::Bytes(bytes) => Ok(bytes),
            Got::NotThere | Got::NotModified => Err(SyncError::Missing(file.into())),
        }
    }

    fn keep_file(&self, name: &str, bytes: &[u8]) -> Result<(), SyncError> {
        let kept = self.folder.write(name, bytes);
        kept.map_err(|error| SyncError::Folder {
            path: self.folder.path(name),
            error,
        })
    }

    /// A target of a role, with its hash.
    async fn target(
        &mut self,
        role: &Targets,
        name: &str,
        most: usize,
        traffic: &mut Traffic,
    ) -> Result<(String, Vec<u8>), Wrong> {
        let named = metadata::target(role, name)
            .ok_or_else(|| ("missing", format!("the role has no target {name}")))?;
        let hash = hex(&named.hashes.sha256);
        let file = target_file(&hash, name);
        let length = usize::try_from(named.length).unwrap_or(usize::MAX);
        if length > most {
            return Err(("too_large", format!("{file}: longer than {most} bytes")));
        }
        let bytes = self.file(&file, length, traffic).await;
        let bytes = bytes.map_err(|error| wrong(&error))?;
        metadata::is_what_was_named(&file, &bytes, Some(&named.hashes), Some(named.length))
            .map_err(|error| (error.reason(), error.to_string()))?;
        Ok((hash, bytes))
    }

    /// Brings the members that are known or wanted up to date.
    async fn members_of(&mut self, wanted: &Wanted, synced: &mut Synced, now: SystemTime) {
        let mut read = Read::new();
        let mut names: BTreeSet<String> = self.known.keys().cloned().collect();
        names.extend(self.lost.keys().cloned());
        names.extend(wanted.domains.iter().cloned());
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
    async fn all_names(&mut self, read: &mut Read, synced: &mut Synced) -> Vec<String> {
        let delegations = self.trusted.delegations();
        let roles = delegations.map(|all| all.roles.clone()).unwrap_or_default();
        let mut names = Vec::new();
        for role in roles {
            if role.name == names::MARKS {
                continue;
            }
            if let Ok(bin) = self.bin(&role.name, read, &mut synced.traffic).await {
                let members = bin.delegations.iter().flat_map(|all| &all.roles);
                let domains = members.filter_map(|one| names::member_of(&one.name));
                names.extend(domains.map(|domain| domain.to_string()));
            }
        }
        names
    }

    /// A bin: as it was read in this sync, as it is kept, or fetched.
    async fn bin(
        &mut self,
        name: &str,
        read: &mut Read,
        traffic: &mut Traffic,
    ) -> Result<Arc<Targets>, Wrong> {
        if let Some(known) = read.get(name) {
            return Ok(Arc::clone(known));
        }
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
        read.insert(name.into(), Arc::clone(&bin));
        Ok(bin)
    }

    /// A bin as it is kept, if it is the one that counts.
    fn kept_bin(&self, name: &str) -> Option<Targets> {
        if !names::is_flat(name) {
            return None;
        }
        let bytes = self.folder.read(&bin_file(name)).ok().flatten()?;
        self.trusted.read_delegated(name, &bytes).ok()
    }

    /// Brings a member up to date. What is wrong with it is kept as its fault.
    async fn member_now(
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
    fn wrong_with(
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
            .is_some_and(|fault| fault.reason == reason)
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

    fn keep_member(&self, known: &Known, descriptor: Option<&[u8]>) {
        if let Err(error) = self.keep(known, descriptor) {
            tracing::error!(%error, domain = %known.domain, "not kept");
        }
    }

    /// What the directory says of a member now.
    async fn look(
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
        // What is over takes nobody in.
        metadata::fresh(&versioned(bin_name, bin_version), &*bin, now)
            .map_err(|error| (error.reason(), error.to_string()))?;
        if !metadata::is_exactly(delegated, &names::target_of(domain)) {
            let text = "it is delegated other targets than exactly its own".to_owned();
            return Err(("delegation", text));
        }
        let keys = KeySet::of_role(&there, delegated);
        let keys =
            keys.ok_or_else(|| ("delegation", "it has fewer keys than have to sign".into()))?;
        if let Some(seen) = self.lost.get_mut(domain.as_str()) {
            let text = format!(
                "what was known of it cannot be read any more; its keys are {} by the directory (sekisho federation accept-rekey {domain}, if its operator confirms that)",
                continuity::fingerprint(&keys)
            );
            *seen = Some(keys);
            return Err(("lost", text));
        }
        let followed = self.follow_keys(domain, &keys, synced, now).await?;
        if followed == Verdict::Revoked {
            self.is_revoked(domain, bin_version, version);
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
            rollback: false,
            fault: None,
        };
        self.take(domain, bin_name, record, descriptor, &bytes)?;
        Ok(Looked::Taken)
    }

    /// Takes what a member says, if it may say it.
    fn take(
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
        self.known.insert(domain.to_string(), known);
        Ok(())
    }

    /// It is no member: by a bin that the registrars have signed. What was known of its keys stays
    /// known, should it come back.
    fn is_none(&mut self, domain: &TrustDomain, suspended: bool, bin_version: u64) -> Looked {
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
        known.record.pending = None;
        known.record.fault = None;
        let known = known.clone();
        self.keep_member(&known, None);
        Looked::Taken
    }

    fn is_revoked(&mut self, domain: &TrustDomain, bin_version: u64, version: u64) {
        let Some(known) = self.known.get_mut(domain.as_str()) else {
            return;
        };
        if known.record.standing != Standing::Revoked {
            tracing::warn!(%domain, "it has revoked its own keys: it is not trusted");
        }
        known.record.standing = Standing::Revoked;
        known.record.bin_version = bin_version;
        known.record.version = known.record.version.max(version);
        known.record.fault = None;
        let known = known.clone();
        self.keep_member(&known, None);
    }

    /// Whether the keys that a bin has for a member are its own, by what was seen of it before.
    async fn follow_keys(
        &mut self,
        domain: &TrustDomain,
        now_keys: &KeySet,
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
        let revoked = known.record.standing == Standing::Revoked;
        if same {
            return Ok(if revoked {
                Verdict::Revoked
            } else {
                Verdict::Same
            });
        }
        let statements = self.continuity(domain, &mut synced.traffic).await?;
        let Some(known) = self.known.get_mut(domain.as_str()) else {
            return Ok(Verdict::Same);
        };
        let recovery = known.record.recovery.as_deref();
        let verdict = statements.judge(&known.record.keys, revoked, recovery, now_keys);
        match verdict {
            Verdict::Same | Verdict::Continued => Ok(verdict),
            Verdict::Revoked => {
                let since = seconds(now);
                // For the operator, who may know better.
                known.record.pending = Some(Pending {
                    keys: now_keys.clone(),
                    since,
                });
                Ok(verdict)
            }
            Verdict::Vetoed => Err((
                "vetoed",
                "its keys before say that the ones of the directory are not its own".into(),
            )),
            Verdict::Unproven => {
                let since = match &known.record.pending {
                    Some(pending) if pending.keys.id() == now_keys.id() => pending.since,
                    _ => seconds(now),
                };
                known.record.pending = Some(Pending {
                    keys: now_keys.clone(),
                    since,
                });
                let waited = Duration::from_secs(seconds(now).saturating_sub(since));
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

    async fn continuity(
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
        if let Some(known) = self.known.get(domain.as_str()) {
            known
                .record
                .heard
                .iter()
                .for_each(|one| all.add(one.clone()));
        }
        Ok(all)
    }

    /// Everything that was checked is in force: what is known is as the directory says now. But for
    /// those who have not signed again in time, or whose bin is over.
    fn confirm(&mut self, now: SystemTime) {
        let before = self.confirmed;
        self.confirmed = now;
        let mut changed = Vec::new();
        for known in self.known.values_mut() {
            let record = &mut known.record;
            let own_end = super::time(record.end);
            let bin_end = self.bins.get(&known.bin).map(|bin| bin.end);
            let role = names::role_of(&known.domain);
            let broken = self.broken.get(&known.bin);
            let broken = broken.or_else(|| self.broken.get(role.as_str()));
            let broken = broken.filter(|fault| fault.reason == "rollback");
            let over = if own_end <= now {
                Some(("expired", "it has not signed again what it says".to_owned()))
            } else if bin_end.is_some_and(|end| end <= now) {
                Some((
                    "expired",
                    "the registrars have not signed its bin again".to_owned(),
                ))
            } else {
                broken.map(|fault| ("rollback", fault.problem.clone()))
            };
            match (over, &record.fault) {
                (Some((reason, problem)), None) => {
                    record.confirmed = seconds(before);
                    record.fault = Some(Fault {
                        reason: reason.into(),
                        problem,
                        since: seconds(now),
                    });
                    changed.push(known.clone());
                }
                _ => {}
            }
        }
        for known in &changed {
            self.keep_member(known, None);
        }
        let text = seconds(now).to_string();
        if let Err(error) = self.folder.write("confirmed", text.as_bytes()) {
            tracing::error!(%error, "not kept when the directory was last in force");
        }
    }
}

/// What was found of a member.
enum Looked {
    /// It is none, and never was.
    Stranger,
    /// What is known of it is up to date.
    Taken,
}

fn bin_file(name: &str) -> String {
    format!("bins/{name}.json")
}

fn wrong(error: &SyncError) -> Wrong {
    (error.reason(), error.to_string())
}
