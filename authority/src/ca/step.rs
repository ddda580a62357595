//! Steps of an authority's life, from the wish to the store, the bundle and the memory.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
};

use super::{
    Ca, CaError, State,
    bundle::edit_bundle,
    issue::X509Ca,
    jwt::JwtKey,
    key_name, load,
    slots::{Authority, SlotError, Slots},
    upstream,
};
use crate::store::{Bundle, By, Kind, REVOKE, StoreError};

/// A step of an authority's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This one is to sign.
    Activate(String),
    /// Another is to be made.
    Prepare,
    /// This one counts no longer.
    Revoke(String),
    /// What this one has signed is to be replaced.
    Taint(String),
}

impl Step {
    const fn action(&self) -> &'static str {
        match self {
            Self::Activate(_) => "authority.activate",
            Self::Prepare => "authority.prepare",
            Self::Revoke(_) => REVOKE,
            Self::Taint(_) => "authority.taint",
        }
    }
}

/// What was made for a slot.
pub(super) enum Made {
    /// It signs JWT-SVIDs.
    Jwt(Arc<JwtKey>),
    /// It signs X.509-SVIDs; with the roots above it, where there are any.
    X509(Arc<X509Ca>, Vec<Vec<u8>>),
}

/// What stood in the slots of a kind: by its names it is seen whether it still does.
type Names = (String, Option<String>);

fn names(ca: &Ca, kind: Kind) -> Names {
    let slots = ca.slots(kind);
    let next = slots.prepared.or(slots.old);
    (slots.active.id, next.map(|next| next.id))
}

impl Ca {
    /// Takes a step, and returns the name of the authority that it was taken with.
    ///
    /// # Errors
    /// [`CaError::Slot`] where it is not one that can be taken; [`CaError::Early`] where others cannot
    /// know yet the one that is to sign; [`CaError::Changed`] where another was taken while the authority
    /// above was asked; others where it failed. Nothing has changed then.
    pub async fn step(self: &Arc<Self>, by: By, kind: Kind, step: Step) -> Result<String, CaError> {
        if let Step::Activate(id) = &step
            && let Some(until) = self.waits_until(kind, id)
        {
            let id = id.clone();
            return Err(CaError::Early { id, until });
        }
        self.force(by, kind, step).await
    }

    /// The same, whether others can know it or not.
    ///
    /// # Errors
    /// Those of [`Ca::step`] but [`CaError::Early`].
    pub async fn force(
        self: &Arc<Self>,
        by: By,
        kind: Kind,
        step: Step,
    ) -> Result<String, CaError> {
        let this = Arc::clone(self);
        // Whoever asked may go: the step is taken to its end, in the store and in memory.
        let taken = tokio::spawn(async move { this.take(by, kind, step).await });
        taken
            .await
            .map_err(|_| CaError::Store(StoreError::Closed))?
    }

    pub(super) async fn take(&self, by: By, kind: Kind, step: Step) -> Result<String, CaError> {
        if kind == Kind::X509
            && self.has_upstream()
            && matches!(step, Step::Taint(_) | Step::Revoke(_))
        {
            return Err(CaError::HasUpstream);
        }
        if step == Step::Prepare {
            let prepared = self.prepare(by, kind, &HashSet::new(), |_| true).await?;
            return prepared.ok_or(CaError::Changed);
        }
        let _one = self.changing.lock().await;
        self.take_alone(by, kind, step, None).await
    }

    /// Prepares another authority, and returns its name; `None` where it is not wanted any more once
    /// it is this one's turn: somebody else may just have prepared one. It is not below one of the
    /// roots that are `dead`.
    pub(super) async fn prepare(
        &self,
        by: By,
        kind: Kind,
        dead: &HashSet<String>,
        wanted: impl Fn(&State) -> bool + Send,
    ) -> Result<Option<String>, CaError> {
        // The authority above may take its time: who takes other steps does not wait for it.
        let _preparing = self.preparing.lock().await;
        if !wanted(&self.state()) {
            return Ok(None);
        }
        let before = names(self, kind);
        let made = self.make(kind, dead).await?;
        let _one = self.changing.lock().await;
        if names(self, kind) != before {
            return Err(CaError::Changed);
        }
        let prepared = self.take_alone(by, kind, Step::Prepare, Some(made));
        prepared.await.map(Some)
    }

    async fn make(&self, kind: Kind, dead: &HashSet<String>) -> Result<Made, CaError> {
        let (above, now) = (self.upstream.as_ref(), self.clock.now());
        match kind {
            Kind::X509 => {
                let revoked = self.revoked.names();
                let made = upstream::make_x509(above, &revoked, dead, &self.settings, now).await?;
                Ok(Made::X509(Arc::new(made.0), made.1))
            }
            Kind::Jwt => {
                let made = upstream::make_jwt(above, &self.settings, now).await?;
                Ok(Made::Jwt(Arc::new(made)))
            }
        }
    }

    /// The same of whoever holds the lock.
    async fn take_alone(
        &self,
        by: By,
        kind: Kind,
        step: Step,
        made: Option<Made>,
    ) -> Result<String, CaError> {
        let mut state = self.state();
        let mut roots = Vec::new();
        let id = match kind {
            Kind::X509 => {
                let made = match made {
                    Some(Made::X509(made, above)) => {
                        self.keys.put(&key_name(kind, made.id()), &made.key())?;
                        roots = above;
                        Some(made)
                    }
                    _ => None,
                };
                let (slots, id) = walk(&state.x509, &step, made)?;
                state.x509 = slots;
                id
            }
            Kind::Jwt => {
                let made = match made {
                    Some(Made::Jwt(made)) => {
                        self.keys
                            .put(&key_name(kind, made.id()), &made.private_key())?;
                        Some(made)
                    }
                    _ => None,
                };
                match (walk(&state.jwt, &step, made), &step) {
                    // Put out of its slot by one that was prepared, and still believed.
                    (Err(SlotError::Unknown(_)), Step::Revoke(id)) => {
                        out_of_slot(&state.bundle, id)?;
                        id.clone()
                    }
                    (walked, _) => {
                        let (slots, id) = walked?;
                        state.jwt = slots;
                        id
                    }
                }
            }
        };
        self.publish(by, kind, step, (id.clone(), roots), state)
            .await?;
        Ok(id)
    }

    /// Writes what has changed, then puts it in place.
    async fn publish(
        &self,
        by: By,
        kind: Kind,
        step: Step,
        (id, roots): (String, Vec<Vec<u8>>),
        mut state: State,
    ) -> Result<(), CaError> {
        let before = self.slots(kind);
        let gone = match &step {
            Step::Activate(_) | Step::Taint(_) => None,
            Step::Prepare => before.old.or(before.prepared).map(|gone| gone.id),
            Step::Revoke(id) => Some(id.clone()),
        };
        // Before the bundle is without it: whoever follows the one above must not bring it back in
        // between.
        let revoked = match &step {
            Step::Revoke(id) => Some(self.revoked.add(id.clone())),
            _ => None,
        };
        let records = match kind {
            Kind::X509 => load::records(&state.x509, load::x509_record),
            Kind::Jwt => load::records(&state.jwt, load::jwt_record),
        };
        let record = records.iter().find(|record| record.id == id).cloned();
        let name = (step.action(), id.clone());
        let edit = {
            let (step, id) = (step.clone(), id.clone());
            move |bundle: &mut Bundle| edit_bundle(bundle, kind, &step, &id, record, roots)
        };
        let domain = self.settings.domain.clone();
        let bundle = self
            .store
            .set_authorities(by, domain, kind, records, name, edit);
        state.bundle = Arc::new(bundle.await?);
        if let Some(revoked) = revoked {
            revoked.keep();
        }
        let bundle = Arc::clone(&state.bundle);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        self.bundle.send_replace(bundle);
        // It signs nothing any more: revoked, or put out of its slot by one that was prepared.
        if let Some(id) = gone
            && let Err(error) = self.keys.remove(&key_name(kind, &id))
        {
            tracing::warn!(%error, "the key of an authority that has ended stays on the disk");
        }
        Ok(())
    }
}

/// Whether a JWT key that stands in no slot may be revoked: it is in the bundle, tainted.
fn out_of_slot(bundle: &Bundle, id: &str) -> Result<(), SlotError> {
    match bundle.jwt.iter().find(|key| key.key_id == id) {
        None => Err(SlotError::Unknown(id.into())),
        Some(key) if !key.tainted => Err(SlotError::NotTainted(id.into())),
        Some(_) => Ok(()),
    }
}

fn walk<A: Authority + Clone>(
    slots: &Slots<A>,
    step: &Step,
    made: Option<A>,
) -> Result<(Slots<A>, String), SlotError> {
    match step {
        Step::Activate(id) => Ok((slots.activate(id)?, id.clone())),
        Step::Revoke(id) => Ok((slots.revoke(id)?, id.clone())),
        Step::Taint(id) => Ok((slots.taint(id)?, id.clone())),
        Step::Prepare => {
            let made = made.ok_or_else(|| SlotError::Unknown(String::new()))?;
            let id = made.id().to_owned();
            Ok((slots.prepare(made), id))
        }
    }
}
