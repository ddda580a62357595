//! The log: text or JSON lines on standard error.

use tracing_subscriber::{EnvFilter, fmt};

use crate::{
    config::{Log, LogFormat, LogLevel},
    output,
};

/// Sets the process's log up. Events of target `access` are written whatever the level, unless
/// `access: false` keeps them from being made.
pub(crate) fn start(log: &Log) {
    let level = match log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // Libraries say more than an operator wants to know.
    let filter = EnvFilter::new(format!(
        "{level},access=info,rustls=error,h2=error,hyper=error,tonic=error,tower=error,regorus=error"
    ));
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(output::colour_err());
    match log.format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .init(),
        LogFormat::Text => builder.init(),
    }
}
