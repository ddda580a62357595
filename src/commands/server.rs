//! `sekisho healthcheck`, `sekisho info` and `sekisho logger`: an authority as a program.

use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use sekisho_spire_api::{
    server::{
        debug::{GetInfoRequest, debug_client::DebugClient},
        logger::{
            GetLoggerRequest, ResetLogLevelRequest, SetLogLevelRequest, logger_client::LoggerClient,
        },
    },
    types,
};
use serde_json::json;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Asked, remaining, run_at, shown};
use crate::{
    api::Answered as _,
    cli,
    output::{self, Colour, paint},
};

/// How long an authority that is well may take to say so.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks whether the authority is well.
pub(crate) fn healthcheck(asked: &Asked) -> u8 {
    run_at(&asked.at, async |channel| {
        let mut client = HealthClient::new(channel);
        let asked_for = client.check(HealthCheckRequest::default());
        let answer = tokio::time::timeout(PATIENCE, asked_for).await;
        let answer = answer
            .with_context(|| format!("no answer within {}s", PATIENCE.as_secs()))?
            .answered("Health/Check")?;
        let status = ServingStatus::try_from(answer.status).unwrap_or_default();
        let is_well = status == ServingStatus::Serving;
        if asked.json {
            output::json(&json!({ "status": status.as_str_name() }));
        } else if is_well {
            output::line(paint("serving", Colour::Green, output::colour_out()));
        } else {
            let told = format!("{} (its log says why)", status.as_str_name());
            output::line(paint(told, Colour::Red, output::colour_out()));
        }
        Ok(if is_well { cli::OK } else { cli::FAILED })
    })
}

/// Shows what the authority says of itself.
pub(crate) fn info(asked: &Asked) -> u8 {
    run_at(&asked.at, async |channel| {
        let info = DebugClient::new(channel)
            .get_info(GetInfoRequest {})
            .await
            .answered("GetInfo")?;
        if asked.json {
            let chain = info.svid_chain.iter().map(|one| {
                json!({
                    "id": shown(one.id.as_ref()),
                    "subject": one.subject,
                    "expires_at": one.expires_at,
                })
            });
            output::json(&json!({
                "uptime": info.uptime,
                "agents": info.agents_count,
                "entries": info.entries_count,
                "federated_bundles": info.federated_bundles_count,
                "svid_chain": chain.collect::<Vec<_>>(),
            }));
            return Ok(cli::OK);
        }
        output::line(format_args!(
            "up for {} s, {} agents, {} entries, {} federated bundles",
            info.uptime, info.agents_count, info.entries_count, info.federated_bundles_count
        ));
        let mut rows = vec![
            ["certificate", "subject", "expires in"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows.extend(info.svid_chain.iter().map(|one| {
            vec![
                shown(one.id.as_ref()),
                one.subject.clone(),
                remaining(one.expires_at),
            ]
        }));
        output::line(output::table(&rows).trim_end());
        Ok(cli::OK)
    })
}

#[derive(Debug, Subcommand)]
pub(crate) enum LoggerCommand {
    /// How much the authority logs, and did at its start
    #[command(after_help = "Example:\n  sekisho logger get")]
    Get(Asked),
    /// Log more or less until the next start; the audit log says who wanted it
    #[command(after_help = "Example:\n  sekisho logger set --level debug")]
    Set(Set),
    /// Log as at the start
    #[command(after_help = "Example:\n  sekisho logger reset")]
    Reset(Asked),
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    asked: Asked,
    /// How much
    #[arg(long, value_enum)]
    level: Level,
}

/// The levels of SPIRE's logger.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    Panic,
    Fatal,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    const fn sent(self) -> types::LogLevel {
        match self {
            Self::Panic => types::LogLevel::Panic,
            Self::Fatal => types::LogLevel::Fatal,
            Self::Error => types::LogLevel::Error,
            Self::Warn => types::LogLevel::Warn,
            Self::Info => types::LogLevel::Info,
            Self::Debug => types::LogLevel::Debug,
            Self::Trace => types::LogLevel::Trace,
        }
    }
}

/// Does it.
pub(crate) fn logger(command: &LoggerCommand) -> u8 {
    let asked = match command {
        LoggerCommand::Get(asked) | LoggerCommand::Reset(asked) => asked,
        LoggerCommand::Set(set) => &set.asked,
    };
    run_at(&asked.at, async |channel| {
        let mut client = LoggerClient::new(channel);
        let answer = match command {
            LoggerCommand::Get(_) => client.get_logger(GetLoggerRequest {}).await,
            LoggerCommand::Set(set) => {
                let new_level = set.level.sent().into();
                client.set_log_level(SetLogLevelRequest { new_level }).await
            }
            LoggerCommand::Reset(_) => client.reset_log_level(ResetLogLevelRequest {}).await,
        };
        let told = answer.answered("Logger")?;
        let (now, first) = (level(told.current_level), level(told.launch_level));
        if asked.json {
            output::json(&json!({ "current": now, "at_start": first }));
        } else {
            output::line(format_args!("{now} (at the start: {first})"));
        }
        Ok(cli::OK)
    })
}

fn level(sent: i32) -> String {
    let level = types::LogLevel::try_from(sent).unwrap_or_default();
    level.as_str_name().to_lowercase()
}
