//! What a member says of itself, from a command line. What no option names stays as it was said last.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use sekisho_certs::{
    TrustDomain,
    id::id_below,
    members::{Gateway, Service},
};
use sekisho_federation::directory::descriptor::Descriptor;

use super::{source::Source, wrong};
use crate::{cli::duration, config::services};

/// What a member says of itself.
#[derive(Debug, Args)]
pub(super) struct Says {
    #[command(flatten)]
    source: Source,
    /// A file of services: what others may reach here
    #[arg(long, value_name = "FILE", conflicts_with_all = ["service", "no_services"])]
    services: Option<PathBuf>,
    /// A service and its gateway, which answers as /NAME; may be given several times
    #[arg(long, value_name = "NAME=HOST:PORT", conflicts_with = "no_services", value_parser = service)]
    service: Vec<(String, Gateway)>,
    /// No services any more
    #[arg(long)]
    no_services: bool,
    /// How long others believe us without a new word, 1h to 90d; 7d where nothing was said
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_stale: Option<Duration>,
    /// How to reach the people here; may be given several times
    #[arg(long, value_name = "TEXT")]
    contact: Vec<String>,
}

/// Reads a service.
fn service(text: &str) -> Result<(String, Gateway), String> {
    let form = "expected NAME=HOST:PORT, as in mdx=gate.tokyo.example:9443";
    let (name, gateway) = text.split_once('=').ok_or(form)?;
    let gateway = gateway
        .parse::<Gateway>()
        .map_err(|error| format!("{error}; {form}"))?;
    Ok((name.into(), gateway))
}

impl Says {
    /// What it says now, where it has said `last` before.
    pub(super) async fn descriptor(
        &self,
        domain: &TrustDomain,
        last: Option<Descriptor>,
    ) -> anyhow::Result<Descriptor> {
        let bundle = self.source.bundle(domain).await?;
        let mut descriptor = match (last, bundle) {
            (Some(last), None) => last,
            (Some(last), Some(bundle)) => Descriptor {
                bundle: Arc::new(bundle),
                ..last
            },
            (None, Some(bundle)) => Descriptor::new(Arc::new(bundle)),
            (None, None) => {
                return Err(wrong(
                    "the bundle is needed: --bundle FILE, --endpoint URL or --socket PATH",
                ));
            }
        };
        if let Some(file) = &self.services {
            descriptor.services = services::load(file, domain)?;
        } else if !self.service.is_empty() {
            descriptor.services = services_of(domain, &self.service)?;
        } else if self.no_services {
            descriptor.services.clear();
        }
        if let Some(stale) = self.max_stale {
            descriptor.max_stale = stale;
        }
        if !self.contact.is_empty() {
            descriptor.contacts.clone_from(&self.contact);
        }
        if let Some(endpoint) = self.source.advertised() {
            descriptor.endpoints = vec![endpoint];
        }
        // As whoever gets it will read it.
        Descriptor::read(domain, &descriptor.to_json())
            .map_err(wrong)
            .context("others would refuse this")
    }
}

/// Services of one name are one, with several gateways.
fn services_of(domain: &TrustDomain, said: &[(String, Gateway)]) -> anyhow::Result<Vec<Service>> {
    let mut all: Vec<(&str, Vec<Gateway>)> = Vec::new();
    for (name, gateway) in said {
        match all.iter_mut().find(|(one, _)| one == name) {
            Some((_, gateways)) => gateways.push(gateway.clone()),
            None => all.push((name, vec![gateway.clone()])),
        }
    }
    let services = all.into_iter().map(|(name, gateways)| {
        let id = id_below(domain, &format!("/{name}")).map_err(wrong)?;
        Service::new(name, gateways, id, BTreeSet::new()).map_err(wrong)
    });
    services.collect()
}
