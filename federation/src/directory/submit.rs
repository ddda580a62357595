//! What a member asks of the place that hosts a directory: what it has of the member, and to take the
//! next word of it.
//!
//! Nothing that is asked for here is trusted beyond the member's own signature: whoever hosts a directory
//! can say that it has less than it has, and then refuses what it is sent.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;
use sekisho_certs::{Clock, TrustDomain};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    client::unpacked,
    continuity::KeySet,
    descriptor::{self, Descriptor, DescriptorError},
    key::KeyError,
    metadata::{self, Dated as _, MetadataError, Snapshot, Targets, Timestamp},
    names,
    repository::{Said, Submission, most, target_file, versioned},
};
use crate::{
    client::{Allowed, Client, FetchError, Profile, UrlError, WebRoots},
    dial::{self, Base, Unreached},
};

/// Where submissions are taken.
pub const SUBMISSIONS: &str = "submissions";
/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// Most bytes of an answer to a submission.
const MOST_ANSWER: usize = 64 * 1024;

/// Why the place that hosts a directory cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// It does not answer as such a place does.
    #[error("{at}: {problem}")]
    Answer {
        /// Where.
        at: String,
        /// What is wrong.
        problem: String,
    },
    /// What it has is no descriptor of the member.
    #[error("{at}: {error}")]
    Descriptor {
        /// Where.
        at: String,
        /// Why.
        error: DescriptorError,
    },
    /// It cannot be reached.
    #[error("{at}: {error}")]
    Io {
        /// Where.
        at: String,
        /// What the system says, or TLS.
        error: io::Error,
    },
    /// What is to be sent cannot be written.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file there is refused.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// It takes no submissions.
    #[error("{at}: submissions are not taken there (sekisho directory serve --accept does)")]
    NotTaken {
        /// Where.
        at: String,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] FetchError),
    /// Its address is none.
    #[error(transparent)]
    Url(#[from] UrlError),
}

/// What is answered to a submission.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Taken {
    /// Whether it was taken, or was there already.
    pub accepted: bool,
    /// Why not: a word for programs.
    #[serde(default)]
    pub reason: Option<String>,
    /// The same for people.
    #[serde(default)]
    pub problem: Option<String>,
    /// Where it is the version that does not follow: the one that is there, which the next has to follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<u64>,
}

impl Taken {
    /// It was taken.
    #[must_use]
    pub const fn yes() -> Self {
        Self {
            accepted: true,
            reason: None,
            problem: None,
            known: None,
        }
    }

    /// It was not.
    #[must_use]
    pub fn no(reason: &str, problem: String, known: Option<u64>) -> Self {
        Self {
            accepted: false,
            reason: Some(reason.into()),
            problem: Some(problem),
            known,
        }
    }
}

/// The place that hosts a directory, by its address.
#[derive(Clone, Debug)]
pub struct Hosting {
    base: Base,
    client: Client,
    /// `None`: wherever its name leads, by whoever has typed it.
    allowed: Option<Allowed>,
}

impl Hosting {
    /// The one at `url`, `https://…` or `http://…`: all that is asked and sent is signed. For `https`,
    /// by `roots`.
    ///
    /// # Errors
    /// When it is no such address.
    pub fn new(
        url: &str,
        roots: WebRoots,
        provider: Arc<CryptoProvider>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, UrlError> {
        let base = Base::parse(url)?;
        Ok(Self {
            base,
            client: Client::new(roots, Allowed::default(), provider, clock),
            allowed: None,
        })
    }

    /// The same, which is connected to only where it is `allowed`.
    #[must_use]
    pub fn with_allowed(mut self, allowed: Allowed) -> Self {
        self.allowed = Some(allowed);
        self
    }

    /// Its address, as it is told.
    #[must_use]
    pub fn address(&self) -> &str {
        self.base.as_str()
    }

    /// The version that it names of a role.
    async fn version_of(&self, role: &str) -> Result<Option<u64>, SubmitError> {
        let file = "metadata/timestamp.json".to_owned();
        let timestamp = self.file::<Timestamp>(&file, most("timestamp")).await?;
        let version = |meta: Option<&metadata::Metafile>| meta.map(|meta| meta.version.get());
        let timestamp = timestamp.ok_or_else(|| self.not_as_expected(&file, "it is missing"))?;
        let snapshot = version(timestamp.signed.meta.get("snapshot.json"));
        let snapshot = snapshot.ok_or_else(|| self.not_as_expected(&file, "names no snapshot"))?;
        let file = versioned("snapshot", snapshot);
        let found = self.small::<Snapshot>(&file, most("snapshot")).await?;
        let found = found.ok_or_else(|| self.not_as_expected(&file, "it is missing"))?;
        Ok(version(found.signed.meta.get(&format!("{role}.json"))))
    }

    /// What is there of a member, signed by these keys of it; `None` where there is nothing by them. `shown` is
    /// the version of it that is known to be there: without, it is looked for in the snapshot, which is large.
    ///
    /// # Errors
    /// When it cannot be asked, or answers what is none.
    pub async fn said(
        &self,
        member: &TrustDomain,
        keys: &KeySet,
        shown: Option<u64>,
    ) -> Result<Option<Said>, SubmitError> {
        let role = names::role_of(member);
        let number = match shown {
            Some(number) => Some(number),
            None => self.version_of(&role).await?,
        };
        let Some(number) = number else {
            return Ok(None);
        };
        let file = versioned(&role, number);
        let Some(found) = self.file::<Targets>(&file, most(&role)).await? else {
            return Err(self.not_as_expected(&file, "it is missing"));
        };
        metadata::is_version(&file, &found.signed, number)?;
        if !keys.have_signed(&found) {
            return Ok(None);
        }
        let target = names::target_of(member);
        let named = metadata::target(&found.signed, &target);
        let mut said = Said {
            version: number,
            expires: found.signed.end(),
            descriptor: None,
            sha256: named.map(|named| sekisho_certs::hex(&named.hashes.sha256)),
        };
        if let (Some(hash), Some(named)) = (&said.sha256, named) {
            let file = target_file(hash, &target);
            let bytes = self.bytes(&file, descriptor::MOST).await?;
            let bytes = bytes.ok_or_else(|| self.not_as_expected(&file, "it is missing"))?;
            let hashes = Some(&named.hashes);
            metadata::is_what_was_named(&file, &bytes, hashes, Some(named.length))?;
            let read = Descriptor::read(member, &bytes);
            said.descriptor = Some(read.map_err(|error| SubmitError::Descriptor {
                at: self.at(&file),
                error,
            })?);
        }
        Ok(Some(said))
    }

    /// Sends what a member has to say.
    ///
    /// # Errors
    /// When it cannot be sent, or there is no answer. A refusal is an answer.
    pub async fn send(&self, submission: &Submission) -> Result<Taken, SubmitError> {
        let body = submission.to_json()?;
        let asked = self.ask(Method::POST, SUBMISSIONS, body, MOST_ANSWER);
        let (status, body) = asked.await?;
        if matches!(
            status,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
        ) {
            return Err(SubmitError::NotTaken {
                at: self.at(SUBMISSIONS),
            });
        }
        serde_json::from_slice(&body)
            .map_err(|_| self.not_as_expected(SUBMISSIONS, &format!("answered with {status}")))
    }

    fn at(&self, name: &str) -> String {
        self.base.at(name)
    }

    fn not_as_expected(&self, name: &str, problem: &str) -> SubmitError {
        SubmitError::Answer {
            at: self.at(name),
            problem: problem.into(),
        }
    }

    async fn file<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        most: usize,
    ) -> Result<Option<metadata::Signed<T>>, SubmitError> {
        let bytes = self.bytes(name, most).await?;
        Ok(bytes
            .map(|bytes| metadata::parse(name, &bytes))
            .transpose()?)
    }

    /// The same by its small form, where there is one.
    async fn small<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        most: usize,
    ) -> Result<Option<metadata::Signed<T>>, SubmitError> {
        let small = self.bytes(&format!("{name}.gz"), most).await?;
        match small.and_then(|small| unpacked(&small, most)) {
            Some(bytes) => Ok(Some(metadata::parse(name, &bytes)?)),
            None => self.file(name, most).await,
        }
    }

    async fn bytes(&self, name: &str, most: usize) -> Result<Option<Bytes>, SubmitError> {
        match self.ask(Method::GET, name, Vec::new(), most).await? {
            (StatusCode::OK, bytes) => Ok(Some(bytes)),
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, _) => Err(self.not_as_expected(name, &format!("answered with {status}"))),
        }
    }

    /// One question, on a connection of its own.
    async fn ask(
        &self,
        method: Method,
        name: &str,
        body: Vec<u8>,
        most: usize,
    ) -> Result<(StatusCode, Bytes), SubmitError> {
        let asked = timeout(DEADLINE, self.ask_once(method, name, body, most)).await;
        asked.unwrap_or_else(|late| Err(self.io(name, late.into())))
    }

    fn io(&self, name: &str, error: io::Error) -> SubmitError {
        SubmitError::Io {
            at: self.at(name),
            error,
        }
    }

    async fn ask_once(
        &self,
        method: Method,
        name: &str,
        body: Vec<u8>,
        most: usize,
    ) -> Result<(StatusCode, Bytes), SubmitError> {
        let failed = |error| self.io(name, error);
        let request = Request::builder()
            .method(method)
            .uri(self.base.target(name))
            .header(header::HOST, self.base.authority())
            .header(header::USER_AGENT, "sekisho")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| failed(io::Error::other(error)))?;
        let (host, port) = self.base.address();
        let stream = dial::reach(&host, port, self.allowed.as_ref()).await;
        let stream = stream.map_err(|unreached| match unreached {
            Unreached::Address(address) => {
                let text =
                    format!("{address} is not on the public Internet, or in `federation.allow`");
                failed(io::Error::other(text))
            }
            Unreached::Io(error) => failed(error),
        })?;
        if !self.base.is_https() {
            return self.spoken(name, stream, request, most).await;
        }
        let connector = TlsConnector::from(self.client.tls(&Profile::Web).await?);
        let server = ServerName::try_from(host);
        let server = server.map_err(|error| failed(io::Error::other(error)))?;
        let stream = connector.connect(server, stream).await.map_err(failed)?;
        self.spoken(name, stream, request, most).await
    }

    async fn spoken<S>(
        &self,
        name: &str,
        stream: S,
        request: Request<Full<Bytes>>,
        most: usize,
    ) -> Result<(StatusCode, Bytes), SubmitError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |error: hyper::Error| self.io(name, io::Error::other(error));
        let mut spoken = dial::speak(stream).await.map_err(failed)?;
        let answer = spoken.sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), most).collect().await;
        let body = body.map_err(|error| self.io(name, io::Error::other(error)))?;
        Ok((status, body.to_bytes()))
    }
}
