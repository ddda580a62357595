//! `path`: what a side does about the length of its path.

use std::num::NonZeroU8;

use super::{EndpointSpec, SocketOptions};

/// `path: {listen, forward}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// The listening side. Where several endpoints share an address, what its sockets get once the
    /// server name has chosen one.
    pub listen: PathOptions,
    /// The forwarding side.
    pub forward: PathOptions,
}

/// What a side does about the path to its peers. Default: everything by what is found of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathOptions {
    /// Congestion control.
    pub congestion: Congestion,
    /// The kernel's buffers of a socket.
    pub buffers: Buffers,
    /// Connections that one stream may use.
    pub lanes: Lanes,
}

/// `congestion: auto | NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// cubic on a short path, bbr on a long one where the kernel allows it.
    #[default]
    Auto,
    /// This one, as the kernel names it.
    Named(String),
}

impl Congestion {
    /// The name, where one is given.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Auto => None,
            Self::Named(name) => Some(name),
        }
    }
}

/// `buffers: auto | SIZE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Buffers {
    /// As the kernel tunes them; on a long path what that needs, where privileges allow it.
    #[default]
    Auto,
    /// So many bytes each way.
    Size(usize),
}

impl Buffers {
    /// The size, where one is given.
    #[must_use]
    pub const fn size(self) -> Option<usize> {
        match self {
            Self::Auto => None,
            Self::Size(size) => Some(size),
        }
    }
}

/// `lanes: auto | N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lanes {
    /// As many as help on a long path, and plain TLS on a short one.
    #[default]
    Auto,
    /// So many, whatever the path, where this side dials; at most so many where it is dialled. With 1 a
    /// stream has its one connection, in plain TLS.
    Most(NonZeroU8),
}

impl Lanes {
    /// The largest number that a file may give.
    pub const MOST: u8 = sekisho_lanes::MOST_LANES;
}

/// All that is said of a side's TCP sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// `socket`.
    pub socket: SocketOptions,
    /// `path`.
    pub path: PathOptions,
}

impl Side {
    /// The congestion control, where either key names one: the configuration lets only one do so.
    #[must_use]
    pub fn congestion(&self) -> Option<&str> {
        let of_socket = self.socket.congestion.as_deref();
        of_socket.or_else(|| self.path.congestion.name())
    }
}

impl EndpointSpec {
    /// What is said of the sockets that it accepts.
    #[must_use]
    pub fn listening(&self) -> Side {
        Side {
            socket: self.sockets.listen.clone(),
            path: self.path.listen.clone(),
        }
    }

    /// What is said of the sockets that it dials.
    #[must_use]
    pub fn forwarding(&self) -> Side {
        Side {
            socket: self.sockets.forward.clone(),
            path: self.path.forward.clone(),
        }
    }
}
