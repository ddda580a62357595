//! The sources of identity a node has open, each shared by the endpoints that name it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use sekisho_agent::{
    delegate::watch_delegated,
    members::{Wants, watch_members},
    selector::Selector,
};
use sekisho_certs::{
    StoreSpec, TlsContext, TrustDomain,
    members::Feed,
    source::{EmbeddedCa, SourceSpec, Supply, watch_files, watch_workload_api},
};
use tokio::sync::watch;

use super::{
    federation::Teller,
    inside::{self, Inside},
};
use crate::config::Config;

/// A CA that could not be opened (commonly: locked by a process that is about to end) is tried
/// again this often.
const RETRY: Duration = Duration::from_secs(1);

/// A receiver of what a source delivers.
type Supplies = watch::Receiver<Arc<Supply>>;

/// An embedded CA, once it is open.
type Opening = Arc<watch::Sender<Option<Minting>>>;

/// An embedded CA.
#[derive(Clone, Debug)]
enum Minting {
    /// By itself.
    Alone(Arc<EmbeddedCa>),
    /// In an authority of this process.
    Federated(Arc<Inside>),
}

/// Open sources. Files and sockets live as long as somebody listens to them.
#[derive(Debug)]
pub(crate) struct Sources {
    /// What an authority in this process is told, where one has to be opened.
    file: watch::Sender<Arc<Config>>,
    /// By what the configuration says, and site.
    embedded: HashMap<(SourceSpec, TrustDomain), Opening>,
    shared: HashMap<SourceSpec, Supplies>,
    /// Members, by who tells them.
    members: HashMap<Teller, (watch::Sender<Wants>, Option<Feed>)>,
}

/// A source in words, for the status.
pub(crate) fn describe(source: &SourceSpec) -> String {
    match source {
        SourceSpec::Embedded {
            data,
            federated: false,
        } => format!("embedded CA in {} (not attested)", data.display()),
        SourceSpec::Embedded { data, .. } => {
            format!(
                "embedded, federated CA in {} (not attested)",
                data.display()
            )
        }
        SourceSpec::Files { cert, .. } => format!("files ({})", cert.display()),
        SourceSpec::WorkloadApi { socket } => format!("workload API {}", socket.display()),
        SourceSpec::Delegated { socket, .. } => {
            format!("delegated identity {}", socket.display())
        }
    }
}

impl Sources {
    /// None is open.
    pub(crate) fn new(file: Config) -> Self {
        Self {
            file: watch::Sender::new(Arc::new(file)),
            embedded: HashMap::new(),
            shared: HashMap::new(),
            members: HashMap::new(),
        }
    }

    /// What authorities that are opened from now on are told.
    pub(crate) fn set_file(&self, file: &Config) {
        self.file.send_if_modified(|before| {
            let differs = **before != *file;
            if differs {
                *before = Arc::new(file.clone());
            }
            differs
        });
    }

    /// What `source` delivers to an endpoint.
    pub(crate) fn supply(
        &mut self,
        source: &SourceSpec,
        spec: &StoreSpec,
        context: &TlsContext,
    ) -> Supplies {
        if let SourceSpec::Embedded { data, .. } = source {
            return self.minted(source, data, spec, context);
        }
        let open = || match source {
            SourceSpec::Files { cert, key } => {
                watch_files(cert.clone(), key.clone(), Arc::clone(&context.provider))
            }
            SourceSpec::WorkloadApi { socket } => {
                watch_workload_api(socket.clone(), Arc::clone(&context.provider))
            }
            SourceSpec::Delegated { socket, selectors } => {
                let selectors = selectors.iter();
                let selectors = selectors.map(|(kind, value)| Selector::new(kind, value));
                let provider = Arc::clone(&context.provider);
                watch_delegated(socket.clone(), selectors.collect(), provider)
            }
            // Handled above.
            SourceSpec::Embedded { .. } => watch::channel(Arc::default()).1,
        };
        self.shared
            .entry(source.clone())
            .or_insert_with(open)
            .clone()
    }

    /// What endpoints want to know of other sites, by whom to ask; those that none asks any more are left
    /// alone.
    pub(crate) fn want(&mut self, wants: HashMap<Teller, Wants>) {
        self.members.retain(|teller, _| wants.contains_key(teller));
        for (teller, wants) in wants {
            let (sender, _) = self
                .members
                .entry(teller)
                .or_insert_with(|| (watch::Sender::new(Wants::default()), None));
            sender.send_if_modified(|before| {
                let news = *before != wants;
                *before = wants;
                news
            });
        }
    }

    /// What `teller` tells of other sites.
    pub(crate) fn feed(
        &mut self,
        teller: &Teller,
        site: &TrustDomain,
        context: &TlsContext,
    ) -> Feed {
        let (wants, feed) = self
            .members
            .entry(teller.clone())
            .or_insert_with(|| (watch::Sender::new(Wants::default()), None));
        if let Some(feed) = feed {
            return feed.clone();
        }
        let (wants, clock, site) = (wants.subscribe(), Arc::clone(&context.clock), site.clone());
        let new = match teller {
            Teller::Agent(socket) => watch_members(socket.clone(), site, wants, clock),
            Teller::Inside(data) => {
                let source = SourceSpec::Embedded {
                    data: data.clone(),
                    federated: true,
                };
                let mut opened = self.opening(&source, data, &site, context).subscribe();
                let inside = async move {
                    match &*opened.wait_for(Option::is_some).await.ok()? {
                        Some(Minting::Federated(inside)) => Some(Arc::clone(inside)),
                        _ => None,
                    }
                };
                inside::feed(inside, site, wants, clock)
            }
        };
        if let Some((_, feed)) = self.members.get_mut(teller) {
            *feed = Some(new.clone());
        }
        new
    }

    /// All that is open, for the status.
    pub(crate) fn feeds(&self) -> Vec<Feed> {
        let feeds = self.members.values();
        feeds.filter_map(|(_, feed)| feed.clone()).collect()
    }

    /// The embedded CA of a folder, which is opened if it is not yet.
    fn opening(
        &mut self,
        source: &SourceSpec,
        data: &Path,
        site: &TrustDomain,
        context: &TlsContext,
    ) -> &Opening {
        let file = &self.file;
        self.embedded
            .entry((source.clone(), site.clone()))
            .or_insert_with(|| {
                let opening = Arc::new(watch::Sender::new(None));
                let ca = Folder {
                    // One that was federated once has its CA there for good.
                    federated: matches!(
                        source,
                        SourceSpec::Embedded {
                            federated: true,
                            ..
                        }
                    ) || Inside::is_at(data),
                    data: data.to_owned(),
                    site: site.clone(),
                    file: file.subscribe(),
                    context: context.clone(),
                };
                tokio::spawn(ca.open(Arc::downgrade(&opening)));
                opening
            })
    }

    /// SVIDs from an embedded CA, once it is open.
    fn minted(
        &mut self,
        source: &SourceSpec,
        data: &Path,
        spec: &StoreSpec,
        context: &TlsContext,
    ) -> Supplies {
        let authority = self.opening(source, data, &spec.site, context);
        let mut opened = authority.subscribe();
        let why = format!("the CA in {} is not open yet", data.display());
        let (sender, receiver) = watch::channel(Arc::new(Supply::pending(why)));
        let own_id = spec.own_id.clone();
        tokio::spawn(async move {
            let authority = match opened.wait_for(Option::is_some).await {
                Ok(authority) => authority.clone(),
                Err(_) => return,
            };
            let (Some(authority), Some(id)) = (authority, own_id) else {
                return;
            };
            let minted = match authority {
                Minting::Alone(ca) => ca.supply(&id).map_err(anyhow::Error::from),
                Minting::Federated(inside) => inside.supply(&id).await,
            };
            let mut supply = match minted {
                Ok(supply) => supply,
                Err(error) => {
                    let problem = Some(format!("{error:#}").into());
                    sender.send_modify(|supply| Arc::make_mut(supply).problem = problem);
                    return;
                }
            };
            loop {
                sender.send_replace(Arc::clone(&supply.borrow_and_update()));
                tokio::select! {
                    changed = supply.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        });
        receiver
    }

    /// Rotates what embedded CAs issued; returns how many there are.
    pub(crate) fn rotate(&self) -> usize {
        for authority in self.embedded.values() {
            match &*authority.borrow() {
                Some(Minting::Alone(ca)) => ca.rotate(),
                Some(Minting::Federated(inside)) => inside.rotate(),
                None => {}
            }
        }
        self.embedded.len()
    }

    /// Closes the sources that no endpoint names any more, each with the site it is used for.
    pub(crate) fn keep_only(&mut self, used: &[(&SourceSpec, &TrustDomain)]) {
        self.shared
            .retain(|source, _| used.iter().any(|(used, _)| *used == source));
        self.embedded.retain(|(source, site), _| {
            let mut used = used.iter();
            used.any(|(used, of)| *used == source && *of == site)
        });
    }
}

/// An embedded CA that is to be opened.
struct Folder {
    data: PathBuf,
    federated: bool,
    site: TrustDomain,
    /// As it is when it is opened.
    file: watch::Receiver<Arc<Config>>,
    context: TlsContext,
}

impl Folder {
    /// Opens it, however long it takes, or until nobody wants it.
    async fn open(self, opening: Weak<watch::Sender<Option<Minting>>>) {
        let mut said = None;
        loop {
            if opening.strong_count() == 0 {
                return;
            }
            let opened = self.try_open().await;
            let Some(opening) = opening.upgrade() else {
                return;
            };
            match opened {
                Ok(authority) => {
                    opening.send_replace(Some(authority));
                    return;
                }
                Err(error) => complain(&mut said, &error),
            }
            drop(opening);
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn try_open(&self) -> anyhow::Result<Minting> {
        let context = self.context.clone();
        if self.federated {
            let file = Arc::clone(&self.file.borrow());
            let inside = Inside::start(&file, &self.data, context).await?;
            return Ok(Minting::Federated(inside));
        }
        let TlsContext { provider, clock } = context;
        let ca = EmbeddedCa::open(&self.data, &self.site, provider, clock)?;
        Ok(Minting::Alone(ca))
    }
}

fn complain(said: &mut Option<String>, error: &anyhow::Error) {
    let problem = format!("{error:#}");
    if said.as_ref() != Some(&problem) {
        tracing::error!(problem, "embedded CA not open; will try again");
        *said = Some(problem);
    }
}
