//! The sources of identity a node has open, each shared by the endpoints that name it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
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
    source::{EmbeddedCa, EmbeddedError, SourceSpec, Supply, watch_files, watch_workload_api},
};
use tokio::sync::watch;

/// A CA that could not be opened (commonly: locked by a process that is about to end) is tried
/// again this often.
const RETRY: Duration = Duration::from_secs(1);

/// A receiver of what a source delivers.
type Supplies = watch::Receiver<Arc<Supply>>;

/// An embedded CA, once it is open.
type Opening = Arc<watch::Sender<Option<Arc<EmbeddedCa>>>>;

/// Open sources. Files and sockets live as long as somebody listens to them.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// By folder and site.
    embedded: HashMap<(PathBuf, String), Opening>,
    shared: HashMap<SourceSpec, Supplies>,
    /// Members, by the socket of the agent that tells them.
    members: HashMap<PathBuf, (watch::Sender<Wants>, Option<Feed>)>,
}

/// A source in words, for the status.
pub(crate) fn describe(source: &SourceSpec) -> String {
    match source {
        SourceSpec::Embedded { data } => {
            format!("embedded CA in {} (not attested)", data.display())
        }
        SourceSpec::Files { cert, .. } => format!("files ({})", cert.display()),
        SourceSpec::WorkloadApi { socket } => format!("workload API {}", socket.display()),
        SourceSpec::Delegated { socket, .. } => {
            format!("delegated identity {}", socket.display())
        }
    }
}

impl Sources {
    /// What `source` delivers to an endpoint.
    pub(crate) fn supply(
        &mut self,
        source: &SourceSpec,
        spec: &StoreSpec,
        context: &TlsContext,
    ) -> Supplies {
        if let SourceSpec::Embedded { data } = source {
            return self.minted(data, spec, context);
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

    /// What endpoints want to know of other sites, by the agent to ask; agents that none asks any more
    /// are left alone.
    pub(crate) fn want(&mut self, wants: HashMap<PathBuf, Wants>) {
        self.members.retain(|socket, _| wants.contains_key(socket));
        for (socket, wants) in wants {
            let (sender, _) = self
                .members
                .entry(socket)
                .or_insert_with(|| (watch::Sender::new(Wants::default()), None));
            sender.send_if_modified(|before| {
                let news = *before != wants;
                *before = wants;
                news
            });
        }
    }

    /// What the agent at `socket` tells of other sites.
    pub(crate) fn feed(&mut self, socket: &Path, site: &TrustDomain, context: &TlsContext) -> Feed {
        let (wants, feed) = self
            .members
            .entry(socket.to_owned())
            .or_insert_with(|| (watch::Sender::new(Wants::default()), None));
        let open = || {
            let clock = Arc::clone(&context.clock);
            watch_members(socket.to_owned(), site.clone(), wants.subscribe(), clock)
        };
        feed.get_or_insert_with(open).clone()
    }

    /// All that is open, for the status.
    pub(crate) fn feeds(&self) -> Vec<Feed> {
        let feeds = self.members.values();
        feeds.filter_map(|(_, feed)| feed.clone()).collect()
    }

    /// SVIDs from an embedded CA, once it is open.
    fn minted(&mut self, data: &Path, spec: &StoreSpec, context: &TlsContext) -> Supplies {
        let authority = self
            .embedded
            .entry((data.to_owned(), spec.site.to_string()))
            .or_insert_with(|| {
                let authority = Arc::new(watch::Sender::new(None));
                tokio::spawn(open(
                    data.to_owned(),
                    spec.site.clone(),
                    context.clone(),
                    Arc::downgrade(&authority),
                ));
                authority
            });
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
            let mut supply = match authority.supply(&id) {
                Ok(supply) => supply,
                Err(error) => {
                    let problem = Some(error.to_string().into());
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
            if let Some(authority) = &*authority.borrow() {
                authority.rotate();
            }
        }
        self.embedded.len()
    }

    /// Closes the sources that no endpoint names any more, each with the site it is used for.
    pub(crate) fn keep_only(&mut self, used: &[(&SourceSpec, &TrustDomain)]) {
        self.shared
            .retain(|source, _| used.iter().any(|(used, _)| *used == source));
        self.embedded.retain(|(data, site), _| {
            let source = SourceSpec::Embedded { data: data.clone() };
            let mut used = used.iter();
            used.any(|(used, of)| **used == source && of.as_str() == site)
        });
    }
}

/// Opens an embedded CA, however long it takes.
async fn open(
    data: PathBuf,
    site: TrustDomain,
    context: TlsContext,
    opened: std::sync::Weak<watch::Sender<Option<Arc<EmbeddedCa>>>>,
) {
    let mut said = None;
    loop {
        let TlsContext { provider, clock } = context.clone();
        let Some(opened) = opened.upgrade() else {
            return;
        };
        match EmbeddedCa::open(&data, &site, provider, clock) {
            Ok(authority) => {
                opened.send_replace(Some(authority));
                return;
            }
            Err(error) => complain(&mut said, &error),
        }
        drop(opened);
        tokio::time::sleep(RETRY).await;
    }
}

fn complain(said: &mut Option<String>, error: &EmbeddedError) {
    let problem = error.to_string();
    if said.as_ref() != Some(&problem) {
        tracing::error!(problem, "embedded CA not open; will try again");
        *said = Some(problem);
    }
}
