//! Both directions of a connection, after its handshake.

use std::{fmt, ops::Range};

use rustls::ExtractedSecrets;

use crate::{
    Alert, Backend, HEADER, KeySchedule, Limits, RecordError, Role, TRAILER, TrafficKey,
    cipher::Cipher,
    content,
    message::{Assembler, Message},
    open, seal,
};

/// What opened plaintexts are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Each stays where it was opened, one range a record: it has room around it to be sealed again
    /// in place.
    Keep,
    /// Small ones are moved to the one before them, so that a write has few pieces.
    Merge,
}

/// Plaintexts up to this length are moved by [`Layout::Merge`]: cheaper than one more piece of a
/// vectored write.
const SMALL: usize = 4096;

/// Most data records of ours that count for [`Allowance`]: more are not under way at once.
const MOST_SENT: u32 = 4096;

/// What the peer may send without application data between. A KeyUpdate for each of our own data
/// records is borne beside the limit: JSSE asks for a new key at every record that it receives under
/// one that it holds for worn.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    key_updates: u32,
    tickets: u32,
}

impl Allowance {
    const fn new(limits: &Limits) -> Self {
        Self {
            key_updates: limits.key_updates,
            tickets: limits.tickets,
        }
    }

    /// The peer has sent data.
    fn renew(&mut self, limits: &Limits) {
        self.key_updates = self.key_updates.max(limits.key_updates);
        self.tickets = limits.tickets;
    }

    /// We have sent a data record.
    fn sent(&mut self, limits: &Limits) {
        let most = limits.key_updates.saturating_add(MOST_SENT);
        self.key_updates = self.key_updates.saturating_add(1).min(most);
    }
}

/// Takes one of what is left.
fn spend(left: &mut u32, what: &'static str) -> Result<(), RecordError> {
    *left = left
        .checked_sub(1)
        .ok_or(RecordError::UnexpectedMessage(what))?;
    Ok(())
}

/// KeyUpdates of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sent by us.
    pub sent: u64,
    /// Received.
    pub received: u64,
}

/// A TLS 1.3 connection after its handshake: seals what is sent and opens what is received. The
/// two directions share the key schedule only.
pub struct Session {
    send: Cipher,
    receive: Cipher,
    schedule: Box<dyn KeySchedule>,
    backend: Backend,
    role: Role,
    limits: Limits,
    assembler: Assembler,
    failure: Option<RecordError>,
    /// How often the peer has asked for our next key (§4.6.3), and has not got it.
    replies_due: u32,
    /// We want the peer's next key, and have not got it.
    asked: bool,
    close_sent: bool,
    close_received: bool,
    empty_in_a_row: u32,
    messages: Allowance,
    counts: Counts,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("role", &self.role)
            .field("send", &self.send)
            .field("receive", &self.receive)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Goes on where the handshake has ended. `backend` protects the records.
    ///
    /// The secrets must be those of TLS 1.3: whoever made the handshake knows.
    ///
    /// # Errors
    /// For suites that TLS 1.3 does not have.
    pub fn new(
        secrets: &ExtractedSecrets,
        schedule: Box<dyn KeySchedule>,
        role: Role,
        backend: Backend,
        limits: Limits,
    ) -> Result<Self, RecordError> {
        let (sent, keys) = &secrets.tx;
        let send = Cipher::new(&TrafficKey::from_rustls(keys)?, *sent, backend)?;
        let (received, keys) = &secrets.rx;
        let receive = Cipher::new(&TrafficKey::from_rustls(keys)?, *received, backend)?;
        Ok(Self {
            send,
            receive,
            schedule,
            backend,
            role,
            limits,
            assembler: Assembler::default(),
            failure: None,
            replies_due: 0,
            asked: false,
            close_sent: false,
            close_received: false,
            empty_in_a_row: 0,
            messages: Allowance::new(&limits),
            counts: Counts::default(),
        })
    }

    /// Which end of the connection we are.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// KeyUpdates so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the peer has ended its direction in order (`close_notify`).
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.close_received
    }

    /// Why nothing can be received any more, where plaintexts had to be handed out first.
    #[must_use]
    pub const fn failure(&self) -> Option<&RecordError> {
        self.failure.as_ref()
    }

    /// Seals the text of `length` bytes that begins [`HEADER`] bytes into `record` and has
    /// [`TRAILER`] bytes behind it. Returns the length of the record.
    ///
    /// # Errors
    /// [`RecordError::KeyExhausted`] when [`Session::control`] was not asked for too long,
    /// [`RecordError::Closed`] after [`Session::close_notify`], [`RecordError::Overflow`] without
    /// the room.
    pub fn seal(&mut self, record: &mut [u8], length: usize) -> Result<usize, RecordError> {
        if length > crate::MAX_PLAINTEXT {
            return Err(RecordError::Overflow(length));
        }
        self.messages.sent(&self.limits);
        self.protect(record, length, content::APPLICATION_DATA)
    }

    fn protect(
        &mut self,
        record: &mut [u8],
        length: usize,
        kind: u8,
    ) -> Result<usize, RecordError> {
        if self.close_sent {
            return Err(RecordError::Closed);
        }
        if self.send.records() >= self.limits.records_per_key {
            return Err(RecordError::KeyExhausted);
        }
        seal::seal(&mut self.send, record, length, kind)
    }

    /// Whether something must be sent before the next application data: see [`Session::control`].
    #[must_use]
    pub const fn wants_control(&self) -> bool {
        !self.close_sent
            && (self.replies_due > 0
                || self.send.records() >= self.limits.rekey_after
                || self.must_ask())
    }

    /// The peer has used its key for long. An eighth is left to it to see to that by itself.
    const fn must_ask(&self) -> bool {
        let rekey = self.limits.rekey_after;
        !self.asked && !self.close_received && self.receive.records() >= rekey + rekey / 8
    }

    /// Appends the KeyUpdates that are due to `out`. Each request of the peer gets one, as long as
    /// the way is free; where it was not (`waited`), one answers all that came meanwhile (§4.6.3).
    ///
    /// # Errors
    /// When there is no next key.
    pub fn control(&mut self, out: &mut Vec<u8>, waited: bool) -> Result<(), RecordError> {
        if !self.wants_control() {
            return Ok(());
        }
        let due = std::mem::take(&mut self.replies_due).max(1);
        for _ in 0..if waited { 1 } else { due } {
            self.key_update(out)?;
        }
        Ok(())
    }

    fn key_update(&mut self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let ask = self.must_ask();
        self.append(out, content::HANDSHAKE, &[24, 0, 0, 1, u8::from(ask)])?;
        let key = self.schedule.next_to_send()?;
        self.send = Cipher::new(&key, 0, self.backend)?;
        self.asked |= ask;
        self.counts.sent += 1;
        Ok(())
    }

    /// Appends `close_notify` to `out`: nothing is sent after it (§6.1). Once.
    ///
    /// # Errors
    /// When the key may not be used any more.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        self.alert(Alert::CLOSE_NOTIFY, out)
    }

    /// Appends an alert to `out`, the last thing that is sent. Nothing after `close_notify`.
    ///
    /// # Errors
    /// When the key may not be used any more.
    pub fn alert(&mut self, alert: Alert, out: &mut Vec<u8>) -> Result<(), RecordError> {
        if self.close_sent {
            return Ok(());
        }
        self.append(out, content::ALERT, &[alert.level(), alert.0])?;
        self.close_sent = true;
        Ok(())
    }

    fn append(&mut self, out: &mut Vec<u8>, kind: u8, text: &[u8]) -> Result<(), RecordError> {
        let mut record = vec![0; HEADER + text.len() + TRAILER];
        if let Some(room) = record.get_mut(HEADER..HEADER + text.len()) {
            room.copy_from_slice(text);
        }
        self.protect(&mut record, text.len(), kind)?;
        out.extend_from_slice(&record);
        Ok(())
    }

    /// Whether `bytes` begin with a whole record, or with what can never be one.
    #[must_use]
    pub fn is_ready(bytes: &[u8]) -> bool {
        !matches!(open::whole_record(bytes), Ok(None))
    }

    /// Opens the records that `buffer` begins with, at most `most` of them, where they lie, and
    /// appends to `found` where plaintexts are. Returns how many bytes are done with; what is left
    /// is to be given again, with what comes after it.
    ///
    /// After `close_notify` everything is done with (§6.1: "MUST be ignored").
    ///
    /// # Errors
    /// Whatever the peer must not do. Plaintexts that came before it are handed out first: the
    /// error is that of the next call then.
    pub fn open(
        &mut self,
        buffer: &mut [u8],
        layout: Layout,
        most: usize,
        found: &mut Vec<Range<usize>>,
    ) -> Result<usize, RecordError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let none = found.len();
        let mut done = 0;
        for _ in 0..most {
            if self.close_received {
                break;
            }
            match self.open_one(buffer, done, layout, found, none) {
                Ok(0) => break,
                Ok(length) => done += length,
                Err(error) => {
                    self.failure = Some(error.clone());
                    if found.len() == none {
                        return Err(error);
                    }
                    break;
                }
            }
        }
        if self.close_received {
            done = buffer.len();
        }
        Ok(done)
    }

    /// Opens the record at `begin`; 0 where there is none yet.
    fn open_one(
        &mut self,
        buffer: &mut [u8],
        begin: usize,
        layout: Layout,
        found: &mut Vec<Range<usize>>,
        none: usize,
    ) -> Result<usize, RecordError> {
        let bytes = buffer.get_mut(begin..).unwrap_or_default();
        let Some(length) = open::whole_record(bytes)? else {
            return Ok(0);
        };
        // §5.5 bounds the sender. The peer is held to it while it can be asked for another key.
        if !self.close_sent && self.receive.records() >= self.limits.records_per_key {
            return Err(RecordError::KeyExhausted);
        }
        let record = bytes.get_mut(..length).unwrap_or_default();
        let (kind, text) = open::open(&mut self.receive, record)?;
        match kind {
            content::APPLICATION_DATA => {
                if self.assembler.is_waiting() {
                    return Err(RecordError::UnexpectedMessage(INTERLEAVED));
                }
                if text.is_empty() {
                    self.empty_in_a_row += 1;
                    if self.empty_in_a_row > self.limits.empty_records {
                        return Err(RecordError::UnexpectedMessage("too many empty records"));
                    }
                } else {
                    self.empty_in_a_row = 0;
                    self.messages.renew(&self.limits);
                    let text = begin + text.start..begin + text.end;
                    keep(buffer, text, layout, found, none);
                }
            }
            content::HANDSHAKE => {
                let fragment = record.get(text).unwrap_or_default();
                if fragment.is_empty() {
                    return Err(RecordError::UnexpectedMessage("an empty handshake record"));
                }
                self.handshake(fragment)?;
            }
            content::ALERT => self.alerted(record.get(text).unwrap_or_default())?,
            _ => {
                return Err(RecordError::UnexpectedMessage(
                    "a record of a type that is not known",
                ));
            }
        }
        Ok(length)
    }

    fn handshake(&mut self, fragment: &[u8]) -> Result<(), RecordError> {
        let Self {
            assembler,
            schedule,
            receive,
            ..
        } = self;
        let limits = &self.limits;
        let (role, backend) = (self.role, self.backend);
        let (asked, replies_due) = (&mut self.asked, &mut self.replies_due);
        let (counts, messages) = (&mut self.counts, &mut self.messages);
        assembler.take(fragment, role, limits, |message| match message {
            Message::KeyUpdate { requested } => {
                spend(&mut messages.key_updates, "too many KeyUpdates")?;
                *receive = Cipher::new(&schedule.next_to_receive()?, 0, backend)?;
                *asked = false;
                *replies_due += u32::from(requested);
                counts.received += 1;
                Ok(())
            }
            Message::Ticket(payload) => {
                spend(&mut messages.tickets, "too many tickets")?;
                schedule.ticket(payload).map_err(RecordError::Ticket)
            }
        })
    }

    /// §6: whatever its level says, an alert ends the connection, except for the two of §6.1.
    fn alerted(&mut self, text: &[u8]) -> Result<(), RecordError> {
        let alert = match text {
            [] => return Err(RecordError::UnexpectedMessage("an empty alert record")),
            [_, description] => Alert(*description),
            _ => {
                return Err(RecordError::Decode(
                    "an alert of another length than two bytes",
                ));
            }
        };
        match alert {
            Alert::CLOSE_NOTIFY | Alert::USER_CANCELED if self.assembler.is_waiting() => {
                Err(RecordError::UnexpectedMessage(INTERLEAVED))
            }
            Alert::CLOSE_NOTIFY => {
                self.close_received = true;
                Ok(())
            }
            Alert::USER_CANCELED => {
                self.empty_in_a_row += 1;
                if self.empty_in_a_row > self.limits.empty_records {
                    return Err(RecordError::UnexpectedMessage("too many warnings"));
                }
                Ok(())
            }
            other => Err(RecordError::AlertReceived(other)),
        }
    }
}

const INTERLEAVED: &str = "another record inside a handshake message";

/// Notes where a plaintext is.
fn keep(
    buffer: &mut [u8],
    text: Range<usize>,
    layout: Layout,
    found: &mut Vec<Range<usize>>,
    none: usize,
) {
    // Only ranges of this buffer may be grown.
    let last = if found.len() > none {
        found.last_mut()
    } else {
        None
    };
    match (layout, last) {
        (Layout::Merge, Some(last)) if text.len() <= SMALL => {
            let length = text.len();
            buffer.copy_within(text, last.end);
            last.end += length;
        }
        _ => found.push(text),
    }
}

#[cfg(test)]
mod tests;
