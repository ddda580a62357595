//! Keys of what an endpoint says of its TCP sockets, side by side.

use super::Keys;

/// `endpoints.NAME.socket`.
pub(in crate::config) const SOCKET: Keys = Keys {
    of: "{listen: {…}, forward: {…}}",
    known: &["listen", "forward"],
    later: &[],
};

/// `endpoints.NAME.socket.listen` and `.forward`.
pub(in crate::config) const SOCKET_SIDE: Keys = Keys {
    of: "{congestion, send_buffer, receive_buffer, nodelay, keepalive, user_timeout, dscp}",
    known: &[
        "congestion",
        "send_buffer",
        "receive_buffer",
        "nodelay",
        "keepalive",
        "user_timeout",
        "dscp",
    ],
    later: &[],
};

/// `endpoints.NAME.path`.
pub(in crate::config) const PATH: Keys = Keys {
    of: "{listen: {…}, forward: {…}}, or {congestion, buffers, lanes} for each mTLS side",
    known: &["listen", "forward", "congestion", "buffers", "lanes"],
    later: &[],
};

/// `endpoints.NAME.path.listen` and `.forward`.
pub(in crate::config) const PATH_SIDE: Keys = Keys {
    of: "{congestion: auto or NAME, buffers: auto or SIZE, lanes: auto or N}",
    known: &["congestion", "buffers", "lanes"],
    later: &[],
};

/// `endpoints.NAME.socket.listen.keepalive`, as a map.
pub(in crate::config) const KEEPALIVE: Keys = Keys {
    of: "false or {time, interval, retries}",
    known: &["time", "interval", "retries"],
    later: &[],
};
