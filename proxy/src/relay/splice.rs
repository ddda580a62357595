//! Bulk between two sides without TLS: splice(2) through a pipe, so that the bytes stay in the
//! kernel.
//!
//! A worker keeps a few empty pipes and lends them, as it lends scratch memory; a direction owns one
//! only while its writer is behind, and what lies in it counts as memory of the endpoint.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    task::{Context, Poll, ready},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd::{pipe2, read},
};

use super::{RelayError, Side};
use crate::{held::Keeping, wire::Wire};

/// Bytes of a pipe. Where the host allows less (`fs.pipe-max-size`), there are none.
const SIZE: usize = 1024 * 1024;
/// Pipes that a worker keeps: as many as directions that it serves between two turns of one.
const KEPT: usize = 4;

thread_local! {
    static EMPTY: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe of the kernel.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// An empty one, of this worker or new; `None` where the system has none of full size for us:
    /// users who are not root may have so many pages in pipes and no more, and files.
    fn take() -> Option<Self> {
        if let Some(pipe) = EMPTY.with_borrow_mut(Vec::pop) {
            return Some(pipe);
        }
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).ok()?;
        let size = i32::try_from(SIZE).unwrap_or(i32::MAX);
        fcntl(&write, FcntlArg::F_SETPIPE_SZ(size)).ok()?;
        Some(Self { read, write })
    }

    fn give_back(self) {
        EMPTY.with_borrow_mut(|kept| {
            if kept.len() < KEPT {
                kept.push(self);
            }
        });
    }
}

/// What a writer has not taken yet, in the kernel.
#[derive(Debug)]
struct Waiting {
    pipe: Pipe,
    bytes: usize,
    keeping: Keeping,
}

/// splice(2) of one direction.
#[derive(Debug, Default)]
pub(super) struct Splice {
    waiting: Option<Waiting>,
    /// The kernel has no splice(2) for these sockets.
    refused: bool,
}

impl Splice {
    /// Whether nothing is under way.
    pub(super) const fn is_empty(&self) -> bool {
        self.waiting.is_none()
    }

    /// Bytes under way.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.bytes)
    }

    /// Whether it is worth asking: false once the kernel could not.
    pub(super) const fn is_possible(&self) -> bool {
        !self.refused
    }

    /// Moves up to `room` bytes from `reader` into a pipe, and as many from there to `writer` as it
    /// takes now. Nothing else may be under way to it. `None` where none were moved: what there is,
    /// be it the end, is to be read.
    ///
    /// # Errors
    /// Those of the sockets, `from` or `to` being their sides.
    pub(super) fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        (from, reader): (Side, &Wire),
        (to, writer): (Side, &mut Wire),
        room: usize,
    ) -> Result<Poll<Option<usize>>, RelayError> {
        let Some(pipe) = Pipe::take() else {
            return Ok(Poll::Ready(None));
        };
        let bytes = match reader.transport.poll_splice(cx, pipe.write.as_fd(), room) {
            Poll::Ready(Ok(bytes @ 1..)) => bytes,
            nothing => {
                pipe.give_back();
                return match nothing {
                    Poll::Pending => Ok(Poll::Pending),
                    Poll::Ready(Ok(_)) => Ok(Poll::Ready(None)),
                    Poll::Ready(Err(error)) if is_refusal(&error) => {
                        self.refused = true;
                        Ok(Poll::Ready(None))
                    }
                    Poll::Ready(Err(error)) => Err(RelayError { side: from, error }),
                };
            }
        };
        let mut keeping = Keeping::nothing(Arc::clone(writer.output.memory()));
        keeping.set(bytes);
        self.waiting = Some(Waiting {
            pipe,
            bytes,
            keeping,
        });
        while !self.is_empty() {
            let moved = self.flush_now(writer);
            if moved.map_err(|error| RelayError { side: to, error })? == 0 {
                break;
            }
        }
        Ok(Poll::Ready(Some(bytes)))
    }

    /// Moves what waits on to `writer`. Ready when nothing waits here.
    ///
    /// # Errors
    /// Those of the writer.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut Wire,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            if self.flush_now(writer)? == 0 {
                ready!(writer.transport.poll_write_ready(cx))?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Moves what the writer takes now, and tells how much.
    fn flush_now(&mut self, writer: &mut Wire) -> io::Result<usize> {
        let Some(mut waiting) = self.waiting.take() else {
            return Ok(0);
        };
        let pipe = waiting.pipe.read.as_fd();
        let moved = match writer.transport.splice_now(pipe, waiting.bytes) {
            Err(error) if is_refusal(&error) => {
                // What is in the pipe already is copied from there.
                self.refused = true;
                let rest = empty(&waiting.pipe, waiting.bytes)?;
                writer.output.extend(&rest);
                rest.len()
            }
            moved => moved?,
        };
        waiting.bytes = waiting.bytes.saturating_sub(moved);
        if waiting.bytes == 0 {
            waiting.pipe.give_back();
        } else {
            waiting.keeping.set(waiting.bytes);
            self.waiting = Some(waiting);
        }
        Ok(moved)
    }
}

/// Whether the kernel says that it cannot do this between such files at all.
fn is_refusal(error: &io::Error) -> bool {
    let refusals = [
        Errno::EINVAL,
        Errno::ENOSYS,
        Errno::EPERM,
        Errno::EOPNOTSUPP,
    ];
    let code = error.raw_os_error().map(Errno::from_raw);
    code.is_some_and(|code| refusals.contains(&code))
}

/// Takes all that is in a pipe.
fn empty(pipe: &Pipe, bytes: usize) -> io::Result<Vec<u8>> {
    let mut all = vec![0; bytes];
    let mut filled = 0;
    while let Some(room @ [_, ..]) = all.get_mut(filled..) {
        match read(&pipe.read, room)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use nix::unistd::write;

    use super::*;

    #[test]
    fn an_empty_pipe_is_used_again_and_a_worker_keeps_few() {
        let pipes: Vec<_> = (0..KEPT + 2).map(|_| Pipe::take().unwrap()).collect();
        let first = pipes[0].read.try_clone().unwrap();
        pipes.into_iter().for_each(Pipe::give_back);
        assert_eq!(EMPTY.with_borrow(Vec::len), KEPT);
        let mut again = (0..KEPT).map(|_| Pipe::take().unwrap());
        let same = |pipe: &Pipe| {
            let inode = |fd| nix::sys::stat::fstat(fd).unwrap().st_ino;
            inode(pipe.read.as_fd()) == inode(first.as_fd())
        };
        assert!(again.any(|pipe| same(&pipe)));
    }

    #[test]
    fn what_is_in_a_pipe_can_be_copied_out() {
        let pipe = Pipe::take().unwrap();
        write(&pipe.write, &[7; 5000]).unwrap();
        write(&pipe.write, &[8; 10]).unwrap();
        let all = empty(&pipe, 5010).unwrap();
        assert_eq!(all[..5000], [7; 5000]);
        assert_eq!(all[5000..], [8; 10]);
        assert!(empty(&pipe, 1).is_err(), "it is empty now");
    }

    #[test]
    fn only_what_the_kernel_cannot_do_at_all_leads_to_copying() {
        for code in [Errno::EINVAL, Errno::ENOSYS, Errno::EPERM] {
            assert!(is_refusal(&code.into()));
        }
        for code in [Errno::ECONNRESET, Errno::EPIPE, Errno::EAGAIN] {
            assert!(!is_refusal(&code.into()));
        }
        assert!(!is_refusal(&io::ErrorKind::UnexpectedEof.into()));
    }
}
