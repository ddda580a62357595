//! Our own stream, to a server of `sekisho bench`.

use std::{
    io::{self, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{OnceLock, atomic::AtomicU64},
    thread,
    time::{Duration, Instant},
};

use super::{
    between::Between,
    connect::{PATIENCE, connect},
    cpu::{Thread, micros, this_thread},
    error::Error,
    frame::{End, Frame, FrameError, Frames, Hello},
    iperf3,
    run::{Seen, sampled},
    sample::Sample,
    sysctl::Sysctls,
    verdict::{Observed, Side},
};
pub use super::{between::Carrier, run::Progress};
use crate::{
    congestion,
    header::{Header, Mode},
    transfer::{self, Direction},
};

/// How long a server may take to say who it is.
const HELLO: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The server, or a proxy before it.
    pub address: SocketAddr,
    /// How long it sends. Default: 10 s.
    pub time: Duration,
    /// The server sends. Default: no.
    pub is_reverse: bool,
    /// Bits per second at most. Default: as fast as it goes.
    pub rate: Option<u64>,
    /// Congestion control of both ends. Default: what their hosts have.
    pub congestion: Option<String>,
    /// SO_SNDBUF and SO_RCVBUF of both ends, in bytes (of iperf3's server: only of ours). Default: the
    /// kernels tune them.
    pub buffer: Option<u64>,
    /// The server is iperf3's. Default: found out, at the price of a line in iperf3's log.
    pub is_iperf3: bool,
}

/// What a server tells of its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Far {
    /// Its end over time; empty where it is iperf3's.
    pub samples: Vec<Sample>,
    /// Of its host.
    pub sysctls: Option<Sysctls>,
    /// Congestion control of its end; empty where it is not told.
    pub congestion: String,
    /// CPU of iperf3's process, 1 for a core.
    pub process: Option<f64>,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Our address.
    pub local: SocketAddr,
    /// Where we were connected to.
    pub remote: SocketAddr,
    /// Which end sent.
    pub sender_is: Side,
    /// Our end over time.
    pub here: Vec<Sample>,
    /// Of this host.
    pub sysctls: Sysctls,
    /// Congestion control of our end.
    pub congestion: String,
    /// The other end.
    pub far: Far,
    /// Who the server says is at its other end, where that is not us.
    pub peer: Option<SocketAddr>,
    /// A proxy stands between: what the server tells is of another connection than ours.
    pub is_proxied: bool,
    /// Where that proxy is on this host: its connections that carried the stream, the one with
    /// most first.
    pub carriers: Vec<Carrier>,
    /// Bytes that arrived, by the receiver's count.
    pub bytes: u64,
    /// How long they were sent.
    pub time: Duration,
    /// The server is iperf3's.
    pub is_iperf3: bool,
}

impl Measured {
    /// What is judged: the connection that crosses the path, as far as it can be seen.
    #[must_use]
    pub fn observed(&self, plan: &Plan) -> Observed<'_> {
        let carrier = self.carriers.first();
        let (near, congestion) = match carrier {
            Some(carrier) => (carrier.samples.as_slice(), carrier.congestion.as_str()),
            None => (self.here.as_slice(), self.congestion.as_str()),
        };
        // Behind a proxy it is the last of several connections.
        let (far, last): (&[Sample], &[Sample]) = if self.is_proxied {
            (&[], &self.far.samples)
        } else {
            (&self.far.samples, &[])
        };
        let (ours, theirs) = (Some(&self.sysctls), self.far.sysctls.as_ref());
        let is_sender = self.sender_is == Side::Here;
        Observed {
            sender_is: self.sender_is,
            sender: if is_sender { near } else { far },
            receiver: if is_sender { far } else { near },
            reader: if is_sender { last } else { &[] },
            receiver_process: self.far.process.filter(|_| is_sender),
            sender_sysctls: if is_sender { ours } else { theirs },
            receiver_sysctls: if is_sender { theirs } else { ours },
            congestion: if is_sender {
                congestion
            } else {
                &self.far.congestion
            },
            asked: plan.rate,
            is_eager: plan.rate.is_none() && carrier.is_none() && (is_sender || !self.is_iperf3),
            is_whole: true,
            opened_here: true,
            is_fixed: plan.buffer.is_some() && carrier.is_none(),
        }
    }

    /// The samples that tell most of the path: those of its sender, where they are seen.
    #[must_use]
    pub fn shown<'a>(&'a self, observed: &Observed<'a>) -> (Side, &'a [Sample]) {
        if observed.sender.is_empty() {
            (self.sender_is.other(), observed.receiver)
        } else {
            (self.sender_is, observed.sender)
        }
    }
}

impl Plan {
    /// The defaults.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            time: Duration::from_secs(10),
            is_reverse: false,
            rate: None,
            congestion: None,
            buffer: None,
            is_iperf3: false,
        }
    }

    /// Which end sends.
    #[must_use]
    pub const fn sender_is(&self) -> Side {
        if self.is_reverse {
            Side::There
        } else {
            Side::Here
        }
    }

    /// Measures; `progress` is told each sample of our end.
    ///
    /// # Errors
    /// [`Error`].
    pub fn run(&self, progress: Progress<'_>) -> Result<Measured, Error> {
        if self.is_iperf3 {
            return iperf3::run(self, progress);
        }
        match self.ours(progress)? {
            Some(measured) => Ok(measured),
            None => iperf3::run(self, progress),
        }
    }

    fn not_a_server(&self, found: &str) -> Error {
        Error::NotAServer {
            address: self.address,
            found: found.into(),
        }
    }

    fn header(&self) -> Header {
        let mode = if self.is_reverse {
            Mode::PathDown
        } else {
            Mode::PathUp
        };
        Header {
            time: self.time,
            rate: self.rate.unwrap_or_default(),
            bytes: self.buffer.unwrap_or_default(),
            congestion: self.congestion.clone().unwrap_or_default(),
            ..Header::new(mode)
        }
    }

    /// `None`: it is iperf3's.
    fn ours(&self, progress: Progress<'_>) -> Result<Option<Measured>, Error> {
        let mut stream = connect(self.address, self.buffer, self.congestion.as_deref())?;
        let header = self.header();
        stream.set_read_timeout(Some(HELLO))?;
        let gone = |error| Error::Gone {
            after: Duration::ZERO,
            error,
        };
        stream.write_all(&header.encode()).map_err(gone)?;
        let mut frames = Frames::new(&stream);
        let Some(hello) = self.hello(&mut frames)? else {
            return Ok(None);
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        let plain =
            |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let (peer, own) = (plain(hello.peer), plain(hello.own));
        let between = if peer == local {
            None
        } else {
            Some(Between::new(self.sender_is(), local, remote)?)
        };
        let start = Instant::now();
        let seen = sampled(&stream, (start, self.time), between, progress, |mover| {
            self.moves(&stream, &mut frames, &header, start, mover)
        })?;
        let Seen {
            outcome: moved,
            mut here,
            between,
        } = seen;
        let mut carriers = between.map_or_else(Vec::new, |between| between.carriers(moved.bytes));
        let mut far = moved.samples;
        // What is behind is the last bytes in queues, not the path.
        let during = |sample: &Sample| sample.at <= micros(moved.time);
        here.retain(during);
        far.retain(during);
        for carrier in &mut carriers {
            carrier.samples.retain(during);
        }
        Ok(Some(Measured {
            local,
            remote,
            sender_is: self.sender_is(),
            here,
            sysctls: Sysctls::read(),
            congestion: congestion::of(&stream),
            far: Far {
                samples: far,
                sysctls: Some(hello.sysctls),
                congestion: hello.congestion,
                process: None,
            },
            peer: Some(peer).filter(|peer| *peer != local),
            is_proxied: peer != local && own != plain(remote),
            carriers,
            bytes: moved.bytes,
            time: moved.time,
            is_iperf3: false,
        }))
    }

    fn hello(&self, frames: &mut Frames<&TcpStream>) -> Result<Option<Hello>, Error> {
        match frames.next(&AtomicU64::new(0)) {
            Ok(Frame::Hello(hello)) => Ok(Some(*hello)),
            Err(FrameError::Kind(first)) if iperf3::is_first(first) => Ok(None),
            Ok(_) | Err(FrameError::Kind(_) | FrameError::Length(_) | FrameError::Json(_)) => {
                Err(self.not_a_server("answers something else"))
            }
            Err(FrameError::Io(error)) => Err(self.not_a_server(match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "says nothing",
                _ => "closes the connection without a word (an older sekisho does)",
            })),
            Err(error) => Err(error.into()),
        }
    }

    fn moves(
        &self,
        stream: &TcpStream,
        frames: &mut Frames<&TcpStream>,
        header: &Header,
        start: Instant,
        mover: &OnceLock<Thread>,
    ) -> Result<Moved, Error> {
        let name = || {
            let _ = mover.set(this_thread());
        };
        if self.is_reverse {
            name();
            let arrived = AtomicU64::new(0);
            let (end, samples) = self.listen(frames, start, &arrived)?;
            let bytes = arrived.into_inner();
            return counted(end.sent, bytes, samples, start.elapsed());
        }
        thread::scope(|scope| {
            let send = || {
                name();
                let sent = transfer::send(stream, header, Direction::Up, &AtomicU64::new(0));
                let time = start.elapsed();
                let _ = stream.shutdown(Shutdown::Write);
                io::Result::Ok((sent?, time))
            };
            let sending = thread::Builder::new()
                .name("bench-path".into())
                .spawn_scoped(scope, send)?;
            let heard = self.listen(frames, start, &AtomicU64::new(0));
            if heard.is_err() {
                // Whatever the other thread waits for will not come.
                let _ = stream.shutdown(Shutdown::Both);
            }
            let panicked = |_| Err(io::Error::other("a thread panicked"));
            let sent = sending.join().unwrap_or_else(panicked);
            // Why the server is gone says more than that nothing could be sent.
            let (end, samples) = heard?;
            let (sent, time) = sent.map_err(|error| Error::Gone {
                after: start.elapsed(),
                error,
            })?;
            counted(sent, end.received, samples, time)
        })
    }

    /// Until the server's end.
    fn listen(
        &self,
        frames: &mut Frames<&TcpStream>,
        start: Instant,
        arrived: &AtomicU64,
    ) -> Result<(End, Vec<Sample>), Error> {
        let mut samples = Vec::new();
        let late = self.time + PATIENCE;
        loop {
            match frames.next(arrived) {
                Ok(Frame::Sample(sample)) => samples.push(*sample),
                Ok(Frame::Data(_) | Frame::Hello(_)) => {}
                Ok(Frame::End(end)) => {
                    return match end.failure {
                        Some(failure) => Err(Error::Refused(failure)),
                        None => Ok((end, samples)),
                    };
                }
                Err(FrameError::Io(error)) => {
                    let after = start.elapsed();
                    return Err(Error::Gone { after, error });
                }
                Err(error) => return Err(error.into()),
            }
            if start.elapsed() > late {
                let error = io::ErrorKind::TimedOut.into();
                let after = start.elapsed();
                return Err(Error::Gone { after, error });
            }
        }
    }
}

/// What moved.
#[derive(Debug)]
struct Moved {
    bytes: u64,
    time: Duration,
    samples: Vec<Sample>,
}

fn counted(sent: u64, received: u64, samples: Vec<Sample>, time: Duration) -> Result<Moved, Error> {
    if sent != received {
        return Err(Error::Counts { sent, received });
    }
    Ok(Moved {
        bytes: received,
        time,
        samples,
    })
}
