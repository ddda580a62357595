//! A PROXY protocol header, as it was read off a socket.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|header: &[u8]| {
    let _ = sekisho_proxy::proxy_protocol::claims(header);
});
