//! rustls' handshake over a socket, and the keys it ends with.
//!
//! rustls is shown one record after the other, and none after the handshake's last: what a peer
//! sends behind it belongs to our record layer, byte for byte.

use std::io;

use rustls::{
    CommonState, Error, ExtractedSecrets,
    client::{ClientConnectionData, UnbufferedClientConnection},
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, UnbufferedStatus},
};
use rustls_pki_types::CertificateDer;
use sekisho_record::{Backend, KeySchedule, Limits, Role, Session};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{error::HandshakeError, stream::TlsDetails, transport::Transport, wire::Tls};

/// A record's header: type, version, length (RFC 8446 §5.1).
const HEADER: usize = 5;
/// Most bytes of a record's body (§5.2).
const MAX_BODY: usize = (1 << 14) + 256;
/// Most bytes that a peer's unfinished handshake messages may lie in. rustls bounds a message (64
/// KiB), and leaves the records that it comes in to its caller: cut small and padded, they could be
/// a gigabyte. A whole message in records that are not absurd fits.
const MAX_UNFINISHED: usize = 2 * 0xffff + HEADER + MAX_BODY;
/// How much is read at once: most flights fit.
const READ: usize = 4096;

/// rustls' two kinds of connection.
pub(crate) trait Handshaking: Sized {
    /// What rustls calls it.
    type Data;
    const ROLE: Role;
    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8])
    -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn state(&self) -> &CommonState;
    fn into_keys(self) -> Result<(ExtractedSecrets, Box<dyn KeySchedule>), Error>;
}

// The same methods by name, of two types that share no trait.
macro_rules! handshaking {
    ($connection:ty, $data:ty, $role:expr) => {
        impl Handshaking for $connection {
            type Data = $data;
            const ROLE: Role = $role;

            fn process<'c, 'i>(
                &'c mut self,
                records: &'i mut [u8],
            ) -> UnbufferedStatus<'c, 'i, Self::Data> {
                self.process_tls_records(records)
            }

            fn state(&self) -> &CommonState {
                self
            }

            fn into_keys(self) -> Result<(ExtractedSecrets, Box<dyn KeySchedule>), Error> {
                let (secrets, kernel) = self.dangerous_into_kernel_connection()?;
                Ok((secrets, Box::new(kernel)))
            }
        }
    };
}

handshaking!(
    UnbufferedServerConnection,
    ServerConnectionData,
    Role::Server
);
handshaking!(
    UnbufferedClientConnection,
    ClientConnectionData,
    Role::Client
);

/// A finished handshake.
pub(crate) struct Finished {
    pub(crate) tls: Tls,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Read, and not part of it.
    pub(crate) early: Vec<u8>,
}

/// What rustls wants next.
enum Step {
    Again,
    Send,
    Receive,
    Finished,
}

/// Makes the handshake. `input` is what was read before.
///
/// # Errors
/// Why the peer was refused, or did; our alert, where there is one, has been written then.
pub(crate) async fn handshake<C: Handshaking>(
    mut connection: C,
    transport: &mut Transport,
    mut input: Vec<u8>,
    backend: Backend,
    limits: Limits,
) -> Result<Finished, HandshakeError> {
    let mut output = Vec::new();
    let mut shown = 0;
    loop {
        let records = input.get_mut(..shown).unwrap_or_default();
        let (discard, step) = step(&mut connection, records, &mut output);
        input.drain(..discard);
        shown -= discard;
        let step = match step {
            Ok(step) => step,
            Err(error) => {
                let records = input.get_mut(..shown).unwrap_or_default();
                alert(&mut connection, records, &mut output);
                // A peer that does not take it does without.
                let _ = transport.write_all(&output).await;
                return Err(HandshakeError::from_tls(error));
            }
        };
        match step {
            Step::Again => {}
            Step::Send => {
                transport
                    .write_all(&output)
                    .await
                    .map_err(HandshakeError::Io)?;
                output.clear();
            }
            Step::Receive => {
                shown = next_record(transport, &mut input, shown).await?;
            }
            Step::Finished => break,
        }
    }
    let version = connection.state().protocol_version();
    if version != Some(rustls::ProtocolVersion::TLSv1_3) {
        // Not offered where our layer is used; it must not depend on that.
        return Err(HandshakeError::Version(format!("{version:?}")));
    }
    let chain = connection.state().peer_certificates();
    let chain = chain
        .ok_or(HandshakeError::NoCertificate)?
        .iter()
        .map(|der| der.clone().into_owned())
        .collect();
    let details = TlsDetails::of(connection.state());
    let (secrets, schedule) = connection.into_keys().map_err(HandshakeError::Tls)?;
    let session = Session::new(&secrets, schedule, C::ROLE, backend, limits);
    let session =
        session.map_err(|error| HandshakeError::Tls(Error::General(error.to_string())))?;
    Ok(Finished {
        tls: Tls { session, details },
        chain,
        early: input,
    })
}

fn step<C: Handshaking>(
    connection: &mut C,
    records: &mut [u8],
    output: &mut Vec<u8>,
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { discard, state, .. } = connection.process(records);
    let step = state.and_then(|state| match state {
        ConnectionState::EncodeTlsData(mut data) => {
            encode(output, |room| data.encode(room)).map(|()| Step::Again)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Step::Send)
        }
        ConnectionState::BlockedHandshake => Ok(Step::Receive),
        ConnectionState::WriteTraffic(_) => Ok(Step::Finished),
        // Early data is off, and no record after the handshake is shown.
        _ => Err(Error::General(
            "application data inside the handshake".into(),
        )),
    });
    (discard, step)
}

fn encode(
    output: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), Error> {
    let begin = output.len();
    let mut room = 0;
    loop {
        output.resize(begin + room, 0);
        match encode(output.get_mut(begin..).unwrap_or_default()) {
            Ok(length) => {
                output.truncate(begin + length);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) => room = needed.required_size,
            Err(error) => return Err(Error::General(error.to_string())),
        }
    }
}

/// Appends the alert that rustls has for an error, behind what was queued before it. `records` are
/// those that it failed at: it still points into them.
fn alert<C: Handshaking>(connection: &mut C, mut records: &mut [u8], output: &mut Vec<u8>) {
    while let (discard, Ok(Step::Again)) = step(connection, records, output) {
        records = records.get_mut(discard..).unwrap_or_default();
    }
}

/// Where the record ends that follows the first `shown` bytes, which is read if it is not there.
async fn next_record(
    transport: &mut Transport,
    input: &mut Vec<u8>,
    shown: usize,
) -> Result<usize, HandshakeError> {
    if shown > MAX_UNFINISHED {
        return Err(HandshakeError::TooLong(shown));
    }
    loop {
        let rest = input.get(shown..).unwrap_or_default();
        if let Some(&[_, _, _, high, low]) = rest.first_chunk::<HEADER>() {
            let body = usize::from(u16::from_be_bytes([high, low]));
            // rustls says what is wrong with one that is too long.
            if body > MAX_BODY || rest.len() >= HEADER + body {
                return Ok(shown + rest.len().min(HEADER + body));
            }
        }
        input.reserve(READ);
        let read = transport
            .read_buf(input)
            .await
            .map_err(HandshakeError::Io)?;
        if read == 0 {
            return Err(HandshakeError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}
