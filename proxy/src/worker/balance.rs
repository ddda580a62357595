//! Which worker a bulk stream belongs to. Load is not known when a connection is accepted, so two
//! heavy streams may meet on one worker: then one of them moves to another that has none.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;

/// How often it is looked who is heavy.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes within [`LOOK`] that make a stream a heavy one: 335 Mb/s.
const HEAVY: u64 = 2 * 1024 * 1024;
/// No worker.
const NOWHERE: usize = usize::MAX;

/// Heavy streams, by worker.
#[derive(Debug)]
pub(crate) struct Balance {
    state: Mutex<Vec<Worker>>,
    moved: AtomicU64,
}

#[derive(Debug)]
struct Worker {
    handle: Handle,
    heavy: Vec<Heavy>,
    /// Streams that have been told to come here, and have not.
    expected: usize,
    looking: bool,
}

impl Worker {
    const fn load(&self) -> usize {
        self.heavy.len() + self.expected
    }
}

#[derive(Debug)]
struct Heavy {
    stream: Arc<Stream>,
    before: u64,
}

#[derive(Debug)]
struct Stream {
    bytes: AtomicU64,
    /// Where it is to go.
    target: AtomicUsize,
    listed: AtomicBool,
}

impl Balance {
    pub(crate) fn new(handles: impl Iterator<Item = Handle>) -> Arc<Self> {
        let worker = |handle| Worker {
            handle,
            heavy: Vec::new(),
            expected: 0,
            looking: false,
        };
        Arc::new(Self {
            state: Mutex::new(handles.map(worker).collect()),
            moved: AtomicU64::new(0),
        })
    }

    fn state(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Heavy streams of each worker now.
    pub(crate) fn loads(&self) -> Vec<usize> {
        self.state().iter().map(Worker::load).collect()
    }

    /// Streams that have changed their worker.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Notes a stream that has carried much, at its worker; whether it still does is seen later.
    fn list(self: &Arc<Self>, worker: usize, stream: &Arc<Stream>) {
        let mut state = self.state();
        // One worker has nothing to balance.
        if state.len() < 2 || stream.listed.swap(true, Ordering::Relaxed) {
            return;
        }
        let Some(worker_state) = state.get_mut(worker) else {
            return;
        };
        worker_state.heavy.push(Heavy {
            stream: Arc::clone(stream),
            before: stream.bytes.load(Ordering::Relaxed),
        });
        if !worker_state.looking {
            worker_state.looking = true;
            let balance = Arc::clone(self);
            worker_state.handle.spawn(async move {
                loop {
                    tokio::time::sleep(LOOK).await;
                    if !balance.look(worker) {
                        break;
                    }
                }
            });
        }
    }

    /// Forgets who is heavy no more, and sends one stream to a worker that has two less. False when
    /// nobody is left.
    fn look(&self, worker: usize) -> bool {
        let mut state = self.state();
        let Some(own) = state.get_mut(worker) else {
            return false;
        };
        let mut returned = Vec::new();
        own.heavy.retain_mut(|heavy| {
            let bytes = heavy.stream.bytes.load(Ordering::Relaxed);
            let keep = bytes.wrapping_sub(heavy.before) >= HEAVY;
            heavy.before = bytes;
            if !keep {
                heavy.stream.listed.store(false, Ordering::Relaxed);
                returned.push(heavy.stream.target.swap(NOWHERE, Ordering::Relaxed));
            }
            keep
        });
        if own.heavy.is_empty() {
            own.looking = false;
        }
        let (looking, load) = (own.looking, own.load());
        for target in returned {
            give_up(&mut state, target);
        }
        let lightest = state.iter().map(Worker::load).enumerate();
        let lightest = lightest.min_by_key(|(_, load)| *load);
        if let Some((target, least)) = lightest
            && least + 2 <= load
        {
            let staying = |heavy: &&Heavy| heavy.stream.target.load(Ordering::Relaxed) == NOWHERE;
            let own = state.get(worker);
            let chosen = own.and_then(|own| own.heavy.iter().rfind(staying));
            let chosen = chosen.map(|heavy| Arc::clone(&heavy.stream));
            if let (Some(stream), Some(target_state)) = (chosen, state.get_mut(target)) {
                target_state.expected += 1;
                stream.target.store(target, Ordering::Relaxed);
            }
        }
        looking
    }

    /// Takes a stream from a worker's list. Returns where it was told to go.
    fn remove(&self, worker: usize, stream: &Arc<Stream>) -> Option<usize> {
        let mut state = self.state();
        if let Some(own) = state.get_mut(worker) {
            own.heavy
                .retain(|heavy| !Arc::ptr_eq(&heavy.stream, stream));
        }
        stream.listed.store(false, Ordering::Relaxed);
        let target = stream.target.swap(NOWHERE, Ordering::Relaxed);
        give_up(&mut state, target);
        (target != NOWHERE).then_some(target)
    }
}

fn give_up(state: &mut [Worker], target: usize) {
    if let Some(target) = state.get_mut(target) {
        target.expected = target.expected.saturating_sub(1);
    }
}

/// A connection's part in it.
#[derive(Debug)]
pub struct Flow {
    balance: Arc<Balance>,
    worker: usize,
    stream: Arc<Stream>,
    /// Bytes at which it is looked at.
    next: AtomicU64,
}

impl Flow {
    pub(crate) fn new(balance: Arc<Balance>, worker: usize) -> Self {
        let stream = Stream {
            bytes: AtomicU64::new(0),
            target: AtomicUsize::new(NOWHERE),
            listed: AtomicBool::new(false),
        };
        Self {
            balance,
            worker,
            stream: Arc::new(stream),
            next: AtomicU64::new(HEAVY),
        }
    }

    /// Notes that so many bytes have moved. The worker to go on with, where it is another one.
    pub(crate) fn moved(&self, bytes: usize) -> Option<usize> {
        let stream = &self.stream;
        // This connection alone writes it.
        let all = stream.bytes.load(Ordering::Relaxed) + bytes as u64;
        stream.bytes.store(all, Ordering::Relaxed);
        if all >= self.next.load(Ordering::Relaxed) {
            self.next.store(all + HEAVY, Ordering::Relaxed);
            if !stream.listed.load(Ordering::Relaxed) {
                self.balance.list(self.worker, stream);
            }
        }
        let target = stream.target.load(Ordering::Relaxed);
        (target != NOWHERE).then_some(target)
    }

    /// It belongs to `worker` from now on.
    pub(crate) fn arrive(&mut self, worker: usize) {
        self.balance.remove(self.worker, &self.stream);
        self.worker = worker;
        self.balance.moved.fetch_add(1, Ordering::Relaxed);
        self.balance.list(worker, &self.stream);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if self.stream.listed.load(Ordering::Relaxed) {
            self.balance.remove(self.worker, &self.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance(workers: usize) -> Arc<Balance> {
        Balance::new((0..workers).map(|_| Handle::current()))
    }

    fn heavy(balance: &Arc<Balance>, worker: usize) -> Flow {
        let flow = Flow::new(Arc::clone(balance), worker);
        assert_eq!(flow.moved(3 << 20), None);
        flow
    }

    #[tokio::test]
    async fn of_two_heavy_streams_one_moves_to_an_idle_worker() {
        let balance = balance(2);
        let first = heavy(&balance, 0);
        let mut second = heavy(&balance, 0);
        assert_eq!(balance.loads(), [2, 0]);
        first.moved(3 << 20);
        second.moved(3 << 20);
        assert!(balance.look(0));
        assert_eq!(balance.loads(), [2, 1], "expected there, and still here");
        assert_eq!(first.moved(3 << 20), None);
        assert_eq!(second.moved(3 << 20), Some(1));
        second.arrive(1);
        assert_eq!((balance.loads(), balance.moved()), (vec![1, 1], 1));
        assert!(balance.look(0));
        assert_eq!((first.moved(1), second.moved(1)), (None, None));
        drop(second);
        assert_eq!(balance.loads(), [1, 0]);
    }

    #[tokio::test]
    async fn who_falls_quiet_is_forgotten_and_so_is_where_it_was_to_go() {
        let balance = balance(2);
        let flows = [heavy(&balance, 0), heavy(&balance, 0)];
        for flow in &flows {
            flow.moved(3 << 20);
        }
        assert!(balance.look(0));
        assert_eq!(balance.loads(), [2, 1]);
        assert!(!balance.look(0), "nothing has moved since");
        assert_eq!(balance.loads(), [0, 0]);
        assert_eq!(flows[1].moved(1), None);
    }

    #[tokio::test]
    async fn one_that_ends_on_its_way_leaves_no_trace() {
        let balance = balance(3);
        let flows = [heavy(&balance, 1), heavy(&balance, 1)];
        for flow in &flows {
            flow.moved(3 << 20);
        }
        assert!(balance.look(1));
        drop(flows);
        assert_eq!(balance.loads(), [0, 0, 0]);
    }
}
