//! The directories that a site follows (`sekisho_federation::directory`): opened from what the
//! configuration says, plugged into the state of the authority, and kept in step with its store.

mod keep;
mod neighbours;
mod publish;
#[cfg(test)]
mod tests;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use rustls::crypto::CryptoProvider;
use sekisho_certs::{Clock, TrustDomain, members::Service};
use sekisho_federation::{
    client::{Allowed, WebRoots},
    directory::{
        client::{Client, Settings, Source, SourceError, SyncError, Web, folder_of},
        combined::Directories,
        descriptor::Endpoint,
        following::{Following, Handle},
    },
};

use crate::{
    caller::Caller,
    core::Core,
    entry::{Draft, Federated},
    members::Followed,
    store::StoreError,
};

pub(crate) use keep::keep;
pub(crate) use neighbours::listen;
pub(crate) use publish::publish;

/// What several directories last agreed on, in the folder of all.
const AGREED: &str = "agreed.json";

/// One directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryPlace {
    /// `https://…`, `http://…`, or a folder.
    pub at: Place,
    /// A root of it that the operator vouches for.
    pub root: PathBuf,
}

/// Where a directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A web server.
    Url(String),
    /// A folder.
    Folder(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::Folder(folder) => folder.display().fmt(f),
        }
    }
}

/// The directories of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorySettings {
    /// Each, in the order of the configuration.
    pub places: Vec<DirectoryPlace>,
    /// How many of them have to say the same of a member.
    pub threshold: usize,
    /// The folder in which each has one of its own, by its address.
    pub data: PathBuf,
    /// For so long a member is believed at most without a new word of it. Default: as it says itself.
    pub max_stale: Option<Duration>,
    /// After so long in public without a veto, new keys are taken that the old ones have not named.
    /// Default: never.
    pub rekey_wait: Option<Duration>,
}

/// How the site speaks as a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSettings {
    /// The directories that it speaks to. To a folder somebody else speaks.
    pub places: Vec<Place>,
    /// The folder of its key (`sekisho directory member request --data`). Without a key there, it does
    /// not speak.
    pub data: PathBuf,
    /// What may be reached at it.
    pub services: Vec<Service>,
    /// Its bundle endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// Opens them, with what is remembered of each.
///
/// # Errors
/// When a root is none, an address is none, or a folder cannot be used.
pub fn open(
    settings: &DirectorySettings,
    own: &TrustDomain,
    (roots, allowed): (&WebRoots, &Allowed),
    provider: &Arc<CryptoProvider>,
    clock: &Arc<dyn Clock>,
) -> Result<Directories, SyncError> {
    let mut clients = Vec::with_capacity(settings.places.len());
    let addresses: Vec<String> = settings
        .places
        .iter()
        .map(|one| one.at.to_string())
        .collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    for (one, address) in settings.places.iter().zip(&addresses) {
        let source = match &one.at {
            Place::Folder(folder) => Source::Folder(folder.clone()),
            Place::Url(url) => {
                let web = Web::new(
                    url,
                    roots.clone(),
                    allowed.clone(),
                    Arc::clone(provider),
                    Arc::clone(clock),
                );
                Source::Web(Box::new(web.map_err(SourceError::from)?))
            }
        };
        let client = Settings {
            own: own.clone(),
            source,
            root: one.root.clone(),
            data: folder_of(&settings.data, address, &one.root, &addresses)?,
            max_stale: settings.max_stale,
            rekey_wait: settings.rekey_wait,
        };
        clients.push(Client::open(client, Arc::clone(clock))?);
    }
    let several = clients.len() > 1;
    let threshold = settings.threshold;
    let all = Directories::new(own.clone(), clients, threshold, Arc::clone(clock));
    Ok(match several {
        true => all.keeping(&settings.data.join(AGREED)),
        false => all,
    })
}

impl Core {
    /// The same, with these directories. What is given back has to run.
    #[must_use]
    pub fn following(mut self, directories: Directories) -> (Self, Following) {
        let (following, handle) = Following::new(directories);
        let asked = handle.clone();
        let want = move |domain: &TrustDomain| {
            let may_be = !asked.is_stranger(domain);
            if may_be {
                asked.want(domain.clone());
            }
            may_be
        };
        self.directory = Some(Arc::new(Followed::new(handle.members(), want)));
        self.followed = Some(handle);
        (self, following)
    }

    /// An entry may name a member of a directory before its bundle is loaded.
    pub(crate) async fn expect_of_directory(
        &self,
        caller: &Caller,
        drafts: impl Iterator<Item = &Draft>,
    ) -> Result<(), StoreError> {
        let Some(handle) = &self.followed else {
            return Ok(());
        };
        let named = drafts.flat_map(|draft| &draft.federates_with);
        let domains: Vec<TrustDomain> = named
            .filter_map(|one| match one {
                Federated::Domain(domain) => Some(domain.clone()),
                Federated::All => None,
            })
            .collect();
        if domains.is_empty() {
            return Ok(());
        }
        for domain in &domains {
            handle.want(domain.clone());
        }
        self.store
            .expect_of_directory(self.by(caller.name()), domains)
            .await
    }

    /// The directories, where the site is in one.
    #[must_use]
    pub const fn followed(&self) -> Option<&Handle> {
        self.followed.as_ref()
    }
}
