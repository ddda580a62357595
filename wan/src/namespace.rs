//! Network namespaces, by `ip` (iproute2), which has had these arguments for long.

use std::{
    fs::File,
    io,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use ipnet::IpNet;
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::{device::Device, error::Error};

/// Where `ip netns` keeps names (ip-netns(8)).
const NAMES: &str = "/run/netns";
/// Packets that the kernel keeps for a reader that is late, of up to 64 KiB each.
const KERNEL_QUEUE: &str = "5000";

/// A namespace, or that of this process. One that was made here is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: Option<String>,
    is_ours: bool,
}

impl Namespace {
    /// Takes one, and makes it where it is not there.
    pub(crate) fn take(name: Option<&str>) -> Result<Self, Error> {
        let mut namespace = Self {
            name: name.map(str::to_owned),
            is_ours: false,
        };
        let Some(name) = name else {
            return Ok(namespace);
        };
        check(name)?;
        if names()?.iter().any(|one| one == name) {
            return Ok(namespace);
        }
        ip(&["netns", "add", name])?;
        // From here on it is removed again, whatever goes wrong.
        namespace.is_ours = true;
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Networks that it has, and on which device.
    pub(crate) fn networks(&self) -> Result<Vec<(IpNet, String)>, Error> {
        let found = self.json(&["-j", "address", "show"])?;
        let mut networks = Vec::new();
        for device in found.as_array().into_iter().flatten() {
            let name = device.get("ifname").and_then(Value::as_str);
            let addresses = device.get("addr_info").and_then(Value::as_array);
            for address in addresses.into_iter().flatten() {
                let local = address.get("local").and_then(Value::as_str);
                let prefix = address.get("prefixlen").and_then(Value::as_u64);
                let network = local
                    .and_then(|local| local.parse().ok())
                    .zip(prefix.and_then(|prefix| u8::try_from(prefix).ok()))
                    .and_then(|(local, prefix)| IpNet::new(local, prefix).ok());
                if let Some((network, name)) = network.zip(name) {
                    networks.push((network, name.to_owned()));
                }
            }
        }
        Ok(networks)
    }

    /// Moves a device here, and sets it up.
    pub(crate) fn attach(
        &self,
        device: &Device,
        addresses: &[IpNet],
        mtu: u16,
    ) -> Result<(), Error> {
        let device = device.name();
        if let Some(name) = &self.name {
            ip(&["link", "set", device, "netns", name])?;
        }
        let mtu = mtu.to_string();
        self.ip(&[
            "link",
            "set",
            device,
            "mtu",
            &mtu,
            "txqueuelen",
            KERNEL_QUEUE,
        ])?;
        for address in addresses {
            let text = address.to_string();
            let mut arguments = vec!["address", "add", &text, "dev", device];
            if address.addr().is_ipv6() {
                // Nobody else is there who could have it.
                arguments.push("nodad");
            }
            self.ip(&arguments)?;
        }
        self.ip(&["link", "set", device, "up"])
    }

    /// Packets that the kernel dropped since this process did not read them in time; `None` where the
    /// device is gone.
    pub(crate) fn unread(&self, device: &Device) -> Option<u64> {
        let found = self.json(&["-s", "-j", "link", "show", "dev", device.name()]);
        found.ok()?.pointer("/0/stats64/tx/dropped")?.as_u64()
    }

    fn ip(&self, arguments: &[&str]) -> Result<(), Error> {
        self.run(arguments).map(drop)
    }

    fn json(&self, arguments: &[&str]) -> Result<Value, Error> {
        let said = self.run(arguments)?;
        // Nothing, where there is nothing to tell.
        Ok(serde_json::from_str(&said).unwrap_or_default())
    }

    fn run(&self, arguments: &[&str]) -> Result<String, Error> {
        match &self.name {
            Some(name) => ip(&[&["-n", name], arguments].concat()),
            None => ip(arguments),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some(name) = self.name.as_ref().filter(|_| self.is_ours) {
            // Somebody else may have removed it.
            let _ = ip(&["netns", "del", name]);
        }
    }
}

/// Names of those that have one.
fn names() -> Result<Vec<String>, Error> {
    let said = ip(&["netns", "list"])?;
    let names = said
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    Ok(names.map(str::to_owned).collect())
}

/// Whether `ip` would take it for a name of one file.
pub(crate) fn check(name: &str) -> Result<(), Error> {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-');
    let problem = if name.is_empty() || name.len() > 64 {
        "expected 1 to 64 characters"
    } else if !name.chars().all(is_plain) || name.starts_with(['.', '-']) {
        "expected letters, digits, '.', '_' and '-', and neither '.' nor '-' in front"
    } else {
        return Ok(());
    };
    let name = name.to_owned();
    Err(Error::Namespace { name, problem })
}

fn ip(arguments: &[&str]) -> Result<String, Error> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::NoIp)?;
    if !output.status.success() {
        return Err(Error::Ip {
            command: arguments.join(" "),
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs something in a thread of its own that lives in a network namespace, and waits for it. Threads
/// that it starts live there too, and sockets stay where they were made.
///
/// # Errors
/// When there is no such namespace, or this is not root; whatever `work` returns.
pub fn inside<T: Send + 'static>(
    namespace: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let namespace = File::open(Path::new(NAMES).join(namespace))?;
    let enter = move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        work()
    };
    let thread = thread::Builder::new().spawn(enter)?;
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("a thread has panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_file() {
        for name in ["a", "site-1", "x_y.z"] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in ["", "../x", "a/b", "-n", ".", "a b", "a\n", "ä"] {
            assert!(check(name).is_err(), "{name:?}");
        }
        assert!(check(&"x".repeat(65)).is_err());
    }
}
