//! Denials, with what agents need to know of them (`PermissionDeniedDetails`).

use prost::Message as _;
use sekisho_spire_api::{
    rpc,
    types::{PermissionDeniedDetails, permission_denied_details::Reason},
};
use tonic::{Code, Status};

use crate::store::StoreError;

/// Why a call is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The node is banned: its agent ends.
    Banned,
    /// Its certificate has expired: its agent attests again, or ends.
    Expired,
    /// It has to attest again, and cannot renew.
    MustReattest,
    /// Its certificate is not the one that was issued last.
    NotActive,
    /// Nobody knows it, or it was evicted.
    NotAttested,
    /// It is simply not theirs to call.
    Plain,
    /// It could not be found out.
    Store(StoreError),
}

impl Denial {
    const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Banned => Some(Reason::AgentBanned),
            Self::Expired => Some(Reason::AgentExpired),
            Self::MustReattest => Some(Reason::AgentMustReattest),
            Self::NotActive => Some(Reason::AgentNotActive),
            Self::NotAttested => Some(Reason::AgentNotAttested),
            Self::Plain | Self::Store(_) => None,
        }
    }

    /// The answer to a call of `method`. Agents decide by the details; without them they would poll
    /// for ever.
    #[must_use]
    pub fn status(&self, method: &str) -> Status {
        if let Self::Store(error) = self {
            // Not a denial: an agent would end by one.
            return Status::unavailable(error.to_string());
        }
        let message = format!("authorization denied for method {method}");
        let Some(reason) = self.reason() else {
            return Status::permission_denied(message);
        };
        denied(message, reason)
    }
}

/// PermissionDenied with a reason in its details.
#[must_use]
pub fn denied(message: String, reason: Reason) -> Status {
    let detail = PermissionDeniedDetails {
        reason: reason.into(),
    };
    let whole = rpc::Status {
        code: Code::PermissionDenied.into(),
        message: message.clone(),
        details: vec![prost_types::Any {
            type_url: "type.googleapis.com/spire.api.types.PermissionDeniedDetails".into(),
            value: detail.encode_to_vec(),
        }],
    };
    Status::with_details(
        Code::PermissionDenied,
        message,
        whole.encode_to_vec().into(),
    )
}
