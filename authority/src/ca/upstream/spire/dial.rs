//! The connection: TLS with our SVID, to whoever proves that it is the server of the trust domain.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig,
    crypto::CryptoProvider,
    pki_types::{IpAddr, Ipv4Addr, ServerName},
};
use sekisho_certs::{
    BundleSet, Clock, IdList, Svid, Trust, TrustBundle, TrustDomain,
    tls::{self, MinVersion, PeerVerifier},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use super::refused;
use crate::ca::upstream::UpstreamError;

/// How long TCP and TLS may take, each.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a call may take: less than whoever waits for it has patience, so that the next goes
/// elsewhere.
const CALL: Duration = Duration::from_secs(20);

/// TLS 1.3, ALPN `h2`, nothing resumed.
pub(super) fn config(
    domain: &TrustDomain,
    own: &Svid,
    bundle: &Arc<TrustBundle>,
    provider: &Arc<CryptoProvider>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, UpstreamError> {
    let mut set = BundleSet::default();
    set.insert(Arc::clone(bundle)).map_err(refused)?;
    let trust = Trust::new(set, provider.signature_verification_algorithms);
    let server = format!("spiffe://{domain}/spire/server");
    let expect = IdList::Named(vec![server.parse().map_err(refused)?]);
    let verifier = PeerVerifier::new(Arc::new(trust), Arc::clone(clock), Some(expect));
    let key = own.certified();
    let config = tls::client_config(key, Arc::new(verifier), MinVersion::Tls13, provider, clock);
    let mut config = config.map_err(refused)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// A connection to the first address that answers as it should, beginning with number `first`.
pub(super) async fn connect(
    servers: &[String],
    first: usize,
    config: &Arc<ClientConfig>,
) -> Result<Channel, UpstreamError> {
    let mut last = refused("no address is given");
    let (count, order) = (servers.len(), servers.iter().cycle());
    for address in order.skip(first % count.max(1)).take(count) {
        match connect_to(address, config).await {
            Ok(channel) => return Ok(channel),
            Err(error) => last = refused(format_args!("{address}: {}", innermost(&error))),
        }
    }
    Err(last)
}

async fn connect_to(
    address: &str,
    config: &Arc<ClientConfig>,
) -> Result<Channel, tonic::transport::Error> {
    let connector = TlsConnector::from(Arc::clone(config));
    let to = address.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let (connector, to) = (connector.clone(), to.clone());
        async move {
            let late = |_| io::Error::from(io::ErrorKind::TimedOut);
            let stream = tokio::time::timeout(CONNECT, TcpStream::connect(&to));
            let stream = stream.await.map_err(late)??;
            stream.set_nodelay(true)?;
            let handshake = connector.connect(server_name(&to), stream);
            let stream = tokio::time::timeout(CONNECT, handshake).await;
            Ok::<_, io::Error>(TokioIo::new(stream.map_err(late)??))
        }
    });
    // The connector knows where to: the name only stands in `:authority`.
    Endpoint::from_static("http://spire-server")
        .timeout(CALL)
        .http2_keep_alive_interval(CALL)
        .connect_with_connector(connect)
        .await
}

/// What is sent as server name; a server may ignore it.
fn server_name(address: &str) -> ServerName<'static> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let unspecified = || ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4])));
    ServerName::try_from(host.to_owned()).unwrap_or_else(|_| unspecified())
}

/// The text of the last cause: what is around it says nothing more.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    loop {
        let tls = cause.downcast_ref::<rustls::Error>();
        if let Some(why) = tls.and_then(tls::verify_error) {
            return why.to_string();
        }
        let inner = match cause.downcast_ref::<io::Error>() {
            // What is inside of it is not its source.
            Some(io) => io.get_ref().map(|inner| inner as &dyn std::error::Error),
            None => cause.source(),
        };
        match inner {
            Some(inner) => cause = inner,
            None => return cause.to_string(),
        }
    }
}
