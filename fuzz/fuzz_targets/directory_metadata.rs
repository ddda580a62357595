//! Metadata of a directory, as its host and everybody between has it: each role.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sekisho_federation::directory::metadata::look_at;

fuzz_target!(|input: (u8, &[u8])| {
    let (role, bytes) = input;
    let role = ["root", "timestamp", "snapshot", "targets"][usize::from(role % 4)];
    let _ = look_at(role, bytes);
});
