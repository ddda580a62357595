//! What is read off a cell.

use serde::Serialize;

/// One number of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Share of idle connections that answered afterwards.
    Answered,
    Connections,
    CpuPerConnection,
    CpuPerGigabyte,
    CpuPerGigabyteBack,
    CpuPerGigabyteFront,
    /// Resident memory before any load.
    EmptyBack,
    EmptyFront,
    /// Resident memory for each idle connection.
    IdleBack,
    IdleFront,
    P50,
    P99,
    P999,
    Rate,
    Requests,
    RequestsPerCpu,
    /// From spawning both to the first byte relayed through both.
    StartUp,
}

impl Metric {
    /// Name with unit, as in tables and plots.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Answered => "answered, %",
            Self::Connections => "new connections/s",
            Self::CpuPerConnection => "CPU-ms per connection, pair",
            Self::CpuPerGigabyte => "CPU-s per GB, pair",
            Self::CpuPerGigabyteBack => "back",
            Self::CpuPerGigabyteFront => "front",
            Self::EmptyBack => "back empty, MiB",
            Self::EmptyFront => "front empty, MiB",
            Self::IdleBack => "back, KiB per connection",
            Self::IdleFront => "front, KiB per connection",
            Self::P50 => "p50, ms",
            Self::P99 => "p99, ms",
            Self::P999 => "p99.9, ms",
            Self::Rate => "Gb/s",
            Self::Requests => "requests/s",
            Self::RequestsPerCpu => "requests per CPU-s, pair",
            Self::StartUp => "start-up, ms",
        }
    }

    /// Digits behind the point.
    pub(crate) const fn digits(self) -> usize {
        match self {
            Self::Answered | Self::Connections | Self::Requests | Self::RequestsPerCpu => 0,
            Self::StartUp => 0,
            Self::EmptyBack | Self::EmptyFront | Self::IdleBack | Self::IdleFront => 1,
            Self::Rate => 2,
            Self::CpuPerConnection
            | Self::CpuPerGigabyte
            | Self::CpuPerGigabyteBack
            | Self::CpuPerGigabyteFront
            | Self::P50
            | Self::P99
            | Self::P999 => 3,
        }
    }

    /// Whether a table shows how it compares with Envoy and the floor.
    pub(crate) const fn is_compared(self) -> bool {
        matches!(
            self,
            Self::Rate
                | Self::CpuPerGigabyte
                | Self::Connections
                | Self::CpuPerConnection
                | Self::Requests
                | Self::RequestsPerCpu
                | Self::P99
                | Self::IdleBack
                | Self::EmptyBack
        )
    }

    /// Whether less is better.
    pub(crate) const fn less_is_better(self) -> bool {
        !matches!(
            self,
            Self::Answered | Self::Connections | Self::Rate | Self::Requests | Self::RequestsPerCpu
        )
    }
}
