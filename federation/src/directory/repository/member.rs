//! What a member sends: its request, its descriptor anew, its next keys, or that they are revoked.

use std::{
    num::NonZeroU64,
    time::{Duration, SystemTime},
};

use sekisho_certs::{TrustDomain, id::parse_trust_domain};
use serde::{Deserialize, Serialize};

use super::{Repository, RepositoryError, init::exactly_one, most, target_file, versioned};
use crate::directory::{
    continuity::{self, KeySet, SignedStatement, Statement, Verdict, What},
    descriptor::{self, Descriptor, DescriptorError},
    key::{KeyError, PublicKey, Signer},
    metadata::{self, Dated as _, MetadataError, SPEC, Signed, Targets},
    names,
};

/// Most bytes of what a member sends.
pub const MOST: usize = 1024 * 1024;
/// So many bins are looked back for the keys that a member had before.
const BINS: u64 = 3;
/// How long what a member signs is valid.
pub const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why what a member has sent is refused.
#[derive(Debug, thiserror::Error)]
pub enum SubmissionError {
    /// Its descriptor is refused.
    #[error("{member}: descriptor: {error}")]
    Descriptor {
        /// Whose.
        member: String,
        /// Why.
        error: DescriptorError,
    },
    /// It is none, or does not fit together.
    #[error("not what a member sends: {0}")]
    Form(String),
    /// Its metadata is refused.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The sender is no member.
    #[error("{0} is not a member, or is suspended")]
    NotAMember(TrustDomain),
    /// It has revoked its keys.
    #[error("{0} has revoked the keys that it signs by")]
    Revoked(TrustDomain),
    /// What it says is older than what is there.
    #[error("{member}: {what} {found} is sent, and {known} is there")]
    Rollback {
        /// Whose.
        member: TrustDomain,
        /// `version` or `spiffe_sequence`.
        what: &'static str,
        /// What was sent.
        found: u64,
        /// What is there.
        known: u64,
    },
}

impl SubmissionError {
    /// The word for it in log and answer.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Descriptor { .. } => "descriptor",
            Self::Form(_) => "malformed",
            Self::Metadata(error) => error.reason(),
            Self::NotAMember(_) => "not_a_member",
            Self::Revoked(_) => "revoked",
            Self::Rollback { .. } => "rollback",
        }
    }
}

/// What a member sends to the directory, by whatever way: it proves itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    trust_domain: String,
    /// Its keys, where the registrars are to take them: a request, or new keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<KeySet>,
    role: Signed<Targets>,
    /// As it is signed, byte by byte. None with a revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    descriptor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    statement: Option<SignedStatement>,
}

/// A submission that fits together. Whether it is the member's, the directory has to say.
#[derive(Debug)]
pub struct Checked {
    /// Whose.
    pub domain: TrustDomain,
    /// The keys that are to be its own, by which it has signed.
    pub keys: Option<KeySet>,
    /// What it says of itself; `None` with a revocation.
    pub descriptor: Option<Descriptor>,
    /// The version of its role.
    pub version: u64,
}

impl Submission {
    /// A member's word of itself: this version of its role, with this descriptor.
    ///
    /// # Errors
    /// When a key does not sign.
    pub fn new(
        descriptor: &Descriptor,
        version: NonZeroU64,
        signers: &[&dyn Signer],
        now: SystemTime,
    ) -> Result<Self, KeyError> {
        let domain = descriptor.bundle.trust_domain();
        let text = descriptor.to_json();
        let targets = Targets::new(SPEC.into(), version, metadata::until(now, LIFE));
        let mut role = Signed {
            signed: exactly_one(targets, &names::target_of(domain), &text)
                .map_err(|error| KeyError::Refused(error.to_string()))?,
            signatures: Vec::new(),
        };
        metadata::sign(&mut role, signers)?;
        Ok(Self {
            trust_domain: domain.to_string(),
            keys: None,
            role,
            descriptor: Some(String::from_utf8_lossy(&text).into_owned()),
            statement: None,
        })
    }

    /// The same, as a request: these keys are to be the member's.
    #[must_use]
    pub fn with_keys(mut self, keys: KeySet) -> Self {
        self.keys = Some(keys);
        self
    }

    /// The same, with the word of the keys before, or of the recovery key, that these follow them.
    ///
    /// # Errors
    /// When a key does not sign.
    pub fn with_rekey(
        mut self,
        from: &KeySet,
        to: KeySet,
        recovery: Option<PublicKey>,
        signers: &[&dyn Signer],
    ) -> Result<Self, KeyError> {
        let statement = Statement {
            member: self.trust_domain.clone(),
            from: from.id(),
            what: What::Rekey {
                to: to.clone(),
                recovery,
            },
        };
        let version = self.role.signed.version;
        self.statement = Some(SignedStatement::new(&statement, version, signers)?);
        self.keys = Some(to);
        Ok(self)
    }

    /// A member's word that its keys are not to be trusted any more.
    ///
    /// # Errors
    /// When a key does not sign.
    pub fn revocation(
        member: &TrustDomain,
        keys: &KeySet,
        version: NonZeroU64,
        signers: &[&dyn Signer],
    ) -> Result<Self, KeyError> {
        let statement = Statement {
            member: member.to_string(),
            from: keys.id(),
            what: What::Revoke,
        };
        let statement = SignedStatement::new(&statement, version, signers)?;
        Ok(Self {
            trust_domain: member.to_string(),
            keys: None,
            role: statement.0.clone(),
            descriptor: None,
            statement: Some(statement),
        })
    }

    /// A member's word that keys which the directory names were never its own: for
    /// `continuity/NAME.json`, and for the gossip between sites.
    ///
    /// # Errors
    /// When a key does not sign.
    pub fn veto(
        member: &TrustDomain,
        own: &KeySet,
        against: &KeySet,
        signers: &[&dyn Signer],
    ) -> Result<SignedStatement, KeyError> {
        let statement = Statement {
            member: member.to_string(),
            from: own.id(),
            what: What::Veto {
                against: against.id(),
            },
        };
        SignedStatement::new(&statement, NonZeroU64::MIN, signers)
    }

    /// The statement that comes with it, if there is one.
    #[must_use]
    pub const fn statement(&self) -> Option<&SignedStatement> {
        self.statement.as_ref()
    }

    #[cfg(test)]
    pub(super) fn parts(&self) -> (TrustDomain, &Signed<Targets>, Option<&str>) {
        let domain = parse_trust_domain(&self.trust_domain).unwrap();
        (domain, &self.role, self.descriptor.as_deref())
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is none, or longer than [`MOST`].
    pub fn read(bytes: &[u8]) -> Result<Self, SubmissionError> {
        if bytes.len() > MOST {
            return Err(SubmissionError::Form(format!("longer than {MOST} bytes")));
        }
        serde_json::from_slice(bytes).map_err(|error| SubmissionError::Form(error.to_string()))
    }

    /// As it is sent.
    ///
    /// # Errors
    /// Never, for one that was made or read.
    pub fn to_json(&self) -> Result<Vec<u8>, KeyError> {
        Ok(serde_json::to_vec_pretty(self)?)
    }

    /// Whether it fits together at `now`.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check(&self, now: SystemTime) -> Result<Checked, SubmissionError> {
        let form = |problem: String| SubmissionError::Form(problem);
        let domain =
            parse_trust_domain(&self.trust_domain).map_err(|error| form(error.to_string()))?;
        if !names::fits(&domain) {
            return Err(form(format!("{domain} is too long to be a member's name")));
        }
        let role = names::role_of(&domain);
        let file = versioned(&role, self.role.signed.number());
        metadata::fresh(&file, &self.role.signed, now)?;
        if self
            .role
            .signed
            .delegations
            .as_ref()
            .is_some_and(|all| !all.roles.is_empty())
        {
            return Err(form(format!("{file}: a member delegates to nobody")));
        }
        if let Some(keys) = &self.keys
            && !keys.have_signed(&self.role)
        {
            let problem = "it is not signed by the keys that it names".into();
            return Err(MetadataError::Signatures { file, problem }.into());
        }
        if let Some(statement) = &self.statement {
            let said = statement
                .statement()
                .filter(|said| said.member == self.trust_domain);
            said.ok_or_else(|| form("its statement is none of this member".into()))?;
        }
        let descriptor = match &self.descriptor {
            None if continuity::revocation_of(&domain, &self.role.signed).is_some() => None,
            None => return Err(form("the descriptor is missing".into())),
            Some(text) => Some(self.described(&domain, text)?),
        };
        Ok(Checked {
            domain,
            keys: self.keys.clone(),
            descriptor,
            version: self.role.signed.number(),
        })
    }

    fn described(&self, domain: &TrustDomain, text: &str) -> Result<Descriptor, SubmissionError> {
        let target = names::target_of(domain);
        let role = &self.role.signed;
        let named = metadata::target(role, &target).filter(|_| role.targets.len() == 1);
        let named = named.ok_or_else(|| {
            SubmissionError::Form(format!("its role has to have the one target {target}"))
        })?;
        let bytes = text.as_bytes();
        metadata::is_what_was_named(&target, bytes, Some(&named.hashes), Some(named.length))?;
        if bytes.len() > descriptor::MOST {
            let problem = format!("a descriptor is longer than {} bytes", descriptor::MOST);
            return Err(SubmissionError::Form(problem));
        }
        Descriptor::read(domain, bytes).map_err(|error| SubmissionError::Descriptor {
            member: domain.to_string(),
            error,
        })
    }
}

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
        let known = self.targets(&role)?;
        if let Some(known) = &known {
            if known.signed == sent.role {
                return Ok(false);
            }
            let known_version = known.signed.signed.number();
            if checked.version != known_version + 1 {
                return Err(SubmissionError::Rollback {
                    member: domain.clone(),
                    what: "version",
                    found: checked.version,
                    known: known_version,
                }
                .into());
            }
            let named = self.recovery_of(domain)?;
            let sent_names = checked.descriptor.as_ref().map(|one| one.recovery.clone());
            if named.is_some() && sent_names.is_some_and(|now| now != named) {
                let problem = "it names another recovery key than before: a thief would";
                return Err(SubmissionError::Form(problem.into()).into());
            }
            self.rises(domain, &known.signed.signed, checked.descriptor.as_ref())?;
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
