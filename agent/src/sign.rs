//! SVIDs for the entries that have none, or one that is to be replaced.

use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

use rustls::crypto::CryptoProvider;
use sekisho_certs::Trust;
use sekisho_spire_api::server::svid::{
    BatchNewX509svidRequest, NewX509svidParams, svid_client::SvidClient,
};
use tonic::{Code, transport::Channel};

use crate::{
    entry::Entry,
    state::{Identity, SignedFor, State},
    svid::{Request, Signed, SignedError},
    sync::SyncError,
};

/// Most SVIDs that are asked for in one call: what a server lets through in a second.
const BATCH: usize = 500;
/// Most SVIDs below tainted CAs that are replaced at one time: the whole site does so at once.
const TAINTED: usize = 100;

/// What is to be signed, the most pressing first.
#[derive(Debug, Default)]
pub struct Stale {
    /// Entries in the order in which they are to be signed.
    pub entries: Vec<Arc<Entry>>,
}

/// The entries whose SVID is missing, over, of another revision, half through its life, or below a
/// CA that is tainted or has gone. `wanted`: those with SVIDs on demand that were asked for.
#[must_use]
pub fn stale(
    state: &State,
    wanted: &BTreeSet<String>,
    renewals: &dyn Fn(&Signed) -> SystemTime,
    now: SystemTime,
) -> Stale {
    let (mut first, mut then, mut tainted) = (Vec::new(), Vec::new(), Vec::new());
    let own = state.own_bundle();
    for (name, identity) in &state.identities {
        let entry = &identity.entry;
        if entry.store_svid || (entry.on_demand && !wanted.contains(name)) {
            continue;
        }
        let Some(svid) = &identity.svid else {
            first.push(Arc::clone(entry));
            continue;
        };
        let signed = &svid.signed;
        let changed = svid.of != (entry.revision, entry.created_at);
        if changed || !signed.is_valid_at(now) {
            first.push(Arc::clone(entry));
        } else if own.is_some_and(|own| own.taints(&signed.held.certificates())) {
            tainted.push(Arc::clone(entry));
        } else if renewals(signed) <= now {
            then.push(Arc::clone(entry));
        }
    }
    tainted.truncate(TAINTED);
    first.append(&mut tainted);
    first.append(&mut then);
    Stale { entries: first }
}

/// An answer for an entry.
#[derive(Debug)]
pub struct Answer {
    /// Which one.
    pub entry: Arc<Entry>,
    /// Its SVID, or why there is none.
    pub outcome: Result<Signed, SignError>,
}

/// Why an entry has no new SVID; the one before stays.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The authority does not sign it.
    #[error("the authority refuses: {message} ({code:?})")]
    Refused {
        /// Its code.
        code: Code,
        /// Its words.
        message: String,
    },
    /// What it has signed is not taken.
    #[error(transparent)]
    Signed(#[from] SignedError),
}

/// Asks for SVIDs. After a call that failed for its size or its pace, smaller ones are made.
///
/// # Errors
/// When a call fails; what was signed before it is handed to `each` nevertheless.
pub async fn sign(
    channel: Channel,
    stale: &Stale,
    trust: &Trust,
    provider: &CryptoProvider,
    now: SystemTime,
    each: &mut (dyn FnMut(Answer) + Send),
) -> Result<(), SyncError> {
    let mut client = SvidClient::new(channel);
    let mut rest = stale.entries.as_slice();
    let mut size = BATCH;
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(size.min(rest.len()));
        let mut requests = Vec::with_capacity(batch.len());
        let mut params = Vec::with_capacity(batch.len());
        for entry in batch {
            match Request::new(Some(&entry.spiffe_id)) {
                Ok(request) => {
                    params.push(NewX509svidParams {
                        entry_id: entry.id.clone(),
                        csr: request.csr.clone(),
                    });
                    requests.push((entry, request));
                }
                Err(error) => each(Answer {
                    entry: Arc::clone(entry),
                    outcome: Err(error.into()),
                }),
            }
        }
        let answer = client
            .batch_new_x509svid(BatchNewX509svidRequest { params })
            .await;
        let results = match answer {
            Ok(answer) => answer.into_inner().results,
            Err(status)
                if size > 1
                    && matches!(status.code(), Code::ResourceExhausted | Code::OutOfRange) =>
            {
                size /= 2;
                continue;
            }
            Err(status) => return Err(SyncError::call("BatchNewX509SVID")(status)),
        };
        if results.len() != requests.len() {
            return Err(SyncError::Protocol("with another number of SVIDs"));
        }
        for ((entry, request), result) in requests.into_iter().zip(results) {
            let status = result.status.unwrap_or_default();
            let outcome = match (Code::from(status.code), result.svid) {
                (Code::Ok, Some(svid)) => {
                    checked(entry, &request, svid.cert_chain, trust, provider, now)
                }
                (code, _) => Err(SignError::Refused {
                    code,
                    message: status.message,
                }),
            };
            each(Answer {
                entry: Arc::clone(entry),
                outcome,
            });
        }
        rest = after;
    }
    Ok(())
}

fn checked(
    entry: &Entry,
    request: &Request,
    chain: Vec<Vec<u8>>,
    trust: &Trust,
    provider: &CryptoProvider,
    now: SystemTime,
) -> Result<Signed, SignError> {
    let wanted = entry.parsed_id().map_err(|_| SignError::Refused {
        code: Code::InvalidArgument,
        message: "the entry has no usable SPIFFE ID".into(),
    })?;
    let held = request.signed(chain);
    Ok(Signed::check(held, Some(&wanted), trust, now, provider)?)
}

/// The identities with what was signed.
pub fn put(state: &mut State, entry: &Entry, signed: Signed) {
    if let Some(identity) = state.identities.get_mut(&entry.id) {
        *identity = Identity {
            entry: Arc::clone(&identity.entry),
            svid: Some(SignedFor {
                signed,
                of: (entry.revision, entry.created_at),
            }),
        };
    }
}
