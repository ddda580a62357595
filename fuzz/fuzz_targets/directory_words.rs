//! What members, registrars and other sites say: descriptors, marks, statements, submissions, gossip. What is
//! read is written, and read again the same.

#![no_main]

use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;
use sekisho_certs::id::parse_trust_domain;
use sekisho_federation::directory::{
    continuity::Continuity, descriptor::Descriptor, gossip::Gossip, marks::Marks,
    repository::Submission,
};

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bytes) = input;
    let domain = parse_trust_domain("a.example").unwrap();
    match which % 5 {
        0 => {
            if let Ok(read) = Descriptor::read(&domain, bytes) {
                let again = Descriptor::read(&domain, &read.to_json()).unwrap();
                assert_eq!(again, read);
            }
        }
        1 => {
            if let Ok(read) = Marks::read(bytes) {
                assert_eq!(Marks::read(&read.to_json()).unwrap(), read);
            }
        }
        2 => {
            if let Ok(read) = Continuity::read(&domain, bytes) {
                assert_eq!(Continuity::read(&domain, &read.to_json()).unwrap(), read);
            }
        }
        3 => {
            if let Ok(read) = Submission::read(bytes) {
                let _ = read.check(SystemTime::UNIX_EPOCH);
            }
        }
        _ => {
            let _ = Gossip::read(bytes);
        }
    }
});
