//! An alert after a finished handshake: `access_denied`, or what our record layer has to say.
//!
//! rustls, where it protects the records, sends alerts of its own accord only: there the keys are
//! taken out of the connection and one record is sealed here (RFC 8446 §5.2, RFC 5246 §6.2.3.3, RFC
//! 5288 §3, RFC 7905 §2).

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, ProtocolVersion};
use std::time::Duration;

use sekisho_certs::Reason;
use sekisho_lanes::Frame;
use sekisho_record::Alert;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::{client, server};

use crate::{stream::Stream, transport::Transport};

/// How long a peer may take to accept what we have to say.
const PATIENCE: Duration = Duration::from_secs(2);
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;
const FATAL: u8 = 2;
const TAG: usize = 16;

/// RFC 8446 §6.2: what rustls sends, too, where our verifier refuses.
pub(crate) const CERTIFICATE_UNKNOWN: Alert = Alert(46);

/// Tells the peer of a finished handshake that it is denied, and closes; why, where it speaks
/// `sekisho/1`.
pub(crate) async fn deny(mut stream: Stream, reason: Reason) {
    match &mut stream {
        Stream::Wire(wire) if wire.speaks_lanes() => {
            let mut word = Vec::new();
            let reason = reason.as_str();
            Frame::Deny { reason }.encode(&mut word);
            // Where it cannot be sealed, nor can the alert, and that sees to it.
            let _ = wire.queue(&word);
            // An alert of its own would have libraries drop the word that stands before it.
            return tell(stream, Alert::CLOSE_NOTIFY).await;
        }
        Stream::Lanes(_) => {
            if let Stream::Lanes(lanes) = stream {
                lanes.give_up(reason).await;
            }
            return;
        }
        _ => {}
    }
    tell(stream, Alert::ACCESS_DENIED).await;
}

/// Tells the peer of a finished handshake why it ends, and closes. A plain side is reset.
pub(crate) async fn tell(mut stream: Stream, alert: Alert) {
    if let Stream::Lanes(lanes) = stream {
        return lanes.give_up(Reason::TlsFailed).await;
    }
    if let Stream::Wire(wire) = &mut stream {
        // Behind a record that is half written.
        if !wire.queue_alert(alert) {
            wire.transport.abort_on_close();
            return;
        }
    }
    // Records that TLS has sealed come first, or the alert would be out of turn; a peer that takes
    // nothing is not waited for.
    let flushed = tokio::time::timeout(PATIENCE, stream.flush()).await;
    let flushed = matches!(flushed, Ok(Ok(())));
    let (mut transport, record) = match stream {
        Stream::Wire(wire) => (wire.transport, Some(Vec::new())),
        Stream::Server(stream) => server_record(*stream, alert),
        Stream::Client(stream) => client_record(*stream, alert),
        Stream::Lanes(_) => return,
    };
    let sent = match record {
        Some(record) if flushed => {
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

fn server_record(
    stream: server::TlsStream<Transport>,
    alert: Alert,
) -> (Transport, Option<Vec<u8>>) {
    let (transport, connection) = stream.into_inner();
    let version = connection.protocol_version();
    let secrets = connection.dangerous_extract_secrets().ok();
    (
        transport,
        secrets.and_then(|secrets| seal(secrets, version, alert)),
    )
}

fn client_record(
    stream: client::TlsStream<Transport>,
    alert: Alert,
) -> (Transport, Option<Vec<u8>>) {
    let (transport, connection) = stream.into_inner();
    let version = connection.protocol_version();
    let secrets = connection.dangerous_extract_secrets().ok();
    (
        transport,
        secrets.and_then(|secrets| seal(secrets, version, alert)),
    )
}

fn seal(
    secrets: ExtractedSecrets,
    version: Option<ProtocolVersion>,
    alert: Alert,
) -> Option<Vec<u8>> {
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
    let mut body = vec![FATAL, alert.0];
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
