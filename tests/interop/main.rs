//! sekisho against programs that others wrote: Envoy, Kubernetes' API server, Go with go-spiffe, Java,
//! OpenSSL, tlslite-ng, Pebble, PyJWT, python-tuf, go-tuf, curl, iperf3, ping, netcat and socat; and the promises that only show from outside
//! the process: alerts, exit codes,
//! users of this host.
//!
//! `tests/interop/install` fetches the programs. A test that lacks one fails where the environment
//! variable `CI` is set, and is skipped elsewhere with a line that begins with `SKIPPED`.
//! `INTEROP_BYTES` says how much the transfers carry in each direction: by default 1 GiB under
//! `CI`, else 64 MiB.

#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "the programs are found by environment"
)]

mod agent;
mod certificates;
mod clients;
mod commands;
mod demo;
mod directory;
mod drain;
mod evidence;
mod explain;
mod hold;
mod key_update;
mod kubernetes;
mod local;
mod misbehave;
mod names;
mod nested;
mod network;
mod oidc;
mod other_sites;
mod pairwise;
mod partners;
mod path;
mod proxy_protocol;
mod reload;
mod site;
mod spire_api;
mod streams;
mod support;
mod versions;
mod wan;
