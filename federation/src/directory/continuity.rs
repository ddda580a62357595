//! Statements by which a member's keys follow one another (in the spirit of TAP 8 and TAP 20).
//!
//! The directory says which keys a member has, and a directory can be wrong. So who has once seen a
//! member's keys keeps to them, until these keys themselves name the next ones, or the member's recovery
//! key does, or they are revoked by themselves. A statement is written as metadata of a targets role
//! without targets, so that its signatures and threshold are checked as all others are.

use std::{collections::HashMap, num::NonZeroU64};

use sekisho_certs::TrustDomain;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    key::{KeyError, PublicKey, Signer},
    metadata::{self, Decoded, DelegatedRole, Delegations, Hex, PathSet, SPEC, Signed, Targets},
};

/// Most bytes of the statements of a member.
pub const MOST: usize = 512 * 1024;
/// Most statements of a member.
pub const STATEMENTS: usize = 64;
/// Most bytes of one.
pub const STATEMENT: usize = 16 * 1024;
/// Where a statement stands in the metadata.
const FIELD: &str = "continuity";
/// A statement has no end: whoever comes back after years has to find the way. Whole seconds, as TUF has
/// them, and not the last that there are, which not every calendar knows.
const END: &str = "9999-12-01T00:00:00Z";

/// The keys of a member, and how many of them have to sign.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeySet {
    keys: Vec<PublicKey>,
    threshold: NonZeroU64,
}

impl KeySet {
    /// These keys, of which so many have to sign.
    ///
    /// # Errors
    /// When there are fewer keys than have to sign.
    pub fn new(keys: Vec<PublicKey>, threshold: NonZeroU64) -> Result<Self, &'static str> {
        let mut keys = keys;
        keys.sort_by_key(PublicKey::id);
        keys.dedup_by_key(|key| key.id());
        let set = Self { keys, threshold };
        set.is_possible()
            .then_some(set)
            .ok_or("fewer keys than have to sign")
    }

    fn is_possible(&self) -> bool {
        self.threshold.get() <= self.keys.len() as u64
    }

    /// The keys that a delegation has for a role.
    pub(crate) fn of_role(delegations: &Delegations, role: &DelegatedRole) -> Option<Self> {
        let keys = role.keyids.iter().map(|id| delegations.keys.get(id));
        let keys = keys
            .map(|key| key.cloned().map(PublicKey))
            .collect::<Option<Vec<_>>>()?;
        Self::new(keys, role.threshold).ok()
    }

    /// Its name: the SHA-256 of its keys' IDs and threshold.
    #[must_use]
    pub fn id(&self) -> String {
        let mut ids: Vec<String> = self.keys.iter().map(PublicKey::id).collect();
        ids.sort();
        let named = json!({ "keyids": ids, "threshold": self.threshold.get() });
        metadata::sha256(named.to_string().as_bytes())
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// How many have to sign.
    #[must_use]
    pub const fn threshold(&self) -> NonZeroU64 {
        self.threshold
    }

    /// As a delegation to one role.
    pub(crate) fn delegation(
        &self,
        role: &str,
    ) -> (HashMap<Decoded<Hex>, metadata::Key>, DelegatedRole) {
        let keys = self.keys.iter().map(|key| (key.keyid(), key.0.clone()));
        let role = DelegatedRole {
            name: role.into(),
            keyids: self.keys.iter().map(PublicKey::keyid).collect(),
            threshold: self.threshold,
            paths: PathSet::Paths(Vec::new()),
            terminating: true,
            targets: None,
        };
        (keys.collect(), role)
    }

    /// Whether enough of these keys have signed.
    pub(crate) fn have_signed(&self, statement: &Signed<Targets>) -> bool {
        let (keys, role) = self.delegation(FIELD);
        let delegations = Delegations {
            keys,
            roles: vec![role],
        };
        metadata::signed_by_delegates(FIELD, &delegations, statement, FIELD).is_ok()
    }
}

/// What a statement says.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// The keys of `from` are followed by these.
    Rekey {
        /// The next keys.
        to: KeySet,
        /// The recovery key, where it is that one which says so, and not those of `from`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recovery: Option<PublicKey>,
    },
    /// The keys of `from` are to be trusted no more.
    Revoke,
    /// Whoever says that these keys follow those of `from` is not believed.
    Veto {
        /// The name of the set of keys that were never ours.
        against: String,
    },
}

/// A statement of a member.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Whose.
    pub member: String,
    /// The name of the set of keys that it begins from.
    pub from: String,
    /// What it says.
    pub what: What,
}

/// A statement with its signatures.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct SignedStatement(pub(crate) Signed<Targets>);

impl SignedStatement {
    /// Makes a statement, as this version of the member's role.
    ///
    /// # Errors
    /// When a key does not sign.
    pub fn new(
        statement: &Statement,
        version: NonZeroU64,
        signers: &[&dyn Signer],
    ) -> Result<Self, KeyError> {
        let end = END.parse().unwrap_or(jiff::Timestamp::MAX);
        let mut targets = Targets::new(SPEC.into(), version, end);
        let value = serde_json::to_value(statement)?;
        targets._extra.insert(FIELD.into(), value);
        let mut signed = Signed {
            signed: targets,
            signatures: Vec::new(),
        };
        metadata::sign(&mut signed, signers)?;
        Ok(Self(signed))
    }

    /// Whether it is as long as one may be.
    #[must_use]
    pub(crate) fn is_small(&self) -> bool {
        serde_json::to_vec(self).is_ok_and(|bytes| bytes.len() <= STATEMENT)
    }

    /// Whether the same keys have signed both.
    fn is_as_signed(&self, other: &Self) -> bool {
        let ids = |one: &Self| {
            let mut ids: Vec<Vec<u8>> = one
                .0
                .signatures
                .iter()
                .map(|it| it.keyid.to_vec())
                .collect();
            ids.sort();
            ids
        };
        ids(self) == ids(other)
    }

    /// The same without signatures of keys that have nothing to say in it.
    pub(crate) fn by(mut self, keys: &KeySet) -> Self {
        let ids: Vec<_> = keys.keys().iter().map(PublicKey::keyid).collect();
        self.0.signatures.retain(|one| ids.contains(&one.keyid));
        self
    }

    /// What it says; `None` where it is no statement.
    #[must_use]
    pub fn statement(&self) -> Option<Statement> {
        said(&self.0.signed)
    }
}

/// The statement that a targets role is, if it is one.
pub(crate) fn said(role: &Targets) -> Option<Statement> {
    let value: &Value = role._extra.get(FIELD)?;
    if !role.targets.is_empty() {
        return None;
    }
    serde_json::from_value(value.clone()).ok()
}

/// Whether a targets role is a statement, or was meant to be one: never to be taken for a member's
/// targets.
pub(crate) fn is_statement(role: &Targets) -> bool {
    role._extra.contains_key(FIELD)
}

#[derive(Deserialize, Serialize)]
struct Text {
    statements: Vec<SignedStatement>,
}

/// The statements of a member, as they stand in `continuity/<name>.json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Continuity(Vec<SignedStatement>);

impl Continuity {
    /// Reads them. Those of others, and those that are none, are left out.
    ///
    /// # Errors
    /// When the file is none, or holds more than [`STATEMENTS`].
    pub fn read(member: &TrustDomain, bytes: &[u8]) -> Result<Self, metadata::MetadataError> {
        let file = || format!("continuity/{member}.json");
        let text: Text =
            serde_json::from_slice(bytes).map_err(|error| metadata::MetadataError::Json {
                file: file(),
                problem: error.to_string(),
            })?;
        if text.statements.len() > STATEMENTS {
            return Err(metadata::MetadataError::Json {
                file: file(),
                problem: format!("more than {STATEMENTS} statements"),
            });
        }
        let own = |one: &SignedStatement| {
            one.statement()
                .is_some_and(|said| said.member == member.as_str())
        };
        Ok(Self(text.statements.into_iter().filter(own).collect()))
    }

    /// As they are written.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let statements = self.0.clone();
        // They were read from JSON, or made here.
        serde_json::to_vec(&Text { statements }).unwrap_or_default()
    }

    /// Adds one, if none is there that says the same. False where there is no room: what was said stays
    /// said, and nobody pushes a revocation out.
    pub fn add(&mut self, statement: SignedStatement) -> bool {
        let says = statement.statement();
        if self
            .0
            .iter()
            .any(|one| one.statement() == says && one.is_as_signed(&statement))
        {
            return true;
        }
        let fits = self.0.len() < STATEMENTS && statement.is_small();
        if fits {
            self.0.push(statement);
        }
        fits
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &SignedStatement> {
        self.0.iter()
    }

    /// Those that begin from a set of keys, and are signed as they have to be: by that set, or by the
    /// recovery key of this ID. With each, whether it was the recovery key.
    fn from(&self, set: &KeySet, recovery: Option<&str>) -> Vec<(What, bool)> {
        let id = set.id();
        let mut all = Vec::new();
        for one in &self.0 {
            let Some(said) = one.statement().filter(|said| said.from == id) else {
                continue;
            };
            let by_recovery = match &said.what {
                What::Rekey {
                    recovery: Some(key),
                    ..
                } => {
                    let known = recovery.is_some_and(|known| known == key.id());
                    let alone = KeySet::new(vec![key.clone()], NonZeroU64::MIN);
                    if !known || !alone.is_ok_and(|alone| alone.have_signed(&one.0)) {
                        continue;
                    }
                    true
                }
                _ if set.have_signed(&one.0) => false,
                _ => continue,
            };
            if matches!(&said.what, What::Rekey { to, .. } if !to.is_possible()) {
                continue;
            }
            all.push((said.what, by_recovery));
        }
        all
    }

    /// Whether these keys have revoked themselves.
    #[must_use]
    pub fn has_revoked(&self, keys: &KeySet) -> bool {
        let from = self.from(keys, None);
        from.iter().any(|(what, _)| *what == What::Revoke)
    }

    /// What becomes of a member whose keys were `known`, and of which the directory now says that they
    /// are `now`. `is_revoked`: that they revoked themselves is known already, and nobody can hide it.
    /// `recovery` is the ID of the recovery key that it has named when its keys were
    /// first seen.
    #[must_use]
    pub fn judge(
        &self,
        known: &KeySet,
        is_revoked: bool,
        recovery: Option<&str>,
        now: &KeySet,
    ) -> Verdict {
        let first = self.from(known, recovery);
        let revoked = is_revoked || first.iter().any(|(what, _)| *what == What::Revoke);
        if known.id() == now.id() {
            return if revoked {
                Verdict::Revoked
            } else {
                Verdict::Same
            };
        }
        if self.leads(known, revoked, recovery, now) {
            return Verdict::Continued;
        }
        if revoked {
            return Verdict::Revoked;
        }
        let id = now.id();
        let vetoed = first
            .iter()
            .any(|(what, _)| matches!(what, What::Veto { against } if *against == id));
        if vetoed {
            Verdict::Vetoed
        } else {
            Verdict::Unproven
        }
    }

    /// Whether statements lead from one set of keys to another. What was revoked leads on by the
    /// recovery key alone.
    fn leads(
        &self,
        known: &KeySet,
        is_revoked: bool,
        recovery: Option<&str>,
        now: &KeySet,
    ) -> bool {
        let goal = now.id();
        let mut seen = vec![known.id()];
        let mut open = vec![known.clone()];
        while let Some(set) = open.pop() {
            let from = self.from(&set, recovery);
            let said = from.iter().any(|(what, _)| *what == What::Revoke);
            let revoked = said || (is_revoked && set.id() == known.id());
            let vetoed: Vec<&String> = from
                .iter()
                .filter_map(|(what, _)| match what {
                    What::Veto { against } => Some(against),
                    _ => None,
                })
                .collect();
            for (what, by_recovery) in &from {
                let What::Rekey { to, .. } = what else {
                    continue;
                };
                let id = to.id();
                let is_barred = !by_recovery && (revoked || vetoed.contains(&&id));
                if is_barred || seen.contains(&id) {
                    continue;
                }
                if id == goal {
                    return true;
                }
                seen.push(id);
                open.push(to.clone());
            }
        }
        false
    }
}

/// What becomes of a member's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are as before.
    Same,
    /// They have changed, and the ones before, or the recovery key, have said so.
    Continued,
    /// They have changed, and nobody who could know has said so.
    Unproven,
    /// They have changed, and the ones before say that these are not theirs.
    Vetoed,
    /// The ones before are revoked, and the recovery key has named none yet.
    Revoked,
}

/// The name of the statements of a member in the repository.
#[must_use]
pub fn file_of(member: &TrustDomain) -> String {
    format!("continuity/{member}.json")
}

/// What two people compare when they speak of a set of keys: the beginning of its name.
#[must_use]
pub fn fingerprint(set: &KeySet) -> String {
    let id = set.id();
    let bytes: Vec<&str> = (0..16)
        .filter_map(|at| id.get(at * 2..at * 2 + 2))
        .collect();
    bytes.join(":")
}

/// The role whose file may hold a revocation in place of targets.
pub(crate) fn revocation_of(member: &TrustDomain, role: &Targets) -> Option<Statement> {
    let said = said(role)?;
    let own = said.member == member.as_str() && said.what == What::Revoke;
    own.then_some(said)
}

#[cfg(test)]
mod tests;
