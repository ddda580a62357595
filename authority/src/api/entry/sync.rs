//! SyncAuthorizedEntries: few entries at once, many by their revisions first.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::Arc,
};

use futures_util::Stream;
use prost::Message as _;
use sekisho_certs::TrustDomain;
use sekisho_spire_api::{
    server::entry::{EntryRevision, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse},
    types,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Mask, wire};
use crate::entry::Entry;

/// Entries, or revisions, of one message.
const PAGE: usize = 500;
/// Most bytes of the entries of one message. Agents take 4 MiB, and fail their whole sync on more.
const BYTES: usize = 3 * 1024 * 1024;
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
        let mut pages = pages(entries.iter().map(told));
        if pages.len() <= 1 {
            let all = SyncAuthorizedEntriesResponse {
                entries: pages.pop().unwrap_or_default(),
                ..Default::default()
            };
            return send(sender, all).await;
        }
    }
    let revisions: Vec<_> = entries.iter().map(|entry| revision(entry)).collect();
    let last = revisions.len().div_ceil(PAGE);
    for (page, revisions) in revisions.chunks(PAGE).enumerate() {
        let message = SyncAuthorizedEntriesResponse {
            entry_revisions: revisions.to_vec(),
            more: page + 1 < last,
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
        let wanted = request
            .ids
            .iter()
            .filter(|id| seen.insert(id.as_str()))
            .filter_map(|id| by_id.get(id.as_str()))
            .map(|entry| told(entry));
        let mut pages = pages(wanted);
        if pages.is_empty() {
            pages.push(Vec::new());
        }
        let last = pages.len() - 1;
        for (page, entries) in pages.into_iter().enumerate() {
            let message = SyncAuthorizedEntriesResponse {
                entries,
                more: page < last,
                ..Default::default()
            };
            send(sender, message).await?;
        }
    }
    Ok(())
}

/// Parts entries so that each part fits into a message. One that would not fit at all is left out:
/// with it the agent would get none.
fn pages(entries: impl Iterator<Item = types::Entry>) -> Vec<Vec<types::Entry>> {
    /// Tag and length in front of each.
    const FRAME: usize = 8;
    let mut pages: Vec<Vec<_>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let size = entry.encoded_len() + FRAME;
        if size > BYTES {
            tracing::error!(entry = entry.id, size, "an entry is too large for agents");
            continue;
        }
        match pages.last_mut() {
            Some(page) if page.len() < PAGE && bytes + size <= BYTES => {
                bytes += size;
                page.push(entry);
            }
            _ => {
                bytes = size;
                pages.push(vec![entry]);
            }
        }
    }
    pages
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: usize, bytes: usize) -> types::Entry {
        types::Entry {
            id: id.to_string(),
            hint: "x".repeat(bytes),
            ..Default::default()
        }
    }

    #[test]
    fn pages_are_short_enough_in_number_and_in_bytes() {
        let lengths = |sizes: &[usize]| {
            let entries = sizes.iter().enumerate().map(|(id, size)| entry(id, *size));
            let pages = pages(entries);
            for page in &pages {
                let message = SyncAuthorizedEntriesResponse {
                    entries: page.clone(),
                    more: true,
                    ..Default::default()
                };
                assert!(message.encoded_len() <= BYTES + 2);
            }
            pages.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&[1; 501]), [500, 1]);
        assert_eq!(lengths(&[BYTES / 2; 3]), [1, 1, 1]);
        assert_eq!(lengths(&[BYTES / 2 - 100; 3]), [2, 1]);
        assert_eq!(lengths(&[1, BYTES, 1]), [2], "one that can never be sent");
    }
}
