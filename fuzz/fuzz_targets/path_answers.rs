//! What `sekisho bench path` reads: answers of sock_diag, frames of a server, results of iperf3; and a
//! verdict by whatever samples they hold.

#![no_main]

use std::sync::atomic::AtomicU64;

use libfuzzer_sys::fuzz_target;
use sekisho_bench::path::{
    answer,
    frame::{Frame, Frames},
    iperf3,
    verdict::{Observed, Side, judge},
};

fuzz_target!(|bytes: &[u8]| {
    let answer = answer::parse(bytes);
    assert!(answer.connections.len() <= bytes.len() / 72);
    let _ = iperf3::hear(bytes);
    let moved = AtomicU64::new(0);
    let mut frames = Frames::new(bytes);
    let mut samples: Vec<_> = answer.connections.into_iter().map(|one| one.sample).collect();
    while let Ok(frame) = frames.next(&moved) {
        match frame {
            Frame::Sample(sample) => samples.push(*sample),
            Frame::Hello(hello) => assert!(!hello.congestion.contains('\u{1b}')),
            _ => {}
        }
    }
    let (sender, receiver) = samples.split_at(samples.len() / 2);
    let verdict = judge(&Observed {
        sender_is: Side::Here,
        sender,
        receiver,
        reader: &[],
        receiver_process: None,
        sender_sysctls: None,
        receiver_sysctls: None,
        congestion: "cubic",
        asked: None,
        is_eager: false,
        is_whole: false,
        opened_here: true,
        is_fixed: false,
    });
    assert!(!verdict.evidence.is_empty());
});
