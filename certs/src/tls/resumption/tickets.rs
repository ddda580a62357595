//! The tickets that a forwarding side has got.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
};
use rustls_pki_types::ServerName;

/// Tickets of one server name: as many connections as may begin at once and all resume. rustls'
/// own store keeps eight.
const TICKETS: usize = 256;
/// Server names: an endpoint has as many as targets.
const NAMES: usize = 64;

/// Tickets by server name, the newest used first, each once.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    names: Mutex<HashMap<ServerName<'static>, OfName>>,
}

#[derive(Debug, Default)]
struct OfName {
    tickets: VecDeque<Tls13ClientSessionValue>,
    group: Option<NamedGroup>,
}

impl Tickets {
    pub(super) fn forget(&self) {
        self.names().clear();
    }

    fn names(&self) -> MutexGuard<'_, HashMap<ServerName<'static>, OfName>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, name: ServerName<'static>, change: impl FnOnce(&mut OfName)) {
        let mut names = self.names();
        if names.len() >= NAMES && !names.contains_key(&name) {
            names.clear();
        }
        change(names.entry(name).or_default());
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.with(name, |of_name| of_name.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.names()
            .get(&name.to_owned())
            .and_then(|of_name| of_name.group)
    }

    fn set_tls12_session(&self, _name: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _name: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.with(name, |of_name| {
            if of_name.tickets.len() >= TICKETS {
                of_name.tickets.pop_front();
            }
            of_name.tickets.push_back(value);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.names().get_mut(name)?.tickets.pop_back()
    }
}
