//! The SPIFFE Workload API as a client (SPIFFE_Workload_API.md §5), SPIRE's or ours.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::crypto::CryptoProvider;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use spiffe::{WorkloadApiClient, WorkloadApiError, X509Context};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;

use super::Supply;
use crate::{
    bundle::{BundleSet, TrustBundle},
    svid::Svid,
};

/// Back-off after a failure: doubles from here to the maximum. A withdrawn identity is asked for
/// at the same pace: an entry may be made at any time.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Delivers what the Workload API at `socket` streams. While it is unreachable, what it delivered
/// last stays; when it says that there is no identity (PermissionDenied), SVIDs are withdrawn.
///
/// Must be called inside a tokio runtime.
pub fn watch_workload_api(
    socket: PathBuf,
    provider: Arc<CryptoProvider>,
) -> watch::Receiver<Arc<Supply>> {
    let waiting = Supply::pending(format!("{} has not answered yet", socket.display()));
    let (sender, receiver) = watch::channel(Arc::new(waiting));
    tokio::spawn(async move {
        let session = async {
            let mut wait = FIRST_WAIT;
            loop {
                let error = stream(&socket, &sender, &provider, &mut wait).await;
                complain(&sender, &socket, &error);
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

/// Reads one stream to its end.
async fn stream(
    socket: &Path,
    sender: &watch::Sender<Arc<Supply>>,
    provider: &CryptoProvider,
    wait: &mut Duration,
) -> WorkloadApiError {
    let open = async {
        // The library wants an absolute path.
        let absolute = std::path::absolute(socket).unwrap_or_else(|_| socket.to_owned());
        let address = format!("unix://{}", absolute.display());
        let client = WorkloadApiClient::connect_to(address).await?;
        client.stream_x509_contexts().await
    };
    let mut contexts = match open.await {
        Ok(contexts) => contexts,
        Err(error) => return error,
    };
    loop {
        match contexts.next().await {
            Some(Ok(context)) => {
                *wait = FIRST_WAIT;
                deliver(sender, socket, &context, provider);
            }
            Some(Err(error)) => return error,
            None => return WorkloadApiError::EmptyResponse,
        }
    }
}

/// Publishes one message, the full set (§4.3). A message with a fault in it is discarded whole
/// (§4.5) and what stood before stays.
fn deliver(
    sender: &watch::Sender<Arc<Supply>>,
    socket: &Path,
    context: &X509Context,
    provider: &CryptoProvider,
) {
    match translate(context, provider) {
        Ok(supply) => {
            sender.send_replace(Arc::new(supply));
        }
        Err(problem) => {
            tracing::warn!(socket = %socket.display(), problem, "workload API answer discarded");
            let problem = format!("{}: answer discarded: {problem}", socket.display());
            sender.send_modify(|supply| {
                Arc::make_mut(supply).problem = Some(problem.into());
            });
        }
    }
}

fn translate(context: &X509Context, provider: &CryptoProvider) -> Result<Supply, String> {
    let mut svids = Vec::new();
    for delivered in context.svids() {
        let chain = delivered.cert_chain().iter();
        let chain = chain.map(|cert| cert.as_bytes().to_vec().into()).collect();
        let key = PrivatePkcs8KeyDer::from(delivered.private_key().as_bytes().to_vec());
        let svid = Svid::new(chain, PrivateKeyDer::Pkcs8(key), provider)
            .map_err(|error| format!("{}: {error}", delivered.spiffe_id()))?;
        if svid.id() != delivered.spiffe_id() {
            return Err(format!(
                "{} was delivered as {}",
                svid.id(),
                delivered.spiffe_id()
            ));
        }
        svids.push(Arc::new(svid.with_hint(delivered.hint().map(Into::into))));
    }
    let mut bundles = BundleSet::default();
    for (domain, bundle) in context.bundle_set().iter() {
        let authorities = bundle.authorities().iter();
        let authorities = authorities.map(|ca| ca.as_bytes().to_vec().into());
        let bundle = TrustBundle::new(domain.clone(), authorities).map_err(|e| e.to_string())?;
        bundles
            .insert(Arc::new(bundle))
            .map_err(|error| error.to_string())?;
    }
    Ok(Supply {
        svids,
        bundles,
        ..Supply::default()
    })
}

fn complain(sender: &watch::Sender<Arc<Supply>>, socket: &Path, error: &WorkloadApiError) {
    // The agent speaks for itself: it knows us and has no identity for us. Everything else is a
    // matter of transport, in which material stays in force until it expires.
    let withdrawn = matches!(
        error,
        WorkloadApiError::NoIdentityIssued | WorkloadApiError::PermissionDenied(_)
    );
    let problem: Arc<str> = format!("{}: {error}", socket.display()).into();
    sender.send_if_modified(|supply| {
        let news = supply.problem.as_ref() != Some(&problem);
        if news {
            tracing::warn!(socket = %socket.display(), %error, withdrawn, "workload API");
        }
        let withdraws = withdrawn && !supply.svids.is_empty();
        if !news && !withdraws {
            return false;
        }
        let supply = Arc::make_mut(supply);
        supply.problem = Some(problem);
        if withdrawn {
            supply.svids.clear();
            supply.pending = false;
        }
        true
    });
}
