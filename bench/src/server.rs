//! The server: answers every mode, by the header that a connection begins with.

mod exchange;
mod stream;

use std::{
    collections::HashMap,
    io::{self, Read as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    socket::{Backlog, listen},
};

use self::exchange::{Exchange, Turn};
use crate::header::{Header, LENGTH, Mode};

const LISTENER: u64 = 0;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
const EVENTS: usize = 256;

/// A server on an address of this host, until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug, Default)]
struct State {
    accepted: AtomicU64,
    stopped: AtomicBool,
}

impl Server {
    /// Listens at `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)
            .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
        listen(&listener, Backlog::new(BACKLOG)?)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let mut work = Loop::new(listener, Arc::clone(&state))?;
        let thread = thread::Builder::new()
            .name("bench-server".into())
            .spawn(move || work.run())?;
        Ok(Self {
            address,
            state,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.state.accepted.load(Ordering::Relaxed)
    }

    /// Serves until the process ends.
    ///
    /// # Errors
    /// When the loop cannot go on.
    pub fn serve(mut self) -> io::Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the server's thread panicked")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A connection that the loop serves.
#[derive(Debug)]
struct Peer {
    stream: TcpStream,
    phase: Phase,
    /// Whether it waits to write rather than to read.
    writing: bool,
}

#[derive(Debug)]
enum Phase {
    Header([u8; LENGTH], usize),
    Exchange(Exchange),
}

/// What becomes of a connection.
enum Next {
    End,
    Hand(Header),
    Wait { writing: bool },
}

#[derive(Debug)]
struct Loop {
    epoll: Epoll,
    listener: TcpListener,
    peers: HashMap<u64, Peer>,
    last: u64,
    scratch: Vec<u8>,
    state: Arc<State>,
}

impl Loop {
    fn new(listener: TcpListener, state: Arc<State>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Self {
            epoll,
            listener,
            peers: HashMap::new(),
            last: LISTENER,
            scratch: vec![0; exchange::SCRATCH],
            state,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = vec![EpollEvent::empty(); EVENTS];
        while !self.state.stopped.load(Ordering::Relaxed) {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other?,
            };
            for event in events.iter().take(count) {
                match event.data() {
                    LISTENER => self.accept()?,
                    token => self.turn(token),
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // It went away while it waited.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                // No file left for it: those that are there are served, and one may end.
                Err(_) => return Ok(()),
            };
            self.state.accepted.fetch_add(1, Ordering::Relaxed);
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            self.last += 1;
            let interest = EpollEvent::new(EpollFlags::EPOLLIN, self.last);
            self.epoll.add(&stream, interest)?;
            let peer = Peer {
                stream,
                phase: Phase::Header([0; LENGTH], 0),
                writing: false,
            };
            self.peers.insert(self.last, peer);
        }
    }

    fn turn(&mut self, token: u64) {
        let Some(peer) = self.peers.get_mut(&token) else {
            return;
        };
        // A client that breaks off is the client's matter.
        let next = peer.turn(&mut self.scratch).unwrap_or(Next::End);
        match next {
            Next::Wait { writing } if writing == peer.writing => {}
            Next::Wait { writing } => {
                peer.writing = writing;
                let flags = if writing {
                    EpollFlags::EPOLLOUT
                } else {
                    EpollFlags::EPOLLIN
                };
                let mut interest = EpollEvent::new(flags, token);
                if self.epoll.modify(&peer.stream, &mut interest).is_err() {
                    self.peers.remove(&token);
                }
            }
            Next::End => {
                // Closing takes it out of the epoll set.
                self.peers.remove(&token);
            }
            Next::Hand(header) => {
                if let Some(peer) = self.peers.remove(&token) {
                    let _ = self.epoll.delete(&peer.stream);
                    stream::serve(peer.stream, header);
                }
            }
        }
    }
}

impl Peer {
    fn turn(&mut self, scratch: &mut [u8]) -> io::Result<Next> {
        loop {
            match &mut self.phase {
                Phase::Header(bytes, filled) => {
                    let rest = bytes.get_mut(*filled..).unwrap_or_default();
                    let count = match self.stream.read(rest) {
                        Ok(0) => return Ok(Next::End),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            return Ok(Next::Wait { writing: false });
                        }
                        other => other?,
                    };
                    *filled += count;
                    if *filled < LENGTH {
                        continue;
                    }
                    let header = Header::decode(bytes).map_err(io::Error::other)?;
                    match header.mode {
                        Mode::Upload
                        | Mode::Download
                        | Mode::Both
                        | Mode::PathUp
                        | Mode::PathDown => {
                            return Ok(Next::Hand(header));
                        }
                        Mode::Connect => self.phase = Phase::Exchange(Exchange::once(&header)),
                        Mode::Exchange => self.phase = Phase::Exchange(Exchange::new(&header)),
                    }
                }
                Phase::Exchange(exchange) => {
                    return Ok(match exchange.turn(&self.stream, scratch)? {
                        Turn::End => Next::End,
                        Turn::Read => Next::Wait { writing: false },
                        Turn::Write => Next::Wait { writing: true },
                    });
                }
            }
        }
    }
}
