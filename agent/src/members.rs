//! What a node knows of other sites: asked of the authority for the proxies of the node, kept, and
//! handed to them.

pub(crate) mod ask;
mod desk;
mod watch;
mod wire;

pub use desk::Known;
pub(crate) use desk::{Desk, Interest, Seat, Told};
pub use watch::{Wants, watch_members};
pub use wire::AnsweredMemberError;
