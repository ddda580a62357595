//! What this node may serve: entries by revision, and bundles (spire-api.md §4, §6).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::{StreamExt as _, stream};
use sekisho_certs::TrustDomain;
use sekisho_spire_api::{
    server::{
        bundle::{GetBundleRequest, GetFederatedBundleRequest, bundle_client::BundleClient},
        entry::{
            EntryRevision, GetAuthorizedEntriesRequest, SyncAuthorizedEntriesRequest,
            SyncAuthorizedEntriesResponse, entry_client::EntryClient,
        },
    },
    types::EntryMask,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, metadata::MetadataValue, transport::Channel};

use crate::{
    bundle::{AnsweredBundleError, Bundle, Bundles},
    entry::Entry,
};

/// More entries on one node than this are a mistake.
const MOST: usize = 100_000;
/// Bundles that are fetched at once.
const AT_ONCE: usize = 10;

/// Why an authority's answer is not taken; what was known before stays.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// A call failed.
    #[error("{call}: {} ({:?})", status.message(), status.code())]
    Call {
        /// Which call.
        call: &'static str,
        /// What it ended with.
        status: Status,
    },
    /// It answers something else than the protocol has.
    #[error("the authority answers {0}")]
    Protocol(&'static str),
    /// Its own bundle cannot be used.
    #[error("the site's bundle: {0}")]
    Bundle(#[from] AnsweredBundleError),
}

impl SyncError {
    pub(crate) fn call(call: &'static str) -> impl FnOnce(Status) -> Self {
        move |status| Self::Call { call, status }
    }
}

/// Entries by name.
pub type Entries = BTreeMap<String, Arc<Entry>>;

/// What is asked of an entry: what SPIRE's agents ask.
const fn mask() -> EntryMask {
    EntryMask {
        spiffe_id: true,
        parent_id: false,
        selectors: true,
        x509_svid_ttl: false,
        federates_with: true,
        admin: true,
        downstream: true,
        expires_at: false,
        dns_names: false,
        revision_number: true,
        store_svid: true,
        jwt_svid_ttl: false,
        hint: true,
        created_at: true,
        additional_attributes: true,
    }
}

/// Says that we can take entries that are federated with more domains than stock agents can.
fn ours<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("sekisho-agent", MetadataValue::from_static("1"));
    request
}

/// The entries that this node may serve now; those of `known` that have not changed are not sent
/// again.
///
/// # Errors
/// When a call fails, or the answers make no sense.
pub async fn entries(
    channel: Channel,
    domain: &TrustDomain,
    known: &Entries,
) -> Result<Entries, SyncError> {
    let mut client = EntryClient::new(channel);
    let (ask, asked) = mpsc::channel(1);
    let first = SyncAuthorizedEntriesRequest {
        output_mask: Some(mask()),
        ids: Vec::new(),
    };
    // The receiver is in our hand.
    let _ = ask.send(first).await;
    let answers = client
        .sync_authorized_entries(ours(ReceiverStream::new(asked)))
        .await;
    let answers = match answers {
        Ok(answers) => answers.into_inner(),
        Err(status) if status.code() == Code::Unimplemented => {
            return all(client, domain).await;
        }
        Err(status) => return Err(SyncError::call("SyncAuthorizedEntries")(status)),
    };
    Sync {
        answers,
        ask,
        domain,
        known,
    }
    .run()
    .await
}

/// From an authority that knows no revisions.
async fn all(mut client: EntryClient<Channel>, domain: &TrustDomain) -> Result<Entries, SyncError> {
    let request = GetAuthorizedEntriesRequest {
        output_mask: Some(mask()),
    };
    let answer = client.get_authorized_entries(ours(request)).await;
    let answer = answer.map_err(SyncError::call("GetAuthorizedEntries"))?;
    let mut found = Entries::new();
    take(answer.into_inner().entries, domain, &mut found)?;
    Ok(found)
}

fn take(
    wire: Vec<sekisho_spire_api::types::Entry>,
    domain: &TrustDomain,
    into: &mut Entries,
) -> Result<(), SyncError> {
    for entry in wire {
        let name = entry.id.clone();
        match Entry::from_wire(entry, domain) {
            Some(entry) => drop(into.insert(name, Arc::new(entry))),
            None => tracing::warn!(entry = name, "an entry cannot be used, and is left out"),
        }
    }
    if into.len() > MOST {
        return Err(SyncError::Protocol("with more than 100,000 entries"));
    }
    Ok(())
}

struct Sync<'a> {
    answers: Streaming<SyncAuthorizedEntriesResponse>,
    ask: mpsc::Sender<SyncAuthorizedEntriesRequest>,
    domain: &'a TrustDomain,
    known: &'a Entries,
}

impl Sync<'_> {
    async fn next(&mut self) -> Result<Option<SyncAuthorizedEntriesResponse>, SyncError> {
        let answer = self.answers.message().await;
        answer.map_err(SyncError::call("SyncAuthorizedEntries"))
    }

    async fn run(mut self) -> Result<Entries, SyncError> {
        let mut found = Entries::new();
        let mut answer = self.next().await?.unwrap_or_default();
        if answer.entry_revisions.is_empty() {
            // Without revisions it is the whole list.
            take(std::mem::take(&mut answer.entries), self.domain, &mut found)?;
            return Ok(found);
        }
        let mut wanted = Vec::new();
        let mut page = 0;
        loop {
            if !answer.entries.is_empty() {
                return Err(SyncError::Protocol("with revisions and entries together"));
            }
            page = page.max(answer.entry_revisions.len());
            for revision in answer.entry_revisions {
                self.sort(revision, &mut found, &mut wanted);
            }
            if found.len() + wanted.len() > MOST {
                return Err(SyncError::Protocol("with more than 100,000 entries"));
            }
            if !answer.more {
                break;
            }
            let next = self.next().await?;
            answer = next.ok_or(SyncError::Protocol("with half of the revisions"))?;
        }
        wanted.sort_unstable();
        for ids in wanted.chunks(page.max(1)) {
            self.fetch(ids, &mut found).await?;
        }
        Ok(found)
    }

    /// What is known and has not changed is taken from there.
    fn sort(&self, revision: EntryRevision, found: &mut Entries, wanted: &mut Vec<String>) {
        let now = (revision.revision_number, revision.created_at);
        match self.known.get(&revision.id) {
            Some(entry) if (entry.revision, entry.created_at) == now => {
                found.insert(revision.id, Arc::clone(entry));
            }
            _ => wanted.push(revision.id),
        }
    }

    async fn fetch(&mut self, ids: &[String], found: &mut Entries) -> Result<(), SyncError> {
        let request = SyncAuthorizedEntriesRequest {
            output_mask: None,
            ids: ids.to_vec(),
        };
        // Where the authority has gone, the next answer says why.
        let _ = self.ask.send(request).await;
        loop {
            let answer = self.next().await?;
            let answer = answer.ok_or(SyncError::Protocol("with half of the entries"))?;
            if !answer.entry_revisions.is_empty() {
                return Err(SyncError::Protocol("with revisions and entries together"));
            }
            take(answer.entries, self.domain, found)?;
            if !answer.more {
                return Ok(());
            }
        }
    }
}

/// The site's own bundle.
///
/// # Errors
/// When the call fails, or the bundle cannot be used or is another domain's.
pub async fn own_bundle(channel: Channel, domain: &TrustDomain) -> Result<Bundle, SyncError> {
    let request = GetBundleRequest { output_mask: None };
    let answer = BundleClient::new(channel).get_bundle(request).await;
    let answer = answer.map_err(SyncError::call("GetBundle"))?.into_inner();
    let (of, bundle) = Bundle::from_wire(answer)?;
    if of != *domain {
        return Err(SyncError::Protocol("with the bundle of another domain"));
    }
    Ok(bundle)
}

/// The bundles of the domains that entries are federated with. One that is not there is left out;
/// one that cannot be used stays as it was.
///
/// # Errors
/// When a call fails otherwise.
pub async fn federated(
    channel: Channel,
    entries: &Entries,
    known: &Bundles,
) -> Result<Bundles, SyncError> {
    let names: BTreeSet<String> = entries
        .values()
        .flat_map(|entry| entry.federates_with.iter().cloned())
        .collect();
    let mut answers = stream::iter(names.into_iter().map(|name| {
        let mut client = BundleClient::new(channel.clone());
        async move {
            let request = GetFederatedBundleRequest {
                trust_domain: name.clone(),
                output_mask: None,
            };
            (name, client.get_federated_bundle(request).await)
        }
    }))
    .buffer_unordered(AT_ONCE);
    let mut found = Bundles::new();
    while let Some((name, answer)) = answers.next().await {
        let wire = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::NotFound => continue,
            Err(status) => return Err(SyncError::call("GetFederatedBundle")(status)),
        };
        let problem = match Bundle::from_wire(wire) {
            Ok((of, bundle)) if of.as_str() == name => {
                let same = known.get(&name).filter(|known| ***known == bundle);
                let bundle = same.map_or_else(|| Arc::new(bundle), Arc::clone);
                found.insert(name, bundle);
                continue;
            }
            Ok((of, _)) => format!("it is that of {of}"),
            Err(error) => error.to_string(),
        };
        tracing::warn!(domain = name, problem, "a bundle cannot be used");
        if let Some(bundle) = known.get(&name) {
            found.insert(name, Arc::clone(bundle));
        }
    }
    Ok(found)
}
