//! The authority as seen from here: connections to it, over which every call goes.
//!
//! TLS 1.3, ALPN `h2`; the server has to show the SVID of its trust domain's `/spire/server`
//! (spire-api.md §1).

mod tls;

use std::{sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, crypto::CryptoProvider, pki_types::ServerName};
use sekisho_certs::{Clock, SpiffeId, Trust};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::svid::{Held, SignedError};

pub use tls::ServerTrust;

/// How long TCP and TLS may take, each.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a call may take: as SPIRE's agents have it.
const CALL: Duration = Duration::from_secs(30);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// None of the addresses answers as it should; what the last one said.
    #[error("{address}: {problem}")]
    Unreachable {
        /// Which address.
        address: String,
        /// What is wrong.
        problem: String,
        /// Somebody answered, whom we do not trust.
        untrusted: bool,
    },
    /// Our own certificate cannot be shown.
    #[error(transparent)]
    Own(#[from] SignedError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// There is no address.
    #[error("no address of an authority is given")]
    None,
}

/// Where authorities of the site are, and how they are told apart from others.
#[derive(Clone, Debug)]
pub struct Servers {
    addresses: Vec<String>,
    id: SpiffeId,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
}

impl Servers {
    /// The addresses, `HOST:PORT`, of servers that answer as `id`.
    #[must_use]
    pub const fn new(
        addresses: Vec<String>,
        id: SpiffeId,
        provider: Arc<CryptoProvider>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            addresses,
            id,
            provider,
            clock,
        }
    }

    /// A connection to the first address that answers as it should, beginning with number `first`:
    /// with a certificate of our own, or without one in order to attest.
    ///
    /// # Errors
    /// What the last address said, when none does.
    pub async fn connect(
        &self,
        trust: &ServerTrust,
        own: Option<&Held>,
        first: usize,
    ) -> Result<Channel, ConnectError> {
        let config = Arc::new(self.config(trust, own)?);
        let count = self.addresses.len();
        let mut last = ConnectError::None;
        let order = self.addresses.iter().cycle().skip(first % count.max(1));
        for address in order.take(count) {
            match self.connect_to(address, Arc::clone(&config)).await {
                Ok(channel) => return Ok(channel),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(
        &self,
        address: &str,
        config: Arc<ClientConfig>,
    ) -> Result<Channel, ConnectError> {
        let connector = TlsConnector::from(config);
        let to = address.to_owned();
        let connect = tower::service_fn(move |_: Uri| {
            let (connector, to) = (connector.clone(), to.clone());
            async move {
                let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
                let stream = tokio::time::timeout(CONNECT, TcpStream::connect(&to));
                let stream = stream.await.map_err(late)??;
                stream.set_nodelay(true)?;
                let handshake = connector.connect(server_name(&to), stream);
                let stream = tokio::time::timeout(CONNECT, handshake).await;
                Ok::<_, std::io::Error>(TokioIo::new(stream.map_err(late)??))
            }
        });
        // The connector knows where to: the name only stands in `:authority`.
        let endpoint = Endpoint::from_static("http://spire-server")
            .timeout(CALL)
            .http2_keep_alive_interval(CALL);
        let channel = endpoint.connect_with_connector(connect).await;
        channel.map_err(|error| {
            let problem = innermost(&error);
            let untrusted = is_untrusted(&error);
            ConnectError::Unreachable {
                address: address.into(),
                problem,
                untrusted,
            }
        })
    }

    fn config(
        &self,
        trust: &ServerTrust,
        own: Option<&Held>,
    ) -> Result<ClientConfig, ConnectError> {
        let verifier = tls::verifier(trust, &self.id, &self.provider, &self.clock);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(held) => {
                let certified = held.certified(&self.provider)?;
                let own = rustls::sign::SingleCertAndKey::from(certified);
                builder.with_client_cert_resolver(Arc::new(own))
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    /// The provider of cryptography.
    #[must_use]
    pub const fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// What verifies our own bundle, and by it the servers.
    #[must_use]
    pub fn trust_by(&self, trust: Arc<Trust>) -> ServerTrust {
        ServerTrust::Bundle(trust)
    }
}

/// What is sent as server name; a server may ignore it.
fn server_name(address: &str) -> ServerName<'static> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let unspecified = || ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    ServerName::try_from(host.to_owned()).unwrap_or_else(|_| unspecified())
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        match error.downcast_ref::<std::io::Error>() {
            // What is inside of it is not its source.
            Some(io) => io
                .get_ref()
                .map(|inner| inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        }
    })
}

/// The text of the last cause: what is around it says nothing more.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let last = chain(error).last();
    last.map_or_else(String::new, ToString::to_string)
}

fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    chain(error).any(|cause| {
        let tls = cause.downcast_ref::<rustls::Error>();
        matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
    })
}
