//! `systemd`: the unit of a process, by systemd's D-Bus interface.

mod bus;
mod message;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, time::Duration};

use tokio::sync::Mutex;

pub(super) use self::bus::BusError;
use self::{
    bus::{Bus, Call},
    message::Body,
};
use super::AttestorError;

/// Three questions to a service of this host.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const NO_UNIT: &str = "org.freedesktop.systemd1.NoUnitForPID";

/// Settings of the `systemd` attestor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemdSpec {
    /// The system bus's socket. Default `/run/dbus/system_bus_socket`.
    pub bus: PathBuf,
}

impl Default for SystemdSpec {
    fn default() -> Self {
        Self {
            bus: "/run/dbus/system_bus_socket".into(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Systemd {
    spec: SystemdSpec,
    /// `None` before the first question and after a failure.
    bus: Mutex<Option<Bus>>,
}

impl Systemd {
    pub(super) fn new(spec: SystemdSpec) -> Self {
        Self {
            spec,
            bus: Mutex::default(),
        }
    }

    /// The values for a process; none when it is in no unit.
    pub(super) async fn attest(&self, pid: i32) -> Result<Vec<String>, AttestorError> {
        Ok(self.unit(pid).await?)
    }

    async fn unit(&self, pid: i32) -> Result<Vec<String>, BusError> {
        let pid = u32::try_from(pid).map_err(|_| BusError::Malformed)?;
        let mut kept = self.bus.lock().await;
        // Taken out: whoever is stopped midway leaves no connection with half a conversation.
        if let Some(mut bus) = kept.take() {
            match unit(&mut bus, pid).await {
                // The bus may have gone away since the last question: once more, with a new one.
                Err(BusError::Io(error)) => {
                    tracing::debug!(%error, "the system bus has gone; connecting again");
                }
                outcome => {
                    if bus.is_usable() {
                        *kept = Some(bus);
                    }
                    return outcome;
                }
            }
        }
        let mut bus = Bus::connect(&self.spec.bus).await?;
        let outcome = unit(&mut bus, pid).await;
        if bus.is_usable() {
            *kept = Some(bus);
        }
        outcome
    }
}

async fn unit(bus: &mut Bus, pid: u32) -> Result<Vec<String>, BusError> {
    let asked = Call {
        destination: DESTINATION,
        path: MANAGER,
        interface: "org.freedesktop.systemd1.Manager",
        member: "GetUnitByPID",
        body: Body::Number(pid),
    };
    let path = match bus.call(&asked).await {
        Ok(body) => body.into_path()?,
        Err(BusError::Refused(name)) if name == NO_UNIT => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut values = Vec::new();
    for (property, kind) in [("Id", "id"), ("FragmentPath", "fragment_path")] {
        let asked = Call {
            destination: DESTINATION,
            path: &path,
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            body: Body::Texts(UNIT, property),
        };
        let value = bus.call(&asked).await?.into_text_variant()?;
        values.push(format!("{kind}:{value}"));
    }
    Ok(values)
}
