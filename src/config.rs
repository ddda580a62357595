//! The configuration: one YAML file, or the files of a folder, to a validated [`Config`].
//!
//! `files` reads text, `tree` makes it a tree in which everything knows its place, `expand`
//! replaces variables, and `top` walks the tree, going on after an error so that all of them
//! are seen at once. Nothing but text leaves the files: keys, certificates and policies are read
//! by those who use them.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use sekisho_certs::{
    TrustDomain,
    source::{BundlesSpec, SourceSpec},
};
use sekisho_proxy::endpoint::spec::EndpointSpec;

use crate::node::Inside;

mod address;
mod admin;
mod agent;
mod apart;
mod authority;
mod endpoint;
pub(crate) mod entries;
mod error;
mod expand;
mod federation;
mod field;
mod files;
mod identity;
mod keys;
pub(crate) mod kubeconfig;
mod listed;
mod location;
mod oidc;
mod policy;
pub(crate) mod services;
mod top;
mod tree;
mod unit;
mod warning;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    admin::{Admin, Log, LogFormat, LogLevel},
    agent::{
        AgentConfig,
        attest::{CertificateFiles, NodeProof, Piece},
    },
    authority::{
        AuthorityConfig, SOCKET as AUTHORITY_SOCKET, Secret, UpstreamConfig,
        attest::{Attest, EvidenceConfig},
        k8s_psat::ClusterConfig,
    },
    error::ConfigErrors,
    federation::{
        AcmeConfig, BundleEndpointConfig, DirectoryPlace, FederationConfig, PeerConfig, ShownConfig,
    },
    location::Location,
    oidc::{OidcConfig, OidcListen},
    policy::PolicyConfig,
    warning::Warning,
};

/// A whole configuration, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Every file read, for the watcher.
    pub(crate) files: Vec<PathBuf>,
    /// The trust domain of this site.
    pub(crate) site: TrustDomain,
    /// The endpoints, in the order of the files. None only beside an authority, an agent or discovery.
    pub(crate) endpoints: Vec<EndpointConfig>,
    /// The site's authority, where it runs on this node.
    pub(crate) authority: Option<AuthorityConfig>,
    /// This node's agent, where we run it.
    pub(crate) agent: Option<AgentConfig>,
    /// Discovery of the site's keys on the web, where we run it.
    pub(crate) oidc: Option<OidcConfig>,
    /// With whom the site's authority exchanges trust bundles. Default: with nobody.
    pub(crate) federation: Option<FederationConfig>,
    /// Threads that carry connections, 1 to 256. `None`: the cores available, at most 8.
    pub(crate) workers: Option<usize>,
    /// Where the admin interface listens. Default: nowhere.
    pub(crate) admin: Option<Admin>,
    /// How long connections may go on once the end has been asked for. Default: 30 s.
    pub(crate) drain: Duration,
    /// What is logged and how.
    pub(crate) log: Log,
    /// Bytes that all connections together keep, for slow receivers and of streams over lanes. Default: 256 MiB.
    pub(crate) buffers: usize,
    /// As whom the process of the endpoints runs, when `sekisho run` starts it as root. Default: as
    /// `sekisho run`.
    pub(crate) user: Option<String>,
    /// The variables of the environment that its values name.
    pub(crate) variables: BTreeSet<String>,
}

impl Config {
    /// The site's authority: the one of the file, or that of an embedded CA which is federated, or was once.
    pub(crate) fn site_authority(&self) -> Option<AuthorityConfig> {
        let embedded = || {
            let mut identities = self.endpoints.iter().map(|one| one.identity.as_ref());
            identities.find_map(|identity| match identity {
                Some(SourceSpec::Embedded { data, federated })
                    if *federated || Inside::is_at(data) =>
                {
                    Some(AuthorityConfig::embedded(data))
                }
                _ => None,
            })
        };
        self.authority.clone().or_else(embedded)
    }

    /// Whether the process of the endpoints could read the keys of the authority: both would run as root.
    pub(crate) fn exposes_authority(&self) -> bool {
        self.authority.is_some()
            && !self.endpoints.is_empty()
            && self.user.is_none()
            && nix::unistd::geteuid().is_root()
    }

    /// Whether the authority comes to the one above by the agent of the same file.
    pub(crate) fn is_below_own_agent(&self) -> bool {
        let upstream = self
            .authority
            .as_ref()
            .and_then(|own| own.upstream.as_ref());
        match (upstream, &self.agent) {
            (Some(UpstreamConfig::Spire { socket, .. }), Some(agent)) => agent.socket == *socket,
            _ => false,
        }
    }
}

/// What is said where [`Config::exposes_authority`].
pub(crate) const EXPOSED: &str = "the process of the endpoints runs as root, and could read the keys of the \
     authority and of the agent: name another user for it, `user` at the top level";

/// One endpoint with what is to be loaded for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointConfig {
    /// What the proxy is told.
    pub(crate) spec: EndpointSpec,
    /// Where its SVID comes from. `Some` if and only if a side speaks mTLS.
    pub(crate) identity: Option<SourceSpec>,
    /// Bundles beside those of the source: the identity's, the endpoint's, the top level's.
    pub(crate) bundles: Vec<BundlesSpec>,
    /// How many of them, from the first on, belong to an identity from files and may hold our own
    /// trust domain's.
    pub(crate) own_bundles: usize,
    /// The policy that must allow too, if one is configured.
    pub(crate) policy: Option<PolicyConfig>,
    /// Where it stands.
    pub(crate) location: Location,
    /// What is legal but unwise.
    pub(crate) warnings: Vec<Warning>,
}

/// Reads the file, or every `*.yaml` and `*.yml` of the folder, at `path`. Variables in values
/// are asked of `env`.
///
/// # Errors
/// All that is wrong, up to 100 errors.
pub(crate) fn load(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigErrors> {
    let mut report = error::Report::default();
    let sources = files::read(path, &mut report);
    read(path, &sources, env, report)
}

/// The configuration at `path` with the part of it that a command runs. `None`: what is wrong has been
/// told.
pub(crate) fn load_part<T>(
    path: &Path,
    key: &'static str,
    part: impl FnOnce(&Config) -> Option<T>,
) -> Option<(Config, T)> {
    let errors = match load(path, &environment) {
        Ok(config) => match part(&config) {
            Some(part) => return Some((config, part)),
            None => {
                let mut report = error::Report::default();
                let problem = error::Problem::Missing(format!("this command runs it: `{key}:`"));
                report.push(&Location::whole(path), key, problem);
                report.finish(path, &[])
            }
        },
        Err(errors) => errors,
    };
    crate::output::complain(errors.render(crate::output::colour_err()));
    None
}

/// [`load`], once the text is there.
fn read(
    path: &Path,
    sources: &[files::Source],
    env: expand::Env<'_>,
    mut report: error::Report,
) -> Result<Config, ConfigErrors> {
    let mut files = Vec::new();
    let mut roots = Vec::new();
    let named = RefCell::new(BTreeSet::new());
    let env: expand::Env<'_> = &|name| {
        named.borrow_mut().insert(name.to_owned());
        env(name)
    };
    for source in sources {
        files.push(source.file.to_path_buf());
        if let Some(mut root) = tree::parse(&source.file, &source.text, &mut report) {
            expand::expand(&mut root, "", env, &mut report);
            roots.push(root);
        }
    }
    // A file that cannot be read may hold what would seem to be missing.
    let config = if roots.len() == sources.len() && !roots.is_empty() {
        top::read(path, files, &roots, &mut report)
    } else {
        None
    };
    match config {
        Some(config) if report.count() == 0 => Ok(Config {
            variables: named.into_inner(),
            ..config
        }),
        _ => Err(report.finish(path, sources)),
    }
}

/// A time as in a file, such as `30s` or `1h30m`, for the command line.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    unit::duration(text)
}

/// A variable of this process' environment, for [`load`]. One that is not UTF-8 is not there.
pub(crate) fn environment(name: &str) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place where it is read"
    )]
    std::env::var(name).ok()
}
