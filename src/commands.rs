//! The administrators' commands, on SPIRE's server API: against our authority or a SPIRE server.

pub(crate) mod apply;
pub(crate) mod audit;
pub(crate) mod bundle;
pub(crate) mod ca;
pub(crate) mod directory;
pub(crate) mod entry;
pub(crate) mod federation;
pub(crate) mod mint;
pub(crate) mod node;
pub(crate) mod server;
pub(crate) mod token;
pub(crate) mod value;

use std::{path::PathBuf, time::UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::Args;
use sekisho_certs::{SystemClock, TrustDomain, id};
use sekisho_spire_api::{
    server::bundle::{GetBundleRequest, bundle_client::BundleClient},
    types,
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::{
    api::{self, Answered as _},
    cli, config, output,
};

/// Which authority to ask.
#[derive(Clone, Debug, Args)]
pub(crate) struct At {
    /// The administrators' socket of the authority
    #[arg(long, value_name = "PATH", default_value = config::AUTHORITY_SOCKET)]
    socket: PathBuf,
    /// Its configuration, to take the socket from
    #[arg(short, long = "config", value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
}

impl At {
    /// The socket; `None` where the configuration cannot be used, which is told.
    pub(crate) fn socket(&self) -> Option<PathBuf> {
        let Some(path) = &self.config else {
            return Some(self.socket.clone());
        };
        let part = config::Config::site_authority;
        let (_, authority) = config::load_part(path, "authority", part)?;
        Some(authority.socket)
    }
}

/// Which authority to ask, and how to answer.
#[derive(Clone, Debug, Args)]
pub(crate) struct Asked {
    #[command(flatten)]
    pub(crate) at: At,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// An authority that answers, and its trust domain.
pub(crate) struct Authority {
    pub(crate) channel: Channel,
    pub(crate) site: TrustDomain,
}

/// Runs a command that asks an authority, and has to know whose it is.
pub(crate) fn run<F>(at: &At, command: impl FnOnce(Authority) -> F) -> u8
where
    F: Future<Output = anyhow::Result<u8>>,
{
    run_at(at, async |channel| {
        let bundle = BundleClient::new(channel.clone())
            .get_bundle(GetBundleRequest::default())
            .await
            .answered("GetBundle")?;
        let name = bundle.trust_domain;
        let name = name.strip_prefix("spiffe://").unwrap_or(&name);
        let site = id::parse_trust_domain(name)?;
        command(Authority { channel, site }).await
    })
}

/// Runs a command that asks an authority.
pub(crate) fn run_at<F>(at: &At, command: impl FnOnce(Channel) -> F) -> u8
where
    F: Future<Output = anyhow::Result<u8>>,
{
    let Some(socket) = at.socket() else {
        return cli::INVALID;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            let channel = api::connect(&socket).await.context(
                "no authority answers there (is it running? another socket: --socket PATH, or -c FILE)",
            )?;
            command(channel).await
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

/// What one item of a batch has ended with.
pub(crate) type Answer<'a> = (String, Option<&'a types::Status>);

/// Looks at what the items of a batch have ended with: each failure is told; the exit code says whether
/// there was one.
///
/// # Errors
/// When there are not as many answers as items.
pub(crate) fn outcome(asked: usize, answers: &[Answer<'_>]) -> anyhow::Result<u8> {
    if answers.len() != asked {
        bail!(
            "the authority has answered {} of {asked} items: look at what it has done",
            answers.len()
        );
    }
    let mut code = cli::OK;
    for (name, status) in answers {
        let Some(status) = status else {
            bail!("{name}: the authority has not said what has become of it");
        };
        if status.code != 0 {
            let kind = tonic::Code::from(status.code);
            output::complain(format_args!("{name}: {} ({kind:?})", status.message));
            code = cli::FAILED;
        }
    }
    Ok(code)
}

/// [`outcome`] of a call that gives nothing back but that: `done` is what was done to each, as in
/// `deleted`.
///
/// # Errors
/// The same.
pub(crate) fn done(
    json: bool,
    done: &str,
    asked: usize,
    answers: &[Answer<'_>],
) -> anyhow::Result<u8> {
    let code = outcome(asked, answers)?;
    let good = |status: &Option<&types::Status>| status.is_some_and(|status| status.code == 0);
    if json {
        let rows = answers.iter().map(|(name, status)| {
            let kind = status.map_or(tonic::Code::Unknown, |it| tonic::Code::from(it.code));
            let message = status.map(|status| &status.message);
            json!({
                "id": name,
                "done": good(status).then_some(done),
                "status": format!("{kind:?}"),
                "message": message.filter(|_| !good(status)),
            })
        });
        output::json(&Value::Array(rows.collect()));
    } else {
        for (name, _) in answers.iter().filter(|(_, status)| good(status)) {
            output::line(format_args!("{done} {name}"));
        }
    }
    Ok(code)
}

/// A number of things, as it is shown.
pub(crate) fn count(json: bool, what: &str, count: i32) {
    if json {
        output::json(&json!({ "count": count }));
    } else {
        output::line(format_args!("{count} {what}"));
    }
}

/// Of a call that is about one thing, and has not failed.
pub(crate) fn done_to(json: bool, verb: &str, name: String) -> anyhow::Result<u8> {
    done(json, verb, 1, &[(name, Some(&types::Status::default()))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_answer_is_an_error() {
        let good = types::Status::default();
        let one = || [("a".to_owned(), Some(&good))];
        assert_eq!(outcome(1, &one()).unwrap(), cli::OK);
        assert!(
            outcome(2, &one())
                .unwrap_err()
                .to_string()
                .contains("1 of 2")
        );
        outcome(1, &[]).unwrap_err();
        outcome(1, &[("a".into(), None)]).unwrap_err();
        let bad = types::Status {
            code: 5,
            message: "no".into(),
        };
        let both = [("a".to_owned(), Some(&good)), ("b".to_owned(), Some(&bad))];
        assert_eq!(outcome(2, &both).unwrap(), cli::FAILED);
    }

    #[test]
    fn what_has_no_end_does_not_expire() {
        assert_eq!(remaining(0), "-");
        assert_eq!(remaining(1), "expired");
    }
}
