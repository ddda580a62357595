//! Federation between sites (SPIFFE_Federation.md): how the keys of another trust domain come here.
//!
//! What this crate refuses to do: take a bundle from an endpoint that has not proven who it is by the
//! profile that an administrator has named; and guess any of trust domain, address and profile from
//! one another (§7.2).

pub mod client;
