//! What several directories last agreed on, kept: after a restart they may differ about a member whose new word is
//! on its way to all of them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use sekisho_certs::{
    TrustDomain,
    id::parse_trust_domain,
    members::{Mark, Member, Source},
    persist,
};
use serde::{Deserialize, Serialize};

use crate::directory::descriptor::Descriptor;

/// Most bytes of the file.
const MOST: u64 = 64 * 1024 * 1024;
/// So old may be what is kept of when something was confirmed, before it is written again.
const AGAIN: Duration = Duration::from_secs(3600);

/// By domain.
pub(super) type Agreed = BTreeMap<String, Arc<Member>>;

/// A member, as it is kept.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    trust_domain: String,
    /// Its bundle and services.
    descriptor: String,
    marks: Vec<String>,
    /// When it was confirmed, in seconds since 1970.
    confirmed: u64,
}

impl Kept {
    fn of(member: &Member) -> Option<Self> {
        let mut descriptor = Descriptor::new(Arc::clone(member.bundle()?));
        descriptor.services = member.services().values().cloned().collect();
        Some(Self {
            trust_domain: member.trust_domain().to_string(),
            descriptor: String::from_utf8_lossy(&descriptor.to_json()).into_owned(),
            marks: member.marks().iter().map(ToString::to_string).collect(),
            confirmed: seconds(member.confirmed()),
        })
    }

    fn read(&self, now: SystemTime) -> Option<(TrustDomain, Member)> {
        let domain = parse_trust_domain(&self.trust_domain).ok()?;
        let descriptor = Descriptor::read(&domain, self.descriptor.as_bytes()).ok()?;
        let confirmed = self.confirmed.min(seconds(now));
        let confirmed = SystemTime::UNIX_EPOCH + Duration::from_secs(confirmed);
        let marks = self.marks.iter().map(|mark| mark.parse::<Mark>().ok());
        let marks = marks.collect::<Option<_>>()?;
        let member = Member::new(domain.clone(), Source::Directory, confirmed)
            .with_marks(marks)
            .and_then(|one| one.with_services(descriptor.services.iter().cloned()))
            .and_then(|one| one.with_bundle(Arc::clone(&descriptor.bundle)));
        Some((domain, member.ok()?))
    }
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

fn dated(all: &Agreed) -> BTreeMap<String, (Arc<Member>, SystemTime)> {
    let dated = all.iter().map(|(name, one)| {
        let at = one.confirmed();
        (name.clone(), (Arc::clone(one), at))
    });
    dated.collect()
}

/// The file of it.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    /// What stands in it, and as confirmed when.
    written: BTreeMap<String, (Arc<Member>, SystemTime)>,
}

impl File {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            written: BTreeMap::new(),
        }
    }

    /// What stands in it; nothing, where it cannot be read: then the directories have to agree anew.
    pub(super) fn read(&mut self, now: SystemTime) -> Agreed {
        let read = self.bytes().and_then(|bytes| match bytes {
            Some(bytes) => serde_json::from_slice::<Vec<Kept>>(&bytes).map_err(io::Error::other),
            None => Ok(Vec::new()),
        });
        let all = read.unwrap_or_else(|error| {
            let path = self.path.display();
            tracing::error!(%path, %error, "what directories agreed on cannot be read: they have to agree anew");
            Vec::new()
        });
        let all = all.iter().filter_map(|one| one.read(now));
        let all = all.map(|(domain, member)| (domain.to_string(), Arc::new(member)));
        let all: Agreed = all.collect();
        self.written = dated(&all);
        all
    }

    fn bytes(&self) -> io::Result<Option<Vec<u8>>> {
        use io::Read as _;
        let mut bytes = Vec::new();
        match fs::File::open(&self.path) {
            Ok(file) => file.take(MOST).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(bytes))
    }

    /// Writes it, if it is another thing than what stands there, or was confirmed long after that.
    pub(super) fn keep(&mut self, agreed: &Agreed) {
        let same = |(one, at): &(Arc<Member>, SystemTime), other: &Member| {
            let later = other.confirmed().duration_since(*at);
            one.bundle() == other.bundle()
                && one.services() == other.services()
                && one.marks() == other.marks()
                && later.unwrap_or_default() < AGAIN
        };
        let is_kept = self.written.len() == agreed.len()
            && self
                .written
                .iter()
                .zip(agreed)
                .all(|((name, one), (of, other))| name == of && same(one, other));
        if is_kept {
            return;
        }
        let all: Vec<_> = agreed.values().filter_map(|one| Kept::of(one)).collect();
        let text = serde_json::to_vec(&all).map_err(io::Error::other);
        match text.and_then(|text| persist::replace(&self.path, &text, false)) {
            Ok(()) => self.written = dated(agreed),
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%path, %error, "not kept what directories agreed on");
            }
        }
    }
}
