//! Figures of our own end, while something moves on the connection.

use std::{
    io,
    net::TcpStream,
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{
    between::Between,
    cpu::{Thread, micros},
    error::Error,
    sample::Sample,
    sampler::{Sampler, each, interval},
};

/// Is told each sample of our end.
pub type Progress<'a> = &'a (dyn Fn(&Sample) + Sync);

/// What was seen meanwhile.
#[derive(Debug)]
pub(super) struct Seen<T> {
    /// What came of the work.
    pub(super) outcome: T,
    /// Our end.
    pub(super) here: Vec<Sample>,
    /// What else moves on this host, where it was asked for.
    pub(super) between: Option<Between>,
}

/// Does `work`, which names the thread that moves the bytes, and samples the connection meanwhile.
pub(super) fn sampled<T>(
    stream: &TcpStream,
    (start, time): (Instant, Duration),
    mut between: Option<Between>,
    progress: Progress<'_>,
    work: impl FnOnce(&OnceLock<Thread>) -> Result<T, Error>,
) -> Result<Seen<T>, Error> {
    let sampler = Sampler::new(stream.local_addr()?, stream.peer_addr()?, start)?;
    let mover = OnceLock::new();
    let (stop, stopped) = mpsc::channel();
    thread::scope(|scope| {
        let mover = &mover;
        let watch = move || {
            let mut here = Vec::new();
            each(interval(time), &stopped, || {
                if let Some(sample) = sampler.take(mover.get())? {
                    progress(&sample);
                    here.push(sample);
                }
                if let Some(between) = &mut between {
                    between.take(micros(start.elapsed()))?;
                }
                Ok(())
            })?;
            io::Result::Ok((here, between))
        };
        let watching = thread::Builder::new()
            .name("bench-figures".into())
            .spawn_scoped(scope, watch)?;
        let outcome = work(mover);
        drop(stop);
        let panicked = |_| Err(io::Error::other("a thread panicked"));
        let watched = watching.join().unwrap_or_else(panicked);
        let outcome = outcome?;
        let (here, between) = watched?;
        Ok(Seen {
            outcome,
            here,
            between,
        })
    })
}
