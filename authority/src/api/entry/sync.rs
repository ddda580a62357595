//! SyncAuthorizedEntries: few entries at once, many by their revisions first.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::Arc,
};

use futures_util::Stream;
use sekisho_certs::TrustDomain;
use sekisho_spire_api::server::entry::{
    EntryRevision, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Mask, wire};
use crate::entry::Entry;

/// Entries, or revisions, of one message.
const PAGE: usize = 500;
/// Messages that wait for a slow agent.
const WAITING: usize = 2;

/// The answers of one call.
pub(super) type Answers =
    Pin<Box<dyn Stream<Item = Result<SyncAuthorizedEntriesResponse, Status>> + Send>>;

type Sender = mpsc::Sender<Result<SyncAuthorizedEntriesResponse, Status>>;

/// Answers one call, until the agent has what it wants.
pub(super) fn answers(
    requests: Streaming<SyncAuthorizedEntriesRequest>,
    entries: Vec<Arc<Entry>>,
    domains: Vec<TrustDomain>,
) -> Answers {
    let (sender, answers) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        if let Err(status) = serve(requests, &entries, &domains, &sender).await {
            // The agent has gone.
            let _ = sender.send(Err(status)).await;
        }
    });
    Box::pin(ReceiverStream::new(answers))
}

async fn serve(
    mut requests: Streaming<SyncAuthorizedEntriesRequest>,
    entries: &[Arc<Entry>],
    domains: &[TrustDomain],
    sender: &Sender,
) -> Result<(), Status> {
    // An agent that closes its half, or cancels, has what it wants.
    let Some(first) = requests.message().await? else {
        return Ok(());
    };
    let mask = Mask::new(first.output_mask);
    if !first.ids.is_empty() {
        return Err(Status::invalid_argument(
            "specifying IDs on initial request is not supported",
        ));
    }
    if !mask.revision_number() {
        return Err(Status::invalid_argument("revision number cannot be masked"));
    }
    let told = |entry: &Arc<Entry>| wire::to_entry(entry, mask, Some(domains));
    if entries.len() <= PAGE {
        let all = SyncAuthorizedEntriesResponse {
            entries: entries.iter().map(told).collect(),
            ..Default::default()
        };
        return send(sender, all).await;
    }
    let revisions: Vec<_> = entries.iter().map(|entry| revision(entry)).collect();
    let pages = revisions.len().div_ceil(PAGE);
    for (page, revisions) in revisions.chunks(PAGE).enumerate() {
        let message = SyncAuthorizedEntriesResponse {
            entry_revisions: revisions.to_vec(),
            more: page + 1 < pages,
            ..Default::default()
        };
        send(sender, message).await?;
    }
    let by_id: HashMap<_, _> = entries
        .iter()
        .map(|entry| (entry.id.as_str(), entry))
        .collect();
    while let Some(request) = requests.message().await? {
        // Each once: a short name that is repeated would cost a long answer.
        let mut seen = HashSet::new();
        let wanted: Vec<_> = request
            .ids
            .iter()
            .filter(|id| seen.insert(id.as_str()))
            .filter_map(|id| by_id.get(id.as_str()))
            .collect();
        let pages = wanted.len().div_ceil(PAGE).max(1);
        for page in 0..pages {
            let part = wanted.iter().skip(page * PAGE).take(PAGE);
            let message = SyncAuthorizedEntriesResponse {
                entries: part.map(|entry| told(entry)).collect(),
                more: page + 1 < pages,
                ..Default::default()
            };
            send(sender, message).await?;
        }
    }
    Ok(())
}

fn revision(entry: &Entry) -> EntryRevision {
    EntryRevision {
        id: entry.id.clone(),
        revision_number: entry.revision,
        created_at: wire::seconds(entry.created_at),
    }
}

async fn send(sender: &Sender, message: SyncAuthorizedEntriesResponse) -> Result<(), Status> {
    let sent = sender.send(Ok(message)).await;
    sent.map_err(|_| Status::cancelled("the agent has gone"))
}
