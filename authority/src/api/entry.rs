//! `spire.api.server.entry.v1`: entries for administrators, and for the agents that may have them.

mod sync;
mod update;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use sekisho_certs::TrustDomain;
use sekisho_spire_api::{
    server::entry::{
        BatchCreateEntryRequest, BatchCreateEntryResponse, BatchDeleteEntryRequest,
        BatchDeleteEntryResponse, BatchUpdateEntryRequest, BatchUpdateEntryResponse,
        CountEntriesRequest, CountEntriesResponse, EntryFilter as SentFilter,
        GetAuthorizedEntriesRequest, GetAuthorizedEntriesResponse, GetEntryRequest,
        ListEntriesRequest, ListEntriesResponse, SyncAuthorizedEntriesRequest,
        batch_create_entry_response, batch_delete_entry_response, entry_server::Entry as Service,
    },
    types,
};
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{
    status,
    wire::{self, Mask},
};
use crate::{
    caller::Caller,
    core::Core,
    entry::{Draft, Entry, Federated},
    store::{Creation, EntryFilter},
};

/// Sent with a call, as `1`, by agents of ours: they bear any number of names.
pub const OURS: &str = "sekisho-agent";
/// Most trust domains that `*` is written out as towards other agents.
const NAMES: usize = 100;

/// The service.
#[derive(Clone, Debug)]
pub struct EntryService {
    core: Arc<Core>,
    /// The state of entries and bundles of which it was last told that some are kept back.
    told: Arc<AtomicU64>,
}

impl EntryService {
    /// On the state of an authority.
    #[must_use]
    pub fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            told: Arc::default(),
        }
    }

    fn filter(&self, sent: Option<SentFilter>) -> Result<EntryFilter, Status> {
        let sent = sent.unwrap_or_default();
        let domain = &self.core.settings.domain;
        let id = |field, sent: Option<types::Spiffeid>| {
            let id = sent
                .map(|sent| wire::own_id(field, Some(&sent), domain))
                .transpose();
            id.map_err(|error| {
                Status::invalid_argument(format!("malformed {field} filter: {error}"))
            })
        };
        Ok(EntryFilter {
            spiffe_id: id("SPIFFE ID", sent.by_spiffe_id)?,
            parent_id: id("parent ID", sent.by_parent_id)?,
            selectors: sent.by_selectors.map(wire::selector_match).transpose()?,
            federates_with: sent
                .by_federates_with
                .map(wire::federates_match)
                .transpose()?,
            // As in SPIRE, nothing and false filter nothing: its command line always sends them.
            hint: sent.by_hint.filter(|hint| !hint.is_empty()),
            downstream: sent.by_downstream.unwrap_or_default(),
        })
    }

    async fn created(
        &self,
        caller: &Caller,
        sent: Vec<types::Entry>,
        mask: Mask,
    ) -> Result<Vec<batch_create_entry_response::Result>, Status> {
        const WHAT: &str = "failed to create entry";
        let checked: Vec<_> = sent
            .into_iter()
            .map(|entry| wire::draft(entry, &self.core.settings.domain))
            .collect();
        let good: Vec<Draft> = checked.iter().flatten().cloned().collect();
        self.core
            .expect_of_directory(caller, good.iter())
            .await
            .map_err(|error| status::store(WHAT, &error))?;
        let stored = self
            .core
            .store
            .create_entries(self.core.by(caller.name()), good)
            .await;
        let mut stored = stored
            .map_err(|error| status::store(WHAT, &error))?
            .into_iter();
        let results = checked.into_iter().map(|checked| {
            let (status, entry) = match checked {
                Err(error) => {
                    let refused = status::entry("failed to convert entry", &error);
                    (status::of(&refused), None)
                }
                Ok(_) => match stored.next() {
                    Some(Creation::Created(entry)) => (status::ok(), Some(entry)),
                    Some(Creation::Exists(entry)) => {
                        let text = "similar entry already exists";
                        (status::item(Code::AlreadyExists, text), Some(entry))
                    }
                    Some(Creation::IdTaken(id)) => {
                        let text = format!("{WHAT}: an entry with ID {id:?} already exists");
                        (status::item(Code::AlreadyExists, text), None)
                    }
                    Some(Creation::NoBundle(domain)) => {
                        let text = format!(
                            "{WHAT}: unable to find federated bundle \"spiffe://{domain}\""
                        );
                        (status::item(Code::Internal, text), None)
                    }
                    // The store answers each.
                    None => (status::item(Code::Internal, WHAT), None),
                },
            };
            batch_create_entry_response::Result {
                status,
                entry: entry.map(|entry| wire::to_entry(&entry, mask, None)),
            }
        });
        Ok(results.collect())
    }
}

impl EntryService {
    /// What the caller may have, without what its kind of agent cannot bear.
    async fn authorized<T>(
        &self,
        request: &Request<T>,
    ) -> Result<(Vec<Arc<Entry>>, Vec<TrustDomain>), Status> {
        let caller = Caller::of(request)?;
        let (mut entries, domains) = self.core.authorized(&caller).await?;
        if !is_ours(request.metadata()) {
            let before = entries.len();
            entries.retain(|entry| is_bearable(entry, &domains));
            self.tell_of(before - entries.len());
        }
        Ok((entries, domains))
    }

    /// Says once for each state of entries and bundles that an agent does not get everything.
    fn tell_of(&self, refused: usize) {
        let version = self.core.store.version();
        if refused > 0 && self.told.swap(version, Ordering::Relaxed) != version {
            tracing::warn!(
                refused,
                "entries federated with `*` are kept from agents that are not sekisho's: there are \
                 more than {NAMES} federated trust domains"
            );
        }
    }
}

/// Whether an agent says that it is sekisho's: it takes any number of names.
fn is_ours(metadata: &MetadataMap) -> bool {
    metadata.get(OURS).is_some_and(|value| value == "1")
}

/// Whether an entry is short enough for every agent, with `*` written out.
fn is_bearable(entry: &Entry, domains: &[TrustDomain]) -> bool {
    let all = entry.draft.federates_with.contains(&Federated::All);
    !all || domains.len() <= NAMES
}

#[tonic::async_trait]
impl Service for EntryService {
    type SyncAuthorizedEntriesStream = sync::Answers;

    async fn count_entries(
        &self,
        request: Request<CountEntriesRequest>,
    ) -> Result<Response<CountEntriesResponse>, Status> {
        let filter = self.filter(request.into_inner().filter)?;
        let page = self.core.store.entries(filter, 0, usize::MAX).await;
        let page = page.map_err(|error| status::store("failed to count entries", &error))?;
        let count = i32::try_from(page.items.len()).unwrap_or(i32::MAX);
        Ok(Response::new(CountEntriesResponse { count }))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        let request = request.into_inner();
        let filter = self.filter(request.filter)?;
        let (after, most) = wire::page(request.page_size, &request.page_token)?;
        let page = self.core.store.entries(filter, after, most).await;
        let page = page.map_err(|error| status::store("failed to list entries", &error))?;
        let mask = Mask::new(request.output_mask);
        Ok(Response::new(ListEntriesResponse {
            next_page_token: wire::next_page(request.page_size, &page),
            entries: page
                .items
                .iter()
                .map(|entry| wire::to_entry(entry, mask, None))
                .collect(),
        }))
    }

    async fn get_entry(
        &self,
        request: Request<GetEntryRequest>,
    ) -> Result<Response<types::Entry>, Status> {
        let request = request.into_inner();
        if request.id.is_empty() {
            return Err(Status::invalid_argument("missing ID"));
        }
        let entry = self.core.store.entry(request.id).await;
        let entry = entry.map_err(|error| status::store("failed to fetch entry", &error))?;
        let entry = entry.ok_or_else(|| Status::not_found("entry not found"))?;
        let mask = Mask::new(request.output_mask);
        Ok(Response::new(wire::to_entry(&entry, mask, None)))
    }

    async fn batch_create_entry(
        &self,
        request: Request<BatchCreateEntryRequest>,
    ) -> Result<Response<BatchCreateEntryResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let mask = Mask::new(request.output_mask);
        let results = self.created(&caller, request.entries, mask).await?;
        Ok(Response::new(BatchCreateEntryResponse { results }))
    }

    async fn batch_update_entry(
        &self,
        request: Request<BatchUpdateEntryRequest>,
    ) -> Result<Response<BatchUpdateEntryResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let (input, output) = (
            Mask::new(request.input_mask),
            Mask::new(request.output_mask),
        );
        let mut results = Vec::new();
        for entry in request.entries {
            results.push(self.updated(&caller, entry, input, output).await);
        }
        Ok(Response::new(BatchUpdateEntryResponse { results }))
    }

    async fn batch_delete_entry(
        &self,
        request: Request<BatchDeleteEntryRequest>,
    ) -> Result<Response<BatchDeleteEntryResponse>, Status> {
        let caller = Caller::of(&request)?;
        let mut results = Vec::new();
        for id in request.into_inner().ids {
            let status = if id.is_empty() {
                status::item(Code::InvalidArgument, "missing entry ID")
            } else {
                match self
                    .core
                    .store
                    .delete_entry(self.core.by(caller.name()), id.clone())
                    .await
                {
                    Ok(true) => status::ok(),
                    Ok(false) => status::item(Code::NotFound, "entry not found"),
                    Err(error) => status::of(&status::store("failed to delete entry", &error)),
                }
            };
            results.push(batch_delete_entry_response::Result { status, id });
        }
        Ok(Response::new(BatchDeleteEntryResponse { results }))
    }

    async fn get_authorized_entries(
        &self,
        request: Request<GetAuthorizedEntriesRequest>,
    ) -> Result<Response<GetAuthorizedEntriesResponse>, Status> {
        let mask = Mask::new(request.get_ref().output_mask);
        let (entries, domains) = self.authorized(&request).await?;
        let entries = entries
            .iter()
            .map(|entry| wire::to_entry(entry, mask, Some(&domains)));
        Ok(Response::new(GetAuthorizedEntriesResponse {
            entries: entries.collect(),
        }))
    }

    async fn sync_authorized_entries(
        &self,
        request: Request<Streaming<SyncAuthorizedEntriesRequest>>,
    ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
        let (entries, domains) = self.authorized(&request).await?;
        let answers = sync::answers(request.into_inner(), entries, domains);
        Ok(Response::new(answers))
    }
}
