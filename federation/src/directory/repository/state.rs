//! How a directory stands: what is to be signed again and when, and what a member has said last.

use std::time::SystemTime;

use sekisho_certs::TrustDomain;
use serde::Serialize;

use super::{
    Repository, RepositoryError,
    init::{INSTITUTIONS, REGISTRARS, is_due},
    target_file,
};
use crate::directory::{
    continuity::{self, Continuity, KeySet, SignedStatement},
    descriptor::{self, Descriptor},
    metadata::{self, Dated},
    names,
};

/// How a role stands that people sign, or the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoleState {
    /// Which.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
    /// Who signs it: `institutions`, `registrars` or `host`.
    pub by: &'static str,
    /// Whether it is to be signed again: a third of its life is left, or less. The host sees to its own.
    pub due: bool,
}

/// What a member has said last.
#[derive(Clone, Debug)]
pub struct Said {
    /// The version of its role.
    pub version: u64,
    /// When it ends.
    pub expires: SystemTime,
    /// Its descriptor; `None` where it has revoked its keys.
    pub descriptor: Option<Descriptor>,
    /// The SHA-256 of the descriptor, in hexadecimal.
    pub sha256: Option<String>,
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

fn state<T: Dated>(role: &str, signed: &T, by: &'static str, due: bool) -> RoleState {
    RoleState {
        role: role.into(),
        version: signed.number(),
        expires: seconds(signed.end()),
        by,
        due,
    }
}

impl Repository {
    /// How the roles stand that institutions, registrars and the host sign.
    ///
    /// # Errors
    /// When there is no directory.
    pub fn roles(&self, now: SystemTime) -> Result<Vec<RoleState>, RepositoryError> {
        let root = self.root()?.signed.signed;
        let due = is_due(&root, INSTITUTIONS, now);
        let mut all = vec![state("root", &root, "institutions", due)];
        let Some(targets) = self.targets("targets")? else {
            return Ok(all);
        };
        let targets = targets.signed.signed;
        let due = is_due(&targets, INSTITUTIONS, now);
        all.push(state("targets", &targets, "institutions", due));
        let roles = targets.delegations.map(|all| all.roles).unwrap_or_default();
        for role in roles {
            if let Some(found) = self.targets(&role.name)? {
                let found = found.signed.signed;
                let due = is_due(&found, REGISTRARS, now);
                all.push(state(&role.name, &found, "registrars", due));
            }
        }
        if let Some(found) = self.snapshot()? {
            all.push(state("snapshot", &found.signed.signed, "host", false));
        }
        if let Some(found) = self.timestamp()? {
            all.push(state("timestamp", &found.signed.signed, "host", false));
        }
        Ok(all)
    }

    /// What a member has said last; `None` where it has said nothing. Signatures are not looked at: that
    /// is for [`Self::verify`].
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn said(&self, member: &TrustDomain) -> Result<Option<Said>, RepositoryError> {
        let Some(found) = self.targets(&names::role_of(member))? else {
            return Ok(None);
        };
        let role = found.signed.signed;
        let target = names::target_of(member);
        let named = metadata::target(&role, &target);
        let sha256 = named.map(|named| sekisho_certs::hex(&named.hashes.sha256));
        let mut descriptor = None;
        if let Some(hash) = &sha256 {
            let file = target_file(hash, &target);
            let bytes = self.read(&file, descriptor::MOST)?;
            let bytes =
                bytes.ok_or_else(|| RepositoryError::Missing(format!("{file} is missing")))?;
            let read = Descriptor::read(member, &bytes);
            let read = read.map_err(|error| RepositoryError::Descriptor {
                member: member.to_string(),
                error,
            })?;
            descriptor = Some(read);
        }
        Ok(Some(Said {
            version: role.number(),
            expires: role.end(),
            descriptor,
            sha256,
        }))
    }

    /// Puts a member's statement beside those that are there. It is signed by `keys`, of which it speaks.
    ///
    /// # Errors
    /// When it is none of this member, or is not signed by these keys.
    pub fn take_statement(
        &self,
        member: &TrustDomain,
        statement: SignedStatement,
        keys: &KeySet,
    ) -> Result<(), RepositoryError> {
        let said = statement.statement();
        let own = said.is_some_and(|said| said.member == member.as_str() && said.from == keys.id());
        if !own || !keys.have_signed(&statement.0) {
            let problem = format!("it is no statement of {member}, signed by its keys");
            return Err(RepositoryError::Refused(problem));
        }
        let mut all: Continuity = self.continuity(member)?;
        all.add(statement);
        self.publish(&continuity::file_of(member), &all.to_json())
    }
}
