//! JWT-SVIDs: asked of the authority, remembered while they are fresh, verified for workloads.

pub mod jwks;
pub mod validate;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sekisho_certs::Clock;
use sekisho_spire_api::server::svid::{NewJwtsvidRequest, svid_client::SvidClient};
use tokio::sync::watch;
use tonic::{Status, transport::Channel};
use zeroize::Zeroizing;

use crate::{bundle, entry::Entry, run::Shared, state::State};

/// Most tokens that are remembered.
const MOST: usize = 1000;
/// Most bytes of an audience whose token is remembered: a caller may ask for any.
const LONGEST_AUDIENCE: usize = 4096;

/// A token.
#[derive(Clone)]
pub struct Token {
    /// JWS Compact Serialization.
    pub token: Zeroizing<String>,
    /// When it was made.
    pub issued_at: SystemTime,
    /// When it ends.
    pub expires_at: SystemTime,
    /// The key that has signed it.
    key: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// There is no connection to an authority.
    #[error("no authority is reached")]
    Unreached,
    /// The authority refuses.
    #[error("{} ({:?})", .0.message(), .0.code())]
    Refused(Status),
    /// What it answers is no token for this identity.
    #[error("the authority's answer is no token of {0}")]
    Answer(String),
}

type Name = (String, i64, Vec<String>);

/// Tokens by entry, its revision and audience.
#[derive(Debug)]
pub struct Tokens {
    channel: watch::Receiver<Option<Channel>>,
    clock: Arc<dyn Clock>,
    known: Mutex<HashMap<Name, Token>>,
}

impl Tokens {
    /// With what an agent shares.
    #[must_use]
    pub fn new(shared: &Shared) -> Self {
        Self {
            channel: shared.channel.clone(),
            clock: Arc::clone(&shared.clock),
            known: Mutex::default(),
        }
    }

    /// How many are remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.len()
    }

    /// A token of this entry for this audience: a new one when the one at hand is half through its
    /// life, or its key is tainted or gone; the one at hand when no new one is to be had.
    ///
    /// # Errors
    /// When there is none that is still good.
    pub async fn fetch(
        &self,
        state: &State,
        entry: &Entry,
        audience: &[String],
    ) -> Result<Token, TokenError> {
        let mut audience = audience.to_vec();
        audience.sort_unstable();
        audience.dedup();
        let name: Name = (entry.id.clone(), entry.revision, audience);
        let now = self.clock.now();
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&name).cloned()
        };
        let key_counts = |token: &Token| {
            let own = state.own_bundle();
            own.is_some_and(|own| own.jwt_key(&token.key).is_some_and(|key| !key.tainted))
        };
        let known = known.filter(|token| now < token.expires_at && key_counts(token));
        if let Some(token) = &known {
            let life = token.expires_at.duration_since(token.issued_at);
            if now < token.issued_at + life.unwrap_or_default() / 2 {
                return Ok(token.clone());
            }
        }
        match self.ask(entry, &name.2).await {
            Ok(token) => {
                self.remember(name, token.clone(), now);
                Ok(token)
            }
            Err(error) => known.ok_or(error),
        }
    }

    async fn ask(&self, entry: &Entry, audience: &[String]) -> Result<Token, TokenError> {
        let channel = self.channel.borrow().clone().ok_or(TokenError::Unreached)?;
        let request = NewJwtsvidRequest {
            entry_id: entry.id.clone(),
            audience: audience.to_vec(),
        };
        let answer = SvidClient::new(channel).new_jwtsvid(request).await;
        let answer = answer.map_err(TokenError::Refused)?.into_inner();
        let wrong = || TokenError::Answer(entry.spiffe_id.clone());
        let svid = answer.svid.ok_or_else(wrong)?;
        let id = svid.id.ok_or_else(wrong)?;
        if format!("spiffe://{}{}", id.trust_domain, id.path) != entry.spiffe_id {
            return Err(wrong());
        }
        Ok(Token {
            issued_at: bundle::time(svid.issued_at).ok_or_else(wrong)?,
            expires_at: bundle::time(svid.expires_at).ok_or_else(wrong)?,
            key: key_id(&svid.token).ok_or_else(wrong)?,
            token: Zeroizing::new(svid.token),
        })
    }

    fn remember(&self, name: Name, token: Token, now: SystemTime) {
        if name.2.iter().map(String::len).sum::<usize>() > LONGEST_AUDIENCE {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, token| now < token.expires_at);
        }
        if known.len() >= MOST
            && let Some(oldest) = oldest(&known)
        {
            known.remove(&oldest);
        }
        known.insert(name, token);
    }
}

/// The one that was made first.
fn oldest(known: &HashMap<Name, Token>) -> Option<Name> {
    let oldest = known.iter().min_by_key(|(_, token)| token.issued_at);
    oldest.map(|(name, _)| name.clone())
}

fn key_id(token: &str) -> Option<String> {
    let (header, _) = token.split_once('.')?;
    let header = URL_SAFE_NO_PAD.decode(header).ok()?;
    let header: serde_json::Value = serde_json::from_slice(&header).ok()?;
    header.get("kid")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sekisho_certs::SystemClock;

    use super::*;

    #[test]
    fn of_too_many_tokens_the_oldest_is_forgotten() {
        let tokens = Tokens {
            channel: watch::Sender::new(None).subscribe(),
            clock: Arc::new(SystemClock),
            known: Mutex::default(),
        };
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let name = |number: usize| (format!("e{number}"), 0, vec!["kafka".to_owned()]);
        for number in 0..MOST + 1 {
            let issued_at = start + Duration::from_millis(number as u64);
            let token = Token {
                token: Zeroizing::new(String::new()),
                issued_at,
                expires_at: issued_at + Duration::from_secs(300),
                key: "k".into(),
            };
            tokens.remember(name(number), token, start);
        }
        assert_eq!(tokens.count(), MOST);
        let known = tokens.known.lock().unwrap();
        assert!(!known.contains_key(&name(0)));
        assert!(known.contains_key(&name(1)) && known.contains_key(&name(MOST)));
    }
}
