//! The certificate authority.

pub mod csr;
pub mod issue;
pub mod jwt;
pub mod keys;
