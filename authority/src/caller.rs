//! Who calls, and what they may: in the order in which SPIRE asks.

mod allowed;
mod denial;

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use sekisho_certs::SpiffeId;
use tonic::{Request, Status};

use crate::{
    core::Core,
    entry::Entry,
    store::{Certificate, Node},
};

pub use allowed::{Allowed, allowed};
pub use denial::{Denial, denied};

/// A client certificate that has been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Whose.
    pub id: SpiffeId,
    /// Serial number, decimal.
    pub serial: String,
    /// The end of its validity, which a connection may outlive.
    pub not_after: SystemTime,
}

/// The connection that a call came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// The Unix socket for administrators of this host.
    Local {
        /// Who is at the other end, in words.
        user: String,
    },
    /// TLS.
    Tls {
        /// From where.
        address: IpAddr,
        /// Its certificate, if it has shown one.
        certificate: Option<Arc<ClientCertificate>>,
    },
}

/// As what somebody may call.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    Admin,
    Agent(SpiffeId),
    Anybody,
    Downstream(Arc<Entry>),
    Local,
}

/// Somebody who may make this call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    name: String,
    role: Role,
    /// From where; `None` on this host.
    address: Option<IpAddr>,
}

impl Caller {
    /// Who makes a call: known before any service sees it.
    ///
    /// # Errors
    /// Where nobody has asked who it is: a defect, and nothing is answered.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let known = request.extensions().get::<Self>().cloned();
        known.ok_or_else(|| Status::internal("caller is not known"))
    }

    /// For the audit log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The agent's ID, where it is one.
    #[must_use]
    pub const fn agent_id(&self) -> Option<&SpiffeId> {
        match &self.role {
            Role::Agent(id) => Some(id),
            _ => None,
        }
    }

    /// The entry that makes it a server below, where it is one.
    #[must_use]
    pub const fn downstream(&self) -> Option<&Arc<Entry>> {
        match &self.role {
            Role::Downstream(entry) => Some(entry),
            _ => None,
        }
    }

    /// From where; `None` over the Unix socket.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    fn new(name: impl Into<String>, role: Role, address: Option<IpAddr>) -> Self {
        Self {
            name: name.into(),
            role,
            address,
        }
    }
}

impl Core {
    /// Who may make a call by the name of `method`, such as
    /// `/spire.api.server.entry.v1.Entry/GetEntry`, over `connection`. A renewed certificate that is
    /// used for the first time takes the place of the one before.
    ///
    /// # Errors
    /// The answer, where nobody that it could be may.
    pub async fn identify(&self, method: &str, connection: &Connection) -> Result<Caller, Status> {
        let Some(may) = allowed(method) else {
            // Nobody has said who may make it.
            return Err(Status::unimplemented(format!("unknown method {method}")));
        };
        let (address, certificate) = match connection {
            Connection::Local { user } => {
                if may.local || may.any {
                    return Ok(Caller::new(format!("local {user}"), Role::Local, None));
                }
                return Err(Denial::Plain.status(method));
            }
            Connection::Tls {
                address,
                certificate,
            } => (address, certificate),
        };
        let from = Some(*address);
        if may.any {
            let name = certificate.as_ref().map(|own| own.id.to_string());
            let name = name.unwrap_or_else(|| address.to_string());
            return Ok(Caller::new(name, Role::Anybody, from));
        }
        let Some(certificate) = certificate else {
            return Err(Denial::Plain.status(method));
        };
        let id = certificate.id.to_string();
        if may.admin && self.settings.admin_ids.contains(&certificate.id) {
            return Ok(Caller::new(id, Role::Admin, from));
        }
        let arranged = self.arranged().await;
        let arranged = arranged.map_err(|error| Status::unavailable(error.to_string()))?;
        for entry in arranged.with_id(&id) {
            if may.admin && entry.draft.admin {
                return Ok(Caller::new(id, Role::Admin, from));
            }
            if may.downstream && entry.draft.downstream {
                return Ok(Caller::new(id, Role::Downstream(Arc::clone(entry)), from));
            }
        }
        if may.agent {
            self.is_agent(certificate)
                .await
                .map_err(|denial| denial.status(method))?;
            return Ok(Caller::new(id, Role::Agent(certificate.id.clone()), from));
        }
        Err(Denial::Plain.status(method))
    }

    async fn is_agent(&self, certificate: &ClientCertificate) -> Result<(), Denial> {
        let now = self.now();
        if certificate.not_after <= now {
            return Err(Denial::Expired);
        }
        let node = self.store.node(certificate.id.clone()).await;
        let node = node.map_err(Denial::Store)?.ok_or(Denial::NotAttested)?;
        if node.banned {
            return Err(Denial::Banned);
        }
        if node.reattest_at.is_some_and(|at| at <= now) {
            return Err(Denial::MustReattest);
        }
        let is = |own: &Option<Certificate>| {
            own.as_ref()
                .is_some_and(|own| own.serial == certificate.serial)
        };
        if is(&node.active) {
            return Ok(());
        }
        if !is(&node.next) {
            return Err(Denial::NotActive);
        }
        let serial = certificate.serial.clone();
        let promote = move |node: &mut Node| {
            if node.next.as_ref().is_some_and(|next| next.serial == serial) {
                node.active = node.next.take();
            }
        };
        let by = self.by(&certificate.id.to_string());
        let promoted = self
            .store
            .update_node(by, certificate.id.clone(), "node.promote", promote);
        promoted
            .await
            .map_err(Denial::Store)?
            .ok_or(Denial::NotAttested)?;
        Ok(())
    }
}
