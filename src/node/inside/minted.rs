//! SVIDs from the authority of this process.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use sekisho_certs::{
    BundleSet, SpiffeId, Svid,
    source::{Supply, rotation_wait},
};
use tokio::sync::watch;

use super::{Inside, LOOK};

/// Wait after a failure to mint.
const RETRY: Duration = Duration::from_secs(5);

/// See [`Inside::supply`].
pub(super) async fn supply(
    inside: &Arc<Inside>,
    id: &SpiffeId,
) -> anyhow::Result<watch::Receiver<Arc<Supply>>> {
    let site = &inside.core().settings.domain;
    if id.trust_domain() != site {
        bail!("{id} is not of the trust domain {site} of this CA");
    }
    // Before what is read: a change in between is looked at again.
    let version = inside.core().store.version();
    let minting = Minting {
        id: id.clone(),
        svid: mint(inside, id)?,
        bundles: inside.core().bundles_of_peers().await?,
        version,
    };
    let (sender, receiver) = watch::channel(Arc::new(minting.supply(None)));
    tokio::spawn(minting.keep(Arc::clone(inside), sender));
    Ok(receiver)
}

fn mint(inside: &Inside, id: &SpiffeId) -> anyhow::Result<Arc<Svid>> {
    let minted = inside.core().mint(id)?;
    let svid = Svid::new(minted.chain, minted.key, &inside.context.provider);
    Ok(Arc::new(svid.context("what was minted")?))
}

struct Minting {
    id: SpiffeId,
    svid: Arc<Svid>,
    bundles: BundleSet,
    /// Of the store, when `bundles` were read.
    version: u64,
}

impl Minting {
    fn supply(&self, problem: Option<Arc<str>>) -> Supply {
        Supply {
            svids: vec![Arc::clone(&self.svid)],
            bundles: self.bundles.clone(),
            problem,
            ..Supply::default()
        }
    }

    /// Keeps it fresh until nobody wants it.
    async fn keep(mut self, inside: Arc<Inside>, sender: watch::Sender<Arc<Supply>>) {
        let mut forced = inside.rotate.subscribe();
        let mut own = inside.core().ca.bundle();
        // What was wanted and has failed is wanted still.
        let (mut anew, mut failed) = (false, false);
        loop {
            let wait = rotation_wait(&self.svid, inside.context.clock.now());
            let pause = if failed { RETRY } else { wait.min(LOOK) };
            anew |= tokio::select! {
                // The clock may jump, and the store is changed by others.
                () = tokio::time::sleep(pause) => wait <= LOOK,
                // An authority that is tainted or gone signs no more.
                changed = own.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => return,
                },
                _ = forced.changed() => true,
                () = sender.closed() => return,
            };
            match self.look(&inside, anew).await {
                Ok(news) => {
                    if news || failed {
                        sender.send_replace(Arc::new(self.supply(None)));
                    }
                    (anew, failed) = (false, false);
                }
                Err(error) => {
                    let problem = format!("{error:#}");
                    if !failed {
                        tracing::error!(id = %self.id, problem, "SVID or bundles not renewed");
                        sender.send_replace(Arc::new(self.supply(Some(problem.into()))));
                    }
                    failed = true;
                }
            }
        }
    }

    /// Whether there is something new.
    async fn look(&mut self, inside: &Inside, anew: bool) -> anyhow::Result<bool> {
        let version = inside.core().store.version();
        let mut news = anew;
        if anew || version != self.version {
            let bundles = inside.core().bundles_of_peers().await?;
            news |= bundles != self.bundles;
            self.bundles = bundles;
            self.version = version;
        }
        if anew {
            self.svid = mint(inside, &self.id)?;
        }
        Ok(news)
    }
}
