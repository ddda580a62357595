//! Where SVIDs and bundles come from.

mod spec;

pub use spec::{BundlesSpec, SourceSpec};
