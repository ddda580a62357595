//! A configuration and every policy it names, loaded and checked, before anything is changed.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::{Path, PathBuf},
};

use sekisho_policy::{Limits, Policy};

use crate::config::{self, Config, ConfigErrors, EndpointConfig, Location, PolicyConfig};

/// A configuration that can be put in place.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    policies: HashMap<PolicyConfig, Policy>,
    path: PathBuf,
}

/// Why it cannot.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// The configuration is wrong.
    Config(ConfigErrors),
    /// A policy is wrong: where it is named, its folder, and what is wrong with it.
    Policy(Location, PathBuf, Box<sekisho_policy::LoadError>),
}

impl LoadError {
    /// The errors, a line or a few each.
    pub(crate) fn render(&self, colour: bool) -> String {
        match self {
            Self::Config(errors) => errors.render(colour),
            Self::Policy(location, dir, error) => format!(
                "{error}\n  (in {}, the policy of the endpoint at {location})",
                dir.display()
            ),
        }
    }

    /// Folders whose change may repair it, beside those that are watched already.
    pub(crate) fn watched(&self) -> Vec<PathBuf> {
        match self {
            Self::Config(_) => Vec::new(),
            Self::Policy(_, dir, _) => super::folders(dir),
        }
    }
}

impl Loaded {
    /// The policy that an endpoint names.
    pub(crate) fn policy_of(&self, endpoint: &EndpointConfig) -> Option<&Policy> {
        self.policies.get(endpoint.policy.as_ref()?)
    }

    /// Files and folders whose change asks for a reload.
    pub(crate) fn watched(&self) -> Vec<PathBuf> {
        let mut paths = self.config.files.clone();
        paths.push(self.path.clone());
        for policy in self.policies.keys() {
            paths.extend(super::folders(&policy.dir));
        }
        paths
    }
}

/// Reads the configuration at `path` and the policies it names.
///
/// # Errors
/// All that is wrong with the configuration, or the first policy that cannot be loaded.
pub(crate) fn load(path: &Path) -> Result<Loaded, LoadError> {
    let config = config::load(path, &config::environment).map_err(LoadError::Config)?;
    let mut policies = HashMap::new();
    for endpoint in &config.endpoints {
        let Some(named) = &endpoint.policy else {
            continue;
        };
        if let Entry::Vacant(entry) = policies.entry(named.clone()) {
            let policy =
                Policy::load(&named.dir, &named.decision, Limits::default()).map_err(|error| {
                    let (location, dir) = (endpoint.location.clone(), named.dir.clone());
                    LoadError::Policy(location, dir, Box::new(error))
                })?;
            entry.insert(policy);
        }
    }
    Ok(Loaded {
        config,
        policies,
        path: path.to_owned(),
    })
}
