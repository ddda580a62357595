//! What a directory costs a site that follows it.

use std::path::Path;

use anyhow::Context as _;
use sekisho_certs::{SystemClock, id::parse_trust_domain};
use sekisho_federation::directory::client::{Client, Settings, Source, Traffic, Wanted};
use serde::Serialize;

use super::{Cost, made::Made, median, told};

/// Members that a lazy site wants.
pub(super) const WANTED: usize = 20;
/// Syncs of which the median is told.
const TIMES: usize = 9;

/// A sync: what came, small forms as they came, and what it took.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Sync {
    pub(super) requests: u64,
    pub(super) bytes: u64,
    pub(super) cost: Cost,
}

/// What it costs a site.
#[derive(Debug, Serialize)]
pub(super) struct AtSite {
    /// The first sync of a site that wants twenty members.
    first: Sync,
    /// Where nothing has changed.
    unchanged: Sync,
    /// One of the twenty has changed.
    subscribed: Sync,
    /// One of the others has.
    unsubscribed: Sync,
    /// Ten minutes of a day in which every member has a new CA.
    busy: Sync,
    /// The same for one that was away for longer than deltas are followed.
    away: Sync,
    /// All members, from nothing.
    all: Sync,
    /// Memory of this process before and with all of them, in bytes.
    memory: [u64; 2],
}

struct Site {
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    fn open(folder: &Path, data: &Path) -> anyhow::Result<Self> {
        let settings = Settings {
            own: parse_trust_domain("own.example")?,
            source: Source::Folder(folder.to_owned()),
            root: folder.join("metadata/1.root.json"),
            data: data.to_owned(),
            max_stale: None,
            rekey_wait: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            client: Client::open(settings, std::sync::Arc::new(SystemClock))?,
            runtime,
        })
    }

    fn sync(&mut self, wanted: &Wanted) -> anyhow::Result<Sync> {
        let (client, runtime) = (&mut self.client, &self.runtime);
        let (Traffic { requests, bytes }, cost) = super::cost(|| {
            let synced = runtime.block_on(client.sync(wanted))?;
            Ok(synced.traffic)
        })?;
        Ok(Sync {
            requests,
            bytes,
            cost,
        })
    }

    /// The median of several, each after `before` has happened.
    fn often(
        &mut self,
        mut before: impl FnMut(usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<Sync> {
        let mut all = Vec::new();
        for time in 0..TIMES {
            before(time)?;
            all.push(self.sync(&Wanted::default())?);
        }
        let cost = median(all.iter().map(|one| one.cost).collect())?;
        all.sort_by_key(|one| one.bytes);
        let middle = all
            .get(all.len() / 2)
            .copied()
            .context("nothing was measured")?;
        Ok(Sync { cost, ..middle })
    }
}

fn resident() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages = text.split(' ').nth(1).context("statm")?;
    Ok(pages.parse::<u64>()? * 4096)
}

/// Measures it. The directory has been hosted.
pub(super) fn measure(made: &mut Made, folder: &Path, changed: usize) -> anyhow::Result<AtSite> {
    let scratch = tempfile::tempdir()?;
    let mut site = Site::open(folder, &scratch.path().join("lazy"))?;
    let twenty = Wanted {
        domains: made.names().take(WANTED).collect(),
        ..Wanted::default()
    };
    let first = site.sync(&twenty)?;
    let unchanged = site.often(|_| Ok(()))?;
    let subscribed = site.often(|time| {
        made.speak_of(time)?;
        made.host()
    })?;
    let unsubscribed = site.often(|time| {
        made.speak_of(WANTED + time)?;
        made.host()
    })?;
    let busy = site.often(|_| {
        made.speak(changed)?;
        made.host()
    })?;
    for _ in 0..40 {
        made.speak(1)?;
        made.host()?;
    }
    let away = site.sync(&Wanted::default())?;
    drop(site);
    let before = resident()?;
    let mut full = Site::open(folder, &scratch.path().join("full"))?;
    let all = full.sync(&Wanted {
        all: true,
        ..Wanted::default()
    })?;
    let memory = [before, resident()?];
    anyhow::ensure!(
        full.client.members().len() == made.names().count(),
        "all are there"
    );
    Ok(AtSite {
        first,
        unchanged,
        subscribed,
        unsubscribed,
        busy,
        away,
        all,
        memory,
    })
}

impl AtSite {
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |what: &str, sync: &Sync| {
            format!(
                "| {what}: requests, bytes, CPU | {}; {}; {} |",
                sync.requests,
                sync.bytes,
                told(&sync.cost)
            )
        };
        let [before, with] = self.memory.map(|bytes| bytes / 1024 / 1024);
        // A day has 144 times ten minutes, and 360 polls: the others find nothing new.
        let day = 144 * self.busy.bytes + 216 * self.unchanged.bytes;
        vec![
            line("a site: first sync, 20 members wanted", &self.first),
            line("nothing has changed", &self.unchanged),
            line("one of the 20 has changed", &self.subscribed),
            line("one of the others has changed", &self.unsubscribed),
            line("ten busy minutes", &self.busy),
            line("after forty snapshots without us", &self.away),
            format!("| a day of a site with 20 members, all CAs live a day: bytes | {day} |"),
            line("all members, from nothing", &self.all),
            format!("| memory before, and with all members: MiB | {before}; {with} |"),
        ]
    }
}
