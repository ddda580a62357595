//! What time asks of the CA.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use sekisho_certs::issue::BACKDATE;

use super::{
    Ca, CaError, State, Step, issue,
    slots::{Authority, Due, Next, Slots},
};
use crate::store::{Bundle, By, Kind};

fn due(state: &State, kind: Kind, now: SystemTime) -> Due {
    match kind {
        Kind::X509 => state.x509.due(now),
        Kind::Jwt => state.jwt.due(now),
    }
}

/// When the one of this name was made, where it is prepared.
fn prepared<A: Authority>(slots: &Slots<A>, id: &str) -> Option<SystemTime> {
    match &slots.next {
        Some(Next::Prepared(authority)) if authority.id() == id => Some(authority.not_before()),
        _ => None,
    }
}

impl Ca {
    /// Until when an authority that is prepared is to wait, so that whoever fetches our bundle has it
    /// before it signs; `None`: it may sign. Below others it is their roots that count, which come and go
    /// by their own time.
    #[must_use]
    pub fn waits_until(&self, kind: Kind, id: &str) -> Option<SystemTime> {
        let state = self.state();
        let prepared = match kind {
            Kind::X509 if self.has_upstream() => None,
            Kind::X509 => prepared(&state.x509, id).map(|begin| begin + BACKDATE),
            Kind::Jwt => prepared(&state.jwt, id),
        };
        let until = prepared? + self.settings.announced;
        (until > self.clock.now()).then_some(until)
    }

    /// Whether time asks for it too early, and it can wait: the one that signs lasts as long again.
    fn can_wait(&self, kind: Kind, id: &str, now: SystemTime) -> bool {
        let Some(until) = self.waits_until(kind, id) else {
            return false;
        };
        let ends = match kind {
            Kind::X509 => self.x509().not_after(),
            Kind::Jwt => self.jwt().not_after(),
        };
        let wait = until.duration_since(now).unwrap_or_default();
        let can = ends >= until + wait;
        if !can {
            tracing::warn!(
                kind = kind.as_str(),
                id,
                "signs before all who fetch our bundle can know it: the one before ends"
            );
        }
        can
    }

    /// Takes the steps that time asks for. To be called every few seconds.
    ///
    /// # Errors
    /// The first that failed.
    pub async fn look_at_the_clock(&self) -> Result<(), CaError> {
        let now = self.clock.now();
        let by = || By {
            caller: "authority".into(),
            at: now,
        };
        let mut outcome = Ok(());
        for kind in [Kind::X509, Kind::Jwt] {
            let done = self.take_due_steps(kind, now, &by).await;
            // One kind that fails does not keep the other from going on.
            outcome = outcome.and(done);
        }
        outcome
    }

    async fn take_due_steps(
        &self,
        kind: Kind,
        now: SystemTime,
        by: &(dyn Fn() -> By + Send + Sync),
    ) -> Result<(), CaError> {
        /// A new one is prepared, and activated where none can sign.
        const MOST: usize = 3;
        for _ in 0..MOST {
            match due(&self.state(), kind, now) {
                Due::Nothing => return Ok(()),
                Due::Activate(id) if self.can_wait(kind, &id, now) => return Ok(()),
                Due::Activate(id) => {
                    self.take(by(), kind, Step::Activate(id)).await?;
                }
                Due::Prepare => {
                    let wanted = |state: &State| due(state, kind, now) == Due::Prepare;
                    self.prepare(by(), kind, &HashSet::new(), wanted).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes those out of our bundle that have ended a day ago, but never the last.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn prune(&self, by: By) -> Result<(), CaError> {
        /// How long an authority stays after its end: clocks differ.
        const AFTER: Duration = Duration::from_secs(24 * 3600);
        let now = self.clock.now();
        let gone = move |end: Option<SystemTime>| end.is_some_and(|end| end + AFTER < now);
        let ended = |bundle: &Bundle| {
            bundle
                .x509
                .iter()
                .any(|own| gone(issue::not_after(&own.der)))
                || bundle.jwt.iter().any(|own| gone(own.expires_at))
        };
        if !ended(&self.state().bundle) {
            return Ok(());
        }
        let edit = move |bundle: &mut Bundle| {
            if bundle
                .x509
                .iter()
                .any(|own| !gone(issue::not_after(&own.der)))
            {
                bundle.x509.retain(|own| !gone(issue::not_after(&own.der)));
            }
            if bundle.jwt.iter().any(|own| !gone(own.expires_at)) {
                bundle.jwt.retain(|own| !gone(own.expires_at));
            }
        };
        self.edit_bundle(by, "bundle.prune", edit).await?;
        Ok(())
    }
}
