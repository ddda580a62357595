//! Who asks: the process at the other end of a socket, and what is true of it.
