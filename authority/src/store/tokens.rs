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

/// How a join token was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// It was sent: the node is named by it.
    Shown,
    /// Its possession was proven, as one piece of evidence.
    Proven,
}

/// What a statement finds of a token.
fn token(
    transaction: &Transaction<'_>,
    text: &str,
    lookup: [u8; 32],
) -> Result<Option<Token>, StoreError> {
    let found: Option<(_, String, i64)> = transaction
        .prepare_cached(text)?
        .query_row(params![lookup], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((evidence_key, agent, expires_at)) = found else {
        return Ok(None);
    };
    let agent_id = (!agent.is_empty()).then(|| id::parse_workload_id(&agent));
    Ok(Some(Token {
        lookup,
        evidence_key,
        agent_id: agent_id
            .transpose()
            .map_err(|error| StoreError::Corrupt(error.to_string()))?,
        expires_at: time(expires_at),
    }))
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

    /// A join token that is out, which it stays.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn token(&self, lookup: [u8; 32]) -> Result<Option<Token>, StoreError> {
        const FIND: &str =
            "SELECT evidence_key, agent_id, expires_at FROM join_tokens WHERE lookup = ?1";
        self.look(move |transaction| token(transaction, FIND, lookup))
            .await
    }

    /// Takes a join token out of the store, whether it has ended or not: nobody can use it again. The entry
    /// that it made goes too where it has ended at the time of `by`, or was not shown itself: nobody comes
    /// by the ID that has the token in it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn take_token(
        &self,
        by: By,
        lookup: [u8; 32],
        spent: Spent,
    ) -> Result<Option<Token>, StoreError> {
        const TAKE: &str = "DELETE FROM join_tokens WHERE lookup = ?1 \
             RETURNING evidence_key, agent_id, expires_at";
        let work = move |transaction: &Transaction<'_>| {
            let Some(token) = token(transaction, TAKE, lookup)? else {
                return Ok((None, Vec::new()));
            };
            let agent = token.agent_id.as_ref().map(ToString::to_string);
            let agent = agent.unwrap_or_default();
            let detail = serde_json::json!({ "expires_at": seconds(token.expires_at) });
            audit::append(transaction, &by, "token.take", &agent, detail.to_string())?;
            let gone = match spent == Spent::Proven || token.expires_at < by.at {
                true => entries::delete_of_unused(transaction, &by, &agent, &[lookup].into())?,
                false => Vec::new(),
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
