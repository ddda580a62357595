//! Attested nodes, and the join tokens that are out.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, SystemTime},
};

use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use sekisho_certs::{SpiffeId, id};

use super::{
    By, Page, SetMatch, Store, StoreError, audit, changes::Changed, entries, seconds, time,
};
use crate::{
    attest::{evidence, join_token},
    entry::{Draft, Selector},
};

/// A certificate of an agent, as far as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Serial number, decimal. Empty: none counts.
    pub serial: String,
    /// The end of its validity.
    pub not_after: SystemTime,
}

/// A node that has attested, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Of its agent.
    pub id: SpiffeId,
    /// How it has attested, such as `join_token`.
    pub attestation_type: String,
    /// What attestation has found.
    pub selectors: BTreeSet<Selector>,
    /// Without a serial number where the node is banned.
    pub active: Option<Certificate>,
    /// Issued by a renewal, and not used yet: the one before is good until then.
    pub next: Option<Certificate>,
    /// It may attest again under the same ID.
    pub can_reattest: bool,
    /// When it has to attest again, whatever its certificate says.
    pub reattest_at: Option<SystemTime>,
    /// Lifetime of its agent's SVIDs; the site's where it is `None`.
    pub svid_ttl: Option<Duration>,
    /// Nothing is issued to it, and it cannot attest, until it is evicted.
    pub banned: bool,
    /// What its agent says of itself.
    pub version: String,
}

/// Which nodes to list: those for which everything that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFilter {
    /// This type of attestation.
    pub attestation_type: Option<String>,
    /// Selectors, and how they match.
    pub selectors: Option<(BTreeSet<Selector>, SetMatch)>,
    /// Banned, or not.
    pub banned: Option<bool>,
    /// Able to attest again, or not.
    pub can_reattest: Option<bool>,
    /// With a certificate that ends before.
    pub expires_before: Option<SystemTime>,
}

impl NodeFilter {
    /// Whether a node is to be shown.
    #[must_use]
    pub fn passes(&self, node: &Node) -> bool {
        let kind = self.attestation_type.as_ref();
        let ends = |time: SystemTime| node.active.as_ref().is_none_or(|own| own.not_after < time);
        kind.is_none_or(|kind| *kind == node.attestation_type)
            && self.banned.is_none_or(|banned| banned == node.banned)
            && self.can_reattest.is_none_or(|can| can == node.can_reattest)
            && self.expires_before.is_none_or(ends)
            && self
                .selectors
                .as_ref()
                .is_none_or(|(given, how)| how.holds(&node.selectors, given))
    }
}

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

const COLUMNS: &str = "number, id, attestation_type, serial, not_after, next_serial, \
     next_not_after, can_reattest, reattest_at, banned, version, svid_ttl";

fn read(row: &Row<'_>) -> Result<(i64, Node), StoreError> {
    let text: String = row.get(1)?;
    let id =
        id::parse_workload_id(&text).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let certificate = |serial: String, not_after: i64| {
        (!serial.is_empty() || not_after > 0).then(|| Certificate {
            serial,
            not_after: time(not_after),
        })
    };
    let reattest_at: i64 = row.get(8)?;
    let svid_ttl: u64 = row.get(11)?;
    let node = Node {
        id,
        attestation_type: row.get(2)?,
        selectors: BTreeSet::new(),
        active: certificate(row.get(3)?, row.get(4)?),
        next: certificate(row.get(5)?, row.get(6)?),
        can_reattest: row.get(7)?,
        reattest_at: (reattest_at > 0).then(|| time(reattest_at)),
        svid_ttl: (svid_ttl > 0).then(|| Duration::from_secs(svid_ttl)),
        banned: row.get(9)?,
        version: row.get(10)?,
    };
    Ok((row.get(0)?, node))
}

fn with_selectors(
    transaction: &Transaction<'_>,
    (number, mut node): (i64, Node),
) -> Result<(i64, Node), StoreError> {
    let mut statement =
        transaction.prepare_cached("SELECT kind, value FROM node_selectors WHERE node = ?1")?;
    let mut rows = statement.query(params![number])?;
    while let Some(row) = rows.next()? {
        node.selectors.insert(Selector {
            kind: row.get(0)?,
            value: row.get(1)?,
        });
    }
    Ok((number, node))
}

fn by_id(transaction: &Transaction<'_>, id: &SpiffeId) -> Result<Option<(i64, Node)>, StoreError> {
    let text = format!("SELECT {COLUMNS} FROM nodes WHERE id = ?1");
    let mut statement = transaction.prepare_cached(&text)?;
    let mut rows = statement.query(params![id.to_string()])?;
    match rows.next()? {
        Some(row) => Ok(Some(with_selectors(transaction, read(row)?)?)),
        None => Ok(None),
    }
}

fn write(transaction: &Transaction<'_>, node: &Node) -> Result<(), StoreError> {
    let serial = |own: &Option<Certificate>| {
        own.as_ref().map_or((String::new(), 0), |own| {
            (own.serial.clone(), seconds(own.not_after))
        })
    };
    let (active, next) = (serial(&node.active), serial(&node.next));
    let number: i64 = transaction
        .prepare_cached(
            "INSERT INTO nodes (id, attestation_type, serial, not_after, next_serial, \
             next_not_after, can_reattest, reattest_at, banned, version, svid_ttl) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
             ON CONFLICT (id) DO UPDATE SET attestation_type = excluded.attestation_type, \
             serial = excluded.serial, not_after = excluded.not_after, \
             next_serial = excluded.next_serial, next_not_after = excluded.next_not_after, \
             can_reattest = excluded.can_reattest, reattest_at = excluded.reattest_at, \
             banned = excluded.banned, version = excluded.version, \
             svid_ttl = excluded.svid_ttl RETURNING number",
        )?
        .query_row(
            params![
                node.id.to_string(),
                node.attestation_type,
                active.0,
                active.1,
                next.0,
                next.1,
                node.can_reattest,
                node.reattest_at.map_or(0, seconds),
                node.banned,
                node.version,
                node.svid_ttl.map_or(0, |ttl| ttl.as_secs()),
            ],
            |row| row.get(0),
        )?;
    transaction
        .prepare_cached("DELETE FROM node_selectors WHERE node = ?1")?
        .execute(params![number])?;
    let mut insert = transaction
        .prepare_cached("INSERT INTO node_selectors (node, kind, value) VALUES (?1, ?2, ?3)")?;
    for Selector { kind, value } in &node.selectors {
        insert.execute(params![number, kind, value])?;
    }
    Ok(())
}

/// What of a node has changed that a reader of the audit log would look for.
fn detail(before: &Node, after: &Node) -> String {
    let serial = |own: &Option<Certificate>| own.as_ref().map(|own| own.serial.clone());
    let mut detail = serde_json::Map::new();
    if before.active != after.active {
        detail.insert("serial".into(), serial(&after.active).into());
    }
    if before.next != after.next && after.next.is_some() {
        detail.insert("next_serial".into(), serial(&after.next).into());
    }
    if before.version != after.version {
        detail.insert("version".into(), after.version.as_str().into());
    }
    serde_json::Value::Object(detail).to_string()
}

impl Store {
    /// The node whose agent has this ID.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn node(&self, id: SpiffeId) -> Result<Option<Node>, StoreError> {
        self.look(move |transaction| Ok(by_id(transaction, &id)?.map(|(_, node)| node)))
            .await
    }

    /// Nodes that pass, behind number `after`, at most `most`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn nodes(
        &self,
        filter: NodeFilter,
        after: i64,
        most: usize,
    ) -> Result<Page<Node>, StoreError> {
        self.look(move |transaction| {
            let text = format!("SELECT {COLUMNS} FROM nodes WHERE number > ?1 ORDER BY number");
            let mut statement = transaction.prepare_cached(&text)?;
            let mut rows = statement.query(params![after])?;
            let mut page = Page {
                items: Vec::new(),
                next: after,
            };
            while page.items.len() < most
                && let Some(row) = rows.next()?
            {
                let (number, node) = with_selectors(transaction, read(row)?)?;
                page.next = number;
                if filter.passes(&node) {
                    page.items.push(node);
                }
            }
            Ok(page)
        })
        .await
    }

    /// Writes a node that has attested, in place of what was known of it, together with the entries that
    /// come with it. `None`, and nothing is written, where it is banned.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn attest_node(
        &self,
        by: By,
        node: Node,
        with: Vec<Draft>,
    ) -> Result<Option<()>, StoreError> {
        let changed = !with.is_empty();
        let work = move |transaction: &Transaction<'_>| {
            if by_id(transaction, &node.id)?.is_some_and(|(_, known)| known.banned) {
                return Ok(None);
            }
            for entry in with {
                // One that is there already is as good.
                entries::create(transaction, &by, entry)?;
            }
            write(transaction, &node)?;
            let selectors: Vec<_> = node.selectors.iter().map(ToString::to_string).collect();
            let detail = serde_json::json!({
                "attestation_type": node.attestation_type,
                "selectors": selectors,
                "serial": node.active.as_ref().map(|own| own.serial.as_str()),
            });
            let id = node.id.to_string();
            audit::append(transaction, &by, "node.attest", &id, detail.to_string())?;
            Ok(Some(()))
        };
        let changed = move |done: &Option<()>| match changed && done.is_some() {
            true => Changed::Anything,
            false => Changed::Nothing,
        };
        self.change_entries_as(changed, work).await
    }

    /// Lets `edit` change what is known of a node; `None` if nothing is. Where it has changed
    /// something, `action` is its name in the audit log; where not, nothing is written.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn update_node(
        &self,
        by: By,
        id: SpiffeId,
        action: &'static str,
        edit: impl FnOnce(&mut Node) + Send + 'static,
    ) -> Result<Option<Node>, StoreError> {
        self.change(move |transaction| {
            let Some((_, before)) = by_id(transaction, &id)? else {
                return Ok(None);
            };
            let mut node = before.clone();
            edit(&mut node);
            if node != before {
                write(transaction, &node)?;
                audit::append(
                    transaction,
                    &by,
                    action,
                    &id.to_string(),
                    detail(&before, &node),
                )?;
            }
            Ok(Some(node))
        })
        .await
    }

    /// Forgets a node: its agent has to attest anew. False if there is none.
    ///
    /// With a node that came by join token, alone or with other evidence, goes the entry that the token made: parent is the node,
    /// its only selector `spiffe_id:<the node>`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete_node(&self, by: By, id: SpiffeId) -> Result<bool, StoreError> {
        self.change_entries(move |transaction| {
            let text = id.to_string();
            let kind: Option<String> = transaction
                .prepare_cached("DELETE FROM nodes WHERE id = ?1 RETURNING attestation_type")?
                .query_row(params![text], |row| row.get(0))
                .optional()?;
            let Some(kind) = kind else {
                return Ok(false);
            };
            audit::append(transaction, &by, "node.evict", &text, "{}".into())?;
            if [join_token::TYPE, evidence::TYPE].contains(&&*kind) {
                entries::delete_of_token(transaction, &by, &text)?;
            }
            Ok(true)
        })
        .await
    }

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

    /// Takes a join token out of the store, whether it has ended or not: nobody can use it again. With one
    /// that has ended at the time of `by` goes the entry that it made.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn take_token(&self, by: By, lookup: [u8; 32]) -> Result<Option<Token>, StoreError> {
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
            let gone = match expires_at < seconds(by.at) {
                true => entries::delete_of_unused(transaction, &by, &agent, &[lookup].into())?,
                false => Vec::new(),
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
