//! What sites tell one another of a directory.

use super::{
    super::{
        continuity::{SignedStatement, What},
        gossip::{Neighbour, Seen},
        membership::PATIENCE,
        names,
    },
    Client, Fault, HEARD, Standing, SyncError,
    record::seconds,
    trusted,
};

/// The two statements that cannot both be true.
const EVIDENCE: [&str; 2] = ["split-view-ours.json", "split-view-theirs.json"];

/// What the host has signed about the last snapshots.
const STATEMENTS: &str = "statements.json";

/// The name of the host's keys, and the last snapshot that it had shown when the operator ended the alarm.
const LOOKED_AT: &str = "looked-at";

impl Client {
    /// An alarm outlives the process that has raised it.
    pub(super) fn remember_alarm(&mut self) {
        if EVIDENCE.iter().all(|name| self.folder.path(name).is_file()) {
            let text = "the host of the directory has two faces: its statements are kept";
            self.alarm = Some(self.fault_of("split_view", &text));
        }
    }

    /// The last statement of the host that was checked: for other sites, to compare.
    #[must_use]
    pub fn statement(&self) -> Option<&[u8]> {
        Some(&self.trusted.timestamp.as_ref()?.bytes)
    }

    /// Compares what another site has heard of the host with what we have. What is not signed by the
    /// host says nothing.
    ///
    /// # Errors
    /// When both cannot be true: the alarm stays until [`Self::quiet`].
    pub fn compare(&mut self, statement: &[u8]) -> Result<(), SyncError> {
        let Ok(theirs) = self.trusted.stated(statement) else {
            return Ok(());
        };
        let recent = self.trusted.recent.iter();
        // What the operator has looked at is no news.
        let looked_at = self.trusted.looked_at;
        let ours = recent.chain(&self.trusted.timestamp);
        let mut ours = ours.filter(|ours| ours.snapshot > looked_at);
        let compared = ours.try_for_each(|ours| trusted::contradict(ours, &theirs));
        if let Err(error) = &compared {
            self.raise(error);
        }
        compared
    }

    /// What the host has shown before: for other sites, to compare.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let all = self.trusted.recent.iter();
        let named = all.filter_map(|one| Some((one.snapshot, one.sha256.clone()?)));
        Seen {
            host: self.trusted.host(),
            snapshots: named.collect(),
        }
    }

    /// What the host has signed about those, by the number of the snapshot: the proof.
    pub fn proofs(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let all = self.trusted.recent.iter();
        all.map(|one| (one.snapshot, &*one.bytes))
    }

    /// Takes up what the host has shown before this process.
    pub(super) fn remember_statements(&mut self) {
        let looked_at = self.folder.read(LOOKED_AT).ok().flatten();
        let looked_at = looked_at.and_then(|bytes| String::from_utf8(bytes).ok());
        // Another host counts its snapshots by itself.
        if let Some((host, number)) = looked_at.as_deref().and_then(|text| text.split_once(' '))
            && *host == *self.trusted.host()
        {
            self.trusted.looked_at = number.parse().unwrap_or_default();
        }
        let kept = self.folder.read(STATEMENTS).ok().flatten();
        let kept = kept.and_then(|bytes| serde_json::from_slice::<Vec<String>>(&bytes).ok());
        for statement in kept.unwrap_or_default() {
            if let Ok(stated) = self.trusted.stated(statement.as_bytes()) {
                self.trusted.keep_statement(stated);
            }
        }
    }

    /// Keeps what the host has shown.
    pub(super) fn keep_statements(&self) {
        let all = self.trusted.recent.iter();
        let all: Vec<_> = all.map(|one| String::from_utf8_lossy(&one.bytes)).collect();
        let kept = serde_json::to_vec(&all).map_err(std::io::Error::other);
        let kept = kept.and_then(|text| self.folder.write(STATEMENTS, &text));
        if let Err(error) = kept {
            tracing::error!(%error, "what the host has shown is not kept");
        }
    }

    /// What members have said against keys that were never theirs, or of their own: for other sites.
    pub fn heard(&self) -> impl Iterator<Item = &SignedStatement> {
        self.own
            .iter()
            .chain(self.known.values().flat_map(|known| &known.record.heard))
    }

    /// What other sites are to hear of our own from now on: these, and revocations above all.
    pub fn say(&mut self, all: &[SignedStatement]) {
        let revokes = |one: &&SignedStatement| {
            let said = one.statement();
            said.is_some_and(|said| said.what == What::Revoke)
        };
        let revocations = all.iter().filter(revokes);
        let vetoes = all.iter().rev().filter(|one| !revokes(one));
        self.own = revocations.chain(vetoes).take(HEARD).cloned().collect();
    }

    /// Where this is: the address of the directory.
    #[must_use]
    pub fn address(&self) -> String {
        self.settings.source.name()
    }

    /// The directory has taken this version of what we say ourselves, at this time in seconds since 1970.
    pub fn own_word(&mut self, version: u64, time: u64) {
        // A lower version that was said later is of a directory which has gone back, and was followed.
        if self
            .own_word
            .is_none_or(|(known, at)| known <= version || at < time)
        {
            self.own_word = Some((version, time));
        }
    }

    /// The version that the directory shows of us; zero: none.
    pub(super) fn shown_of_us(&self) -> u64 {
        let role = names::role_of(&self.settings.own);
        self.trusted.version_of(&role)
    }

    /// What is wrong where the directory shows an older word of us than it has taken, and that for longer than its
    /// host has time to sign.
    pub(super) fn behind(&self) -> Option<Fault> {
        let (said, time) = self.own_word?;
        let shown = self.shown_of_us();
        let passed = seconds(self.clock.now()).saturating_sub(time);
        if shown >= said || passed < PATIENCE.as_secs() {
            return None;
        }
        let problem = format!(
            "the directory has taken version {said} of us, {passed} s ago, and shows version {shown}: its host is away, or hides what we say"
        );
        Some(Fault {
            since: time,
            ..self.fault_of("behind", &problem)
        })
    }

    /// Takes a revocation or a veto that another site has told, if the keys which we know as the
    /// member's have signed it. True if it was new.
    pub fn hear(&mut self, statement: &SignedStatement) -> bool {
        let Some(said) = statement.statement() else {
            return false;
        };
        let Some(known) = self.known.get_mut(&said.member) else {
            return false;
        };
        let record = &mut known.record;
        let is_theirs = matches!(said.what, What::Revoke | What::Veto { .. })
            && said.from == record.keys.id()
            && record.keys.have_signed(&statement.0);
        let says = statement.statement();
        let is_new = record.heard.iter().all(|one| one.statement() != says);
        if !is_theirs || !is_new || !statement.is_small() {
            return false;
        }
        if record.heard.len() >= HEARD {
            // A revocation is worth more than any veto.
            let veto = record
                .heard
                .iter()
                .position(|one| one.statement().is_some_and(|one| one.what != What::Revoke));
            let Some(veto) = veto.filter(|_| said.what == What::Revoke) else {
                return false;
            };
            record.heard.remove(veto);
        }
        tracing::warn!(domain = %known.domain, what = ?said.what, "heard from another site");
        record.heard.push(statement.clone().by(&record.keys));
        if said.what == What::Revoke {
            record.standing = Standing::Revoked;
            record.revoked = Some(record.keys.id());
        }
        // It is looked at again by what was heard.
        record.bin_version = 0;
        let known = known.clone();
        if let Err(error) = self.keep(&known, None) {
            tracing::error!(%error, "not kept");
        }
        self.publish(self.clock.now());
        true
    }

    /// Members that may be asked what they have heard.
    pub fn neighbours(&self) -> impl Iterator<Item = Neighbour> {
        let members = self
            .known
            .values()
            .filter(|known| known.record.standing == Standing::Member);
        members.filter_map(|known| {
            let mut endpoints = known.descriptor.endpoints.iter();
            endpoints.find_map(|endpoint| Neighbour::of(&known.domain, endpoint))
        })
    }

    /// Ends an alarm: the operator has looked at it. What the host has shown until now raises none again.
    pub fn quiet(&mut self) {
        self.alarm = None;
        self.trusted.recent.clear();
        self.keep_statements();
        let shown = self.trusted.timestamp.as_ref().map(|one| one.snapshot);
        self.trusted.looked_at = shown.unwrap_or_default().max(self.trusted.looked_at);
        let text = format!("{} {}", self.trusted.host(), self.trusted.looked_at);
        if let Err(error) = self.folder.write(LOOKED_AT, text.as_bytes()) {
            tracing::error!(%error, "not kept that the alarm was looked at");
        }
        for name in EVIDENCE {
            let (now, seen) = (
                self.folder.path(name),
                self.folder.path(&format!("{name}.seen")),
            );
            // There may be none.
            let _ = std::fs::rename(now, seen);
        }
    }

    pub(super) fn raise(&mut self, error: &SyncError) {
        let SyncError::SplitView { statements, .. } = error else {
            return;
        };
        tracing::error!(%error, "split view");
        let [one, other] = &**statements;
        for (name, bytes) in EVIDENCE.into_iter().zip([one, other]) {
            if let Err(error) = self.folder.write(name, bytes) {
                tracing::error!(%error, name, "evidence not kept");
            }
        }
        self.alarm = Some(self.fault_of("split_view", error));
    }
}
