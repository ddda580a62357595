//! What a member sends: its request, its descriptor anew, its next keys, or that they are revoked.

use std::{
    num::NonZeroU64,
    time::{Duration, SystemTime},
};

use sekisho_certs::{TrustDomain, id::parse_trust_domain};
use serde::{Deserialize, Serialize};

use super::{init::exactly_one, versioned};
use crate::directory::{
    continuity::{self, KeySet, SignedStatement, Statement, What},
    descriptor::{self, Descriptor, DescriptorError},
    key::{KeyError, PublicKey, Signer},
    metadata::{self, Dated as _, MetadataError, SPEC, Signed, Targets},
    names,
};

/// Most bytes of what a member sends.
pub const MOST: usize = 1024 * 1024;
/// What went back: the version of the role.
pub(super) const VERSION: &str = "version";
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

    /// The version of the member's role that is there, where what was sent does not follow it.
    #[must_use]
    pub fn known(&self) -> Option<u64> {
        match self {
            Self::Rollback { what, known, .. } => (*what == VERSION).then_some(*known),
            _ => None,
        }
    }
}

/// What a member sends to the directory, by whatever way: it proves itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    pub(super) trust_domain: String,
    /// Its keys, where the registrars are to take them: a request, or new keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) keys: Option<KeySet>,
    pub(super) role: Signed<Targets>,
    /// As it is signed, byte by byte. None with a revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) descriptor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) statement: Option<SignedStatement>,
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
