//! The whole way of a connection, in one process: real sockets, a clock that is turned.
#![cfg(test)]

mod changes;
mod connect;
mod harness;
mod lanes;
mod layer;
mod limits;
mod lists;
mod members;
mod plain;
mod reloads;
mod resumption;
mod targets;
mod times;
