//! What an attacker does with keys and files that he has: for tests of what it comes to.

use std::{num::NonZeroU64, time::SystemTime};

use sekisho_certs::TrustDomain;

use super::{Lives, Repository, RepositoryError, Submission, init::exactly_one, target_file};
use crate::directory::{
    continuity::{self, SignedStatement},
    key::Signer,
    metadata::{self, Dated as _, SPEC, Signed, Targets},
    names,
};

impl Repository {
    /// Puts what was sent into the folder, whatever it is.
    pub(crate) fn accept_unchecked(&self, sent: &Submission) -> Result<(), RepositoryError> {
        let (domain, role, descriptor) = sent.parts();
        if let Some(text) = descriptor {
            let hash = metadata::sha256(text.as_bytes());
            self.publish(
                &target_file(&hash, &names::target_of(&domain)),
                text.as_bytes(),
            )?;
        }
        self.put(&names::role_of(&domain), role)
    }

    /// Admits without looking, as registrars do who collude.
    pub(crate) fn admit_unchecked(
        &self,
        sent: &Submission,
        signers: &[&dyn Signer],
        now: SystemTime,
    ) -> Result<(), RepositoryError> {
        match self.admit(sent, signers, now) {
            Ok(_) => Ok(()),
            // It is in the bin then, and only its descriptor was not taken.
            Err(RepositoryError::Submission(_)) => self.accept_unchecked(sent),
            Err(error) => Err(error),
        }
    }

    /// A member's role by these keys over this text.
    pub(crate) fn accept_text(
        &self,
        domain: &TrustDomain,
        version: NonZeroU64,
        text: &[u8],
        signers: &[&dyn Signer],
        now: SystemTime,
    ) -> Result<(), RepositoryError> {
        let end = metadata::until(now, super::LIFE);
        let target = names::target_of(domain);
        let targets = Targets::new(SPEC.into(), version, end);
        let mut role = Signed {
            signed: exactly_one(targets, &target, text)?,
            signatures: Vec::new(),
        };
        metadata::sign(&mut role, signers)?;
        self.publish(&target_file(&metadata::sha256(text), &target), text)?;
        self.put(&names::role_of(domain), &role)
    }

    /// A snapshot and a timestamp that name these versions, whatever there is.
    pub(crate) fn host_says(
        &self,
        signer: &dyn Signer,
        says: &[(&str, u64)],
        now: SystemTime,
    ) -> Result<(), RepositoryError> {
        let before = self.snapshot()?;
        let before = before.map(|found| found.signed.signed);
        let number = before.as_ref().map_or(0, |one| one.number());
        let mut versions = std::collections::HashMap::new();
        for (file, meta) in before.map(|one| one.meta).unwrap_or_default() {
            let role = file.strip_suffix(".json").unwrap_or(&file);
            versions.insert(role.to_owned(), meta.version.get());
        }
        for (role, version) in says {
            versions.insert((*role).to_owned(), *version);
        }
        let lives = Lives::default();
        let version = super::ceremony::next(number)?;
        let bytes = self.write_snapshot(version, versions, signer, &lives, now)?;
        self.write_timestamp(version, &bytes, signer, &lives, now)?;
        Ok(())
    }

    /// Puts a statement of a member into the folder.
    pub(crate) fn add_statement(
        &self,
        domain: &TrustDomain,
        statement: SignedStatement,
    ) -> Result<(), RepositoryError> {
        let mut all = self.continuity(domain)?;
        all.add(statement);
        self.publish(&continuity::file_of(domain), &all.to_json())
    }
}
