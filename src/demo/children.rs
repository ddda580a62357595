//! The processes of the demo and the folder they live in: none outlives the demo.
//!
//! A signal ends the demo in order: its processes are killed, then the folder goes. SIGKILL takes
//! the demo without a word: the kernel then ends its sites (`run --with-parent`), and only their
//! folder (`sekisho-demo-…` in the folder for temporary files) stays.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

/// A folder into which somebody still writes is removed again, so often.
const REMOVE_TRIES: u32 = 50;
const REMOVE_EVERY: Duration = Duration::from_millis(10);

/// All that must not stay behind.
#[derive(Debug, Default)]
pub(super) struct Children {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    pids: Vec<Pid>,
    folder: Option<PathBuf>,
    /// Who waits for a signal, to end things in order.
    waiting: Option<SyncSender<()>>,
}

/// A process that is killed when dropped.
#[derive(Debug)]
pub(super) struct Kin {
    child: Child,
    children: Arc<Children>,
}

impl Children {
    /// Ends all, and this process, by the first SIGINT, SIGTERM or SIGHUP.
    pub(super) fn guarded() -> anyhow::Result<Arc<Self>> {
        let children = Arc::new(Self::default());
        let guarded = Arc::clone(&children);
        let (told, listening) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || guarded.watch(&told))?;
        // No process is started that a signal would leave behind.
        listening.recv().context("no thread for signals")??;
        Ok(children)
    }

    fn watch(&self, told: &SyncSender<io::Result<()>>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = told.send(Err(error));
                return;
            }
        };
        let outcome: io::Result<()> = runtime.block_on(async {
            let mut int = signal(SignalKind::interrupt())?;
            let mut term = signal(SignalKind::terminate())?;
            let mut hup = signal(SignalKind::hangup())?;
            // The demo waits for this, and is there.
            let _ = told.send(Ok(()));
            loop {
                let by = tokio::select! {
                    _ = int.recv() => Signal::SIGINT,
                    _ = term.recv() => Signal::SIGTERM,
                    _ = hup.recv() => Signal::SIGHUP,
                };
                let waiting = self.kept().waiting.take();
                // A second signal does not wait for what the first one began.
                if waiting.is_none_or(|waiting| waiting.send(()).is_err()) {
                    self.end(by);
                }
            }
        });
        if let Err(error) = outcome {
            let _ = told.send(Err(error));
        }
    }

    /// From here on the next signal is told here, once, and ends nothing.
    pub(super) fn next_signal(&self) -> Receiver<()> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.kept().waiting = Some(sender);
        receiver
    }

    /// Starts a process.
    pub(super) fn start(self: &Arc<Self>, command: &mut Command) -> anyhow::Result<Kin> {
        // Under the lock: what is started is known, and after the end nothing is started.
        let mut kept = self.kept();
        let child = command.spawn()?;
        kept.pids.push(pid(&child)?);
        drop(kept);
        Ok(Kin {
            child,
            children: Arc::clone(self),
        })
    }

    /// The folder of the demo.
    pub(super) fn folder(&self) -> anyhow::Result<TempDir> {
        let mut kept = self.kept();
        let folder = tempfile::Builder::new().prefix("sekisho-demo-").tempdir()?;
        kept.folder = Some(folder.path().to_owned());
        Ok(folder)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, by: Signal) -> ! {
        // Never given back: the rest of the demo, which goes on, starts nothing any more.
        let kept = self.kept();
        for pid in &kept.pids {
            // Whether it is gone already makes no difference.
            let _ = kill(*pid, Signal::SIGKILL);
            let _ = waitpid(*pid, None);
        }
        if let Some(folder) = &kept.folder {
            remove(folder);
        }
        // As a shell says of a process that the signal killed.
        std::process::exit(128 + by as i32)
    }
}

/// The demo itself may be writing a file there.
fn remove(folder: &Path) {
    for _ in 0..REMOVE_TRIES {
        match fs::remove_dir_all(folder) {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(_) => thread::sleep(REMOVE_EVERY),
        }
    }
}

fn pid(child: &Child) -> anyhow::Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}

impl Kin {
    /// To send a signal to.
    pub(super) fn pid(&self) -> anyhow::Result<Pid> {
        pid(&self.child)
    }
}

impl Drop for Kin {
    fn drop(&mut self) {
        // Under the lock until it is reaped: its number may be another's afterwards.
        let mut kept = self.children.kept();
        // Whether it is gone already makes no difference.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Ok(own) = pid(&self.child) {
            kept.pids.retain(|pid| *pid != own);
        }
    }
}
