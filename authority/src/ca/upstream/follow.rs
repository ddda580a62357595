//! Our bundle follows that of the authority above, as far as it has one: SPIRE's nested servers do the
//! same (spire-api.md §5, §6).
//!
//! New roots and keys come in. A root that is tainted above is left before it is tainted here, so that
//! agents replace what they have by something better; one that is tainted here and gone above goes.
//! What was revoked here stays away, whatever is believed above.
//!
//! A root may be tainted and revoked above while we are away from it. One that was there and is missing,
//! twice running, is left as if it were tainted there, then tainted here, and gone with the next look.

mod merge;

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
    ca::{Ca, CaError, State, Step, slots::Next},
    store::{Bundle, By, Kind},
};
use merge::{Own, merge};

/// How often the bundle above is asked for: as often as SPIRE does.
pub(crate) const EVERY: Duration = Duration::from_secs(5);
/// More JWT keys in one bundle are a mistake.
const MOST_KEYS: usize = 1000;
/// Who it is in the audit log.
const NAME: &str = "upstream";

/// The pause after the one above has signed below a root that it has given up itself, and the longest:
/// each attempt costs it a signature.
const REFUSED: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(300);

/// What was seen when the bundle above was last looked at.
#[derive(Debug, Default)]
pub(in crate::ca) struct Seen {
    /// Roots that were above before. Another server of the same site may be a little behind: one that
    /// is missing once is not gone yet.
    missing: HashSet<String>,
    /// When it may be asked for another CA again, and how long that pause is.
    again: Option<(SystemTime, Duration)>,
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
        let mut seen = self.following.lock().await;
        let Some(above) = in_time(upstream.bundle()).await? else {
            return Ok(false);
        };
        let above = self.checked(above)?;
        let missing = self.missing(&above);
        let gone: HashSet<String> = missing.intersection(&seen.missing).cloned().collect();
        seen.missing = missing;
        let tainted = above.x509.iter().filter(|root| root.tainted);
        let tainted = tainted.filter_map(|root| root_id(&root.der));
        let dead = tainted.chain(gone.iter().cloned()).collect();
        let left = self.leave(&dead, &mut seen.again).await;
        let published = self.publish_missing(upstream, &above).await;
        self.take_over(above, gone).await?;
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
        if above.x509.is_empty() {
            return Err(unusable("its bundle has no root".into()));
        }
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

    /// Roots that have come from above, or above which a CA of ours stands, and that are not there.
    fn missing(&self, above: &Above) -> HashSet<String> {
        let state = self.state();
        let bundle = state.bundle.x509.iter().filter(|root| root.above);
        let mut names: HashSet<String> = bundle.filter_map(|root| root_id(&root.der)).collect();
        names.extend([state.x509.active.upstream_id().to_owned(), prepared(&state)]);
        // That of one that signs for itself.
        names.remove("");
        for root in &above.x509 {
            if let Some(name) = root_id(&root.der) {
                names.remove(&name);
            }
        }
        names
    }

    /// Where the CA that signs, or the one that will, stands below a root that is tainted or gone
    /// above, another one takes its place.
    async fn leave(
        &self,
        dead: &HashSet<String>,
        again: &mut Option<(SystemTime, Duration)>,
    ) -> Result<(), CaError> {
        let stays = |state: &State| dead.contains(state.x509.active.upstream_id());
        let ready = |state: &State| match &state.x509.next {
            Some(Next::Prepared(next)) if !dead.contains(next.upstream_id()) => {
                Some(next.id().to_owned())
            }
            _ => None,
        };
        let wanted = |state: &State| {
            dead.contains(&prepared(state)) || (stays(state) && ready(state).is_none())
        };
        let (state, now) = (self.state(), self.clock.now());
        if wanted(&state) {
            // A clock that was put back does not make it longer.
            let waits = |(at, pause): (SystemTime, Duration)| {
                let left = at.duration_since(now).unwrap_or_default();
                !left.is_zero() && left <= pause
            };
            if again.is_some_and(waits) {
                return Ok(());
            }
            let by = self.by_upstream();
            let made = self.prepare(by, Kind::X509, dead, wanted).await;
            *again = match &made {
                Err(CaError::Upstream(UpstreamError::Unusable(_))) => {
                    let pause = again.map_or(REFUSED, |(_, pause)| (pause * 2).min(LONGEST));
                    Some((now + pause, pause))
                }
                _ => None,
            };
            made?;
        }
        let state = self.state();
        if let Some(next) = ready(&state)
            && stays(&state)
        {
            let step = Step::Activate(next);
            self.take(self.by_upstream(), Kind::X509, step).await?;
            tracing::info!("a root above was tainted or revoked: another authority signs now");
        }
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

    async fn take_over(&self, above: Above, gone: HashSet<String>) -> Result<(), CaError> {
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
            next_root: prepared(&state),
            gone,
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

/// The root above the CA that will sign; empty where there is none.
fn prepared(state: &State) -> String {
    match &state.x509.next {
        Some(Next::Prepared(next)) => next.upstream_id().to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
