//! TLS handshakes in memory, without sockets or tasks.

use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};
use rustls_pki_types::ServerName;

/// Who refused, and why.
#[derive(Debug)]
pub enum Refused {
    /// The client did.
    ByClient(Error),
    /// The server did.
    ByServer(Error),
}

/// Carries bytes between the two until both are done.
///
/// # Errors
/// The first refusal of either side.
///
/// # Panics
/// When the two neither finish nor fail.
pub fn in_memory(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), Refused> {
    let name = ServerName::try_from("service.example").expect("a name");
    let mut client = ClientConnection::new(client, name).map_err(Refused::ByClient)?;
    let mut server = ServerConnection::new(server).map_err(Refused::ByServer)?;
    // A handshake has four flights; the bound ends one that goes in circles.
    for _ in 0..16 {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).expect("write to memory");
        }
        feed(&flight, |bytes| {
            let read = server.read_tls(bytes).expect("read from memory");
            server.process_new_packets().map(|_| read)
        })
        .map_err(Refused::ByServer)?;
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).expect("write to memory");
        }
        feed(&flight, |bytes| {
            let read = client.read_tls(bytes).expect("read from memory");
            client.process_new_packets().map(|_| read)
        })
        .map_err(Refused::ByClient)?;
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok((client, server));
        }
    }
    panic!("the handshake neither finished nor failed");
}

fn feed(
    mut flight: &[u8],
    mut read: impl FnMut(&mut &[u8]) -> Result<usize, Error>,
) -> Result<(), Error> {
    while !flight.is_empty() {
        if read(&mut flight)? == 0 {
            break;
        }
    }
    Ok(())
}
