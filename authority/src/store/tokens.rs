//! The join tokens that are out.

use std::{
    collections::{HashMap, HashSet},
    time::SystemTime,
};

use rusqlite::{OptionalExtension as _, Transaction, params};
use sekisho_certs::{SpiffeId, id};

use super::{By, Store, StoreError, audit, changes::Changed, entries, seconds, time};
use crate::entry::Draft;

/// A join token that is out.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// By which it is found again: made from the token, which is not kept.
    pub lookup: [u8; 32],
    /// What evidence is keyed with that proves possession of it; made from it too.
    pub evidence_key: [u8; 32],
    /// Whom it makes: the agent's ID, where it is not that of the token itself.
    pub agent_id: Option<SpiffeId>,
    /// When it ends.
    pub expires_at: SystemTime,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("agent_id", &self.agent_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// How a join token is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Alone: its agent has the ID that the token's entry is for.
    Alone,
    /// As a piece of evidence: its agent has another ID, and entries for that one.
    AsEvidence,
}

impl Store {
    /// Keeps a join token, together with the entry of whom it makes where it has one. False, and
    /// nothing is kept, if it is there already.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn add_token(
        &self,
        by: By,
        token: Token,
        entry: Option<Draft>,
    ) -> Result<bool, StoreError> {
        self.change_entries_as(
            |added| match added {
                true => Changed::Anything,
                false => Changed::Nothing,
            },
            move |transaction| {
                let agent = token.agent_id.as_ref().map(ToString::to_string);
                let agent = agent.unwrap_or_default();
                let added = transaction
                    .prepare_cached(
                        "INSERT INTO join_tokens (lookup, evidence_key, agent_id, expires_at) \
                         VALUES (?1, ?2, ?3, ?4) ON CONFLICT (lookup) DO NOTHING",
                    )?
                    .execute(params![
                        token.lookup,
                        token.evidence_key,
                        agent,
                        seconds(token.expires_at)
                    ])?;
                if added == 0 {
                    return Ok(false);
                }
                let detail = serde_json::json!({ "expires_at": seconds(token.expires_at) });
                audit::append(transaction, &by, "token.create", &agent, detail.to_string())?;
                if let Some(entry) = entry {
                    // One that is there already is as good.
                    entries::create(transaction, &by, entry)?;
                }
                Ok(true)
            },
        )
        .await
    }

    /// Takes a join token out of the store, whether it has ended or not: nobody can use it again. The entry
    /// that it made goes with it, unless the agent comes by the token alone, and in time.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn take_token(
        &self,
        by: By,
        lookup: [u8; 32],
        shown: Shown,
    ) -> Result<Option<Token>, StoreError> {
        let work = move |transaction: &Transaction<'_>| {
            let found = transaction
                .prepare_cached(
                    "DELETE FROM join_tokens WHERE lookup = ?1 \
                     RETURNING evidence_key, agent_id, expires_at",
                )?
                .query_row(params![lookup], |row| {
                    Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?))
                })
                .optional()?;
            let Some((evidence_key, agent, expires_at)): Option<(_, _, i64)> = found else {
                return Ok((None, Vec::new()));
            };
            let detail = serde_json::json!({ "expires_at": expires_at });
            audit::append(transaction, &by, "token.take", &agent, detail.to_string())?;
            let gone = match shown {
                Shown::Alone if expires_at >= seconds(by.at) => Vec::new(),
                _ => entries::delete_of_unused(transaction, &by, &agent, &[lookup].into())?,
            };
            let agent_id = (!agent.is_empty()).then(|| id::parse_workload_id(&agent));
            let token = Token {
                lookup,
                evidence_key,
                agent_id: agent_id
                    .transpose()
                    .map_err(|error| StoreError::Corrupt(error.to_string()))?,
                expires_at: time(expires_at),
            };
            Ok((Some(token), gone))
        };
        let changed = |(_, gone): &(_, Vec<String>)| Changed::Entries(gone.clone());
        Ok(self.change_entries_as(changed, work).await?.0)
    }

    /// Removes the join tokens that have ended at the time of `by`, and says how many. With each goes the
    /// entry that it made: nobody has come by it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn prune_tokens(&self, by: By) -> Result<usize, StoreError> {
        let work = move |transaction: &Transaction<'_>| {
            let mut statement = transaction.prepare_cached(
                "DELETE FROM join_tokens WHERE expires_at < ?1 RETURNING lookup, agent_id",
            )?;
            let ended = statement.query_map(params![seconds(by.at)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            let ended = ended.collect::<Result<Vec<([u8; 32], String)>, _>>()?;
            if ended.is_empty() {
                return Ok((0, Vec::new()));
            }
            let detail = serde_json::json!({ "tokens": ended.len() });
            audit::append(transaction, &by, "token.prune", "", detail.to_string())?;
            let number = ended.len();
            let mut made: HashMap<String, HashSet<[u8; 32]>> = HashMap::new();
            for (lookup, agent) in ended.into_iter().filter(|(_, agent)| !agent.is_empty()) {
                made.entry(agent).or_default().insert(lookup);
            }
            let mut gone = Vec::new();
            for (agent, lookups) in made {
                gone.extend(entries::delete_of_unused(
                    transaction,
                    &by,
                    &agent,
                    &lookups,
                )?);
            }
            Ok((number, gone))
        };
        let changed = |(_, gone): &(_, Vec<String>)| Changed::Entries(gone.clone());
        Ok(self.change_entries_as(changed, work).await?.0)
    }
}
