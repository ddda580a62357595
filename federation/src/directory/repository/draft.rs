//! Drafts: what has been proposed, and does not have enough signatures yet. Each institution adds its
//! own, on its own machine if it likes: signatures travel as files.

use serde::{Deserialize, Serialize};

use super::{Latest, Repository, RepositoryError, most, versioned};
use crate::directory::{
    continuity::KeySet,
    key::{KeyError, Signer},
    metadata::{self, Dated as _, MetadataError, RoleType, Root, Signature, Signed, Targets},
    names,
};

const FOLDER: &str = "drafts";

/// A draft, of one of the two forms there are.
#[derive(Clone, Debug)]
pub(super) enum Draft {
    Root(Signed<Root>),
    Targets(Signed<Targets>),
}

/// Whose signatures a draft lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lacking {
    /// Who has to sign: the role whose keys they are.
    pub by: String,
    /// How many have to.
    pub threshold: u64,
    /// The IDs of the keys that have signed.
    pub signed: Vec<String>,
    /// The IDs of the keys that may sign yet.
    pub open: Vec<String>,
}

impl Lacking {
    /// Whether enough have signed.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.signed.len() as u64 >= self.threshold
    }
}

/// How far a draft is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DraftState {
    /// Its role.
    pub role: String,
    /// The version that it is to become.
    pub version: u64,
    /// Who has to sign it. A new root needs those of the root before it too.
    pub signatures: Vec<Lacking>,
}

impl DraftState {
    /// Whether it may be published.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.signatures.iter().all(Lacking::is_enough)
    }
}

/// Signatures on their way from one institution to another.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Travelling {
    role: String,
    version: u64,
    signatures: Vec<Signature>,
}

impl Draft {
    fn version(&self) -> u64 {
        match self {
            Self::Root(root) => root.signed.number(),
            Self::Targets(targets) => targets.signed.number(),
        }
    }

    fn signatures(&mut self) -> &mut Vec<Signature> {
        match self {
            Self::Root(root) => &mut root.signatures,
            Self::Targets(targets) => &mut targets.signatures,
        }
    }

    fn sign(&mut self, signers: &[&dyn Signer]) -> Result<(), KeyError> {
        match self {
            Self::Root(root) => metadata::sign(root, signers),
            Self::Targets(targets) => metadata::sign(targets, signers),
        }
    }

    /// The keys of a set that have signed.
    fn signed(&self, set: &KeySet) -> Vec<String> {
        let has = |key: &&crate::directory::key::PublicKey| match self {
            Self::Root(root) => metadata::has_signed_root(key, root),
            Self::Targets(targets) => metadata::has_signed_targets(key, targets),
        };
        let signed = set.keys().iter().filter(has);
        signed.map(crate::directory::key::PublicKey::id).collect()
    }

    fn to_json(&self) -> Result<Vec<u8>, KeyError> {
        Ok(match self {
            Self::Root(root) => serde_json::to_vec_pretty(root)?,
            Self::Targets(targets) => serde_json::to_vec_pretty(targets)?,
        })
    }
}

fn file_of(role: &str) -> String {
    format!("{FOLDER}/{role}.json")
}

impl Repository {
    /// The draft of a role, if there is one.
    pub(super) fn draft(&self, role: &str) -> Result<Option<Draft>, RepositoryError> {
        let file = file_of(role);
        let Some(bytes) = self.read(&file, most(role))? else {
            return Ok(None);
        };
        Ok(Some(if role == "root" {
            Draft::Root(metadata::parse(&file, &bytes)?)
        } else {
            Draft::Targets(metadata::parse(&file, &bytes)?)
        }))
    }

    pub(super) fn draft_there(&self, role: &str) -> Result<Draft, RepositoryError> {
        // It becomes the name of a file.
        if !is_drafted(role) {
            let text = format!("{role:?} is no role of which there are drafts");
            return Err(RepositoryError::Refused(text));
        }
        self.draft(role)?.ok_or_else(|| {
            RepositoryError::Missing(format!("there is no draft of the role {role}"))
        })
    }

    pub(super) fn save_draft(&self, role: &str, draft: &Draft) -> Result<(), RepositoryError> {
        self.write(&file_of(role), &draft.to_json()?)
    }

    /// Who has to sign a role.
    pub(super) fn who_signs(
        &self,
        role: &str,
        draft: &Draft,
    ) -> Result<Vec<(String, KeySet)>, RepositoryError> {
        if let Draft::Root(new) = draft {
            let mut all = Vec::new();
            let number = new.signed.number();
            if number > 1 {
                let before = self.version::<Root>("root", number - 1)?;
                let before = before.ok_or_else(|| {
                    RepositoryError::Missing(versioned("root", number - 1) + " is missing")
                })?;
                let keys = of_root(&before.signed.signed, RoleType::Root)?;
                all.push((format!("root {}", number - 1), keys));
            }
            let keys = of_root(&new.signed, RoleType::Root)?;
            all.push((format!("root {number}"), keys));
            return Ok(all);
        }
        if role == "targets" {
            return Ok(vec![("targets".into(), self.institutions()?)]);
        }
        let keys_by = |targets: &Targets| {
            let all = targets.delegations.as_ref()?;
            let of_it = all.roles.iter().find(|one| one.name == role)?;
            KeySet::of_role(all, of_it)
        };
        let published = self.targets("targets")?;
        let mut keys = published.and_then(|found| keys_by(&found.signed.signed));
        // A bin that is to be one with the next targets.
        if keys.is_none()
            && let Some(Draft::Targets(next)) = self.draft("targets")?
        {
            keys = keys_by(&next.signed);
        }
        let keys = keys.ok_or_else(|| {
            RepositoryError::Missing(format!("nobody is named who signs the role {role}"))
        })?;
        Ok(vec![(role.into(), keys)])
    }

    /// The keys of the institutions for `targets`, by the root that is there, or is drafted.
    fn institutions(&self) -> Result<KeySet, RepositoryError> {
        let root = match self.root() {
            Ok(Latest { signed, .. }) => signed,
            Err(error) => match self.draft("root")? {
                Some(Draft::Root(draft)) => draft,
                _ => return Err(error),
            },
        };
        of_root(&root.signed, RoleType::Targets)
    }

    fn state(&self, role: &str, draft: &Draft) -> Result<DraftState, RepositoryError> {
        let signatures = self.who_signs(role, draft)?.into_iter().map(|(by, set)| {
            let signed = draft.signed(&set);
            let ids = set.keys().iter().map(|key| key.id());
            Lacking {
                by,
                threshold: set.threshold().get(),
                open: ids.filter(|id| !signed.contains(id)).collect(),
                signed,
            }
        });
        Ok(DraftState {
            role: role.into(),
            version: draft.version(),
            signatures: signatures.collect(),
        })
    }

    /// What is drafted, and how far it is.
    ///
    /// # Errors
    /// When a draft cannot be read.
    pub fn drafts(&self) -> Result<Vec<DraftState>, RepositoryError> {
        let path = self.path(FOLDER);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(RepositoryError::Io { path, error }),
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut roles: Vec<String> = names
            .filter_map(|name| name.strip_suffix(".json").map(ToOwned::to_owned))
            .filter(|role| is_drafted(role))
            .collect();
        roles.sort();
        let mut all = Vec::new();
        for role in roles {
            let draft = self.draft_there(&role)?;
            all.push(self.state(&role, &draft)?);
        }
        Ok(all)
    }

    /// Those of the keys that may sign a draft: one at least.
    pub(super) fn able<'a>(
        &self,
        role: &str,
        draft: &Draft,
        signers: &[&'a dyn Signer],
    ) -> Result<Vec<&'a dyn Signer>, RepositoryError> {
        let who = self.who_signs(role, draft)?;
        let may = |signer: &&&dyn Signer| {
            let id = signer.public().id();
            who.iter()
                .any(|(_, set)| set.keys().iter().any(|key| key.id() == id))
        };
        let able: Vec<&'a dyn Signer> = signers.iter().filter(may).copied().collect();
        if able.is_empty() {
            let ids: Vec<String> = signers.iter().map(|one| one.public().id()).collect();
            return Err(RepositoryError::Refused(format!(
                "the key {} may not sign the role {role}",
                ids.join(", ")
            )));
        }
        Ok(able)
    }

    /// Signs a draft by each of these keys that may sign it.
    ///
    /// # Errors
    /// When there is no such draft, or none of the keys may sign it.
    pub fn sign_draft(
        &self,
        role: &str,
        signers: &[&dyn Signer],
    ) -> Result<DraftState, RepositoryError> {
        let mut draft = self.draft_there(role)?;
        let able = self.able(role, &draft, signers)?;
        draft.sign(&able)?;
        self.save_draft(role, &draft)?;
        self.state(role, &draft)
    }

    /// The signatures of a draft, as a file to be sent.
    ///
    /// # Errors
    /// When there is no such draft.
    pub fn signatures_of_draft(&self, role: &str) -> Result<Vec<u8>, RepositoryError> {
        let mut draft = self.draft_there(role)?;
        let travelling = Travelling {
            role: role.into(),
            version: draft.version(),
            signatures: draft.signatures().clone(),
        };
        Ok(serde_json::to_vec_pretty(&travelling).map_err(KeyError::from)?)
    }

    /// Takes signatures that were sent into the draft of this folder. They are of the same draft, or
    /// nothing is taken.
    ///
    /// # Errors
    /// When they are no signatures, of another draft, or none of them holds here.
    pub fn merge_signatures(&self, bytes: &[u8]) -> Result<DraftState, RepositoryError> {
        let sent: Travelling =
            serde_json::from_slice(bytes).map_err(|error| MetadataError::Json {
                file: "signatures".into(),
                problem: error.to_string(),
            })?;
        let role = sent.role.as_str();
        let mut draft = self.draft_there(role)?;
        if sent.version != draft.version() {
            return Err(RepositoryError::Refused(format!(
                "the signatures are of version {} of the role {role}, and the draft here is of version {}",
                sent.version,
                draft.version()
            )));
        }
        let who = self.who_signs(role, &draft)?;
        let before = draft.clone();
        for signature in sent.signatures {
            let signatures = draft.signatures();
            signatures.retain(|one| one.keyid != signature.keyid);
            signatures.push(signature);
        }
        // What does not hold of the one that was there must not go by what was sent.
        let holds = |of: &Draft| -> Vec<String> {
            let mut all: Vec<String> = who.iter().flat_map(|(_, set)| of.signed(set)).collect();
            all.sort();
            all.dedup();
            all
        };
        let (old, new) = (holds(&before), holds(&draft));
        if new.iter().all(|id| old.contains(id)) && new.len() <= old.len() {
            return Err(RepositoryError::Refused(format!(
                "none of the signatures holds for the draft of the role {role} that is here: is it the same draft?"
            )));
        }
        if old.iter().any(|id| !new.contains(id)) {
            return Err(RepositoryError::Refused(format!(
                "a signature that was sent would undo one that is here, of the role {role}"
            )));
        }
        draft
            .signatures()
            .retain(|one| new.contains(&sekisho_certs::hex(&one.keyid)));
        self.save_draft(role, &draft)?;
        self.state(role, &draft)
    }

    /// Publishes a draft that has enough signatures.
    ///
    /// # Errors
    /// When it has not, or another was published meanwhile.
    pub fn publish_draft(&self, role: &str) -> Result<DraftState, RepositoryError> {
        let draft = self.draft_there(role)?;
        let state = self.state(role, &draft)?;
        if let Some(lacking) = state.signatures.iter().find(|one| !one.is_enough()) {
            return Err(RepositoryError::Refused(format!(
                "the role {role} has {} of {} signatures of {}",
                lacking.signed.len(),
                lacking.threshold,
                lacking.by
            )));
        }
        let next = match role {
            "root" => self.newest("root", 0) + 1,
            role => {
                self.targets(role)?
                    .map_or(0, |found| found.signed.signed.number())
                    + 1
            }
        };
        if state.version != next {
            return Err(RepositoryError::Refused(format!(
                "the draft is version {} of the role {role}, and the next one is {next}: propose it anew",
                state.version
            )));
        }
        match &draft {
            Draft::Root(root) => self.put(role, root)?,
            Draft::Targets(targets) => self.put(role, targets)?,
        }
        self.remove(&file_of(role))?;
        Ok(state)
    }

    /// Throws a draft away.
    ///
    /// # Errors
    /// When there is none.
    pub fn discard_draft(&self, role: &str) -> Result<(), RepositoryError> {
        self.draft_there(role)?;
        self.remove(&file_of(role))
    }

    /// Publishes a draft if it is complete.
    pub(super) fn publish_if_complete(&self, role: &str) -> Result<DraftState, RepositoryError> {
        let state = self.state(role, &self.draft_there(role)?)?;
        if state.is_complete() {
            self.publish_draft(role)?;
        }
        Ok(state)
    }
}

/// The keys that a root has for a role.
pub(super) fn of_root(root: &Root, role: RoleType) -> Result<KeySet, RepositoryError> {
    let lacks = || RepositoryError::Refused(format!("the root has no keys for {role:?}"));
    let of_it = root.roles.get(&role).ok_or_else(lacks)?;
    let keys = of_it.keyids.iter().filter_map(|id| root.keys.get(id));
    let keys = keys
        .cloned()
        .map(crate::directory::key::PublicKey)
        .collect();
    KeySet::new(keys, of_it.threshold).map_err(|_| lacks())
}

/// Whether a role is one that is drafted: not those of the host and of members.
pub(super) fn is_drafted(role: &str) -> bool {
    let is_bin = role == "bin"
        || role.strip_prefix("bin-").is_some_and(|digits| {
            (1..=2).contains(&digits.len()) && digits.bytes().all(|one| one.is_ascii_hexdigit())
        });
    is_bin || ["root", "targets", names::MARKS].contains(&role)
}
