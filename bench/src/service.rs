//! A small service to send to: it counts, or gives back what it gets.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

/// First byte of a connection whose bytes are counted; the count comes back at its end, as eight
/// bytes, big-endian.
pub const COUNT: u8 = b'C';
/// First byte of a connection that gets its bytes back.
pub const ECHO: u8 = b'E';

const BUFFER: usize = 256 * 1024;

/// A service on an address of this host, until it is dropped.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    accepted: AtomicUsize,
    bytes: AtomicU64,
    stopped: AtomicBool,
}

impl Service {
    /// Listens at `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                let state = Arc::clone(&shared);
                thread::spawn(move || {
                    // A client that breaks off is the client's matter.
                    let _ = serve(stream, &state);
                });
            }
        });
        Ok(Self { address, state })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::Relaxed)
    }

    /// Bytes counted so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut mode = [0];
    stream.read_exact(&mut mode)?;
    let mut buffer = vec![0; BUFFER];
    let mut total = 0_u64;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        total += count as u64;
        state.bytes.fetch_add(count as u64, Ordering::Relaxed);
        if mode == [ECHO] {
            stream.write_all(buffer.get(..count).unwrap_or_default())?;
        }
    }
    if mode == [COUNT] {
        stream.write_all(&total.to_be_bytes())?;
    }
    stream.shutdown(Shutdown::Write)
}
