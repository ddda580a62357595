//! A pattern in all scratch memory before every turn, looked for in all that leaves: nothing of
//! another connection's turn may come out, neither as it is nor inside a record.

use std::{cell::RefCell, future::poll_fn, io, net::Ipv4Addr, sync::Arc, task::Poll};

use rustls::{
    ConnectionTrafficSecrets, ExtractedSecrets,
    crypto::cipher::{AeadKey, Iv},
};
use sekisho_record::{
    Alert, Backend, HEADER, KeySchedule, Layout, Limits, MAX_PLAINTEXT, RecordError, Role, SLOT,
    Session, TicketError, TrafficKey,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{
    Counters, Side,
    turn::{Direction, Turn},
};
use crate::{
    held::Memory,
    scratch::{self, Compartment},
    stream::TlsDetails,
    transport::Transport,
    wire::{Tls, Wire},
};

/// In no byte of the text, and eight times in a row in no ciphertext.
const CANARY: u8 = 0xCA;
/// More than any turn borrows.
const SCRATCH: usize = 4 << 20;
/// Bytes of each direction: the largest turns are reached several times.
const LENGTH: usize = 6 << 20;

fn poison() {
    scratch::lend(Compartment::default(), SCRATCH, |lent, _| {
        lent.room().fill(CANARY)
    });
}

fn has_canary(bytes: &[u8]) -> bool {
    bytes.windows(8).any(|window| window == [CANARY; 8])
}

/// Keys that both ends count up.
struct Counting {
    sent: u8,
    received: u8,
    own: u8,
}

fn secret(whose: u8, count: u8) -> ConnectionTrafficSecrets {
    ConnectionTrafficSecrets::Aes256Gcm {
        key: AeadKey::from([whose ^ count; 32]),
        iv: Iv::from([whose; 12]),
    }
}

impl KeySchedule for Counting {
    fn next_to_send(&mut self) -> Result<TrafficKey, RecordError> {
        self.sent = self.sent.wrapping_add(3);
        TrafficKey::from_rustls(&secret(self.own, self.sent))
    }

    fn next_to_receive(&mut self) -> Result<TrafficKey, RecordError> {
        self.received = self.received.wrapping_add(3);
        TrafficKey::from_rustls(&secret(3 - self.own, self.received))
    }

    fn ticket(&mut self, _: &[u8]) -> Result<(), TicketError> {
        Err(TicketError::Illegal)
    }
}

fn session(role: Role) -> Session {
    let own = if role == Role::Client { 1 } else { 2 };
    let secrets = ExtractedSecrets {
        tx: (0, secret(own, 0)),
        rx: (0, secret(3 - own, 0)),
    };
    let schedule = Counting {
        sent: 0,
        received: 0,
        own,
    };
    let limits = Limits {
        rekey_after: 50,
        ..Limits::default()
    };
    Session::new(&secrets, Box::new(schedule), role, Backend::AwsLc, limits).unwrap()
}

/// Two ends of a connection. With small buffers writes are cut short, with large ones turns are large.
async fn sockets(buffer: u32) -> (TcpStream, TcpStream) {
    let socket = move || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(buffer).unwrap();
        socket.set_send_buffer_size(buffer).unwrap();
        socket
    };
    let listening = socket();
    listening.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = listening.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(socket().connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

fn wire(stream: TcpStream, role: Option<Role>, memory: &Arc<Memory>) -> Wire {
    let transport = Transport::Tcp(stream);
    let Some(role) = role else {
        return Wire::plain(transport, memory);
    };
    let details = TlsDetails {
        lanes: false,
        version: "TLSv1.3",
        cipher: "TLS_AES_256_GCM_SHA384",
        group: "X25519",
        resumed: false,
    };
    let session = session(role);
    Wire::tls(transport, Tls { session, details }, &[], memory)
}

/// Who speaks to the relay.
struct Peer {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    tls: Option<RefCell<Session>>,
}

fn text(at: usize) -> u8 {
    u8::try_from((at ^ (at >> 8)) & 0x1f).unwrap()
}

/// Lengths of writes: tiny, odd, full, many records; the same each time.
fn lengths() -> impl Iterator<Item = usize> {
    [1, 100, 5, 4097, MAX_PLAINTEXT, 77, 70_001, 3, 400_000]
        .into_iter()
        .cycle()
}

impl Peer {
    fn new(stream: TcpStream, role: Option<Role>) -> Self {
        let (reader, writer) = stream.into_split();
        let tls = role.map(|role| RefCell::new(session(role)));
        Self {
            reader,
            writer,
            tls,
        }
    }

    /// Sends the text, and receives as much; returns all bytes that came, as they came.
    async fn talk(self) -> Vec<u8> {
        let Self {
            reader,
            writer,
            tls,
        } = self;
        let (sent, received) =
            tokio::join!(send(writer, tls.as_ref()), receive(reader, tls.as_ref()));
        sent.unwrap();
        received
    }
}

async fn send(mut writer: OwnedWriteHalf, tls: Option<&RefCell<Session>>) -> io::Result<()> {
    let mut sent = 0;
    for length in lengths() {
        let length = length.min(LENGTH - sent);
        let part: Vec<_> = (sent..sent + length).map(text).collect();
        let bytes = tls.map_or_else(|| part.clone(), |tls| sealed(&mut tls.borrow_mut(), &part));
        // In two writes, the second of which ends inside of a record's header, so that turns do.
        let (first, second) = bytes.split_at(bytes.len().min(3));
        writer.write_all(first).await?;
        tokio::task::yield_now().await;
        writer.write_all(second).await?;
        sent += length;
        if sent == LENGTH {
            break;
        }
    }
    if let Some(tls) = tls {
        let mut last = Vec::new();
        tls.borrow_mut().close_notify(&mut last).unwrap();
        writer.write_all(&last).await?;
    }
    writer.shutdown().await
}

fn sealed(session: &mut Session, text: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    for part in text.chunks(MAX_PLAINTEXT) {
        session.control(&mut all, false).unwrap();
        let mut record = vec![0; SLOT];
        record[HEADER..HEADER + part.len()].copy_from_slice(part);
        let length = session.seal(&mut record, part.len()).unwrap();
        all.extend_from_slice(&record[..length]);
    }
    all
}

async fn receive(mut reader: OwnedReadHalf, tls: Option<&RefCell<Session>>) -> Vec<u8> {
    let mut raw = Vec::new();
    let mut waiting = Vec::new();
    let mut received = 0;
    loop {
        let before = raw.len();
        if reader.read_buf(&mut raw).await.unwrap() == 0 {
            break;
        }
        waiting.extend_from_slice(&raw[before..]);
        let mut found = Vec::new();
        let done = match tls {
            None => {
                found.push(0..waiting.len());
                waiting.len()
            }
            Some(tls) => {
                let mut session = tls.borrow_mut();
                session
                    .open(&mut waiting, Layout::Keep, usize::MAX, &mut found)
                    .unwrap()
            }
        };
        for piece in found {
            let expected: Vec<_> = (received..received + piece.len()).map(text).collect();
            assert!(waiting[piece] == expected, "behind byte {received}");
            received += expected.len();
        }
        waiting.drain(..done);
    }
    assert_eq!((received, waiting.len()), (LENGTH, 0));
    if let Some(tls) = tls {
        assert!(tls.borrow().is_closed());
    }
    raw
}

/// Turns of both directions until both are done, each with poisoned memory.
async fn relay(mut client: Wire, mut upstream: Wire, counters: &Counters) {
    let mut out = Direction::new(Side::Client, Side::Upstream);
    let mut back = Direction::new(Side::Upstream, Side::Client);
    poll_fn(|cx| {
        loop {
            poison();
            let sent = out.turn(cx, &mut client, &mut upstream, counters).unwrap();
            poison();
            let received = back.turn(cx, &mut upstream, &mut client, counters).unwrap();
            match (sent, received) {
                (Turn::Done, Turn::Done) => return Poll::Ready(()),
                (Turn::Moved(_), _) | (_, Turn::Moved(_)) => {}
                _ => return Poll::Pending,
            }
        }
    })
    .await
}

async fn both_ways(client: bool, upstream: bool, buffer: u32) -> Counters {
    let memory = Memory::new(usize::MAX);
    let (far_client, near_client) = sockets(buffer).await;
    let (near_upstream, far_upstream) = sockets(buffer).await;
    let of = |is, role| if is { Some(role) } else { None };
    let counters = Counters::default();
    let relay = relay(
        wire(near_client, of(client, Role::Server), &memory),
        wire(near_upstream, of(upstream, Role::Client), &memory),
        &counters,
    );
    let ((), at_client, at_upstream) = tokio::join!(
        relay,
        Peer::new(far_client, of(client, Role::Client)).talk(),
        Peer::new(far_upstream, of(upstream, Role::Server)).talk(),
    );
    for raw in [at_client, at_upstream] {
        assert!(raw.len() >= LENGTH);
        assert!(!has_canary(&raw));
    }
    assert_eq!(memory.held(), 0);
    counters
}

const SMALL: u32 = 32 << 10;
const LARGE: u32 = 2 << 20;

#[tokio::test]
async fn from_plain_to_tls_and_back() {
    both_ways(false, true, SMALL).await;
    both_ways(true, false, LARGE).await;
}

#[tokio::test]
async fn from_tls_to_tls() {
    both_ways(true, true, SMALL).await;
    both_ways(true, true, LARGE).await;
}

#[tokio::test]
async fn from_plain_to_plain() {
    let copied = both_ways(false, false, SMALL).await;
    assert_eq!(copied.spliced(), 0);
    let spliced = both_ways(false, false, LARGE).await;
    assert!(spliced.spliced() > 0);
}

#[tokio::test]
async fn an_alert_brings_nothing_else_along() {
    let memory = Memory::new(usize::MAX);
    let (mut far, near) = sockets(SMALL).await;
    let mut wire = wire(near, Some(Role::Server), &memory);
    poison();
    assert!(wire.queue_alert(Alert::ACCESS_DENIED));
    poll_fn(|cx| wire.poll_output(cx)).await.unwrap();
    drop(wire);
    let mut raw = Vec::new();
    far.read_to_end(&mut raw).await.unwrap();
    assert_eq!(raw.len(), HEADER + 2 + 1 + 16, "one alert in one record");
    assert!(!has_canary(&raw));
}

#[test]
fn the_canary_would_be_found() {
    poison();
    scratch::lend(Compartment::default(), 100, |lent, _| {
        lent.room()[0] = 7;
        assert!(has_canary(lent.room()));
        lent.fill(1);
        assert!(!has_canary(lent.written()));
    });
}
