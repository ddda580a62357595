//! One sync: what has changed in the directory since the last one.

mod files;
mod keys;
mod look;
mod members;
mod root;
mod taken;

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, SystemTime},
};

use super::{
    Bin, Client, SyncError, Synced, Traffic, Wanted,
    record::{Fault, Standing, seconds},
    trusted::{self},
};
use crate::directory::{
    marks::Marks,
    metadata::Dated as _,
    names,
    possession::Owners,
    repository::{most, versioned},
};

pub(super) use root::{first_root, is_stored, vouched};

/// The highest version that was seen of each role, whatever else is lost or damaged.
const HIGHEST: &str = "highest.json";

/// As they are kept.
pub(super) struct Highest(pub(super) HashMap<Box<str>, u64>);

impl Highest {
    fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().map(Self)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        // Names and numbers.
        serde_json::to_vec(&self.0).unwrap_or_default()
    }
}

/// What is wrong with one member: word and text.
type Wrong = (&'static str, String);

impl Client {
    /// Takes up what was checked before, from the folder. What does not hold any more is fetched anew.
    pub(super) fn load(&mut self) {
        self.remember_statements();
        let read = |name: &str| self.folder.read(name).ok().flatten();
        let (timestamp, snapshot) = (read("timestamp.json"), read("snapshot.json"));
        let (targets, marks) = (read("targets.json"), read("marks.json"));
        // First: nothing that is read after it takes a role back.
        if let Some(highest) = read(HIGHEST).and_then(|bytes| Highest::read(&bytes)) {
            self.trusted.snapshot.roles = highest.0;
        }
        if let Some(bytes) = &snapshot {
            self.trusted.remember(bytes);
        }
        if let Some(stated) = timestamp.and_then(|bytes| self.trusted.stated(&bytes).ok()) {
            // Whether they are over is asked when something is to be confirmed by them.
            let _ = self.trusted.take_timestamp(stated);
            if let Some(bytes) = snapshot {
                let _ = self.trusted.take_snapshot(&bytes, None);
            }
            if let Some(bytes) = targets {
                let _ = self.trusted.take_targets(&bytes);
            }
        }
        let said = read("marks.version").and_then(|bytes| String::from_utf8(bytes).ok());
        let said = said.and_then(|text| {
            let (version, end) = text.split_once(' ')?;
            Some((version.parse().ok()?, end.parse().ok()?))
        });
        if let (Some(marks), Some((version, end))) =
            (marks.and_then(|bytes| Marks::read(&bytes).ok()), said)
        {
            self.marks = marks;
            self.marks_version = version;
            self.marks_end = super::time(end);
        }
        self.place();
        let bins: BTreeSet<Box<str>> = self.known.values().map(|one| one.bin.clone()).collect();
        for name in bins {
            if let Some(bin) = self.kept_bin(&name) {
                let (version, end) = (bin.number(), bin.end());
                self.bins.insert(name, Bin { version, end });
            }
        }
        self.owners = Owners::default();
        for known in self.known.values() {
            // The keys of who is no member are free.
            let is_out = matches!(
                known.record.standing,
                Standing::Suspended | Standing::Expelled
            );
            let bundle = &*known.descriptor.bundle;
            if !is_out
                && self
                    .owners
                    .claim(bundle, |name| self.bundle_of(name))
                    .is_ok()
            {
                self.owners.take(bundle);
            }
        }
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
                // What is remembered is not of the directory that the operator vouches for.
                if matches!(error, SyncError::OtherDirectory { .. }) {
                    self.is_other = true;
                    self.keep_unmet(0);
                }
                self.raise(error);
                self.failed(error);
            }
        }
        if followed.is_ok() {
            self.members_of(wanted, true, &mut synced, now).await;
            self.look_for_us(&mut synced).await;
            self.confirm(now);
        }
        if let Some(behind) = self.behind() {
            tracing::error!(problem = behind.problem, "our own word");
        }
        self.publish(now);
        followed.map(|()| synced)
    }

    fn failed(&mut self, error: &SyncError) {
        let fault = self.fault_of(error.reason(), error);
        let since = self.fault.as_ref().map(|known| known.since);
        self.fault = Some(Fault {
            since: since.unwrap_or(fault.since),
            ..fault
        });
    }

    /// It was not followed within `time`, and was left.
    pub(crate) fn left(&mut self, time: Duration) -> SyncError {
        let error = SyncError::TooLate(time);
        self.failed(&error);
        self.publish(self.clock.now());
        error
    }

    /// Fetches members between two syncs, by what the last one has found: for a peer who stands at the
    /// door. Nothing is confirmed by it.
    pub async fn fetch(&mut self, wanted: &Wanted) -> Synced {
        let mut synced = Synced::default();
        let now = self.clock.now();
        let in_force = self.trusted.timestamp.is_some()
            && trusted::in_force(&self.trusted, now).is_ok()
            && self.fault.is_none()
            && self.vouched.is_none();
        if in_force {
            self.members_of(wanted, false, &mut synced, now).await;
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
            if let (Some((reason, problem)), None) = (over, &record.fault) {
                record.confirmed = seconds(before);
                record.fault = Some(Fault {
                    reason: reason.into(),
                    problem,
                    since: seconds(now),
                });
                changed.push(known.clone());
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
