//! The server's end.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{
    connect::{PATIENCE, buffers},
    cpu::this_thread,
    frame::{End, HEAD, Hello, encode, head},
    sampler::{Sampler, each, interval},
    sysctl::Sysctls,
};
use crate::{
    congestion,
    header::{Header, Mode},
    transfer::pause,
};

const BUFFER: usize = 256 << 10;
/// Samples that wait for a place between the data, at most.
const WAITING: usize = 1024;

/// Serves a connection whose header has been read.
pub(crate) fn serve(mut stream: &TcpStream, header: &Header) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE * 2))?;
    stream.set_write_timeout(Some(PATIENCE * 2))?;
    let outcome = prepare(stream, header);
    let hello = Hello {
        peer: stream.peer_addr()?,
        own: stream.local_addr()?,
        congestion: congestion::of(stream),
        sysctls: Sysctls::read(),
    };
    stream.write_all(&encode(b'H', &hello))?;
    let outcome = outcome.and_then(|()| match header.mode {
        Mode::PathDown => send(stream, header),
        _ => receive(stream, header),
    });
    let end = outcome.unwrap_or_else(|error| End {
        failure: Some(error.to_string()),
        ..End::default()
    });
    stream.write_all(&encode(b'E', &end))?;
    stream.shutdown(Shutdown::Write)?;
    // Closing with bytes unread would reset, and take the end along.
    while stream.read(&mut [0; 4096])? > 0 {}
    Ok(())
}

fn prepare(stream: &TcpStream, header: &Header) -> io::Result<()> {
    if header.bytes > 0 {
        buffers(stream, header.bytes)?;
    }
    let name = Some(header.congestion.as_str()).filter(|name| !name.is_empty());
    congestion::choose(stream, name)
}

fn receive(mut stream: &TcpStream, header: &Header) -> io::Result<End> {
    let start = Instant::now();
    let sampler = Sampler::new(stream.local_addr()?, stream.peer_addr()?, start)?;
    let thread = this_thread();
    let (stop, stopped) = mpsc::channel();
    thread::scope(|scope| {
        let mut back = stream;
        let tell = move || {
            each(interval(header.time), &stopped, || {
                match sampler.take(Some(&thread))? {
                    Some(sample) => back.write_all(&encode(b'S', &sample)),
                    None => Ok(()),
                }
            })
        };
        let telling = thread::Builder::new()
            .name("bench-figures".into())
            .spawn_scoped(scope, tell)?;
        let mut buffer = vec![0; BUFFER];
        let mut received = 0_u64;
        let outcome = loop {
            match stream.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(count) => received += count as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        drop(stop);
        // One frame must be whole before the next begins.
        let panicked = |_| Err(io::Error::other("a thread panicked"));
        telling.join().unwrap_or_else(panicked)?;
        outcome?;
        Ok(End {
            received,
            ..End::default()
        })
    })
}

fn send(mut stream: &TcpStream, header: &Header) -> io::Result<End> {
    let start = Instant::now();
    let sampler = Sampler::new(stream.local_addr()?, stream.peer_addr()?, start)?;
    let thread = this_thread();
    let (stop, stopped) = mpsc::channel();
    let waiting = Mutex::new(VecDeque::new());
    let lock = || waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let mut frame = vec![0; HEAD + header.block as usize];
    for (to, from) in frame.iter_mut().zip(head(b'D', header.block)) {
        *to = from;
    }
    thread::scope(|scope| {
        let gather = || {
            let stopped = stopped;
            each(interval(header.time), &stopped, || {
                let sample = sampler.take(Some(&thread))?;
                let mut waiting = lock();
                if waiting.len() < WAITING {
                    waiting.extend(sample);
                }
                Ok(())
            })
        };
        let gathering = thread::Builder::new()
            .name("bench-figures".into())
            .spawn_scoped(scope, gather)?;
        let mut sent = 0_u64;
        let time = if header.time.is_zero() {
            Duration::from_secs(10)
        } else {
            header.time
        };
        let mut outcome = Ok(());
        while outcome.is_ok() && start.elapsed() < time {
            outcome = stream.write_all(&frame);
            sent += u64::from(header.block);
            let told = std::mem::take(&mut *lock());
            for sample in told {
                outcome = outcome.and_then(|()| stream.write_all(&encode(b'S', &sample)));
            }
            if header.rate > 0 {
                pause(sent, header, start);
            }
        }
        drop(stop);
        let panicked = |_| Err(io::Error::other("a thread panicked"));
        gathering.join().unwrap_or_else(panicked)?;
        outcome?;
        Ok(End {
            sent,
            ..End::default()
        })
    })
}
