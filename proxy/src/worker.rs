//! Data threads: one current-thread runtime each, connections given to the least loaded.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{runtime::Handle, sync::watch};

/// The worker threads of a process.
#[derive(Debug)]
pub struct Workers {
    list: Vec<Worker>,
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
struct Worker {
    handle: Handle,
    active: Arc<AtomicUsize>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` threads, at least one.
    ///
    /// # Errors
    /// When the system refuses a thread or a runtime.
    pub fn start(count: usize) -> io::Result<Self> {
        let stop = watch::Sender::new(false);
        let mut list = Vec::new();
        for index in 0..count.max(1) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let handle = runtime.handle().clone();
            let mut stopped = stop.subscribe();
            let thread = thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    runtime.block_on(async {
                        // An error means that the sender is gone: stop as well.
                        let _ = stopped.wait_for(|stop| *stop).await;
                    });
                    // Connections that are still there end with the runtime.
                    runtime.shutdown_background();
                })?;
            list.push(Worker {
                handle,
                active: Arc::default(),
                thread: Some(thread),
            });
        }
        Ok(Self { list, stop })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Connections of each worker now.
    #[must_use]
    pub fn loads(&self) -> Vec<usize> {
        let load = |worker: &Worker| worker.active.load(Ordering::Relaxed);
        self.list.iter().map(load).collect()
    }

    /// The runtime that accepts connections.
    pub(crate) fn acceptor(&self) -> Option<&Handle> {
        self.list.first().map(|worker| &worker.handle)
    }

    /// Gives a connection to the worker that has the fewest.
    pub(crate) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let load = |worker: &&Worker| worker.active.load(Ordering::Relaxed);
        let Some(worker) = self.list.iter().min_by_key(load) else {
            return;
        };
        let place = Place::new(&worker.active);
        worker.handle.spawn(async move {
            connection.await;
            drop(place);
        });
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for worker in &mut self.list {
            if let Some(thread) = worker.thread.take()
                // The last connection may be what drops the workers, on one of them.
                && thread.thread().id() != thread::current().id()
            {
                // A worker that panicked has nothing left to stop.
                let _ = thread.join();
            }
        }
    }
}

struct Place(Arc<AtomicUsize>);

impl Place {
    fn new(active: &Arc<AtomicUsize>) -> Self {
        active.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(active))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
