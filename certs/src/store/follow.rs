//! Material that follows its sources.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Material, StoreSpec, TlsContext};
use crate::{
    members::Feed,
    source::{FileBundles, Supply},
};

/// Keeps an endpoint's material up to date until its sources or its readers are gone.
///
/// `material` is what the endpoint holds now: it serves on while a source has not said its first
/// word, so that a reload which opens a new source takes nothing away. `publish` is called with
/// each new material, on the caller's task.
pub async fn follow(
    spec: StoreSpec,
    mut supply: watch::Receiver<Arc<Supply>>,
    mut extra: watch::Receiver<Arc<FileBundles>>,
    mut feed: Feed,
    context: TlsContext,
    mut material: Arc<Material>,
    mut publish: impl FnMut(Arc<Material>),
) {
    let (mut extra_open, mut members_open) = (true, true);
    loop {
        let next = {
            let supply = Arc::clone(&supply.borrow_and_update());
            let extra = Arc::clone(&extra.borrow_and_update());
            let members = feed.members.borrow_and_update().clone();
            let mut next =
                Material::derive_among(&spec, &supply, &extra.set, &members, &material, &context);
            let of_files = || {
                extra
                    .problems
                    .first()
                    .map(|problem| problem.as_str().into())
            };
            next.problem = next.problem.or_else(of_files);
            next.demand.clone_from(&feed.demand);
            next
        };
        material = Arc::new(next);
        publish(Arc::clone(&material));
        loop {
            tokio::select! {
                changed = supply.changed() => if changed.is_err() { return },
                changed = extra.changed(), if extra_open => extra_open = changed.is_ok(),
                changed = feed.members.changed(), if members_open => {
                    members_open = changed.is_ok();
                    let members = feed.members.borrow_and_update().clone();
                    // Every connection is decided again by what is published: an age that did not
                    // grow is no reason.
                    if material.members.same_facts(&members) {
                        material.members.confirm_as(&members);
                        continue;
                    }
                }
            }
            break;
        }
    }
}
