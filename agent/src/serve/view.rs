//! What one caller sees of what the agent knows, and streams of it: the full set each time, at once
//! and whenever it has changed (SPIFFE_Workload_API.md §4.3).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::caller::Selectors;
use crate::{
    bundle::Bundle,
    entry::Entry,
    run::Shared,
    state::{Identity, State},
    svid::Signed,
};

/// Messages that wait for a slow caller: the newest one would do, but an older one is no harm.
const WAITING: usize = 1;

/// The answer of SPIRE's agent to whoever has no identity. Clients look for these words.
pub(super) fn nobody() -> Status {
    Status::permission_denied("no identity issued")
}

/// One caller's identities and bundles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Identities with an SVID that may be shown.
    pub(super) identities: Vec<(Arc<Entry>, Signed)>,
    /// Whether there are entries, be they signed or not.
    pub(super) entries: Vec<Arc<Entry>>,
    /// Our own trust domain.
    pub(super) domain: String,
    /// Our own bundle.
    pub(super) own: Option<Arc<Bundle>>,
    /// Bundles of domains that the identities are federated with.
    pub(super) federated: BTreeMap<String, Arc<Bundle>>,
}

impl View {
    /// What `selectors` may see at `now`. `hints`: of identities with the same hint only the oldest
    /// counts (Workload_API.md §5.2.1).
    pub(super) fn of(
        state: &State,
        selectors: &Selectors,
        now: SystemTime,
        hints: bool,
        keep: &dyn Fn(&Entry) -> bool,
    ) -> Self {
        let mut all: Vec<&Identity> = state.of(selectors).collect();
        all.retain(|one| keep(&one.entry));
        if hints {
            all = one_for_each_hint(&all);
        }
        let entries: Vec<Arc<Entry>> = all.iter().map(|one| Arc::clone(&one.entry)).collect();
        let identities = all.iter().filter_map(|one| {
            let signed = one.valid(now)?;
            Some((Arc::clone(&one.entry), signed.clone()))
        });
        Self {
            identities: identities.collect(),
            domain: state.domain.to_string(),
            own: state.own_bundle().cloned(),
            federated: state.federated(entries.iter().map(AsRef::as_ref)),
            entries,
        }
    }

    /// Our own bundle and the others, by the name of their domain.
    pub(super) fn bundles(&self) -> BTreeMap<String, Arc<Bundle>> {
        let mut all = self.federated.clone();
        if let Some(own) = &self.own {
            all.insert(self.domain.clone(), Arc::clone(own));
        }
        all
    }

    /// The same encoded, by the ID of their domain.
    pub(super) fn by_id(&self, encode: impl Fn(&Bundle) -> Vec<u8>) -> HashMap<String, Vec<u8>> {
        let all = self.bundles().into_iter();
        all.map(|(domain, bundle)| (format!("spiffe://{domain}"), encode(&bundle)))
            .collect()
    }

    /// Entries whose SVID has yet to be made: those on demand are asked for.
    pub(super) fn ask_for_missing(&self, shared: &Shared) {
        for entry in &self.entries {
            let there = self.identities.iter().any(|(has, _)| has.id == entry.id);
            if entry.on_demand && !there {
                shared.wanted.ask(&entry.id);
            }
        }
    }
}

fn one_for_each_hint<'a>(all: &[&'a Identity]) -> Vec<&'a Identity> {
    let beats =
        |one: &Entry, other: &Entry| (one.created_at, &one.id) < (other.created_at, &other.id);
    let kept = all.iter().filter(|one| {
        let entry = &one.entry;
        entry.hint.is_empty()
            || !all
                .iter()
                .any(|other| other.entry.hint == entry.hint && beats(&other.entry, entry))
    });
    kept.copied().collect()
}

/// Streams of a caller's views.
pub(super) type Messages<T> = ReceiverStream<Result<T, Status>>;

/// What is made of a view.
pub(super) enum Made<T> {
    /// A message.
    Message(T),
    /// Nothing now: what is missing is about to come.
    Later,
    /// The end of the stream.
    End(Status),
}

/// Sends what `make` makes of each view that differs from the one before, until the caller goes.
pub(super) fn stream<T, V>(
    shared: &Shared,
    mut view: V,
    make: impl Fn(&View) -> Made<T> + Send + 'static,
) -> Messages<T>
where
    T: Send + 'static,
    V: FnMut(&State) -> Result<View, Status> + Send + 'static,
{
    let (send, messages) = mpsc::channel(WAITING);
    let mut state = shared.state.clone();
    tokio::spawn(async move {
        let mut last = None;
        loop {
            let now = Arc::clone(&state.borrow_and_update());
            let made = match view(&now) {
                Ok(view) if last.as_ref() == Some(&view) => Made::Later,
                Ok(view) => {
                    let made = make(&view);
                    last = Some(view);
                    made
                }
                Err(status) => Made::End(status),
            };
            match made {
                Made::Later => {}
                Made::Message(message) => {
                    if send.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
                Made::End(status) => {
                    // Whoever has gone does not need to know.
                    let _ = send.send(Err(status)).await;
                    return;
                }
            }
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return },
                () = send.closed() => return,
            }
        }
    });
    ReceiverStream::new(messages)
}
