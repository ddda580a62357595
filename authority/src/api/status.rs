//! Errors as SPIRE tells them: a code, and `<what>: <cause>`.

use sekisho_spire_api::types;
use tonic::{Code, Status};

use crate::{
    ca::{CaError, upstream::UpstreamError},
    entry::EntryError,
    store::StoreError,
};

/// A status inside of a batch's answer. On success too: agents and the command line read it
/// unchecked.
pub(super) fn item(code: Code, message: impl Into<String>) -> Option<types::Status> {
    Some(types::Status {
        code: code.into(),
        message: message.into(),
    })
}

/// That of an item that went well.
pub(super) fn ok() -> Option<types::Status> {
    item(Code::Ok, "OK")
}

/// The status of an item that failed.
pub(super) fn of(status: &Status) -> Option<types::Status> {
    item(status.code(), status.message())
}

/// The status of an item, however it went.
pub(super) fn of_outcome<T>(outcome: &Result<T, Status>) -> Option<types::Status> {
    match outcome {
        Ok(_) => ok(),
        Err(refused) => of(refused),
    }
}

/// What the store says.
pub(crate) fn store(what: &str, error: &StoreError) -> Status {
    let code = match error {
        // Agents try again; others of their errors end them.
        StoreError::Busy | StoreError::Full => Code::Unavailable,
        StoreError::SharedKey { .. } => Code::InvalidArgument,
        StoreError::Closed | StoreError::Corrupt(_) | StoreError::Failed(_) => Code::Internal,
    };
    tracing::error!(%error, "{what}");
    Status::new(code, format!("{what}: {error}"))
}

/// What is wrong with an entry.
pub(super) fn entry(what: &str, error: &EntryError) -> Status {
    let code = if error.is_repetition() {
        Code::AlreadyExists
    } else {
        Code::InvalidArgument
    };
    Status::new(code, format!("{what}: {error}"))
}

/// What the CA says.
pub(super) fn ca(what: &str, error: &CaError) -> Status {
    match error {
        CaError::Slot(slot) if slot.is_wrong_name() => {
            Status::invalid_argument(format!("{what}: {slot}"))
        }
        CaError::HasUpstream
        | CaError::NoUpstream
        | CaError::KeyRevoked(_)
        | CaError::Early { .. } => Status::failed_precondition(format!("{what}: {error}")),
        CaError::Changed => Status::aborted(format!("{what}: {error}")),
        // Whoever asked may ask again.
        CaError::Upstream(UpstreamError::Refused(_)) => {
            tracing::error!(%error, "{what}");
            Status::unavailable(format!("{what}: {error}"))
        }
        CaError::KeyIdTaken(_) => Status::already_exists(format!("{what}: {error}")),
        CaError::Store(error) => store(what, error),
        error => {
            tracing::error!(%error, "{what}");
            Status::internal(format!("{what}: {error}"))
        }
    }
}
