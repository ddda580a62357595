//! A peer that speaks `sekisho/1` frame by frame, well or badly.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use rustls::pki_types::ServerName;
use sekisho_lanes::{
    ALPN, Frame, StreamId,
    frame::{self, Purpose},
};
use sekisho_testkit::danger;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::harness::{SOON, World};

/// A frame that came, as text: what tests compare.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    Frame(String),
    End,
    Alert(String),
}

pub(super) struct Raw {
    stream: TlsStream<TcpStream>,
    bytes: Vec<u8>,
}

pub(super) const STREAM: StreamId = StreamId([7; 16]);

impl Raw {
    /// Makes a handshake with an offer of `sekisho/1` as a workload of site a.
    pub(super) async fn dial(world: &World, path: &str) -> Self {
        Self::named(world, path, "back.b.example").await
    }

    pub(super) async fn named(world: &World, path: &str, name: &'static str) -> Self {
        let stream = TcpStream::connect(world.gate).await.unwrap();
        Self::over(world, path, name, stream).await
    }

    /// From another address of this host.
    pub(super) async fn dial_from(world: &World, path: &str, from: Ipv4Addr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        let stream = socket.connect(world.gate).await.unwrap();
        Self::over(world, path, "back.b.example", stream).await
    }

    async fn over(world: &World, path: &str, name: &'static str, stream: TcpStream) -> Self {
        let svid = world.a.svid(path);
        let mut config = danger::client_config(Some(&svid), &[&rustls::version::TLS13]);
        config.alpn_protocols = vec![ALPN.to_vec()];
        let name = ServerName::try_from(name).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN));
        Self {
            stream,
            bytes: Vec::new(),
        }
    }

    pub(super) async fn send(&mut self, frame: Frame<'_>) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.send_bytes(&bytes).await;
    }

    /// A peer that has gone already does not take it.
    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    pub(super) async fn open(&mut self, purpose: Purpose) {
        self.open_as(STREAM, purpose, "back.b.example").await;
    }

    pub(super) async fn open_as(&mut self, stream: StreamId, purpose: Purpose, endpoint: &str) {
        let frame = Frame::Open {
            stream,
            purpose,
            lanes: 16,
            endpoint,
        };
        self.send(frame).await;
    }

    /// The next frame, or how it ends.
    pub(super) async fn next(&mut self) -> Came {
        loop {
            if let Some((frame, length)) = frame::decode(&self.bytes).unwrap() {
                let text = format!("{:?}", frame.unwrap());
                self.bytes.drain(..length);
                return Came::Frame(text);
            }
            let read = tokio::time::timeout(SOON, self.stream.read_buf(&mut self.bytes)).await;
            match read.expect("a frame or an end") {
                Ok(0) => return Came::End,
                Ok(_) => {}
                Err(error) => {
                    let alert = crate::harness::alert(&error);
                    return Came::Alert(
                        alert.map_or_else(|| error.to_string(), |alert| format!("{alert:?}")),
                    );
                }
            }
        }
    }

    /// The next frame that is no ACK.
    pub(super) async fn word(&mut self) -> Came {
        loop {
            match self.next().await {
                Came::Frame(text) if text.starts_with("Ack") => {}
                other => return other,
            }
        }
    }
}

/// How a frame is shown.
pub(super) fn frame(frame: Frame<'_>) -> Came {
    Came::Frame(format!("{frame:?}"))
}
