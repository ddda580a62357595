//! The server that is pushed to, by SPIRE's API.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::bail;
use sekisho_certs::{TrustDomain, id::parse_trust_domain};
use sekisho_spire_api::{
    server::{
        bundle::{
            BatchDeleteFederatedBundleRequest, BatchSetFederatedBundleRequest, GetBundleRequest,
            ListFederatedBundlesRequest, batch_delete_federated_bundle_request::Mode,
            bundle_client::BundleClient,
        },
        trust_domain::{
            ListFederationRelationshipsRequest, trust_domain_client::TrustDomainClient,
        },
    },
    types,
};
use tonic::transport::Channel;

use super::plan::There;
use crate::api::{self, Answered as _};

/// Bundles and relationships in one answer.
const PAGE: i32 = 100;
/// Most pages that a server may go on with.
const PAGES: usize = 1000;
/// Bundles in one call, and bytes: a call may have 4 MiB, and a bundle 1 MiB.
const BATCH: usize = 50;
const BYTES: usize = 2 * 1024 * 1024;
/// Most bytes of an answer: a page of bundles as large as they may be is a hundred times that of one.
const ANSWER: usize = 128 * 1024 * 1024;

/// What became of one trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Became {
    /// It is as it should be.
    Done,
    /// The server has refused it, and says why.
    Refused(String),
    /// There is no answer: it may be done or not.
    Unknown(String),
}

/// A server that answers.
#[derive(Debug)]
pub(super) struct Server {
    bundles: BundleClient<Channel>,
    relationships: TrustDomainClient<Channel>,
}

impl Server {
    pub(super) async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let channel = api::connect(socket).await?;
        Ok(Self {
            bundles: BundleClient::new(channel.clone()).max_decoding_message_size(ANSWER),
            relationships: TrustDomainClient::new(channel),
        })
    }

    /// Its own trust domain.
    pub(super) async fn own(&mut self) -> anyhow::Result<TrustDomain> {
        let output_mask = Some(types::BundleMask::default());
        let bundle = self.bundles.get_bundle(GetBundleRequest { output_mask });
        let name = bundle.await.answered("GetBundle")?.trust_domain;
        Ok(parse_trust_domain(bare(&name))?)
    }

    /// What is there.
    pub(super) async fn there(&mut self) -> anyhow::Result<There> {
        Ok(There {
            own: self.own().await?.to_string(),
            relationships: self.relationships().await?,
            bundles: self.bundles().await?,
        })
    }

    async fn relationships(&mut self) -> anyhow::Result<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        let mut page_token = String::new();
        for _ in 0..PAGES {
            let request = ListFederationRelationshipsRequest {
                output_mask: Some(types::FederationRelationshipMask::default()),
                page_size: PAGE,
                page_token,
            };
            let page = self.relationships.list_federation_relationships(request);
            let page = page.await.answered("ListFederationRelationships")?;
            let names = page.federation_relationships.into_iter();
            all.extend(names.map(|one| bare(&one.trust_domain).to_owned()));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
        bail!("ListFederationRelationships: more than {PAGES} pages");
    }

    async fn bundles(&mut self) -> anyhow::Result<BTreeMap<String, types::Bundle>> {
        let mut all = BTreeMap::new();
        let mut page_token = String::new();
        for _ in 0..PAGES {
            let request = ListFederatedBundlesRequest {
                output_mask: None,
                page_size: PAGE,
                page_token,
            };
            let page = self.bundles.list_federated_bundles(request);
            let page = page.await.answered("ListFederatedBundles")?;
            let bundles = page.bundles.into_iter();
            all.extend(bundles.map(|one| (bare(&one.trust_domain).to_owned(), one)));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
        bail!("ListFederatedBundles: more than {PAGES} pages");
    }

    /// Sets bundles. A call that fails fails all that are in it.
    pub(super) async fn set(&mut self, bundles: Vec<types::Bundle>) -> Vec<(String, Became)> {
        let mut all = Vec::new();
        for bundle in batches(bundles) {
            let names: Vec<_> = bundle.iter().map(|one| one.trust_domain.clone()).collect();
            let request = BatchSetFederatedBundleRequest {
                bundle,
                output_mask: Some(types::BundleMask::default()),
            };
            let answer = self.bundles.batch_set_federated_bundle(request).await;
            let answer = answer.answered("BatchSetFederatedBundle");
            let answer = answer.map(|answer| {
                let results = answer.results.into_iter();
                results.map(|one| one.status).collect()
            });
            all.extend(became(names, answer));
        }
        all
    }

    /// Takes bundles away; entries that name them lose the name. One that is gone already is as it
    /// should be.
    pub(super) async fn delete(&mut self, names: Vec<String>) -> Vec<(String, Became)> {
        let mut all = Vec::with_capacity(names.len());
        for some in names.chunks(BATCH) {
            all.extend(self.delete_some(some.to_vec()).await);
        }
        all
    }

    async fn delete_some(&mut self, names: Vec<String>) -> Vec<(String, Became)> {
        let request = BatchDeleteFederatedBundleRequest {
            trust_domains: names.clone(),
            mode: Mode::Dissociate.into(),
        };
        let answer = self.bundles.batch_delete_federated_bundle(request).await;
        let answer = answer.answered("BatchDeleteFederatedBundle");
        let answer = answer.map(|answer| {
            let results = answer.results.into_iter();
            let gone = i32::from(tonic::Code::NotFound);
            let statuses = results.map(|one| one.status);
            statuses
                .map(|status| match status {
                    Some(status) if status.code == gone => Some(types::Status::default()),
                    other => other,
                })
                .collect()
        });
        became(names, answer)
    }
}

/// As both forms of the API have it: with or without `spiffe://`.
fn bare(name: &str) -> &str {
    name.strip_prefix("spiffe://").unwrap_or(name)
}

/// In calls that are not too large.
fn batches(bundles: Vec<types::Bundle>) -> Vec<Vec<types::Bundle>> {
    let mut all: Vec<Vec<types::Bundle>> = Vec::new();
    let mut bytes = 0;
    for bundle in bundles {
        let size = size(&bundle);
        match all.last_mut() {
            Some(last) if last.len() < BATCH && bytes + size <= BYTES => {
                bytes += size;
                last.push(bundle);
            }
            _ => {
                bytes = size;
                all.push(vec![bundle]);
            }
        }
    }
    all
}

/// A little more than it has on the wire.
fn size(bundle: &types::Bundle) -> usize {
    let cas = bundle.x509_authorities.iter().map(|ca| ca.asn1.len() + 16);
    let keys = bundle.jwt_authorities.iter();
    let keys = keys.map(|key| key.public_key.len() + key.key_id.len() + 32);
    cas.chain(keys).sum::<usize>() + bundle.trust_domain.len() + 64
}

/// What became of each, by what the server has said.
fn became(
    names: Vec<String>,
    answer: anyhow::Result<Vec<Option<types::Status>>>,
) -> Vec<(String, Became)> {
    let unknown = match answer {
        Ok(statuses) if statuses.len() == names.len() => {
            let each = names.into_iter().zip(statuses);
            return each.map(|(name, status)| (name, one(status))).collect();
        }
        Ok(statuses) => format!(
            "the server has answered {} of {} items",
            statuses.len(),
            names.len()
        ),
        Err(error) => format!("{error:#}"),
    };
    let each = names.into_iter();
    each.map(|name| (name, Became::Unknown(unknown.clone())))
        .collect()
}

fn one(status: Option<types::Status>) -> Became {
    match status {
        Some(status) if status.code == 0 => Became::Done,
        Some(status) => {
            let kind = tonic::Code::from(status.code);
            Became::Refused(format!("{} ({kind:?})", status.message))
        }
        None => Became::Unknown("the server has not said what has become of it".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bundles_go_in_calls_of_their_own() {
        let bundle = |size: usize| types::Bundle {
            x509_authorities: vec![types::X509Certificate {
                asn1: vec![0; size],
                tainted: false,
            }],
            ..Default::default()
        };
        let sizes = |bundles: Vec<types::Bundle>| -> Vec<usize> {
            batches(bundles).iter().map(Vec::len).collect()
        };
        assert!(sizes(Vec::new()).is_empty());
        assert_eq!(sizes(vec![bundle(1000); 120]), [50, 50, 20]);
        assert_eq!(sizes(vec![bundle(900_000); 3]), [2, 1]);
        assert_eq!(sizes(vec![bundle(3_000_000), bundle(1)]), [1, 1]);
    }

    #[test]
    fn each_item_is_looked_at() {
        let names = || vec!["a".to_owned(), "b".to_owned()];
        let status = |code| {
            Some(types::Status {
                code,
                message: "no".into(),
            })
        };
        let told = became(names(), Ok(vec![status(0), status(3)]));
        assert_eq!(told[0], ("a".into(), Became::Done));
        let refused = Became::Refused("no (InvalidArgument)".into());
        assert_eq!(told[1], ("b".into(), refused));
        for answer in [
            Ok(vec![status(0)]),
            Ok(vec![None, None]),
            Err(anyhow::anyhow!("away")),
        ] {
            let told = became(names(), answer);
            let is_unknown = |became: &Became| matches!(became, Became::Unknown(_));
            assert!(
                told.iter().all(|(_, became)| is_unknown(became)),
                "{told:?}"
            );
            assert_eq!(told.len(), 2);
        }
    }
}
