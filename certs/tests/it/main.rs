//! The crate's interface, tested with certificates of every kind and sources that misbehave.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod bundle_files;
mod bundles;
mod cases;
mod conformance;
mod embedded;
mod files;
mod material;
mod members;
mod openssl;
mod properties;
mod svid;
mod trust;
mod workload_api;
