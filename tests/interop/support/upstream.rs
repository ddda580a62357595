//! The service behind an endpoint, which counts who comes.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

/// A TCP server that treats each connection with one function, in a thread of its own.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Upstream {
    /// Starts a server.
    pub(crate) fn start(
        serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            accepted: Arc::default(),
            stop: Arc::default(),
        };
        let (accepted, stop) = (Arc::clone(&upstream.accepted), Arc::clone(&upstream.stop));
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                accepted.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                thread::spawn(move || {
                    if let Err(error) = serve(stream) {
                        eprintln!("the service's connection ended: {error}");
                    }
                });
            }
        });
        upstream
    }

    /// A server that sends back what it gets.
    pub(crate) fn echo() -> Self {
        Self::start(|stream| {
            io::copy(&mut &stream, &mut &stream)?;
            stream.shutdown(std::net::Shutdown::Write)
        })
    }

    /// How many connections came.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread, which then lets the port go.
        let _ = TcpStream::connect(self.address);
    }
}
