//! Several directories of which a threshold has to agree (in the spirit of TAP 4): so that no single
//! federation's registrars, and no single host, decide who is whom.

mod agreed;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use sekisho_certs::{
    Clock, TrustBundle, TrustDomain,
    members::{Member, Members, Source},
};
use tokio::time::timeout;

use super::{
    client::{Client, Status, SyncError, Synced, Wanted},
    continuity::SignedStatement,
    gossip::{Gossip, Neighbour},
    possession::Owners,
};
use agreed::{Agreed, File};

/// Directories, and how many of them have to say the same of a member.
#[derive(Debug)]
pub struct Directories {
    own: TrustDomain,
    clients: Vec<Client>,
    threshold: usize,
    clock: Arc<dyn Clock>,
    /// What they last agreed on of those of whom they say different things now.
    agreed: Agreed,
    /// Where that is kept.
    file: Option<File>,
    /// Those who deliver a CA key of another: told once.
    copied: BTreeSet<Box<str>>,
    members: Members,
}

impl Directories {
    /// These, of which so many have to agree: one at least, and all at most.
    #[must_use]
    pub fn new(
        own: TrustDomain,
        clients: Vec<Client>,
        threshold: usize,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let threshold = threshold.clamp(1, clients.len().max(1));
        let mut all = Self {
            own,
            clients,
            threshold,
            clock,
            agreed: Agreed::new(),
            file: None,
            copied: BTreeSet::new(),
            members: Members::default(),
        };
        all.combine();
        all
    }

    /// The same, which keep in that file what they agree on, and go on from what stands there.
    #[must_use]
    pub fn keeping(mut self, file: &Path) -> Self {
        let mut file = File::new(file);
        self.agreed = file.read(self.clock.now());
        self.file = Some(file);
        self.combine();
        self
    }

    /// What they agree on.
    #[must_use]
    pub const fn members(&self) -> &Members {
        &self.members
    }

    /// What may be told of each.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        self.clients.iter().map(Client::status).collect()
    }

    /// Follows each once, all at a time, and none for longer than `longest`: one that is slow keeps nobody from
    /// the others.
    pub async fn sync(
        &mut self,
        wanted: &Wanted,
        longest: Duration,
    ) -> Vec<Result<Synced, SyncError>> {
        let each = self.clients.iter_mut().map(async |client| {
            match timeout(longest, client.sync(wanted)).await {
                Ok(synced) => synced,
                Err(_) => Err(client.left(longest)),
            }
        });
        let all = join_all(each).await;
        self.combine();
        all
    }

    /// Fetches members between two syncs. Those that are strangers to so many that nobody could agree
    /// on them are the answer.
    pub async fn fetch(&mut self, wanted: &Wanted) -> Vec<TrustDomain> {
        let mut strangers: BTreeMap<String, (TrustDomain, usize)> = BTreeMap::new();
        for client in &mut self.clients {
            for domain in client.fetch(wanted).await.strangers {
                let count = strangers.entry(domain.to_string()).or_insert((domain, 0));
                count.1 += 1;
            }
        }
        self.combine();
        let most = self.clients.len() - self.threshold;
        let out = strangers.into_values().filter(|(_, count)| *count > most);
        out.map(|(domain, _)| domain).collect()
    }

    /// Takes the keys of a member that wait, in each directory in which they do. False where they wait
    /// in none.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn accept_rekey(
        &mut self,
        member: &TrustDomain,
        fingerprint: &str,
    ) -> Result<bool, SyncError> {
        let mut any = false;
        for client in &mut self.clients {
            any |= client.accept_rekey(member, fingerprint)?;
        }
        Ok(any)
    }

    /// Lets the bundle of a member go back, once. False if it is not known.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn accept_rollback(&mut self, member: &TrustDomain) -> Result<bool, SyncError> {
        let mut any = false;
        for client in &mut self.clients {
            any |= client.accept_rollback(member)?;
        }
        Ok(any)
    }

    /// Ends the alarms: the operator has looked at them.
    pub fn quiet(&mut self) {
        self.clients.iter_mut().for_each(Client::quiet);
    }

    /// Members that may be asked what they have heard.
    #[must_use]
    pub fn neighbours(&self) -> Vec<Neighbour> {
        self.clients.iter().flat_map(Client::neighbours).collect()
    }

    /// What we tell other sites.
    #[must_use]
    pub fn gossip(&self) -> Gossip {
        let statements = self.clients.iter().filter_map(Client::statement);
        let timestamps = statements.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let mut gossip = Gossip {
            timestamps: timestamps.collect(),
            seen: self.clients.iter().map(Client::seen).collect(),
            statements: Vec::new(),
        };
        for client in &self.clients {
            for heard in client.heard() {
                gossip.add(heard.clone());
            }
        }
        gossip
    }

    /// What hosts have signed about their last snapshots, by the numbers of these: for other sites that
    /// have heard another thing.
    #[must_use]
    pub fn proofs(&self) -> BTreeMap<u64, Vec<String>> {
        let mut all = BTreeMap::<u64, Vec<String>>::new();
        for (snapshot, bytes) in self.clients.iter().flat_map(Client::proofs) {
            let text = String::from_utf8_lossy(bytes).into_owned();
            all.entry(snapshot).or_default().push(text);
        }
        all
    }

    /// Takes what another site has told. True if something of it was new.
    pub fn hear(&mut self, gossip: &Gossip) -> bool {
        let mut new = false;
        for client in &mut self.clients {
            for timestamp in &gossip.timestamps {
                new |= client.compare(timestamp.as_bytes()).is_err();
            }
            for statement in &gossip.statements {
                new |= client.hear(statement);
            }
        }
        if new {
            self.combine();
        }
        new
    }

    /// What other sites are told of our own from now on.
    pub fn say(&mut self, all: &[SignedStatement]) {
        for client in &mut self.clients {
            client.say(all);
        }
    }

    /// The directory at an address has taken this version of what we say ourselves, at this time in seconds
    /// since 1970.
    pub fn own_word(&mut self, address: &str, version: u64, time: u64) {
        for client in &mut self.clients {
            if client.address() == address {
                client.own_word(version, time);
            }
        }
    }

    fn combine(&mut self) {
        if let ([only], 1) = (self.clients.as_slice(), self.threshold) {
            self.members = only.members().clone();
            return;
        }
        let mut told: BTreeMap<String, Vec<Arc<Member>>> = BTreeMap::new();
        for client in &self.clients {
            for member in client.members().iter() {
                let domain = member.trust_domain().to_string();
                told.entry(domain).or_default().push(Arc::clone(member));
            }
        }
        let mut all = Vec::new();
        let mut agreed = Agreed::new();
        for (domain, mut told) in told {
            // Who has lost touch with a directory says nothing against one that has it.
            let loaded = told.iter().filter(|one| one.bundle().is_some()).count();
            if loaded >= self.threshold {
                told.retain(|one| one.bundle().is_some());
            }
            // A member that distrusts itself is heard by whichever way it could say so.
            let distrusted = told.iter().find(|one| {
                let bundle = one.bundle();
                bundle.is_some_and(|bundle| bundle.authorities().is_empty())
            });
            if let Some(distrusted) = distrusted {
                all.push(Arc::clone(distrusted));
                continue;
            }
            // Fewer than have to agree know it: whoever has expelled it has had the last word.
            if told.len() < self.threshold {
                continue;
            }
            let member = match self.agree(&told) {
                Some(member) => Arc::new(member),
                // They differ, for as long as what is new is on its way to all of them.
                None => match self.agreed.get(&domain) {
                    Some(before) => Arc::new(self.aged(before)),
                    // Enough of them know it: it is a member, of which nothing is believed yet.
                    None => {
                        let confirmed = told.iter().map(|one| one.confirmed()).min();
                        let confirmed = confirmed.unwrap_or(SystemTime::UNIX_EPOCH);
                        let domain = told.first().map(|one| one.trust_domain().clone());
                        let nothing = |domain| Member::new(domain, Source::Directory, confirmed);
                        all.extend(domain.map(nothing).map(Arc::new));
                        continue;
                    }
                },
            };
            agreed.insert(domain, Arc::clone(&member));
            all.push(member);
        }
        self.agreed = agreed;
        if let Some(file) = &mut self.file {
            file.keep(&self.agreed);
        }
        let (all, copied) = without_copied_keys(all);
        for domain in copied.difference(&self.copied) {
            tracing::warn!(
                domain,
                "it delivers a CA key that another member has shown to be its own: it is not trusted"
            );
        }
        self.copied = copied;
        match Members::new(&self.own, all) {
            Ok(members) => self.members = members,
            Err(error) => tracing::error!(%error, "members not combined"),
        }
    }

    /// What so many say as have to, if they do: confirmed when the last of them needed had confirmed it.
    fn agree(&self, told: &[Arc<Member>]) -> Option<Member> {
        for one in told {
            let same: Vec<&Arc<Member>> = told
                .iter()
                .filter(|other| {
                    other.bundle() == one.bundle() && other.services() == one.services()
                })
                .collect();
            if same.len() < self.threshold {
                continue;
            }
            let mut confirmed: Vec<SystemTime> = same.iter().map(|one| one.confirmed()).collect();
            confirmed.sort_unstable_by(|one, other| other.cmp(one));
            let at = confirmed.get(self.threshold - 1).copied()?;
            let marks = one.marks().iter().filter(|mark| {
                let with = same.iter().filter(|other| other.marks().contains(*mark));
                with.count() >= self.threshold
            });
            let marks = marks.cloned().collect();
            let member = (**one).clone().confirmed_at(at).with_marks(marks);
            return member.ok();
        }
        None
    }

    /// What was agreed before, without its bundle once that is too old.
    fn aged(&self, before: &Arc<Member>) -> Member {
        let oldest = self
            .clients
            .iter()
            .filter_map(|client| client.stale_after(before.trust_domain()));
        let age = before.age(self.clock.now());
        match oldest.min() {
            Some(oldest) if age > oldest => (**before).clone().without_bundle(),
            _ => (**before).clone(),
        }
    }
}

/// Without the bundles of those who deliver a CA key that another member has shown to be its own: what each
/// directory refuses by itself, two of them can bring together. Who they are is the second.
fn without_copied_keys(all: Vec<Arc<Member>>) -> (Vec<Arc<Member>>, BTreeSet<Box<str>>) {
    let mut owners = Owners::default();
    let mut losers = BTreeSet::<Box<str>>::new();
    let bundles = all.iter().filter_map(|member| member.bundle());
    let held: HashMap<&str, &TrustBundle> = bundles
        .map(|bundle| (bundle.trust_domain().as_str(), &**bundle))
        .collect();
    for member in &all {
        let Some(bundle) = member.bundle() else {
            continue;
        };
        match owners.claim(bundle, |name| held.get(name).copied()) {
            Ok(outweighed) => {
                losers.extend(outweighed);
                owners.take(bundle);
            }
            Err(another) if another.is_proven => {
                losers.insert(bundle.trust_domain().as_str().into());
            }
            // Who was first, whoever uses the bundles knows.
            Err(_) => {}
        }
    }
    if losers.is_empty() {
        return (all, losers);
    }
    let kept = all.into_iter().map(|member| {
        if !losers.contains(member.trust_domain().as_str()) {
            return member;
        }
        Arc::new((*member).clone().without_bundle())
    });
    (kept.collect(), losers)
}

#[cfg(test)]
mod tests;
