//! An authority above that is reached by SPIRE's server API (SPIRE's upstream authority `spire`): of
//! the same trust domain, ours or a SPIRE server's.
//!
//! We come to it with an SVID from a Workload API, whose entry has `downstream`; it shows that it is
//! the server of the trust domain (spire-api.md §1, §2, §5).

mod dial;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use sekisho_certs::{
    Clock, SpiffeId, Svid, TrustBundle, TrustDomain,
    source::{Supply, watch_workload_api},
};
use sekisho_spire_api::{
    server::{
        bundle::{GetBundleRequest, PublishJwtAuthorityRequest, bundle_client::BundleClient},
        svid::{NewDownstreamX509caRequest, svid_client::SvidClient},
    },
    types,
};
use tokio::sync::{Mutex, watch};
use tonic::{Code, Status, transport::Channel};

use super::{Above, Signed, Upstream, UpstreamError};
use crate::{
    epoch,
    store::{JwtAuthority, X509Authority},
};

/// How long the Workload API may take for its first word.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// More certificates in one answer are a mistake.
const MOST: usize = 256;

/// Where an authority above is, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpireSpec {
    /// The trust domain, ours and its.
    pub domain: TrustDomain,
    /// Its addresses, `HOST:PORT`; the first that answers is used, the next one when it fails.
    pub servers: Vec<String>,
    /// The Workload API that gives us our SVID.
    pub socket: PathBuf,
    /// Which SVID, where that gives us several. `None`: the only one.
    pub own: Option<SpiffeId>,
}

/// A client of an authority above.
#[derive(Debug)]
pub struct Spire {
    spec: SpireSpec,
    supply: watch::Receiver<Arc<Supply>>,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
    connected: Mutex<Option<Connected>>,
    /// Which address is the first to be tried.
    first: AtomicUsize,
}

/// A connection, as long as what it was made with is the newest there is.
#[derive(Debug)]
struct Connected {
    with: Credentials,
    channel: Channel,
}

/// Who we are there, and by what the server is known.
#[derive(Clone, Debug, PartialEq)]
struct Credentials {
    own: Arc<Svid>,
    bundle: Arc<TrustBundle>,
}

fn refused(text: impl ToString) -> UpstreamError {
    UpstreamError::Refused(text.to_string())
}

fn answered(call: &str, status: &Status) -> UpstreamError {
    refused(format_args!(
        "{call}: {} ({:?})",
        status.message(),
        status.code()
    ))
}

impl Spire {
    /// A client that connects when it is asked for something.
    ///
    /// Must be called inside a tokio runtime.
    #[must_use]
    pub fn new(spec: SpireSpec, provider: Arc<CryptoProvider>, clock: Arc<dyn Clock>) -> Self {
        let supply = watch_workload_api(spec.socket.clone(), Arc::clone(&provider));
        Self {
            spec,
            supply,
            provider,
            clock,
            connected: Mutex::default(),
            first: AtomicUsize::new(0),
        }
    }

    /// Waits for the Workload API's first word.
    async fn credentials(&self) -> Result<Credentials, UpstreamError> {
        let mut supply = self.supply.clone();
        let there = supply.wait_for(|supply| !supply.svids.is_empty());
        // Its own words are in the supply.
        let _ = tokio::time::timeout(FIRST_WORD, there).await;
        let supply = Arc::clone(&self.supply.borrow());
        let problem = || match &supply.problem {
            Some(problem) => refused(problem),
            None => refused(format_args!(
                "{}: no SVID for this process",
                self.spec.socket.display()
            )),
        };
        let own = match (&self.spec.own, supply.svids.as_slice()) {
            (_, []) => return Err(problem()),
            (Some(id), all) => all.iter().find(|svid| svid.id() == id).ok_or_else(|| {
                let socket = self.spec.socket.display();
                refused(format_args!("{socket}: does not give us {id}"))
            })?,
            (None, [only]) => only,
            (None, several) => {
                let ids: Vec<_> = several.iter().map(|svid| svid.id().to_string()).collect();
                let text = format!("several SVIDs for this process: {}", ids.join(", "));
                return Err(refused(text));
            }
        };
        let domain = &self.spec.domain;
        let bundle = supply.bundles.get(domain).ok_or_else(|| {
            let socket = self.spec.socket.display();
            refused(format_args!("{socket}: no bundle of {domain}"))
        })?;
        Ok(Credentials {
            own: Arc::clone(own),
            bundle: Arc::clone(bundle),
        })
    }

    /// A connection to the authority above.
    async fn channel(&self) -> Result<Channel, UpstreamError> {
        let with = self.credentials().await?;
        let mut connected = self.connected.lock().await;
        match &*connected {
            Some(known) if known.with == with => return Ok(known.channel.clone()),
            _ => {}
        }
        let config = dial::config(
            &self.spec.domain,
            &with.own,
            &with.bundle,
            &self.provider,
            &self.clock,
        )?;
        let first = self.first.load(Ordering::Relaxed);
        let channel = dial::connect(&self.spec.servers, first, &config).await?;
        *connected = Some(Connected {
            with,
            channel: channel.clone(),
        });
        Ok(channel)
    }

    /// What a call has ended with. After one that did not come through, the next goes to another
    /// address, where there is one.
    async fn outcome<T>(
        &self,
        call: &str,
        outcome: Result<tonic::Response<T>, Status>,
    ) -> Result<T, UpstreamError> {
        match outcome {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => {
                let code = status.code();
                // Our own deadline is told as a cancellation.
                if matches!(
                    code,
                    Code::Unavailable | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled
                ) {
                    *self.connected.lock().await = None;
                    self.first.fetch_add(1, Ordering::Relaxed);
                }
                Err(answered(call, &status))
            }
        }
    }
}

fn ders(sent: Vec<Vec<u8>>, what: &str) -> Result<Vec<CertificateDer<'static>>, UpstreamError> {
    if sent.len() > MOST {
        let text = format!("more than {MOST} {what}");
        return Err(UpstreamError::Unusable(text));
    }
    Ok(sent.into_iter().map(CertificateDer::from).collect())
}

fn above(bundle: types::Bundle) -> Above {
    let x509 = bundle.x509_authorities.into_iter();
    let jwt = bundle.jwt_authorities.into_iter();
    Above {
        x509: x509
            .map(|root| X509Authority {
                der: root.asn1,
                tainted: root.tainted,
                // Of that bundle; what ours takes over is marked then.
                above: false,
            })
            .collect(),
        jwt: jwt
            .map(|key| JwtAuthority {
                key_id: key.key_id,
                public_key: key.public_key,
                expires_at: (key.expires_at > 0).then(|| epoch::time(key.expires_at)),
                tainted: key.tainted,
            })
            .collect(),
    }
}

#[tonic::async_trait]
impl Upstream for Spire {
    async fn sign(
        &self,
        request: Vec<u8>,
        _: SystemTime,
        ttl: Duration,
    ) -> Result<Signed, UpstreamError> {
        let mut client = SvidClient::new(self.channel().await?);
        let request = NewDownstreamX509caRequest {
            csr: request,
            preferred_ttl: i32::try_from(ttl.as_secs()).unwrap_or(i32::MAX),
        };
        let answer = client.new_downstream_x509ca(request).await;
        let answer = self.outcome("NewDownstreamX509CA", answer).await?;
        Ok(Signed {
            chain: ders(answer.ca_cert_chain, "certificates in a chain")?,
            roots: ders(answer.x509_authorities, "roots")?,
        })
    }

    async fn publish(&self, key: &JwtAuthority) -> Result<bool, UpstreamError> {
        let mut client = BundleClient::new(self.channel().await?);
        let request = PublishJwtAuthorityRequest {
            jwt_authority: Some(types::JwtKey {
                public_key: key.public_key.clone(),
                key_id: key.key_id.clone(),
                expires_at: key.expires_at.map_or(0, epoch::seconds),
                tainted: false,
            }),
        };
        let answer = client.publish_jwt_authority(request).await;
        // All its keys: they come with the bundle.
        self.outcome("PublishJWTAuthority", answer).await?;
        Ok(true)
    }

    async fn bundle(&self) -> Result<Option<Above>, UpstreamError> {
        let mut client = BundleClient::new(self.channel().await?);
        let answer = client.get_bundle(GetBundleRequest::default()).await;
        let bundle = self.outcome("GetBundle", answer).await?;
        Ok(Some(above(bundle)))
    }
}
