//! What frames mean, once it is known on which lane they came.

use std::time::Instant;

use sekisho_lanes::{Count, Frame, Incoming, Outgoing};

use super::LanesError;
use crate::held::Memory;

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
    pub(super) client: bool,
    pub(super) now: Instant,
}

impl Ears<'_> {
    pub(super) fn hear(&mut self, frame: Frame<'_>, heard: &mut Heard) -> Result<(), LanesError> {
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
                Ok(self.inc.receive(offset, text)?)
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
