//! Load generators in the manner of iperf3: streams, requests, new connections and idle ones, all
//! counted where they arrive.
//!
//! A [`server::Server`] at one end, one of [`throughput::Throughput`], [`requests::Requests`],
//! [`connections::Connections`] or [`idle::Idle`] at the other, and whatever stands between: each
//! connection says in a [`header::Header`] what it is for, so a plain TCP proxy needs to know
//! nothing. Streams are plain threads and blocking sockets, the rest one epoll loop: the load must
//! be cheap, and must not share a runtime with what it measures.
//!
//! It refuses to report what was only sent: a receiver's count that differs is an error.

pub mod congestion;
pub mod connections;
pub mod header;
pub mod idle;
pub mod iperf;
pub mod latency;
pub mod path;
pub mod pattern;
pub mod process;
pub mod requests;
pub mod server;
pub mod service;
pub mod stream;
pub mod throughput;
mod transfer;
