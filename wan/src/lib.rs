//! A long path on one machine: two TUN devices in two network namespaces, with delay, jitter, rate,
//! queue, loss, reordering and MTU between them.
//!
//! Every packet between the two passes through this process, which holds it for as long as a real line
//! would: nothing of the kernel is needed but TUN, so it also works where there is no netem. Each
//! direction has a thread of its own (`carry`), around a machine of pure state that is tested by
//! itself (`path`).
//!
//! With offload a device gives up to 64 KiB of one flow in one read. The MTU's packets in it are still
//! counted, lost, queued and timed one by one; only what remains together after that is written
//! together, at most 100 µs of the line's time. Under load a direction of a path of 2 ms and more wakes
//! at most every 20 to 100 µs (`moderation`). [`Counters`] say how late packets left, and
//! [`Emulator::unread`] what could not be read in time, so that nobody takes the emulator's limit for
//! the path's. [`ceiling::measure`] tells that limit beforehand.
//!
//! A path cannot be longer than its memory: what finds that, or the queue, full is dropped and counted.

mod address;
mod carry;
pub mod ceiling;
mod chance;
mod counters;
mod device;
mod emulator;
mod error;
mod frame;
mod jitter;
mod line;
mod loss;
mod moderation;
mod namespace;
mod path;
mod pool;
mod priority;
mod settings;

pub use counters::{Counters, LATE, Lateness};
pub use emulator::{Emulator, End, Plan};
pub use error::Error;
pub use namespace::inside;
pub use settings::{
    Burst, LONGEST, MEMORY, Queue, Reorder, SMALLEST_MTU, SMALLEST_MTU_V6, Settings, SettingsError,
};

/// A time, in nanoseconds since the emulator's start, by the monotonic clock.
type Nanos = u64;
