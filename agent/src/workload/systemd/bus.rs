//! A connection to a message bus, as far as asking needs it (D-Bus Specification 0.42).
//!
//! Own code, since the libraries bring trees of a size that three questions do not deserve.

use std::{io, path::Path};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::message::{self, Answer, Body, Kind, Malformed};

/// Messages of others (signals) between a question and its answer.
const MAX_OTHERS: usize = 256;
/// Longest line of the authentication.
const MAX_LINE: usize = 1024;

/// Why the bus did not answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::workload) enum BusError {
    #[error("the bus does not accept us")]
    Authentication,
    #[error("the system bus cannot be reached")]
    Io(#[from] io::Error),
    #[error("the bus's message is not understood")]
    Malformed,
    #[error("the bus refuses: {0}")]
    Refused(String),
}

impl From<Malformed> for BusError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// One question.
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) body: Body<'a>,
}

#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    usable: bool,
}

impl Bus {
    /// Connects, tells who we are (the kernel vouches for it) and says hello.
    pub(super) async fn connect(socket: &Path) -> Result<Self, BusError> {
        let mut stream = UnixStream::connect(socket).await?;
        let uid = nix::unistd::geteuid().to_string();
        let hexadecimal: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
        let line = format!("\0AUTH EXTERNAL {hexadecimal}\r\n");
        stream.write_all(line.as_bytes()).await?;
        if !read_line(&mut stream).await?.starts_with(b"OK ") {
            return Err(BusError::Authentication);
        }
        stream.write_all(b"BEGIN\r\n").await?;
        let mut bus = Self {
            stream,
            serial: 0,
            usable: true,
        };
        bus.call(&Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
            body: Body::Empty,
        })
        .await?;
        Ok(bus)
    }

    /// Whether the next bytes are the beginning of a message.
    pub(super) fn is_usable(&self) -> bool {
        self.usable
    }

    /// Asks, and waits for the answer to this question.
    pub(super) async fn call(&mut self, call: &Call<'_>) -> Result<Answer, BusError> {
        self.serial = self.serial.checked_add(1).ok_or(BusError::Malformed)?;
        // Until the answer has been read whole.
        self.usable = false;
        let question = message::question(self.serial, call);
        self.stream.write_all(&question).await?;
        for _ in 0..MAX_OTHERS {
            let answer = self.read().await?;
            if answer.reply_to != Some(self.serial) {
                continue;
            }
            self.usable = true;
            return match answer.kind {
                Kind::Return => Ok(answer),
                Kind::Error => Err(BusError::Refused(answer.error.unwrap_or_default())),
                Kind::Other => Err(BusError::Malformed),
            };
        }
        Err(BusError::Malformed)
    }

    async fn read(&mut self) -> Result<Answer, BusError> {
        let mut start = [0; message::START];
        self.stream.read_exact(&mut start).await?;
        let mut rest = vec![0; message::rest(&start)?];
        self.stream.read_exact(&mut rest).await?;
        Ok(Answer::parse(&start, &rest)?)
    }
}

async fn read_line(stream: &mut UnixStream) -> Result<Vec<u8>, BusError> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_LINE {
            return Err(BusError::Malformed);
        }
        line.push(stream.read_u8().await?);
    }
    Ok(line)
}
