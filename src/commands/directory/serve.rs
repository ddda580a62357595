//! `sekisho directory serve`.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use sekisho_certs::{SystemClock, tls};
use sekisho_federation::{
    directory::{
        key::{FileKey, Signer as _},
        serve::{Door, Served, serve},
    },
    oidc::Certificate,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use super::{host::every, repository, wait};
use crate::{
    cli,
    config::{Log, LogFormat, LogLevel},
    logging, run,
};

/// Options of `serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The folder of the directory
    folder: PathBuf,
    /// Where requests come in
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// The certificate chain for TLS, PEM; looked at again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    tls_key: Option<PathBuf>,
    /// The host's key: hosts the directory too
    #[arg(long, value_name = "FILE")]
    host_key: Option<PathBuf>,
    /// How often the host signs where nothing changes
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = every, requires = "host_key")]
    every: Duration,
    /// Take what members send, at /submissions
    #[arg(long, requires = "host_key")]
    accept: bool,
    /// Log as JSON lines
    #[arg(long)]
    json: bool,
}

impl Serve {
    /// Does it.
    pub(super) fn go(&self) -> anyhow::Result<u8> {
        logging::start(&Log {
            level: LogLevel::Info,
            format: if self.json {
                LogFormat::Json
            } else {
                LogFormat::Text
            },
            access: true,
        });
        run::raise_file_limit();
        wait(self.serve())
    }

    async fn serve(&self) -> anyhow::Result<u8> {
        let crypto = Arc::new(tls::provider());
        let repository = repository(&self.folder);
        // A folder that is none is told now, not by 404 to everybody.
        let host = repository.host_key()?;
        let mut served = Served::new(repository, Arc::new(SystemClock));
        if let Some(file) = &self.host_key {
            let key = FileKey::read(file)?;
            if key.public() != host {
                anyhow::bail!(
                    "{}: this is the key {}, and the host's is {}",
                    file.display(),
                    key.public().id(),
                    host.id()
                );
            }
            served = served.hosted(Arc::new(key), self.every);
        }
        if self.accept {
            served = served.accepting();
        }
        let listener = TcpListener::bind(self.listen).await;
        let listener = listener.with_context(|| self.listen.to_string())?;
        let address = listener.local_addr()?;
        let door = match (&self.cert, &self.tls_key) {
            (Some(cert), Some(key)) => {
                let (cert, key) = (cert.clone(), key.clone());
                let certificate = Arc::new(Certificate::load(cert, key, Arc::clone(&crypto))?);
                let followed = Arc::clone(&certificate);
                tokio::spawn(async move { followed.follow().await });
                Door::Tls(listener, certificate)
            }
            _ => Door::Plain(listener),
        };
        let (mut term, mut int) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let served = Arc::new(served);
        tracing::info!(
            folder = %self.folder.display(),
            listen = %address,
            tls = self.cert.is_some(),
            hosts = self.host_key.is_some(),
            accepts = self.accept,
            "started"
        );
        tokio::select! {
            ended = serve(door, Arc::clone(&served), crypto) => ended?,
            () = served.host() => {}
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("ended");
        Ok(cli::OK)
    }
}
