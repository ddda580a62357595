//! The directory of a federation: a repository of The Update Framework (TUF 1.0) in which every member
//! signs its own bundle, a threshold of institutions says who is a member, and whoever hosts it can
//! forge nothing (docs/adr/0017-directory.md).
//!
//! What this module refuses: to take the word of one for that of another; to let what is wrong with one
//! member touch another; to believe that a member has new keys because the directory says so.

pub mod client;
pub mod combined;
pub mod continuity;
mod delta;
pub mod descriptor;
pub mod following;
pub mod gossip;
pub mod key;
pub mod marks;
pub mod membership;
pub mod metadata;
pub mod names;
mod possession;
pub mod repository;
pub mod serve;
pub mod submit;

#[cfg(test)]
pub(crate) mod fixture;
