//! What a member has said of its own keys, beside them: for other sites to hear from this one, whatever the
//! directory shows them.

use std::{collections::BTreeSet, fs, io, path::Path};

use sekisho_certs::persist;

use super::{Membership, MembershipError};
use crate::directory::continuity::{STATEMENT, SignedStatement, What};

/// The file of them, in the member's folder.
const FILE: &str = "statements.json";
/// So many are kept.
const KEPT: usize = 8;

/// Keeps a revocation or a veto in the folder of the member whose it is: its authority tells it to other sites.
/// Where there are too many, the oldest veto gives way; a revocation never does.
///
/// # Errors
/// When what is there cannot be read, or it cannot be written.
pub fn keep(folder: &Path, statement: &SignedStatement) -> Result<(), MembershipError> {
    let mut all = read(folder)?;
    // The same may be signed twice, as different versions.
    let said = statement.statement();
    if all.iter().any(|one| one.statement() == said) {
        return Ok(());
    }
    all.push(statement.clone());
    if all.len() > KEPT {
        let is_veto = |one: &SignedStatement| {
            let said = one.statement();
            said.is_none_or(|said| said.what != What::Revoke)
        };
        let oldest = all.iter().position(is_veto).unwrap_or_default();
        all.remove(oldest);
    }
    let failed = |error| MembershipError::Io {
        path: folder.join(FILE),
        error,
    };
    let text = serde_json::to_vec_pretty(&all).map_err(|error| failed(error.into()))?;
    persist::replace(&folder.join(FILE), &text, false).map_err(failed)
}

fn read(folder: &Path) -> Result<Vec<SignedStatement>, MembershipError> {
    use io::Read as _;
    let failed = |error| MembershipError::Io {
        path: folder.join(FILE),
        error,
    };
    let file = match fs::File::open(folder.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    // As they are written for people, twice as long.
    let most = u64::try_from(2 * KEPT * STATEMENT).unwrap_or(u64::MAX);
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text).map_err(failed)?;
    let mut all: Vec<SignedStatement> =
        serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
    all.retain(SignedStatement::is_small);
    all.truncate(KEPT);
    Ok(all)
}

/// The IDs of the keys that the member has revoked itself.
///
/// # Errors
/// When it cannot be read.
pub fn revoked(folder: &Path) -> Result<BTreeSet<String>, MembershipError> {
    let all = read(folder)?;
    let said = all.iter().filter_map(SignedStatement::statement);
    let revoked = said.filter(|said| said.what == What::Revoke);
    Ok(revoked.map(|said| said.from).collect())
}

impl Membership {
    /// What the member has said of its own keys ([`keep`]).
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn statements(&self) -> Result<Vec<SignedStatement>, MembershipError> {
        read(self.0.path())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::directory::{
        continuity::KeySet,
        fixture::Member,
        key::{FileKey, Signer as _},
        repository::Submission,
    };

    #[test]
    fn a_revocation_is_kept_whatever_else_is_said() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), []);
        let member = Member::new("a.example");
        let (domain, own) = (&member.domain, member.set());
        let revoked = Submission::revocation(domain, &own, NonZeroU64::MIN, &[&member.key]);
        let revoked = revoked.unwrap().statement().unwrap().clone();
        keep(folder.path(), &revoked).unwrap();
        keep(folder.path(), &revoked).unwrap();
        assert_eq!(read(folder.path()).unwrap().len(), 1);
        for _ in 0..KEPT + 2 {
            let other = FileKey::generate().unwrap().public();
            let against = KeySet::new(vec![other], NonZeroU64::MIN).unwrap();
            let veto = Submission::veto(domain, &own, &against, &[&member.key]).unwrap();
            keep(folder.path(), &veto).unwrap();
            assert!(read(folder.path()).unwrap().contains(&veto));
        }
        let all = read(folder.path()).unwrap();
        assert_eq!(all.len(), KEPT);
        assert!(all.contains(&revoked));
        fs::write(folder.path().join(FILE), "{").unwrap();
        let error = keep(folder.path(), &revoked).unwrap_err().to_string();
        assert!(error.contains(FILE), "{error}");
    }
}
