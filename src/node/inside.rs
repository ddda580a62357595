//! A federated CA in this process: what endpoints have of its authority, without a socket between.

mod members;
mod minted;

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use anyhow::Context as _;
use sekisho_authority::{core::Core, store::Bundle};
use sekisho_certs::{SpiffeId, TlsContext, persist, source::Supply};
use tokio::sync::watch;

use crate::{
    authority::Running,
    config::{AuthorityConfig, Config},
};
pub(super) use members::feed;

/// How often is looked at whether what the store has of other sites has changed.
const LOOK: Duration = Duration::from_secs(1);

/// The authority of this process.
#[derive(Debug)]
pub(crate) struct Inside {
    running: Running,
    context: TlsContext,
    rotate: watch::Sender<u64>,
}

impl Inside {
    /// Whether a folder has one, whatever the configuration says by now: its CA is nowhere else.
    pub(crate) fn is_at(data: &Path) -> bool {
        data.join("authority.db").exists()
    }

    /// Takes up the CA in `data`, or makes one there, and opens the doors that `file` names.
    ///
    /// # Errors
    /// When the folder is in use, something in it cannot be used, or a door cannot be opened.
    pub(super) async fn start(
        file: &Config,
        data: &Path,
        context: TlsContext,
    ) -> anyhow::Result<Arc<Self>> {
        // As it is made without federation: `bundle.json` in it is for others.
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(data);
        made.with_context(|| data.display().to_string())?;
        let own = AuthorityConfig::embedded(data);
        let running = Running::start(file, &own, None).await?;
        let bundle = running.core().ca.bundle();
        write(running.core(), data)?;
        tokio::spawn(tell(
            Arc::downgrade(running.core()),
            bundle,
            data.to_owned(),
        ));
        Ok(Arc::new(Self {
            running,
            context,
            rotate: watch::Sender::new(0),
        }))
    }

    /// Makes every SVID anew, now.
    pub(super) fn rotate(&self) {
        self.rotate.send_modify(|count| *count += 1);
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        self.running.core()
    }

    /// An SVID for `id`, kept fresh, with our own bundle and those of pairwise peers.
    ///
    /// # Errors
    /// When `id` is of another trust domain, or the first cannot be made.
    pub(super) async fn supply(
        self: &Arc<Self>,
        id: &SpiffeId,
    ) -> anyhow::Result<watch::Receiver<Arc<Supply>>> {
        minted::supply(self, id).await
    }
}

/// Writes our own bundle into the folder, for people to hand on.
fn write(core: &Core, data: &Path) -> anyhow::Result<()> {
    let path = data.join("bundle.json");
    let text = format!("{:#}\n", core.own_bundle()?.to_json());
    persist::replace(&path, text.as_bytes(), true).with_context(|| path.display().to_string())
}

/// Writes it again whenever it changes from what `bundle` has seen.
async fn tell(core: Weak<Core>, mut bundle: watch::Receiver<Arc<Bundle>>, data: PathBuf) {
    while bundle.changed().await.is_ok() {
        bundle.mark_unchanged();
        let Some(core) = core.upgrade() else { return };
        if let Err(error) = write(&core, &data) {
            tracing::error!(error = %format_args!("{error:#}"), "the bundle's file is not written");
        }
    }
}
