//! Where a member's bundle comes from: a file, its bundle endpoint, or its authority.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use sekisho_certs::{SystemClock, TrustBundle, TrustDomain, id::parse_workload_id, tls};
use sekisho_federation::{
    client::{Allowed, Client, EndpointUrl, Profile, WebRoots},
    directory::descriptor::Endpoint,
};
use sekisho_spire_api::server::bundle::{GetBundleRequest, bundle_client::BundleClient};

use super::wrong;
use crate::{
    api::{self, Answered as _},
    bundle::{Told, given},
    commands::value,
};

/// How an endpoint proves who it is (SPIFFE_Federation.md §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum By {
    /// By a certificate of the web
    HttpsWeb,
    /// By an X.509-SVID
    HttpsSpiffe,
}

/// Where the bundle is.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// The bundle: SPIFFE bundle JSON or PEM; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["endpoint", "socket"])]
    bundle: Option<PathBuf>,
    /// Fetch the bundle from the site's bundle endpoint, in place of --bundle
    #[arg(long, value_name = "https://…", requires = "profile", conflicts_with = "socket", value_parser = url)]
    endpoint: Option<EndpointUrl>,
    /// How the endpoint proves who it is
    #[arg(long, value_enum, requires = "endpoint")]
    profile: Option<By>,
    /// Whose SVID the endpoint has; for https_spiffe
    #[arg(long, value_name = "SPIFFE ID", requires = "endpoint", value_parser = value::whole_id)]
    endpoint_id: Option<String>,
    /// The bundle by which that SVID is verified; for https_spiffe
    #[arg(long, value_name = "FILE", requires = "endpoint_id")]
    endpoint_bundle: Option<PathBuf>,
    /// Name the endpoint in the descriptor, for those who federate pairwise
    #[arg(long, requires = "endpoint")]
    advertise: bool,
    /// Ask the administrators' socket of the site's authority, or of a SPIRE server, in place of --bundle
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Reads the address of an endpoint.
fn url(text: &str) -> Result<EndpointUrl, String> {
    text.parse::<EndpointUrl>()
        .map_err(|error| error.to_string())
}

impl Source {
    /// The bundle of the site; `None` where no option says where it is.
    pub(super) async fn bundle(&self, domain: &TrustDomain) -> anyhow::Result<Option<TrustBundle>> {
        if let Some(file) = &self.bundle {
            return given(file, None, domain).map(Some);
        }
        if let Some(endpoint) = &self.endpoint {
            return self.fetched(domain, endpoint).await.map(Some);
        }
        let Some(socket) = &self.socket else {
            return Ok(None);
        };
        let channel = api::connect(socket)
            .await
            .with_context(|| format!("no authority answers at {}", socket.display()))?;
        let bundle = BundleClient::new(channel)
            .get_bundle(GetBundleRequest::default())
            .await
            .answered("GetBundle")?;
        let bundle = Told::of_authority(bundle)?.trust()?;
        if bundle.trust_domain() != domain {
            anyhow::bail!(
                "the authority at {} is that of {}, not of {domain}",
                socket.display(),
                bundle.trust_domain()
            );
        }
        Ok(Some(bundle))
    }

    /// The endpoint as the descriptor has it; `None` where it is not to be named there.
    pub(super) fn advertised(&self) -> Option<Endpoint> {
        let endpoint = self.endpoint.as_ref().filter(|_| self.advertise)?;
        let profile = match self.profile? {
            By::HttpsWeb => "https_web",
            By::HttpsSpiffe => "https_spiffe",
        };
        Some(Endpoint {
            url: endpoint.to_string(),
            profile: profile.into(),
            endpoint_spiffe_id: self.endpoint_id.clone(),
        })
    }

    async fn fetched(
        &self,
        domain: &TrustDomain,
        endpoint: &EndpointUrl,
    ) -> anyhow::Result<TrustBundle> {
        let profile = match (self.profile, &self.endpoint_id, &self.endpoint_bundle) {
            (Some(By::HttpsSpiffe), Some(id), Some(file)) => {
                let id = parse_workload_id(id)?;
                let bundle = given(file, None, id.trust_domain())?;
                Profile::Spiffe {
                    id,
                    bundle: Arc::new(bundle),
                }
            }
            (Some(By::HttpsSpiffe), ..) => {
                return Err(wrong(
                    "--profile https_spiffe needs --endpoint-id and --endpoint-bundle",
                ));
            }
            (_, None, _) => Profile::Web,
            (_, Some(_), _) => return Err(wrong("--endpoint-id is for --profile https_spiffe")),
        };
        // Its own administrator has named the address.
        let anywhere = ["0.0.0.0/0", "::/0"]
            .iter()
            .filter_map(|net| net.parse().ok());
        let client = Client::new(
            WebRoots::System,
            Allowed::with(anywhere),
            Arc::new(tls::provider()),
            Arc::new(SystemClock),
        );
        Ok(client.fetch(domain, endpoint, &profile).await?)
    }
}
