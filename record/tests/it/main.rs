//! Our record layer against rustls' own, after a real handshake between the two.

mod differential;
mod oracle;
