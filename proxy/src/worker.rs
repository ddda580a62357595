//! Data threads: one current-thread runtime each, connections given to the least loaded.

mod balance;

use std::{
    cell::Cell,
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{runtime::Handle, sync::watch};

use balance::Balance;
pub use balance::Flow;

/// Tasks that a runtime serves before it looks for events again. tokio's own 61 would let others
/// wait while bulk streams move a batch each.
const EVENT_INTERVAL: u32 = 16;

thread_local! {
    static WORKER: Cell<usize> = const { Cell::new(0) };
}

/// The worker threads of a process.
#[derive(Debug)]
pub struct Workers {
    list: Vec<Worker>,
    balance: Arc<Balance>,
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
                .event_interval(EVENT_INTERVAL)
                .build()?;
            let handle = runtime.handle().clone();
            let mut stopped = stop.subscribe();
            let thread = thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    WORKER.set(index);
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
        Ok(Self {
            balance: Balance::new(list.iter().map(|worker| worker.handle.clone())),
            list,
            stop,
        })
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

    /// Bulk streams of each worker now: those that carry more than about 300 Mb/s. Not told where
    /// there is one worker only.
    #[must_use]
    pub fn bulk_loads(&self) -> Vec<usize> {
        self.balance.loads()
    }

    /// Bulk streams that have moved to another worker since the start.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.balance.moved()
    }

    /// The runtime that accepts connections.
    pub(crate) fn acceptor(&self) -> Option<&Handle> {
        self.list.first().map(|worker| &worker.handle)
    }

    /// A connection's part in the balance, on the worker that this is called on.
    pub(crate) fn flow(&self) -> Flow {
        Flow::new(Arc::clone(&self.balance), WORKER.get())
    }

    /// Gives a connection to the worker that has least to do: the fewest connections, where a bulk
    /// stream weighs as much as many idle ones.
    pub(crate) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        const BULK: usize = 64;
        let bulk = self.balance.loads();
        let load =
            |(worker, bulk): &(&Worker, usize)| worker.active.load(Ordering::Relaxed) + bulk * BULK;
        if let Some((worker, _)) = self.list.iter().zip(bulk).min_by_key(load) {
            worker.spawn(connection);
        }
    }

    /// Gives a connection to this worker.
    pub(crate) fn spawn_on(
        &self,
        worker: usize,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        if let Some(worker) = self.list.get(worker) {
            worker.spawn(connection);
        }
    }
}

impl Worker {
    fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let place = Place::new(&self.active);
        self.handle.spawn(async move {
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
