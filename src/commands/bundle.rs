//! `sekisho bundle`, as far as an authority is asked.

use sekisho_certs::{BundleError, TrustBundle, TrustDomain};
use sekisho_spire_api::{
    server::bundle::{
        BatchDeleteFederatedBundleRequest, BatchSetFederatedBundleRequest, CountBundlesRequest,
        GetBundleRequest, GetFederatedBundleRequest, ListFederatedBundlesRequest,
        bundle_client::BundleClient,
    },
    types,
};
use tonic::transport::Channel;

use super::{Asked, At, done, run, run_at};
use crate::{
    api::Answered as _,
    bundle::{Delete, Import, Set, Told, given, given_all, refused},
    cli, output,
};

/// Bundles in one call.
const PAGE: i32 = 100;
/// Of a bundle that is not there.
const MISSING: &str = ": sekisho bundle list shows those there are, sekisho bundle set stores one";

/// Does something with the site's own bundle, or with that of another.
pub(crate) fn one(
    at: &At,
    id: Option<&TrustDomain>,
    then: impl FnOnce(&[Told]) -> anyhow::Result<()>,
) -> u8 {
    run(at, async |authority| {
        let mut client = BundleClient::new(authority.channel);
        let bundle = match id {
            Some(id) if *id != authority.site => {
                let request = GetFederatedBundleRequest {
                    trust_domain: id.to_string(),
                    output_mask: None,
                };
                client
                    .get_federated_bundle(request)
                    .await
                    .found("GetFederatedBundle", MISSING)?
            }
            _ => client
                .get_bundle(GetBundleRequest::default())
                .await
                .answered("GetBundle")?,
        };
        then(&[Told::of_authority(bundle)?])?;
        Ok(cli::OK)
    })
}

/// Does something with the bundles of all others.
pub(crate) fn federated(at: &At, then: impl FnOnce(&[Told]) -> anyhow::Result<()>) -> u8 {
    run_at(at, async |channel| {
        then(&others(&mut BundleClient::new(channel)).await?)?;
        Ok(cli::OK)
    })
}

/// The same, and with the site's own.
pub(crate) fn all(at: &At, then: impl FnOnce(&[Told]) -> anyhow::Result<()>) -> u8 {
    run_at(at, async |channel| {
        let mut client = BundleClient::new(channel);
        let own = client
            .get_bundle(GetBundleRequest::default())
            .await
            .answered("GetBundle")?;
        let mut found = vec![Told::of_authority(own)?];
        found.extend(others(&mut client).await?);
        then(&found)?;
        Ok(cli::OK)
    })
}

async fn others(client: &mut BundleClient<Channel>) -> anyhow::Result<Vec<Told>> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListFederatedBundlesRequest {
            output_mask: None,
            page_size: PAGE,
            page_token,
        };
        let page = client
            .list_federated_bundles(request)
            .await
            .answered("ListFederatedBundles")?;
        for bundle in page.bundles {
            found.push(Told::of_authority(bundle)?);
        }
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        page_token = page.next_page_token;
    }
}

/// Stores the bundles of others.
pub(crate) fn import(import: &Import) -> u8 {
    let read = match &import.id {
        Some(id) => given(&import.file, None, id).and_then(|one| Ok(vec![sent(&one)?])),
        None => given_all(&import.file).and_then(|set| {
            let all = set.iter().map(|one| sent(one));
            Ok(all.collect::<Result<_, BundleError>>()?)
        }),
    };
    let bundles: Vec<types::Bundle> = match read {
        Ok(bundles) => bundles,
        Err(error) => return refused(&error),
    };
    run(&import.asked.at, async |authority| {
        let own = authority.site.to_string();
        let (left_out, bundle): (Vec<_>, Vec<_>) = bundles
            .into_iter()
            .partition(|one| import.id.is_none() && one.trust_domain == own);
        if !left_out.is_empty() {
            output::complain(format_args!("{own}: left out: it is this site's own"));
        }
        let names: Vec<_> = bundle.iter().map(|one| one.trust_domain.clone()).collect();
        let request = BatchSetFederatedBundleRequest {
            bundle,
            output_mask: None,
        };
        let answer = BundleClient::new(authority.channel)
            .batch_set_federated_bundle(request)
            .await
            .answered("BatchSetFederatedBundle")?;
        let results = answer.results.iter();
        let answers: Vec<_> = names
            .iter()
            .cloned()
            .zip(results.map(|one| one.status.as_ref()))
            .collect();
        done(import.asked.json, "stored", names.len(), &answers)
    })
}

/// Stores the bundle of another.
pub(crate) fn set(set: &Set) -> u8 {
    // Before anybody is asked: what is wrong with the file is the same everywhere.
    let bundle = given(&set.file, set.format, &set.id);
    let bundle = match bundle.and_then(|bundle| Ok(sent(&bundle)?)) {
        Ok(bundle) => bundle,
        Err(error) => return refused(&error),
    };
    run_at(&set.asked.at, async |channel| {
        let request = BatchSetFederatedBundleRequest {
            bundle: vec![bundle],
            output_mask: None,
        };
        let answer = BundleClient::new(channel)
            .batch_set_federated_bundle(request)
            .await
            .answered("BatchSetFederatedBundle")?;
        let results = answer.results.iter();
        let answers: Vec<_> = results
            .map(|one| (set.id.to_string(), one.status.as_ref()))
            .collect();
        done(set.asked.json, "stored", 1, &answers)
    })
}

/// Deletes bundles of others.
pub(crate) fn delete(delete: &Delete) -> u8 {
    run_at(&delete.asked.at, async |channel| {
        let request = BatchDeleteFederatedBundleRequest {
            trust_domains: delete.id.iter().map(ToString::to_string).collect(),
            mode: delete.mode.mode().into(),
        };
        let answer = BundleClient::new(channel)
            .batch_delete_federated_bundle(request)
            .await
            .answered("BatchDeleteFederatedBundle")?;
        let results = answer.results.iter();
        let answers: Vec<_> = results
            .map(|one| (one.trust_domain.clone(), one.status.as_ref()))
            .collect();
        done(delete.asked.json, "deleted", delete.id.len(), &answers)
    })
}

/// Counts them.
pub(crate) fn count(asked: &Asked) -> u8 {
    run_at(&asked.at, async |channel| {
        let answer = BundleClient::new(channel)
            .count_bundles(CountBundlesRequest {})
            .await
            .answered("CountBundles")?;
        super::count(asked.json, "bundles", answer.count);
        Ok(cli::OK)
    })
}

/// A bundle as it is sent.
///
/// # Errors
/// When a JWT key in it cannot be used.
pub(crate) fn sent(bundle: &TrustBundle) -> Result<types::Bundle, BundleError> {
    let keys = bundle.jwt_keys()?.into_iter();
    let hint = bundle.refresh_hint().unwrap_or_default().as_secs();
    let cas = bundle.authorities().iter();
    Ok(types::Bundle {
        trust_domain: bundle.trust_domain().to_string(),
        x509_authorities: cas
            .map(|ca| types::X509Certificate {
                asn1: ca.der().to_vec(),
                tainted: false,
            })
            .collect(),
        jwt_authorities: keys
            .map(|key| types::JwtKey {
                public_key: key.public_key,
                key_id: key.key_id,
                ..Default::default()
            })
            .collect(),
        refresh_hint: i64::try_from(hint).unwrap_or(i64::MAX),
        sequence_number: bundle.sequence().unwrap_or_default(),
    })
}
