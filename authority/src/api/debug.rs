//! `spire.api.server.debug.v1` for administrators of this host.

use std::{sync::Arc, time::SystemTime};

use rustls_pki_types::CertificateDer;
use sekisho_spire_api::{
    server::debug::{
        GetInfoRequest, GetInfoResponse, debug_server::Debug as DebugApi, get_info_response,
    },
    types,
};
use tonic::{Request, Response, Status};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    objects::{oid_registry, oid2abbrev},
    prelude::FromDer as _,
    x509::{AttributeTypeAndValue, X509Name},
};

use super::status;
use crate::{
    core::Core,
    store::{EntryFilter, NodeFilter},
};

/// The service `Debug`.
#[derive(Clone, Debug)]
pub struct DebugService {
    core: Arc<Core>,
    started: SystemTime,
}

impl DebugService {
    /// On the state of an authority, which starts now.
    #[must_use]
    pub fn new(core: Arc<Core>) -> Self {
        let started = core.now();
        Self { core, started }
    }
}

#[tonic::async_trait]
impl DebugApi for DebugService {
    async fn get_info(
        &self,
        _: Request<GetInfoRequest>,
    ) -> Result<Response<GetInfoResponse>, Status> {
        let failed = |error| status::store("failed to get information", &error);
        let store = &self.core.store;
        let count = |length: usize| i32::try_from(length).unwrap_or(i32::MAX);
        let nodes = store
            .nodes(NodeFilter::default(), 0, usize::MAX)
            .await
            .map_err(failed)?;
        let entries = store
            .entries(EntryFilter::default(), 0, usize::MAX)
            .await
            .map_err(failed)?;
        let domains = self.core.federated_domains().await.map_err(failed)?;
        let uptime = self
            .core
            .now()
            .duration_since(self.started)
            .unwrap_or_default();
        Ok(Response::new(GetInfoResponse {
            svid_chain: self.core.own_chain.load().iter().filter_map(told).collect(),
            uptime: i32::try_from(uptime.as_secs()).unwrap_or(i32::MAX),
            agents_count: count(nodes.items.len()),
            entries_count: count(entries.items.len()),
            federated_bundles_count: count(domains.len()),
        }))
    }
}

/// A certificate as it is told; `None` for one that cannot be read.
fn told(der: &CertificateDer<'static>) -> Option<get_info_response::Cert> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let names = parsed.subject_alternative_name().ok()?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let id = names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("spiffe://"),
        _ => None,
    });
    let id = id.map(|id| {
        let (domain, path) = id.split_at(id.find('/').unwrap_or(id.len()));
        types::Spiffeid {
            trust_domain: domain.into(),
            path: path.into(),
        }
    });
    Some(get_info_response::Cert {
        id,
        expires_at: parsed.validity().not_after.timestamp(),
        subject: subject(parsed.subject()),
    })
}

/// A name as Go writes it (RFC 2253): the last part first.
fn subject(name: &X509Name<'_>) -> String {
    let part = |attribute: &AttributeTypeAndValue<'_>| {
        let kind = attribute.attr_type();
        let value = attribute.as_str().unwrap_or_default();
        let short = match oid2abbrev(kind, oid_registry()) {
            Ok("serialNumber") => "SERIALNUMBER".into(),
            Ok(short) => short.to_owned(),
            Err(_) => kind.to_id_string(),
        };
        format!("{short}={value}")
    };
    let all = name.iter().map(|set| {
        let parts: Vec<_> = set.iter().map(part).collect();
        parts.join("+")
    });
    let mut all: Vec<_> = all.collect();
    all.reverse();
    all.join(",")
}
