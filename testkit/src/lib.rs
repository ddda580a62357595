//! Certificates with every defect, a clock to turn, and servers that misbehave: for tests only.
//!
//! Everything here panics where it fails, with a word on what it was doing. Nothing of it may be
//! linked into the product; what accepts any peer stands in [`danger`].

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

pub mod ca;
pub mod clock;
pub mod danger;
pub mod handshake;
pub mod kube;
pub mod ports;
pub mod profile;
pub mod program;
pub mod site;
pub mod wait;
pub mod workload_api;

pub use ca::{Issued, KeyKind, TestCa};
pub use clock::TestClock;
pub use profile::{BasicConstraints, ExtendedUse, KeyUse, Profile};
pub use site::Site;
pub use wait::{wait_for, wait_until};
pub use workload_api::FakeWorkloadApi;
