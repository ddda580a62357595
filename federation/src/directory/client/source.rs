//! Where a directory's files are fetched from: a folder, or any static web server.

use std::{io, path::PathBuf};

use flate2::read::GzDecoder;

use super::web::Web;
use crate::client::UrlError;

/// Why a file was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Its address may not be connected to.
    #[error(
        "{host}: its address {address} is not on the public Internet, and not in `federation.allow`"
    )]
    Address {
        /// The host of the directory.
        host: String,
        /// Where its name leads.
        address: std::net::IpAddr,
    },
    /// It cannot be reached, or breaks off.
    #[error("{at}: {error}")]
    Io {
        /// What was asked for.
        at: String,
        /// What the system says, or TLS.
        error: io::Error,
    },
    /// HTTP went wrong.
    #[error("{at}: {error}")]
    Http {
        /// What was asked for.
        at: String,
        /// How.
        error: hyper::Error,
    },
    /// It is longer than it may be.
    #[error("{at}: longer than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        at: String,
        /// The bound.
        limit: usize,
    },
    /// It took longer than it may.
    #[error("{at}: no answer within {seconds} s")]
    TooLate {
        /// What was asked for.
        at: String,
        /// The bound.
        seconds: u64,
    },
    /// It answers with another status than 200, 304 and 404.
    #[error("{at}: answered with {status}")]
    Status {
        /// What was asked for.
        at: String,
        /// What.
        status: hyper::StatusCode,
    },
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(String),
    /// It is no address of a directory.
    #[error("not the address of a directory: {0}")]
    Url(#[from] UrlError),
}

/// What was answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    Bytes(Vec<u8>),
    NotThere,
    /// It is the one of last time.
    NotModified,
}

/// Where a directory's files are.
#[derive(Debug)]
pub enum Source {
    /// A folder: a copy, or a file system that sites share.
    Folder(PathBuf),
    /// A web server.
    Web(Box<Web>),
}

/// What was asked of a source, for whoever pays for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Questions.
    pub requests: u64,
    /// Bytes of the bodies that were answered, as they came.
    pub bytes: u64,
}

impl Source {
    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Web(web) => web.name(),
        }
    }

    /// A file.
    pub(super) async fn get(
        &mut self,
        name: &str,
        most: usize,
        traffic: &mut Traffic,
    ) -> Result<Got, SourceError> {
        self.ask(name, most, false, traffic).await
    }

    /// A file, if it is another than the last time that it was asked for in this way.
    pub(super) async fn get_if_new(
        &mut self,
        name: &str,
        most: usize,
        traffic: &mut Traffic,
    ) -> Result<Got, SourceError> {
        self.ask(name, most, true, traffic).await
    }

    /// A file by its small form, where there is one.
    pub(super) async fn get_small(
        &mut self,
        name: &str,
        most: usize,
        traffic: &mut Traffic,
    ) -> Result<Got, SourceError> {
        let small = self.ask(&format!("{name}.gz"), most, false, traffic).await;
        if let Ok(Got::Bytes(small)) = small
            && let Some(bytes) = unpacked(&small, most)
        {
            return Ok(Got::Bytes(bytes));
        }
        self.ask(name, most, false, traffic).await
    }

    async fn ask(
        &mut self,
        name: &str,
        most: usize,
        if_new: bool,
        traffic: &mut Traffic,
    ) -> Result<Got, SourceError> {
        traffic.requests += 1;
        let got = match self {
            Self::Folder(folder) => read(folder.join(name), most).await?,
            Self::Web(web) => web.get(name, most, if_new).await?,
        };
        if let Got::Bytes(bytes) = &got {
            traffic.bytes += bytes.len() as u64;
        }
        Ok(got)
    }
}

async fn read(path: PathBuf, most: usize) -> Result<Got, SourceError> {
    use tokio::io::AsyncReadExt as _;
    let at = || path.display().to_string();
    let file = match tokio::fs::File::open(&path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Got::NotThere),
        Err(error) => return Err(SourceError::Io { at: at(), error }),
    };
    let mut bytes = Vec::new();
    let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let read = file.take(bound).read_to_end(&mut bytes).await;
    read.map_err(|error| SourceError::Io { at: at(), error })?;
    if bytes.len() > most {
        return Err(SourceError::TooLarge {
            at: at(),
            limit: most,
        });
    }
    Ok(Got::Bytes(bytes))
}

/// What a small form is of; `None` where it is none, or of more than it may be.
pub(in super::super) fn unpacked(small: &[u8], most: usize) -> Option<Vec<u8>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    GzDecoder::new(small)
        .take(bound)
        .read_to_end(&mut bytes)
        .ok()?;
    (bytes.len() <= most).then_some(bytes)
}
