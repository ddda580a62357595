//! `sekisho oidc`: tells the web which keys this site's tokens are signed with, until a signal ends it.
//! A process of its own: it reads what strangers send, and has nothing that they could want.

mod source;

use std::{fs, os::unix::fs::DirBuilderExt as _, sync::Arc};

use anyhow::Context as _;
use clap::Args;
use sekisho_certs::{Clock, SystemClock, tls};
use sekisho_federation::oidc::{Certificate, Door, Provider, serve};
use sekisho_proxy::socket_file::{self, SocketFile};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
};

use crate::{
    child::ChildArgs,
    cli::{self, ConfigArgs},
    config::{self, Config, OidcConfig, OidcListen},
    logging, output, run,
};

/// For the owner and the group: the proxy in front.
const MODE: u32 = 0o660;

/// Options of `sekisho oidc`.
#[derive(Debug, Args)]
pub(crate) struct OidcArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    child: ChildArgs,
}

/// Does what was asked.
pub(crate) fn oidc(args: &OidcArgs) -> u8 {
    if !args.child.begin() {
        return cli::FAILED;
    }
    let own = |file: &Config| file.oidc.clone();
    let Some((file, own)) = config::load_part(&args.config.config, "oidc", own) else {
        return cli::INVALID;
    };
    logging::start(&file.log);
    run::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(tell(&file, &own)));
    match outcome {
        Ok(()) => cli::OK,
        Err(error) => {
            output::complain(format_args!("oidc: {error:#}"));
            cli::FAILED
        }
    }
}

async fn tell(file: &Config, own: &OidcConfig) -> anyhow::Result<()> {
    let crypto = Arc::new(tls::provider());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (door, socket) = open(&own.listen, &crypto)
        .await
        .with_context(|| own.listen.to_string())?;
    let keys = source::watch(own.source.clone(), file.site.clone(), Arc::clone(&clock));
    let provider = Provider::new(
        &own.issuer,
        own.jwks_uri.as_deref(),
        own.domains.clone(),
        keys,
        clock,
    );
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    if let Door::Tls(_, certificate) = &door {
        let certificate = Arc::clone(certificate);
        tokio::spawn(async move { certificate.follow().await });
    }
    tracing::info!(
        site = %file.site,
        listen = %own.listen,
        issuer = %own.issuer,
        source = %own.source.display(),
        "started"
    );
    tokio::select! {
        served = serve(door, Arc::new(provider), crypto) => served?,
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    drop(socket);
    tracing::info!("ended");
    Ok(())
}

async fn open(
    listen: &OidcListen,
    crypto: &Arc<rustls::crypto::CryptoProvider>,
) -> anyhow::Result<(Door, Option<SocketFile>)> {
    match listen {
        OidcListen::Tls { address, cert, key } => {
            let certificate = Certificate::load(cert.clone(), key.clone(), Arc::clone(crypto))?;
            let listener = TcpListener::bind(address).await?;
            Ok((Door::Tls(listener, Arc::new(certificate)), None))
        }
        OidcListen::Unix(path) => {
            if let Some(folder) = path.parent() {
                let mut builder = fs::DirBuilder::new();
                builder.recursive(true).mode(0o755).create(folder)?;
            }
            let (listener, file) = socket_file::listen(path, MODE)?;
            let listener = UnixListener::from_std(listener)?;
            Ok((Door::Unix(listener), Some(file)))
        }
    }
}
