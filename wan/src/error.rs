//! Why a path cannot be made, or ended.

use std::io;

use crate::settings::SettingsError;

/// Why a path cannot be made, or ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked makes no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Addresses that cannot stand at the two ends of one path.
    #[error("addresses: {0}")]
    Addresses(String),
    /// A namespace's name that the kernel's tools would not take, or twice the same.
    #[error("namespace {name:?}: {problem}")]
    Namespace {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Not root.
    #[error(
        "not root: devices and network namespaces need CAP_NET_ADMIN and CAP_SYS_ADMIN; run it with sudo"
    )]
    NotRoot,
    /// A TUN device could not be opened.
    #[error("opening a TUN device by /dev/net/tun: {0}{hint}", hint = hint(.0))]
    Device(#[source] io::Error),
    /// A device is gone while it was in use.
    #[error("the device {0} is gone: it, or the namespace that it was in, has been deleted")]
    Gone(String),
    /// `ip` could not be started.
    #[error("ip: {0}; it comes with the package iproute2")]
    NoIp(#[source] io::Error),
    /// `ip` did not do it.
    #[error("ip {command}: {said}")]
    Ip {
        /// Its arguments.
        command: String,
        /// What it said.
        said: String,
    },
    /// A thread or a pipe could not be made.
    #[error("starting a thread: {0}")]
    Start(#[source] io::Error),
    /// The kernel does not let a thread wait.
    #[error("waiting for packets: {0}")]
    Wait(#[source] io::Error),
    /// A thread has panicked: a defect.
    #[error("a thread of the emulator has panicked")]
    Panicked,
    /// The ceiling could not be measured.
    #[error("measuring the ceiling: {0}")]
    Ceiling(String),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; the kernel has no TUN: modprobe tun",
        io::ErrorKind::PermissionDenied => {
            "; CAP_NET_ADMIN is missing, or the container may not use the device"
        }
        _ => "",
    }
}
