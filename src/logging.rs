//! The log: text or JSON lines on standard error.

use std::sync::{Mutex, PoisonError};

use sekisho_authority::api::Level;
use tracing_subscriber::{EnvFilter, fmt};

use crate::{
    config::{Log, LogFormat, LogLevel},
    output,
};

/// Sets the process's log up. Events of target `access` are written whatever the level, unless
/// `access: false` keeps them from being made.
pub(crate) fn start(log: &Log) {
    let builder = fmt()
        .with_env_filter(filter(name(log.level)))
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

/// The same for an authority and an agent, whose administrators may ask for more while they run. Each event costs a
/// lock: not for a proxy.
pub(crate) fn start_changeable(log: &Log) -> Changeable {
    let builder = fmt()
        .with_env_filter(filter(name(log.level)))
        .with_writer(std::io::stderr)
        .with_ansi(output::colour_err());
    let set: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync> = match log.format {
        LogFormat::Json => {
            let builder = builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |new| handle.reload(new).map_err(|error| error.to_string()))
        }
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Box::new(move |new| handle.reload(new).map_err(|error| error.to_string()))
        }
    };
    let at_start = match log.level {
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warn,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    };
    Changeable {
        at_start,
        now: Mutex::new(at_start),
        set,
    }
}

/// A log that can be turned up and down.
pub(crate) struct Changeable {
    at_start: Level,
    now: Mutex<Level>,
    set: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

impl std::fmt::Debug for Changeable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changeable")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl Changeable {
    fn level(&self) -> Level {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, level: Level) -> Result<(), String> {
        let name = match level {
            // An error is the least that there is.
            Level::Panic | Level::Fatal | Level::Error => "error",
            Level::Warn => "warn",
            Level::Debug => "debug",
            Level::Trace => "trace",
            Level::Info | Level::Unspecified => "info",
        };
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        (self.set)(filter(name))?;
        *now = level;
        Ok(())
    }
}

/// The services of both have it, and know nothing of each other.
macro_rules! log_level {
    ($service:path) => {
        impl $service for Changeable {
            fn now(&self) -> Level {
                self.level()
            }

            fn at_start(&self) -> Level {
                self.at_start
            }

            fn set(&self, level: Level) -> Result<(), String> {
                self.change(level)
            }
        }
    };
}

log_level!(sekisho_agent::serve::LogLevel);
log_level!(sekisho_authority::api::LogLevel);

const fn name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

fn filter(level: &str) -> EnvFilter {
    // Libraries say more than an operator wants to know.
    EnvFilter::new(format!(
        "{level},access=info,rustls=error,h2=error,hyper=error,tonic=error,tower=error,regorus=error"
    ))
}
