//! Where SVIDs and bundles come from.
//!
//! A source is a task that publishes a whole [`Supply`] at a time. What it last delivered stays in
//! force while the source is away (design.md §4, 5).

mod bundles;
pub mod changes;
mod embedded;
mod files;
mod spec;
mod workload_api;

use std::{path::PathBuf, sync::Arc};

use crate::{
    bundle::{BundleError, BundleSet},
    svid::{Svid, SvidError},
};

pub use bundles::{FileBundles, watch_bundles};
pub use changes::Changes;
pub use embedded::{EmbeddedCa, EmbeddedError, SVID_LIFETIME, rotation_wait};
pub use files::{read as read_files, watch_files};
pub use spec::{BundlesSpec, SourceSpec};
pub use workload_api::watch_workload_api;

/// Everything a source delivers, at one time.
#[derive(Clone, Debug, Default)]
pub struct Supply {
    /// SVIDs in the source's order. None: withdrawn, or not there yet.
    pub svids: Vec<Arc<Svid>>,
    /// Bundles, our own domain's among them.
    pub bundles: BundleSet,
    /// Why the source cannot deliver just now; what it delivered before still stands above.
    pub problem: Option<Arc<str>>,
    /// The source has not said anything yet, which is not the same as having nothing.
    pub pending: bool,
}

impl Supply {
    /// Before the source's first word.
    #[must_use]
    pub fn pending(why: String) -> Self {
        Self {
            problem: Some(why.into()),
            pending: true,
            ..Self::default()
        }
    }
}

/// Why a source cannot deliver.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file holds no usable certificate chain or key.
    #[error("{}: {problem}", path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// Chain and key do not make an SVID.
    #[error("{}: {error}", path.display())]
    Svid {
        /// The certificate file.
        path: PathBuf,
        /// What is wrong.
        error: SvidError,
    },
    /// A bundle cannot be used.
    #[error("{}: {error}", path.display())]
    Bundle {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: BundleError,
    },
    /// A bundle file stands for our own trust domain, which has its own source.
    #[error("{}: a bundle for our own trust domain comes from our own source only", path.display())]
    OwnDomain {
        /// Which file.
        path: PathBuf,
    },
}
