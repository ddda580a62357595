//! Taking what members send into the folder.

use std::{num::NonZeroU64, time::SystemTime};

use sekisho_certs::{TrustDomain, id::parse_trust_domain};

use super::{
    Checked, Repository, RepositoryError, Submission, SubmissionError, member::VERSION, most,
    target_file, versioned,
};
use crate::directory::{
    continuity::{self, KeySet, SignedStatement, Verdict, What},
    descriptor::{self, Descriptor},
    metadata::{self, Dated as _, MetadataError, Targets},
    names,
};

/// So many bins are looked back for the keys that a member had before.
const BINS: u64 = 3;

impl Repository {
    /// Takes what a member has sent into the folder, if the directory says that its keys are the
    /// member's. The host's next snapshot shows it. True if it was new.
    ///
    /// # Errors
    /// When it does not hold, is older than what is there, or cannot be written.
    pub fn accept(&self, sent: &Submission, now: SystemTime) -> Result<bool, RepositoryError> {
        let checked = self.proven(sent, now)?;
        let domain = &checked.domain;
        let role = names::role_of(domain);
        let statements = self.continuity(domain)?;
        if !self.is_next(sent, &checked)? {
            return Ok(false);
        }
        if let Some(text) = &sent.descriptor {
            let hash = metadata::sha256(text.as_bytes());
            self.publish(
                &target_file(&hash, &names::target_of(domain)),
                text.as_bytes(),
            )?;
        }
        let role_bytes = serde_json::to_vec(&sent.role)?;
        if role_bytes.len() > most(&role) {
            let limit = most(&role);
            return Err(MetadataError::TooLarge { file: role, limit }.into());
        }
        if let Some(statement) = &sent.statement {
            let mut all = statements;
            if !self.may_say(domain, statement)? || !all.add(statement.clone()) {
                let problem =
                    "its statement is not signed by whom it has to be, or there are too many";
                return Err(SubmissionError::Form(problem.into()).into());
            }
            self.publish(&continuity::file_of(domain), &all.to_json())?;
        }
        self.put(&role, &sent.role)?;
        Ok(true)
    }

    /// Whether what was sent is the next version, or the first; false where it is what is there.
    ///
    /// # Errors
    /// When it is another version.
    pub(super) fn follows(
        &self,
        sent: &Submission,
        checked: &Checked,
    ) -> Result<bool, RepositoryError> {
        let Some(there) = self.targets(&names::role_of(&checked.domain))? else {
            return Ok(true);
        };
        if there.signed == sent.role {
            return Ok(false);
        }
        let known = there.signed.signed.number();
        if Some(checked.version) == known.checked_add(1) {
            return Ok(true);
        }
        Err(SubmissionError::Rollback {
            member: checked.domain.clone(),
            what: VERSION,
            found: checked.version,
            known,
        }
        .into())
    }

    /// Whether what was sent follows what is there; false where it is what is there. Whose it is, is another
    /// question.
    ///
    /// # Errors
    /// When it is older than what is there, is not the next version, or names another recovery key.
    fn is_next(&self, sent: &Submission, checked: &Checked) -> Result<bool, RepositoryError> {
        let domain = &checked.domain;
        if !self.follows(sent, checked)? {
            return Ok(false);
        }
        let Some(known) = self.targets(&names::role_of(domain))? else {
            return Ok(true);
        };
        let named = self.recovery_of(domain)?;
        let sent_names = checked.descriptor.as_ref().map(|one| one.recovery.clone());
        if named.is_some() && sent_names.is_some_and(|now| now != named) {
            let problem = "it names another recovery key than before: a thief would";
            return Err(SubmissionError::Form(problem.into()).into());
        }
        self.rises(domain, &known.signed.signed, checked.descriptor.as_ref())?;
        Ok(true)
    }

    /// Whether a statement is signed by the keys that it begins from, which are the member's or were it in
    /// one of its last bins, or by its recovery key.
    fn may_say(
        &self,
        domain: &TrustDomain,
        statement: &SignedStatement,
    ) -> Result<bool, RepositoryError> {
        let Some(said) = statement.statement() else {
            return Ok(false);
        };
        if let What::Rekey {
            recovery: Some(key),
            ..
        } = &said.what
        {
            let named = self.recovery_of(domain)?;
            let alone = KeySet::new(vec![key.clone()], NonZeroU64::MIN);
            return Ok(
                named == Some(key.id()) && alone.is_ok_and(|alone| alone.have_signed(&statement.0))
            );
        }
        let bin = self.bin_of(domain)?;
        let newest = self.targets_there(&bin)?.signed.signed.number();
        for version in (newest.saturating_sub(BINS)..=newest).rev() {
            let Some(found) = self.version::<Targets>(&bin, version)? else {
                continue;
            };
            let all = found.signed.signed.delegations.unwrap_or_default();
            let role = names::role_of(domain);
            let of_it = all.roles.iter().find(|one| one.name == role);
            let keys = of_it.and_then(|one| KeySet::of_role(&all, one));
            if let Some(keys) = keys.filter(|keys| keys.id() == said.from) {
                return Ok(keys.have_signed(&statement.0));
            }
        }
        Ok(false)
    }

    /// Whether what was sent is the word of the member that it says it is. Nothing is written.
    ///
    /// # Errors
    /// When it is not.
    pub fn proven(&self, sent: &Submission, now: SystemTime) -> Result<Checked, RepositoryError> {
        let checked = sent.check(now)?;
        let domain = &checked.domain;
        let role = names::role_of(domain);
        let bin = self.targets_there(&self.bin_of(domain)?)?.signed.signed;
        let delegations = bin.delegations.unwrap_or_default();
        if !delegations.roles.iter().any(|one| one.name == role) {
            return Err(SubmissionError::NotAMember(domain.clone()).into());
        }
        let file = versioned(&role, checked.version);
        metadata::signed_by_delegates(&file, &delegations, &sent.role, &role)?;
        let of_it = delegations.roles.iter().find(|one| one.name == role);
        let keys = of_it.and_then(|one| KeySet::of_role(&delegations, one));
        let statements = self.continuity(domain)?;
        if checked.descriptor.is_some() && keys.is_some_and(|keys| statements.has_revoked(&keys)) {
            return Err(SubmissionError::Revoked(domain.clone()).into());
        }
        Ok(checked)
    }

    /// What becomes of the keys of a member by what it has sent, as other sites will judge it; `None` of
    /// one that is no member.
    ///
    /// # Errors
    /// When what was sent names no member, or files cannot be read.
    pub fn verdict(&self, sent: &Submission) -> Result<Option<Verdict>, RepositoryError> {
        let domain = parse_trust_domain(&sent.trust_domain)
            .map_err(|error| SubmissionError::Form(error.to_string()))?;
        let Some((known, _)) = self.member(&domain)? else {
            return Ok(None);
        };
        let recovery = self.recovery_of(&domain)?;
        let mut all = self.continuity(&domain)?;
        if let Some(statement) = &sent.statement {
            all.add(statement.clone());
        }
        let now = sent.keys.as_ref().unwrap_or(&known);
        Ok(Some(all.judge(&known, false, recovery.as_deref(), now)))
    }

    /// The ID of the recovery key that a member has named last. A revocation names none: then what came
    /// before it counts.
    fn recovery_of(&self, member: &TrustDomain) -> Result<Option<String>, RepositoryError> {
        let (role, target) = (names::role_of(member), names::target_of(member));
        let known = self.targets(&role)?;
        let mut version = known.map_or(0, |found| found.signed.signed.number());
        while let Some(found) = self.version::<Targets>(&role, version)? {
            if let Some(named) = metadata::target(&found.signed.signed, &target) {
                let hash = sekisho_certs::hex(&named.hashes.sha256);
                let bytes = self.read(&target_file(&hash, &target), descriptor::MOST)?;
                let read = bytes.and_then(|bytes| Descriptor::read(member, &bytes).ok());
                return Ok(read.and_then(|one| one.recovery));
            }
            version = version.saturating_sub(1);
        }
        Ok(None)
    }

    /// Refuses a bundle that is older than the one that is there.
    fn rises(
        &self,
        domain: &TrustDomain,
        known: &Targets,
        sent: Option<&Descriptor>,
    ) -> Result<(), RepositoryError> {
        let (Some(sent), Some(named)) = (sent, metadata::target(known, &names::target_of(domain)))
        else {
            return Ok(());
        };
        let hash = sekisho_certs::hex(&named.hashes.sha256);
        let file = target_file(&hash, &names::target_of(domain));
        let before = self.read(&file, descriptor::MOST)?;
        let before = before.and_then(|bytes| Descriptor::read(domain, &bytes).ok());
        let sequence = |one: &Descriptor| one.bundle.sequence().unwrap_or_default();
        match before.as_ref().map(sequence) {
            Some(known) if known > sequence(sent) => Err(SubmissionError::Rollback {
                member: domain.clone(),
                what: "spiffe_sequence",
                found: sequence(sent),
                known,
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// The version of a member's role that comes next.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn next_version(&self, member: &TrustDomain) -> Result<NonZeroU64, RepositoryError> {
        let known = self.targets(&names::role_of(member))?;
        super::ceremony::next(known.map_or(0, |found| found.signed.signed.number()))
    }
}
