//! A small client of Kubernetes: API servers and kubelets, one question at a time.
//!
//! It refuses to send a token without TLS, to believe a server whose certificate the cluster's CA
//! has not signed, to read more than it was told to, and to tell what stood in an answer.

pub mod http;
mod material;
mod server;
#[cfg(test)]
mod tests;

pub use self::{
    material::Material,
    server::{KubeError, KubeLogin, KubeServer, REQUEST},
};

/// Where a pod finds what it needs to talk to its cluster.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
