//! What a member says of itself: its bundle, its services, and how long it may be believed.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use sekisho_certs::{
    BundleError, TrustBundle, TrustDomain,
    id::parse_workload_id,
    members::{Gateway, MAX_SERVICES, Mark, MemberError, Service},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most bytes of a descriptor.
pub const MOST: usize = 512 * 1024;
/// How long a member is believed without a new word of it, unless it says otherwise.
pub const MAX_STALE: Duration = Duration::from_secs(7 * 24 * 3600);
/// The shortest that it may ask for, and the longest.
const STALE: [u64; 2] = [3600, 90 * 24 * 3600];
/// Most endpoints, and contacts, of a member.
const FEW: usize = 16;
/// Most bytes of an address, or of a contact.
const TEXT: usize = 2048;

/// Why a descriptor is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DescriptorError {
    /// Its bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// It is not one.
    #[error("not a descriptor: {0}")]
    Json(String),
    /// A service cannot be used.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// It stands under another name than its own.
    #[error("it is the descriptor of {0:?}")]
    OfAnother(String),
    /// A value is not as it has to be.
    #[error("`{field}`: {problem}")]
    Value {
        /// Which.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// A bundle endpoint of the member, for whoever federates with it pairwise.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Its address.
    pub url: String,
    /// `https_web` or `https_spiffe` (SPIFFE_Federation.md §5.2).
    pub profile: String,
    /// Who answers there, for `https_spiffe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_spiffe_id: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct ServiceText {
    name: String,
    gateways: Vec<String>,
    spiffe_id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    marks: Vec<String>,
}

/// As it is written. Members of the object that are not known are let be: a later version may say more.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Text {
    trust_domain: String,
    bundle: Value,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    services: Vec<ServiceText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    endpoints: Vec<Endpoint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_stale: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recovery_key_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    contacts: Vec<String>,
}

/// What a member says of itself. Its marks are not here: others give them.
#[derive(Clone, Debug, PartialEq)]
pub struct Descriptor {
    /// Its bundle. One without keys: trust nobody of this member.
    pub bundle: Arc<TrustBundle>,
    /// What may be reached at it.
    pub services: Vec<Service>,
    /// Its bundle endpoints.
    pub endpoints: Vec<Endpoint>,
    /// How long it is believed without a new word of it. Default: seven days.
    pub max_stale: Duration,
    /// The ID of the key by which it gets its keys back when they are stolen.
    pub recovery: Option<String>,
    /// How to reach its people.
    pub contacts: Vec<String>,
}

impl Descriptor {
    /// One with a bundle alone.
    #[must_use]
    pub const fn new(bundle: Arc<TrustBundle>) -> Self {
        Self {
            bundle,
            services: Vec::new(),
            endpoints: Vec::new(),
            max_stale: MAX_STALE,
            recovery: None,
            contacts: Vec::new(),
        }
    }

    /// Reads the descriptor of `domain`.
    ///
    /// # Errors
    /// Each of [`DescriptorError`]'s variants.
    pub fn read(domain: &TrustDomain, bytes: &[u8]) -> Result<Self, DescriptorError> {
        let text: Text = serde_json::from_slice(bytes)
            .map_err(|error| DescriptorError::Json(error.to_string()))?;
        if text.trust_domain != domain.as_str() {
            return Err(DescriptorError::OfAnother(text.trust_domain));
        }
        let bundle = text.bundle.to_string();
        let bundle = TrustBundle::from_json(domain.clone(), bundle.as_bytes())?;
        if text.services.len() > MAX_SERVICES {
            return Err(value("services", format!("more than {MAX_SERVICES}")));
        }
        let services = text.services.iter().map(|one| service(domain, one));
        let services = services.collect::<Result<Vec<_>, _>>()?;
        let mut names = BTreeSet::new();
        if let Some(twice) = services.iter().find(|one| !names.insert(one.name())) {
            return Err(value(
                "services",
                format!("{} stands there twice", twice.name()),
            ));
        }
        few(
            "endpoints",
            text.endpoints.iter().map(|one| one.url.as_str()),
        )?;
        few("contacts", text.contacts.iter().map(String::as_str))?;
        if let Some(hash) = &text.recovery_key_hash {
            key_id(hash)?;
        }
        let [shortest, longest] = STALE;
        let max_stale = match text.max_stale {
            None => MAX_STALE,
            Some(seconds) if (shortest..=longest).contains(&seconds) => {
                Duration::from_secs(seconds)
            }
            Some(seconds) => {
                let problem = format!("{seconds} is not from {shortest} to {longest} seconds");
                return Err(value("max_stale", problem));
            }
        };
        Ok(Self {
            bundle: Arc::new(bundle),
            services,
            endpoints: text.endpoints,
            max_stale,
            recovery: text.recovery_key_hash,
            contacts: text.contacts,
        })
    }

    /// As it is written and signed.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let services = self.services.iter().map(|one| ServiceText {
            name: one.name().into(),
            gateways: one.gateways().iter().map(ToString::to_string).collect(),
            spiffe_id: one.id().to_string(),
            marks: one.marks().iter().map(ToString::to_string).collect(),
        });
        let text = Text {
            trust_domain: self.bundle.trust_domain().to_string(),
            bundle: self.bundle.to_json(),
            services: services.collect(),
            endpoints: self.endpoints.clone(),
            max_stale: Some(self.max_stale.as_secs()),
            recovery_key_hash: self.recovery.clone(),
            contacts: self.contacts.clone(),
        };
        // Strings and numbers: nothing that could not be written.
        serde_json::to_vec(&text).unwrap_or_default()
    }
}

fn value(field: &'static str, problem: String) -> DescriptorError {
    DescriptorError::Value { field, problem }
}

fn few<'a>(
    field: &'static str,
    texts: impl ExactSizeIterator<Item = &'a str>,
) -> Result<(), DescriptorError> {
    if texts.len() > FEW {
        return Err(value(field, format!("more than {FEW}")));
    }
    for text in texts {
        if text.len() > TEXT || text.chars().any(char::is_control) {
            let problem = format!("longer than {TEXT} bytes, or with control characters in it");
            return Err(value(field, problem));
        }
    }
    Ok(())
}

/// The ID of a key: 64 hexadecimal digits.
fn key_id(text: &str) -> Result<(), DescriptorError> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() == 64 && text.bytes().all(digit) {
        return Ok(());
    }
    let problem = "64 lower-case hexadecimal digits are expected".into();
    Err(value("recovery_key_hash", problem))
}

fn service(domain: &TrustDomain, text: &ServiceText) -> Result<Service, DescriptorError> {
    let gateways = text.gateways.iter().map(|one| one.parse::<Gateway>());
    let gateways = gateways.collect::<Result<_, _>>()?;
    let marks = text.marks.iter().map(|one| one.parse::<Mark>());
    let marks = marks.collect::<Result<_, _>>()?;
    let id = parse_workload_id(&text.spiffe_id)
        .map_err(|error| value("spiffe_id", error.to_string()))?;
    if id.trust_domain() != domain {
        return Err(DescriptorError::Member(MemberError::ServiceOfAnother {
            name: text.name.clone(),
            member: domain.clone(),
        }));
    }
    Ok(Service::new(&text.name, gateways, id, marks)?)
}

#[cfg(test)]
mod tests;
