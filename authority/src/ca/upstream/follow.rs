//! Our bundle follows that of the authority above, as far as it has one: SPIRE's nested servers do the
//! same (spire-api.md §5, §6).
//!
//! New roots and keys come in. A root that is tainted above is left before it is tainted here, so that
//! agents replace what they have by something better; one that is tainted here and gone above goes.
//! What was revoked here stays away, whatever is believed above.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls_pki_types::CertificateDer;
use sekisho_certs::TrustBundle;

use super::{Above, Upstream, UpstreamError, in_time, public, root_id};
use crate::{
    api::is_usable_key,
    ca::{Ca, CaError, State, Step, issue, issue::authority_id, slots::Next},
    store::{Bundle, By, JwtAuthority, Kind},
};

/// How often the bundle above is asked for: as often as SPIRE does.
pub(crate) const EVERY: Duration = Duration::from_secs(5);
/// More JWT keys in one bundle are a mistake.
const MOST_KEYS: usize = 1000;
/// Who it is in the audit log.
const NAME: &str = "upstream";

/// What is not for the authority above to say.
struct Own {
    revoked: HashSet<String>,
    /// Names of JWT keys in our slots.
    keys: HashSet<String>,
    /// Of the root above the CA that signs.
    root: String,
    now: SystemTime,
}

impl Ca {
    /// Takes over what has changed in the bundle of the authority above. False if there is none to
    /// follow. To be called every few seconds.
    ///
    /// # Errors
    /// When it cannot be had or used, or the CA cannot leave a root that was tainted above. What else
    /// has changed has been taken over even then.
    pub async fn follow(&self) -> Result<bool, CaError> {
        let Some(upstream) = &self.upstream else {
            return Ok(false);
        };
        let _following = self.following.lock().await;
        let Some(above) = in_time(upstream.bundle()).await? else {
            return Ok(false);
        };
        let above = self.checked(above)?;
        let left = self.leave_tainted(&above).await;
        let published = self.publish_missing(upstream, &above).await;
        self.take_over(above).await?;
        left.and(published).map(|()| true)
    }

    fn by_upstream(&self) -> By {
        By {
            caller: NAME.into(),
            at: self.clock.now(),
        }
    }

    fn checked(&self, mut above: Above) -> Result<Above, UpstreamError> {
        let unusable = |text: String| UpstreamError::Unusable(text);
        let ders = above.x509.iter();
        let ders = ders.map(|root| CertificateDer::from(root.der.clone()));
        TrustBundle::new(self.settings.domain.clone(), ders)
            .map_err(|error| unusable(error.to_string()))?;
        if above.jwt.len() > MOST_KEYS {
            return Err(unusable(format!("more than {MOST_KEYS} JWT keys")));
        }
        // One that agents cannot load would fail every sync of theirs. Any server below may have put it
        // there, and must not keep us from following the roots.
        above.jwt.retain(|key| {
            let usable = is_usable_key(key);
            if !usable {
                tracing::debug!(key = key.key_id, "a JWT key above cannot be used");
            }
            usable
        });
        Ok(above)
    }

    /// Where the CA that signs stands below a root that is tainted above, another one takes its place.
    async fn leave_tainted(&self, above: &Above) -> Result<(), CaError> {
        let tainted = above.x509.iter().filter(|root| root.tainted);
        let tainted: HashSet<String> = tainted.filter_map(|root| root_id(&root.der)).collect();
        let is_tainted = |root: &str| tainted.contains(root);
        let stays = |state: &State| is_tainted(state.x509.active.upstream_id());
        let ready = |state: &State| match &state.x509.next {
            Some(Next::Prepared(next)) if !is_tainted(next.upstream_id()) => {
                Some(next.id().to_owned())
            }
            _ => None,
        };
        if !stays(&self.state()) {
            return Ok(());
        }
        let wanted = |state: &State| stays(state) && ready(state).is_none();
        self.prepare(self.by_upstream(), Kind::X509, wanted).await?;
        let state = self.state();
        if !stays(&state) {
            return Ok(());
        }
        let next = ready(&state).ok_or_else(|| {
            let text = "it signs below a root that it has tainted";
            UpstreamError::Unusable(text.into())
        })?;
        let step = Step::Activate(next);
        self.take(self.by_upstream(), Kind::X509, step).await?;
        tracing::info!("a root above was tainted: another authority signs now");
        Ok(())
    }

    /// Keys of ours that are not known above: from a time when there was none above, or when it has
    /// forgotten them.
    async fn publish_missing(
        &self,
        upstream: &Arc<dyn Upstream>,
        above: &Above,
    ) -> Result<(), CaError> {
        let (state, now) = (self.state(), self.clock.now());
        let next = match &state.jwt.next {
            Some(Next::Prepared(next)) => Some(next),
            Some(Next::Old {
                authority,
                tainted: false,
            }) => Some(authority),
            _ => None,
        };
        for key in std::iter::once(&state.jwt.active).chain(next) {
            let known = above.jwt.iter().any(|known| known.key_id == key.id());
            if !known && key.not_after() > now {
                in_time(upstream.publish(&public(key))).await?;
            }
        }
        Ok(())
    }

    async fn take_over(&self, above: Above) -> Result<(), CaError> {
        let _one = self.changing.lock().await;
        let state = self.state();
        let next = match &state.jwt.next {
            Some(
                Next::Prepared(next)
                | Next::Old {
                    authority: next, ..
                },
            ) => Some(next),
            None => None,
        };
        let keys = std::iter::once(&state.jwt.active).chain(next);
        let own = Own {
            revoked: self.revoked.names(),
            keys: keys.map(|key| key.id().to_owned()).collect(),
            root: state.x509.active.upstream_id().into(),
            now: self.clock.now(),
        };
        let mut after = (*state.bundle).clone();
        merge(&mut after, &above, &own);
        if after == *state.bundle {
            return Ok(());
        }
        let merged = move |bundle: &mut Bundle| merge(bundle, &above, &own);
        self.edit_bundle_alone(self.by_upstream(), ("bundle.follow", None), merged)
            .await?;
        tracing::info!("the bundle has followed that of the authority above");
        Ok(())
    }
}

fn merge(bundle: &mut Bundle, above: &Above, own: &Own) {
    merge_x509(bundle, above, own);
    merge_jwt(bundle, above, own);
}

fn merge_x509(bundle: &mut Bundle, above: &Above, own: &Own) {
    let names: HashSet<String> = above
        .x509
        .iter()
        .filter_map(|root| root_id(&root.der))
        .collect();
    for root in &above.x509 {
        let Some(name) = root_id(&root.der) else {
            continue;
        };
        let ended = issue::not_after(&root.der).is_none_or(|end| end <= own.now);
        match bundle.x509.iter_mut().find(|known| known.der == root.der) {
            // Agents are not told to leave what we have not left ourselves.
            Some(known) => known.tainted |= root.tainted && name != own.root,
            None if ended || own.revoked.contains(&name) => {}
            None => bundle.x509.push(root.clone()),
        }
    }
    bundle.x509.retain(|known| {
        let name = root_id(&known.der);
        let name = name
            .or_else(|| authority_id(&known.der))
            .unwrap_or_default();
        !known.tainted || name == own.root || names.contains(&name)
    });
}

fn merge_jwt(bundle: &mut Bundle, above: &Above, own: &Own) {
    let same = |a: &JwtAuthority, b: &JwtAuthority| a.key_id == b.key_id;
    for key in &above.jwt {
        let ended = key.expires_at.is_some_and(|end| end <= own.now);
        match bundle.jwt.iter_mut().find(|known| same(known, key)) {
            // Who taints a key of ours is asked here, where the next one can be activated.
            Some(known) if own.keys.contains(&known.key_id) => {}
            Some(known) if known.public_key != key.public_key => {
                tracing::debug!(key = key.key_id, "another key has this name above");
            }
            Some(known) => known.tainted |= key.tainted,
            None if ended || own.revoked.contains(&key.key_id) => {}
            None => bundle.jwt.push(key.clone()),
        }
    }
    bundle.jwt.retain(|known| {
        let ours = own.keys.contains(&known.key_id);
        !known.tainted || ours || above.jwt.iter().any(|key| same(known, key))
    });
}

#[cfg(test)]
mod tests;
