//! What a command line says of a federation relationship.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sekisho_certs::id::parse_trust_domain;
use sekisho_spire_api::types::{
    Bundle, FederationRelationship, FederationRelationshipMask, HttpsWebProfile,
    HttpsspiffeProfile, federation_relationship::BundleEndpointProfile,
};

use super::Whose;
use crate::{
    bundle::{Given, given},
    commands::{Asked, bundle::sent, value},
};

/// How an endpoint proves who it is (SPIFFE_Federation.md §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Profile {
    /// By a certificate of the web
    HttpsWeb,
    /// By an X.509-SVID
    HttpsSpiffe,
}

/// What is wrong with what was said.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// The profile needs it.
    #[error("--profile https_spiffe: whose SVID the endpoint has must be said with --endpoint-id")]
    NoEndpoint,
    /// The profile has none.
    #[error("--endpoint-id is for --profile https_spiffe")]
    Endpoint,
    /// An update of nothing.
    #[error("nothing is to change: name what is (sekisho federation update --help)")]
    Nothing,
    /// The file.
    #[error("--bundle: {0:#}")]
    Bundle(anyhow::Error),
}

/// The bundle that comes with a relationship.
#[derive(Debug, Args)]
pub(crate) struct WithBundle {
    /// A bundle to begin with; `-` is standard input
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// The form of --bundle; without this either is taken
    #[arg(long, value_enum, requires = "bundle")]
    bundle_format: Option<Given>,
}

impl WithBundle {
    fn read(&self, domain: &str) -> Result<Option<Bundle>, Problem> {
        let Some(file) = &self.bundle else {
            return Ok(None);
        };
        let read = parse_trust_domain(domain)
            .map_err(anyhow::Error::from)
            .and_then(|id| given(file, self.bundle_format, &id))
            .and_then(|bundle| Ok(sent(&bundle)?));
        read.map(Some).map_err(Problem::Bundle)
    }
}

/// A new relationship.
#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(flatten)]
    whose: Whose,
    /// Its endpoint
    #[arg(long, value_name = "https://…", value_parser = url)]
    url: String,
    /// How the endpoint proves who it is
    #[arg(long, value_enum)]
    profile: Profile,
    /// Whose SVID the endpoint has; for https_spiffe
    #[arg(long, value_name = "SPIFFE ID", value_parser = value::whole_id)]
    endpoint_id: Option<String>,
    #[command(flatten)]
    bundle: WithBundle,
}

impl Create {
    /// As it is sent.
    pub(super) fn relationship(&self) -> Result<FederationRelationship, Problem> {
        Ok(FederationRelationship {
            trust_domain: self.whose.domain(),
            bundle_endpoint_url: self.url.clone(),
            bundle_endpoint_profile: Some(profile(self.profile, self.endpoint_id.as_ref())?),
            trust_domain_bundle: self.bundle.read(&self.whose.domain())?,
        })
    }
}

/// What is to change of a relationship.
#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(flatten)]
    pub(super) whose: Whose,
    /// Another endpoint
    #[arg(long, value_name = "https://…", value_parser = url)]
    url: Option<String>,
    /// How the endpoint proves who it is
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// Whose SVID the endpoint has; for https_spiffe
    #[arg(long, value_name = "SPIFFE ID", value_parser = value::whole_id)]
    endpoint_id: Option<String>,
    #[command(flatten)]
    bundle: WithBundle,
}

impl Update {
    /// What is wrong with it before anybody is asked.
    pub(super) fn problem(&self) -> Option<Problem> {
        if let Some(named) = self.profile
            && let Err(problem) = profile(named, self.endpoint_id.as_ref())
        {
            return Some(problem);
        }
        let nothing = self.url.is_none()
            && self.profile.is_none()
            && self.endpoint_id.is_none()
            && self.bundle.bundle.is_none();
        nothing.then_some(Problem::Nothing)
    }

    /// The relationship as it is to be, and what of it has changed.
    pub(super) fn change(
        &self,
        now: FederationRelationship,
    ) -> Result<(FederationRelationship, FederationRelationshipMask), Problem> {
        let mut new = now;
        let named = match (self.profile, &new.bundle_endpoint_profile) {
            (Some(named), _) => Some(named),
            (None, Some(BundleEndpointProfile::HttpsSpiffe(_))) => Some(Profile::HttpsSpiffe),
            (None, Some(BundleEndpointProfile::HttpsWeb(_))) => Some(Profile::HttpsWeb),
            (None, None) => None,
        };
        let changed = self.profile.is_some() || self.endpoint_id.is_some();
        if let Some(named) = named.filter(|_| changed) {
            new.bundle_endpoint_profile = Some(profile(named, self.endpoint_id.as_ref())?);
        }
        if let Some(url) = &self.url {
            new.bundle_endpoint_url.clone_from(url);
        }
        new.trust_domain_bundle = self.bundle.read(&self.whose.domain())?;
        let mask = FederationRelationshipMask {
            bundle_endpoint_url: self.url.is_some(),
            bundle_endpoint_profile: changed,
            trust_domain_bundle: new.trust_domain_bundle.is_some(),
        };
        Ok((new, mask))
    }
}

fn profile(named: Profile, endpoint_id: Option<&String>) -> Result<BundleEndpointProfile, Problem> {
    match (named, endpoint_id) {
        (Profile::HttpsWeb, None) => Ok(BundleEndpointProfile::HttpsWeb(HttpsWebProfile {})),
        (Profile::HttpsWeb, Some(_)) => Err(Problem::Endpoint),
        (Profile::HttpsSpiffe, None) => Err(Problem::NoEndpoint),
        (Profile::HttpsSpiffe, Some(id)) => {
            Ok(BundleEndpointProfile::HttpsSpiffe(HttpsspiffeProfile {
                endpoint_spiffe_id: id.clone(),
            }))
        }
    }
}

/// Reads the address of an endpoint.
fn url(text: &str) -> Result<String, String> {
    let parsed = text.parse::<sekisho_federation::client::EndpointUrl>();
    parsed
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        update: Update,
    }

    fn update(words: &str) -> Update {
        let line = format!("update --id b.example {words}");
        Line::parse_from(line.split_whitespace()).update
    }

    fn now() -> FederationRelationship {
        FederationRelationship {
            trust_domain: "b.example".into(),
            bundle_endpoint_url: "https://old.example/".into(),
            bundle_endpoint_profile: Some(BundleEndpointProfile::HttpsSpiffe(HttpsspiffeProfile {
                endpoint_spiffe_id: "spiffe://b.example/x".into(),
            })),
            trust_domain_bundle: None,
        }
    }

    #[test]
    fn what_is_not_named_stays() {
        let (new, mask) = update("--url https://new.example/").change(now()).unwrap();
        assert_eq!(new.bundle_endpoint_url, "https://new.example/");
        assert_eq!(new.bundle_endpoint_profile, now().bundle_endpoint_profile);
        assert!(mask.bundle_endpoint_url && !mask.bundle_endpoint_profile);
        let (new, mask) = update("--endpoint-id spiffe://b.example/y")
            .change(now())
            .unwrap();
        assert_eq!(new.bundle_endpoint_url, "https://old.example/");
        assert!(format!("{new:?}").contains("b.example/y") && mask.bundle_endpoint_profile);
    }

    #[test]
    fn a_profile_and_its_endpoint_belong_together() {
        assert!(matches!(update("").problem(), Some(Problem::Nothing)));
        let spiffe = update("--profile https_spiffe");
        assert!(matches!(spiffe.problem(), Some(Problem::NoEndpoint)));
        let web = update("--profile https_web --endpoint-id spiffe://b.example/y");
        assert!(matches!(web.problem(), Some(Problem::Endpoint)));
        assert!(update("--profile https_web").problem().is_none());
        url("http://b.example/").unwrap_err();
    }
}
