//! What frames mean, once it is known on which lane they came.

use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use bytes::Bytes;
use sekisho_lanes::{Count, Frame, Incoming, Outgoing};

use super::{LanesError, reading::Chunks};
use crate::held::Memory;

/// Memory of a lane beside twice what is kept of all: beyond that, what comes is copied.
const CHUNKS: usize = 2 << 20;

/// What frames of one read mean beyond the stream's order.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) greeted: bool,
    pub(super) left: bool,
    pub(super) failed: Option<LanesError>,
}

/// Where frames go.
pub(super) struct Ears<'a> {
    pub(super) out: &'a mut Outgoing,
    pub(super) inc: &'a mut Incoming,
    pub(super) count: &'a mut Count,
    pub(super) memory: &'a Memory,
    /// What has come lies in so many bytes, and what else came with it.
    pub(super) chunks: &'a Chunks,
    pub(super) lanes: usize,
    pub(super) client: bool,
    pub(super) now: Instant,
}

impl Ears<'_> {
    /// Whether a piece may stay where it was read: it keeps all else that was read with it, be that nothing
    /// but words.
    fn may_keep(&self) -> bool {
        let most = 2 * self.inc.held() + self.lanes * CHUNKS;
        let kept = self.chunks.load(Relaxed) + self.inc.copied();
        kept <= most && !self.memory.is_full()
    }

    /// Does what a frame says, which lies in `whole` where that may be kept.
    pub(super) fn hear(
        &mut self,
        frame: Frame<'_>,
        whole: Option<&Bytes>,
        heard: &mut Heard,
    ) -> Result<(), LanesError> {
        let misplaced =
            |what: &str| Err(LanesError::Frame(format!("{what} where it has no place")));
        if self.client && !heard.greeted {
            return match frame {
                Frame::Accept { lanes } => {
                    heard.greeted = true;
                    self.count.at_most(lanes);
                    Ok(())
                }
                Frame::Deny { reason } => Err(LanesError::Denied(reason.to_owned())),
                _ => misplaced("a frame before ACCEPT"),
            };
        }
        match frame {
            Frame::Open { .. } | Frame::Accept { .. } | Frame::Deny { .. } => {
                misplaced("a frame that opens a lane")
            }
            Frame::Data { offset, text } => {
                if heard.left {
                    return misplaced("DATA behind LEAVE");
                }
                let whole = whole.filter(|_| self.may_keep());
                Ok(self.inc.receive_in(offset, text, whole)?)
            }
            Frame::Ack {
                received,
                limit,
                limited,
            } => {
                self.count.limited(limited);
                Ok(self.out.confirm(received, limit, self.now)?)
            }
            Frame::Fin { length } => Ok(self.inc.finish(length)?),
            Frame::Reset { reason } => Err(LanesError::Reset(reason.to_owned())),
            Frame::Leave => {
                heard.left = true;
                Ok(())
            }
            Frame::Blocked { limit } => {
                self.inc.blocked(limit, !self.memory.is_full());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held::Keeping;

    #[test]
    fn where_memory_is_short_a_piece_keeps_no_more_than_itself() {
        let memory = Memory::new(100);
        let mut keeping = Keeping::nothing(std::sync::Arc::clone(&memory));
        let now = Instant::now();
        let (mut out, mut inc) = (Outgoing::default(), Incoming::default());
        let mut count = Count::fixed(1, now);
        let whole = Bytes::from(vec![7; 100_000]);
        let chunks = Chunks::default();
        for (held, chunk, copied) in [
            (0, CHUNKS, 0),
            (100, CHUNKS, 16_000),
            // 32,000 are kept, 16,000 of them beside the chunks.
            (0, CHUNKS + 48_001, 32_000),
            (0, CHUNKS + 64_000, 32_000),
        ] {
            keeping.set(held);
            chunks.store(chunk, Relaxed);
            let mut ears = Ears {
                out: &mut out,
                inc: &mut inc,
                count: &mut count,
                memory: &memory,
                chunks: &chunks,
                lanes: 1,
                client: false,
                now,
            };
            let text = whole.get(..16_000).unwrap();
            let offset = ears.inc.received();
            let data = Frame::Data { offset, text };
            ears.hear(data, Some(&whole), &mut Heard::default())
                .unwrap();
            assert_eq!(inc.copied(), copied);
        }
        assert_eq!(inc.held(), 64_000);
    }
}
