//! `admin` and `log`.

use std::{fmt, net::SocketAddr, path::PathBuf};

use super::{address, error::Report, field::Field, keys};

/// Where the admin interface listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admin {
    /// A loopback address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// `log: {format, level, access}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// Default: text.
    pub(crate) format: LogFormat,
    /// Default: info.
    pub(crate) level: LogLevel,
    /// Whether each connection gets a line when it ends. Default: yes.
    pub(crate) access: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: LogLevel::Info,
            access: true,
        }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LogLevel {
    /// What does not work.
    Error,
    /// What may stop to work.
    Warn,
    /// What changes.
    Info,
    /// What happens to each connection.
    Debug,
    /// Everything.
    Trace,
}

/// Reads `admin`.
pub(super) fn admin(field: &Field<'_>, report: &mut Report) -> Option<Admin> {
    const FORM: &str = "a loopback address and port, as in 127.0.0.1:9901, or unix:///PATH";
    let text = field.text(FORM, report)?;
    if text.starts_with("unix:") {
        return match address::unix(text) {
            Ok(path) => Some(Admin::Unix(path)),
            Err(expected) => {
                field.wrong(expected, report);
                None
            }
        };
    }
    field.parse(FORM, report, |text| {
        let address = address::socket_address(text).ok()?;
        address::is_loopback(address).then_some(Admin::Tcp(address))
    })
}

/// Reads `log`.
pub(super) fn log(field: &Field<'_>, report: &mut Report) -> Option<Log> {
    let default = Log::default();
    let map = field.map(&keys::LOG, report)?;
    let format = map.get_or("format", default.format, report, |field, report| {
        field.choice(
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            report,
        )
    });
    let level = map.get_or("level", default.level, report, |field, report| {
        let levels = [
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ];
        field.choice(&levels, report)
    });
    let access = map.get_or("access", default.access, report, Field::boolean);
    Some(Log {
        format: format?,
        level: level?,
        access: access?,
    })
}
