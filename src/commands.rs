//! The administrators' commands, on SPIRE's server API: against our authority or a SPIRE server.

pub(crate) mod apply;
pub(crate) mod ca;
pub(crate) mod entry;
pub(crate) mod node;
pub(crate) mod token;

use std::{path::PathBuf, time::UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::Args;
use sekisho_certs::{SystemClock, TrustDomain, id};
use sekisho_spire_api::{
    server::bundle::{GetBundleRequest, bundle_client::BundleClient},
    types,
};
use tonic::transport::Channel;

use crate::{
    api::{self, Answered as _},
    cli, config, output,
};

/// Which authority to ask, and how to answer.
#[derive(Clone, Debug, Args)]
pub(crate) struct Asked {
    /// The administrators' socket of the authority
    #[arg(long, value_name = "PATH", default_value = config::AUTHORITY_SOCKET)]
    socket: PathBuf,
    /// Its configuration, to take the socket from
    #[arg(short, long = "config", value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// An authority that answers, and its trust domain.
pub(crate) struct Authority {
    pub(crate) channel: Channel,
    pub(crate) site: TrustDomain,
}

/// Runs a command that asks an authority.
pub(crate) fn run<F>(asked: &Asked, command: impl FnOnce(Authority) -> F) -> u8
where
    F: Future<Output = anyhow::Result<u8>>,
{
    let socket = match &asked.config {
        None => asked.socket.clone(),
        Some(path) => {
            let part = |file: &config::Config| file.authority.clone();
            match config::load_part(path, "authority", part) {
                Some((_, authority)) => authority.socket,
                None => return cli::INVALID,
            }
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            let channel = api::connect(&socket).await.context(
                "no authority answers there (is it running? another socket: --socket PATH, or -c FILE)",
            )?;
            let bundle = BundleClient::new(channel.clone())
                .get_bundle(GetBundleRequest::default())
                .await
                .answered("GetBundle")?;
            let name = bundle.trust_domain;
            let name = name.strip_prefix("spiffe://").unwrap_or(&name);
            let site = id::parse_trust_domain(name)?;
            command(Authority { channel, site }).await
        })
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            output::complain(format_args!("{error:#}"));
            cli::FAILED
        }
    }
}

/// An ID as it is written on a command line: whole, or a path below the site.
pub(crate) fn id(text: &str, site: &TrustDomain) -> anyhow::Result<types::Spiffeid> {
    let whole = if text.starts_with('/') {
        id::id_below(site, text)?
    } else {
        id::parse_workload_id(text)?
    };
    Ok(types::Spiffeid {
        trust_domain: whole.trust_domain().to_string(),
        path: whole.path().into(),
    })
}

/// A selector as it is written on a command line.
pub(crate) fn selector(text: &str) -> Result<types::Selector, String> {
    match text.split_once(':') {
        Some((kind, value)) if !kind.is_empty() && !value.is_empty() => Ok(types::Selector {
            r#type: kind.into(),
            value: value.into(),
        }),
        _ => Err("expected TYPE:VALUE, as in unix:uid:1000".into()),
    }
}

/// An ID as it is shown.
pub(crate) fn shown(id: Option<&types::Spiffeid>) -> String {
    id.map_or_else(
        || "-".into(),
        |id| format!("spiffe://{}{}", id.trust_domain, id.path),
    )
}

/// Selectors as they are shown.
pub(crate) fn selectors(all: &[types::Selector]) -> Vec<String> {
    let each = all.iter();
    each.map(|one| format!("{}:{}", one.r#type, one.value))
        .collect()
}

/// How long from now, of seconds since 1970; 0 is never.
pub(crate) fn remaining(at: i64) -> String {
    use sekisho_certs::Clock as _;
    let now = SystemClock.now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    match at.saturating_sub(now) {
        _ if at == 0 => "-".into(),
        rest if rest <= 0 => "expired".into(),
        rest if rest >= 3600 => format!("{}h{:02}m", rest / 3600, rest / 60 % 60),
        rest => format!("{}m{:02}s", rest / 60, rest % 60),
    }
}

/// What the items of a batch ended with: each failure is told; the exit code says whether there was one.
pub(crate) fn outcome<'a>(
    results: impl Iterator<Item = (String, Option<&'a types::Status>)>,
) -> anyhow::Result<u8> {
    let mut results = results.peekable();
    if results.peek().is_none() {
        bail!("the authority has answered nothing");
    }
    let mut code = cli::OK;
    for (name, status) in results {
        let Some(status) = status else {
            bail!("{name}: no answer");
        };
        if status.code != 0 {
            let kind = tonic::Code::from(status.code);
            output::complain(format_args!("{name}: {} ({kind:?})", status.message));
            code = cli::FAILED;
        }
    }
    Ok(code)
}
