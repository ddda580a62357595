//! The alert `access_denied` after a finished handshake.
//!
//! rustls sends alerts of its own accord only, so the keys are taken out of the connection and one
//! record is sealed here (RFC 8446 §5.2, RFC 5246 §6.2.3.3, RFC 5288 §3, RFC 7905 §2).

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, ProtocolVersion};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio_rustls::{client, server};

use crate::stream::{Stream, Transport};

/// How long a peer may take to accept what we have to say.
const PATIENCE: Duration = Duration::from_secs(2);
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;
const FATAL: u8 = 2;
const ACCESS_DENIED: u8 = 49;
const TAG: usize = 16;

/// Tells the peer of a finished handshake that it is denied, and closes.
pub(crate) async fn deny(mut stream: Stream) {
    // Records that TLS has sealed come first, or the alert would be out of turn; a peer that takes
    // nothing is not waited for.
    let flushed = tokio::time::timeout(PATIENCE, stream.flush()).await;
    let (mut transport, record) = match stream {
        Stream::Plain(transport) => {
            transport.abort_on_close();
            return;
        }
        Stream::Server(stream) => server_record(*stream),
        Stream::Client(stream) => client_record(*stream),
    };
    let sent = match record {
        Some(record) if matches!(flushed, Ok(Ok(()))) => {
            let write = tokio::time::timeout(PATIENCE, transport.write_all(&record));
            matches!(write.await, Ok(Ok(())))
        }
        _ => false,
    };
    if sent {
        transport.close_gently().await;
    } else {
        // A reset says at least that it did not end well.
        transport.abort_on_close();
    }
}

fn server_record(stream: server::TlsStream<Transport>) -> (Transport, Option<Vec<u8>>) {
    let (transport, connection) = stream.into_inner();
    let version = connection.protocol_version();
    let secrets = connection.dangerous_extract_secrets().ok();
    (
        transport,
        secrets.and_then(|secrets| seal(secrets, version)),
    )
}

fn client_record(stream: client::TlsStream<Transport>) -> (Transport, Option<Vec<u8>>) {
    let (transport, connection) = stream.into_inner();
    let version = connection.protocol_version();
    let secrets = connection.dangerous_extract_secrets().ok();
    (
        transport,
        secrets.and_then(|secrets| seal(secrets, version)),
    )
}

fn seal(secrets: ExtractedSecrets, version: Option<ProtocolVersion>) -> Option<Vec<u8>> {
    let (sequence, keys) = secrets.tx;
    let tls13 = version == Some(ProtocolVersion::TLSv1_3);
    let (algorithm, key, iv, explicit) = match &keys {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv, !tls13),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv, !tls13),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
            (&CHACHA20_POLY1305, key, iv, false)
        }
        _ => return None,
    };
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).ok()?);
    let mut nonce: [u8; 12] = iv.as_ref().try_into().ok()?;
    for (byte, count) in nonce.iter_mut().skip(4).zip(sequence.to_be_bytes()) {
        *byte ^= count;
    }
    let mut body = vec![FATAL, ACCESS_DENIED];
    let (kind, prefix, aad) = if tls13 {
        body.push(ALERT);
        let length = u8::try_from(body.len() + TAG).ok()?;
        let header = vec![APPLICATION_DATA, 3, 3, 0, length];
        (APPLICATION_DATA, Vec::new(), header)
    } else {
        let mut aad = sequence.to_be_bytes().to_vec();
        aad.extend([ALERT, 3, 3, 0, u8::try_from(body.len()).ok()?]);
        // TLS 1.2 with GCM carries the last eight bytes of the nonce in the record.
        let prefix = explicit.then(|| nonce.iter().skip(4).copied().collect());
        (ALERT, prefix.unwrap_or_default(), aad)
    };
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut body)
        .ok()?;
    let length = u8::try_from(prefix.len() + body.len()).ok()?;
    let mut record = vec![kind, 3, 3, 0, length];
    record.extend(prefix);
    record.extend(body);
    Some(record)
}
