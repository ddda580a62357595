//! The site's JWT keys, as the Workload API of an agent streams them (SPIFFE_Workload_API.md §6.2.2).

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use sekisho_certs::{Clock, TrustDomain};
use sekisho_federation::oidc::{Keys, jwks};
use sekisho_spire_api::workload::{
    JwtBundlesRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use tokio::{sync::watch, time::timeout};
use tonic::{Request, Status, metadata::MetadataValue, transport::Channel};

use crate::api;

/// How long an answer may take: the first message of a stream comes at once.
const ANSWER: Duration = Duration::from_secs(10);
/// A stream that says nothing is asked anew after so long: its agent may hang.
const SILENCE: Duration = Duration::from_secs(60);
/// Back-off after a failure: doubles from here to the longest. Who may not ask now may be let by an
/// entry at any time.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The keys of `domain` as the Workload API at `socket` tells them. While it is away, what it told last
/// stays.
pub(super) fn watch(
    socket: PathBuf,
    domain: TrustDomain,
    clock: Arc<dyn Clock>,
) -> watch::Receiver<Keys> {
    let (sender, receiver) = watch::channel(Keys::default());
    tokio::spawn(async move {
        let mut source = Source {
            socket,
            domain,
            sender,
            said: None,
            wait: FIRST_WAIT,
        };
        while !source.sender.is_closed() {
            // A stream does not end but by a fault.
            if let Err(error) = source.follow().await {
                source.complain(&error, clock.now());
            }
            tokio::time::sleep(source.wait).await;
            source.wait = (source.wait * 2).min(LONGEST_WAIT);
        }
    });
    receiver
}

const LATE: &str = "FetchJWTBundles: no answer in time";

struct Source {
    socket: PathBuf,
    domain: TrustDomain,
    sender: watch::Sender<Keys>,
    /// What was said last of what is wrong: once is enough.
    said: Option<String>,
    wait: Duration,
}

impl Source {
    async fn follow(&mut self) -> anyhow::Result<()> {
        let channel = timeout(ANSWER, api::connect(&self.socket)).await;
        let mut client = SpiffeWorkloadApiClient::new(channel.context(LATE)??);
        loop {
            self.stream(&mut client).await?;
        }
    }

    /// Reads one stream until it says nothing any more.
    async fn stream(
        &mut self,
        client: &mut SpiffeWorkloadApiClient<Channel>,
    ) -> anyhow::Result<()> {
        let mut request = Request::new(JwtBundlesRequest {});
        let header = MetadataValue::from_static("true");
        request.metadata_mut().insert("workload.spiffe.io", header);
        let told = |status: Status| {
            let hint = match status.code() {
                tonic::Code::PermissionDenied => " (is there an entry for this process?)",
                _ => "",
            };
            anyhow::anyhow!("{} ({:?}){hint}", status.message(), status.code())
        };
        let answered = timeout(ANSWER, client.fetch_jwt_bundles(request)).await;
        let answered = answered.context(LATE)?.map_err(told);
        let mut stream = answered.context("FetchJWTBundles")?.into_inner();
        let mut first = true;
        loop {
            let patience = if first { ANSWER } else { SILENCE };
            let message = match timeout(patience, stream.message()).await {
                Ok(message) => message.map_err(told).context("FetchJWTBundles")?,
                Err(_) if first => bail!(LATE),
                Err(_) => return Ok(()),
            };
            let Some(message) = message else {
                bail!("FetchJWTBundles: the stream has ended");
            };
            first = false;
            let name = format!("spiffe://{}", self.domain);
            let bundle = message.bundles.get(&name);
            let bundle = bundle.with_context(|| format!("no JWT bundle of {name}"))?;
            self.deliver(jwks(&self.domain, bundle)?);
        }
    }

    fn deliver(&mut self, set: Bytes) {
        self.wait = FIRST_WAIT;
        if self.said.take().is_some() {
            tracing::info!(source = %self.socket.display(), "the source of the keys is there");
        }
        let keys = Keys {
            jwks: Some(set),
            away: None,
        };
        self.sender.send_if_modified(|known| {
            let news = *known != keys;
            if known.jwks != keys.jwks {
                tracing::info!("keys taken");
            }
            *known = keys;
            news
        });
    }

    fn complain(&mut self, error: &anyhow::Error, now: std::time::SystemTime) {
        let text = format!("{error:#}");
        if self.said.as_ref() != Some(&text) {
            tracing::warn!(source = %self.socket.display(), error = text, "no keys from the source");
            self.said = Some(text);
        }
        self.sender.send_modify(|known| {
            known.away.get_or_insert(now);
        });
    }
}

#[cfg(test)]
mod tests;
