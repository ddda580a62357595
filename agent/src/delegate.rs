//! The Delegated Identity API as a client: a proxy that may do so gets the identities of another
//! process of this node, or of selectors, from our agent or SPIRE's.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sekisho_certs::{BundleSet, Svid, TrustBundle, id, source::Supply};
use sekisho_spire_api::{
    agent::delegated_identity::{
        SubscribeToX509BundlesRequest, SubscribeToX509BundlesResponse, SubscribeToX509sviDsRequest,
        SubscribeToX509sviDsResponse, delegated_identity_client::DelegatedIdentityClient,
    },
    types,
};
use tokio::{net::UnixStream, sync::watch};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Uri},
};

use crate::selector::Selector;

/// Back-off after a failure: doubles from here to the maximum.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Delivers the identities of whatever `selectors` are true of, from the Delegated Identity API at
/// `socket`. While it is unreachable, what it delivered last stays; when it says that we may not ask,
/// or that there is nothing, SVIDs are withdrawn.
///
/// Must be called inside a tokio runtime.
pub fn watch_delegated(
    socket: PathBuf,
    selectors: Vec<Selector>,
    provider: Arc<CryptoProvider>,
) -> watch::Receiver<Arc<Supply>> {
    let waiting = Supply::pending(format!("{} has not answered yet", socket.display()));
    let (sender, receiver) = watch::channel(Arc::new(waiting));
    tokio::spawn(async move {
        let session = async {
            let mut wait = FIRST_WAIT;
            loop {
                let status = follow(&socket, &selectors, &sender, &provider, &mut wait).await;
                complain(&sender, &socket, &status);
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        };
        tokio::select! {
            () = session => {}
            () = sender.closed() => {}
        }
    });
    receiver
}

pub(crate) async fn connect(socket: &Path) -> Result<Channel, Status> {
    let path = socket.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connect).await;
    channel.map_err(|error| Status::unavailable(error.to_string()))
}

/// Reads both streams until one of them ends; how it ended.
async fn follow(
    socket: &Path,
    selectors: &[Selector],
    sender: &watch::Sender<Arc<Supply>>,
    provider: &CryptoProvider,
    wait: &mut Duration,
) -> Status {
    let streams = async {
        let mut client = DelegatedIdentityClient::new(connect(socket).await?);
        let selectors = selectors.iter().map(|one| types::Selector {
            r#type: one.kind.clone(),
            value: one.value.clone(),
        });
        let request = SubscribeToX509sviDsRequest {
            selectors: selectors.collect(),
            pid: 0,
        };
        let svids = client.subscribe_to_x509svi_ds(request).await?.into_inner();
        let bundles = SubscribeToX509BundlesRequest {};
        let bundles = client
            .subscribe_to_x509_bundles(bundles)
            .await?
            .into_inner();
        Ok::<_, Status>((svids, bundles))
    };
    let (mut svids, mut bundles) = match streams.await {
        Ok(streams) => streams,
        Err(status) => return status,
    };
    let (mut latest_svids, mut latest_bundles) = (None, None);
    loop {
        let next = tokio::select! {
            next = svids.message() => next.map(|next| next.map(|next| latest_svids = Some(next))),
            next = bundles.message() => next.map(|next| next.map(|next| latest_bundles = Some(next))),
        };
        match next {
            Ok(Some(())) => {}
            Ok(None) => return Status::unavailable("the stream has ended"),
            Err(status) => return status,
        }
        if let (Some(svids), Some(bundles)) = (&latest_svids, &latest_bundles) {
            *wait = FIRST_WAIT;
            match supply(svids, bundles, provider) {
                Ok(supply) => drop(sender.send_replace(Arc::new(supply))),
                Err(problem) => {
                    tracing::warn!(socket = %socket.display(), problem, "answer discarded");
                    let problem = format!("{}: answer discarded: {problem}", socket.display());
                    sender.send_modify(|supply| {
                        Arc::make_mut(supply).problem = Some(problem.into());
                    });
                }
            }
        }
    }
}

fn supply(
    svids: &SubscribeToX509sviDsResponse,
    bundles: &SubscribeToX509BundlesResponse,
    provider: &CryptoProvider,
) -> Result<Supply, String> {
    let mut found = Supply::default();
    for with_key in &svids.x509_svids {
        let svid = with_key.x509_svid.clone().unwrap_or_default();
        let chain = svid.cert_chain.into_iter().map(CertificateDer::from);
        let key = PrivatePkcs8KeyDer::from(with_key.x509_svid_key.clone());
        let made = Svid::new(chain.collect(), key.into(), provider);
        let made = made.map_err(|error| error.to_string())?;
        found.svids.push(Arc::new(made.with_hint(Some(svid.hint))));
    }
    let mut set = BundleSet::default();
    let sorted: BTreeMap<_, _> = bundles.ca_certificates.iter().collect();
    for (name, ders) in sorted {
        let domain = name.strip_prefix("spiffe://").unwrap_or(name);
        let domain = id::parse_trust_domain(domain).map_err(|error| error.to_string())?;
        let bundle = TrustBundle::new(domain, certificates(ders)?);
        let bundle = bundle.map_err(|error| error.to_string())?;
        set.insert(Arc::new(bundle))
            .map_err(|error| error.to_string())?;
    }
    found.bundles = set;
    Ok(found)
}

/// DER certificates, one behind the other.
fn certificates(mut ders: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let mut all = Vec::new();
    while !ders.is_empty() {
        let (rest, _) = X509Certificate::from_der(ders).map_err(|error| error.to_string())?;
        let (one, _) = ders.split_at(ders.len() - rest.len());
        all.push(CertificateDer::from(one.to_vec()));
        ders = rest;
    }
    Ok(all)
}

fn complain(sender: &watch::Sender<Arc<Supply>>, socket: &Path, status: &Status) {
    let withdrawn = status.code() == Code::PermissionDenied;
    let problem = format!("{}: {}", socket.display(), status.message());
    let problem: Arc<str> = problem.into();
    sender.send_if_modified(|supply| {
        let news = supply.problem.as_ref() != Some(&problem);
        if news {
            tracing::warn!(problem = &*problem, withdrawn, "delegated identity");
        }
        let withdraws = withdrawn && !supply.svids.is_empty();
        if !news && !withdraws {
            return false;
        }
        let supply = Arc::make_mut(supply);
        supply.problem = Some(Arc::clone(&problem));
        if withdrawn {
            supply.svids.clear();
            supply.pending = false;
        }
        true
    });
}
