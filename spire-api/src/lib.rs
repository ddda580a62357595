//! Protobuf of SPIRE's server and agent APIs, of the SPIFFE Workload API, and of what Envoy's SDS
//! needs: messages, clients and services, compiled from `proto/`.
//!
//! Wire formats only; beside them the messages of [`evidence`], which SPIRE does not have, and [`lenient`],
//! for what some of gRPC's clients make of a Unix socket's name. What a call means, who may make it, and what is wrong with a message is decided
//! by `authority` and `agent`. Calls of the experimental WIT profile are not defined, so that a server
//! answers them with `Unimplemented`.

pub mod evidence;
pub mod lenient;
mod secret;

#[allow(
    missing_docs,
    missing_debug_implementations,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::missing_errors_doc,
    clippy::use_self,
    reason = "written by a compiler"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/all.rs"));
}

/// All descriptors, as a `FileDescriptorSet`: for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub use generated::spire::api::types;

/// `google.rpc`.
pub use generated::google::rpc;

/// The SPIFFE Workload API.
pub mod workload {
    pub use crate::generated::{
        JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse,
        ValidateJwtsvidRequest, ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse,
        X509svid, X509svidRequest, X509svidResponse, spiffe_workload_api_client,
        spiffe_workload_api_server,
    };
}

/// The API of a SPIRE server.
pub mod server {
    pub use crate::generated::spire::api::server::{
        agent::v1 as agent, bundle::v1 as bundle, debug::v1 as debug, entry::v1 as entry,
        localauthority::v1 as local_authority, logger::v1 as logger, svid::v1 as svid,
        trustdomain::v1 as trust_domain,
    };
}

/// The APIs that a SPIRE agent has beside the Workload API.
pub mod agent {
    pub use crate::generated::spire::{
        agent::debug::v1 as debug,
        api::agent::{delegatedidentity::v1 as delegated_identity, logger::v1 as logger},
    };
}

/// What an authority of ours has beside SPIRE's API: relationships, and how they fare.
pub mod federation_admin {
    pub use crate::generated::sekisho::federation::admin::v1::*;
}
/// What a site knows of other sites: ours, not SPIRE's.
pub use generated::sekisho::federation::v1 as federation;

/// Envoy's secret discovery service.
pub mod envoy {
    pub use crate::generated::envoy::{
        config::core::v3 as core,
        extensions::transport_sockets::tls::v3 as tls,
        service::{discovery::v3 as discovery, secret::v3 as secret},
    };
}
