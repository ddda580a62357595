//! Where new keys come from (RFC 8446 §7.2).

use rustls::{
    Error, InvalidMessage, client::ClientConnectionData, kernel::KernelConnection,
    server::ServerConnectionData,
};

use crate::{RecordError, TrafficKey};

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We connected: tickets may come.
    Client,
    /// We were connected to.
    Server,
}

/// Why a session ticket was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It has a field with a value that it must not have.
    #[error("a field has a value that it must not have")]
    Illegal,
    /// It cannot be read.
    #[error("it cannot be read")]
    Unreadable,
}

/// Makes each direction's next key, and takes tickets.
pub trait KeySchedule: Send + Sync {
    /// The next key of what we send.
    ///
    /// # Errors
    /// When there is none.
    fn next_to_send(&mut self) -> Result<TrafficKey, RecordError>;

    /// The next key of what we receive.
    ///
    /// # Errors
    /// When there is none.
    fn next_to_receive(&mut self) -> Result<TrafficKey, RecordError>;

    /// A NewSessionTicket without its header.
    ///
    /// # Errors
    /// When it is none.
    fn ticket(&mut self, payload: &[u8]) -> Result<(), TicketError>;
}

fn next(
    updated: Result<(u64, rustls::ConnectionTrafficSecrets), Error>,
) -> Result<TrafficKey, RecordError> {
    // rustls: "The sequence number always starts at 0 after a key update."
    let (_, secrets) = updated.map_err(|error| RecordError::Schedule(error.to_string()))?;
    TrafficKey::from_rustls(&secrets)
}

impl KeySchedule for KernelConnection<ClientConnectionData> {
    fn next_to_send(&mut self) -> Result<TrafficKey, RecordError> {
        next(self.update_tx_secret())
    }

    fn next_to_receive(&mut self) -> Result<TrafficKey, RecordError> {
        next(self.update_rx_secret())
    }

    fn ticket(&mut self, payload: &[u8]) -> Result<(), TicketError> {
        self.handle_new_session_ticket(payload)
            .map_err(|error| match error {
                // RFC 8446 §4.2: an extension that stands twice can be read, and must not be.
                Error::InvalidMessage(InvalidMessage::DuplicateExtension(_)) => {
                    TicketError::Illegal
                }
                Error::InvalidMessage(_) => TicketError::Unreadable,
                _ => TicketError::Illegal,
            })
    }
}

impl KeySchedule for KernelConnection<ServerConnectionData> {
    fn next_to_send(&mut self) -> Result<TrafficKey, RecordError> {
        next(self.update_tx_secret())
    }

    fn next_to_receive(&mut self) -> Result<TrafficKey, RecordError> {
        next(self.update_rx_secret())
    }

    fn ticket(&mut self, _payload: &[u8]) -> Result<(), TicketError> {
        // `message.rs` refuses it before: no client sends one.
        Err(TicketError::Illegal)
    }
}
