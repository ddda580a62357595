//! What limits a path: one stream over it, the kernel's figures of the connection at both ends while it
//! runs, and a verdict that names one limit.
//!
//! Measuring and judging are apart: [`measure`], [`iperf3`] and [`watch`] gather [`Sample`]s,
//! [`verdict::judge`] is a function of what was gathered and of nothing else.

pub mod answer;
mod between;
mod connect;
pub mod cpu;
pub mod diag;
mod error;
pub mod frame;
mod info;
pub mod iperf3;
pub mod measure;
pub mod plot;
mod remedy;
mod run;
mod sample;
mod sampler;
pub(crate) mod serve;
mod summary;
mod sysctl;
pub mod verdict;
pub mod watch;

pub use self::{
    error::Error,
    info::TcpInfo,
    measure::{Far, Measured, Plan},
    remedy::{WINDOW_SHARE, buffer_for},
    sample::{Memory, Sample},
    summary::{Spread, Summary},
    sysctl::Sysctls,
};
