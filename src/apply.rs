//! Brings an authority's entries to what a file says: shows the difference, and makes it.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context as _, bail};
use sekisho_spire_api::{
    server::entry::{
        BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest,
        ListEntriesRequest, entry_client::EntryClient,
    },
    types,
};
use tonic::transport::Channel;

use crate::{api::Answered as _, config::entries::PREFIX};

/// Entries in one call.
const PAGE: usize = 500;

/// What is to be done so that the authority has what the file says.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) create: Vec<types::Entry>,
    /// As they are, and as they are to be.
    pub(crate) update: Vec<(types::Entry, types::Entry)>,
    pub(crate) delete: Vec<types::Entry>,
    /// How many are right as they are.
    pub(crate) same: usize,
}

impl Plan {
    /// Whether there is nothing to do.
    pub(crate) const fn is_empty(&self) -> bool {
        self.create.is_empty() && self.update.is_empty() && self.delete.is_empty()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.create {
            writeln!(f, "+ {}", Shown(entry))?;
        }
        for (old, new) in &self.update {
            writeln!(f, "~ {}", Shown(new))?;
            for (name, old, new) in differences(old, new) {
                writeln!(f, "    {name}: {old} -> {new}")?;
            }
        }
        for entry in &self.delete {
            writeln!(f, "- {}", Shown(entry))?;
        }
        write!(
            f,
            "{} to create, {} to change, {} to delete, {} as they are to be",
            self.create.len(),
            self.update.len(),
            self.delete.len(),
            self.same
        )
    }
}

/// An entry in one line.
struct Shown<'a>(&'a types::Entry);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |id: &Option<types::Spiffeid>| id.as_ref().map_or("", |id| &id.path).to_owned();
        write!(
            f,
            "{} below {}",
            path(&self.0.spiffe_id),
            path(&self.0.parent_id)
        )?;
        for selector in &self.0.selectors {
            write!(f, " {}:{}", selector.r#type, selector.value)?;
        }
        Ok(())
    }
}

/// What a file can say of an entry, by name, as text.
fn said(entry: &types::Entry) -> Vec<(&'static str, String)> {
    let id = |id: &Option<types::Spiffeid>| id.as_ref().map_or("", |id| &id.path).to_owned();
    let mut selectors: Vec<String> = entry
        .selectors
        .iter()
        .map(|one| format!("{}:{}", one.r#type, one.value))
        .collect();
    selectors.sort_unstable();
    let mut federates = entry.federates_with.clone();
    federates.sort_unstable();
    let more = entry.additional_attributes.unwrap_or_default();
    vec![
        ("spiffe_id", id(&entry.spiffe_id)),
        ("parent", id(&entry.parent_id)),
        ("selectors", format!("{selectors:?}")),
        ("federates_with", format!("{federates:?}")),
        ("dns_names", format!("{:?}", entry.dns_names)),
        ("x509_ttl", format!("{}s", entry.x509_svid_ttl)),
        ("jwt_ttl", format!("{}s", entry.jwt_svid_ttl)),
        ("hint", entry.hint.clone()),
        ("admin", entry.admin.to_string()),
        ("downstream", entry.downstream.to_string()),
        ("on_demand", more.disable_x509_svid_prefetch.to_string()),
        ("jwt_id", more.jwt_svid_include_jti.to_string()),
    ]
}

fn differences(
    old: &types::Entry,
    new: &types::Entry,
) -> impl Iterator<Item = (&'static str, String, String)> {
    let both = said(old).into_iter().zip(said(new));
    both.filter(|(old, new)| old != new)
        .map(|((name, old), (_, new))| (name, old, new))
}

/// What is to be done so that the authority has `wanted`. Entries that did not come from a file are
/// left alone.
///
/// # Errors
/// When the authority does not tell what it has.
pub(crate) async fn plan(channel: Channel, wanted: Vec<types::Entry>) -> anyhow::Result<Plan> {
    let mut there = BTreeMap::new();
    for entry in all(channel).await? {
        if entry.id.starts_with(PREFIX) {
            there.insert(entry.id.clone(), entry);
        }
    }
    let mut plan = Plan::default();
    for entry in wanted {
        match there.remove(&entry.id) {
            None => plan.create.push(entry),
            Some(old) if differences(&old, &entry).next().is_none() => plan.same += 1,
            Some(old) => plan.update.push((old, entry)),
        }
    }
    plan.delete = there.into_values().collect();
    Ok(plan)
}

/// All entries of the authority.
///
/// # Errors
/// When a call fails.
pub(crate) async fn all(channel: Channel) -> anyhow::Result<Vec<types::Entry>> {
    let mut client = EntryClient::new(channel);
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListEntriesRequest {
            page_size: i32::try_from(PAGE).unwrap_or(i32::MAX),
            page_token,
            ..Default::default()
        };
        let page = client.list_entries(request).await.answered("ListEntries")?;
        found.extend(page.entries);
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        page_token = page.next_page_token;
    }
}

/// Does it: what is to go last, but for what stands in the way of an entry that is to come.
///
/// # Errors
/// When the authority refuses something. What it has done before stays done; the next plan shows the
/// rest.
pub(crate) async fn apply(channel: Channel, plan: &Plan) -> anyhow::Result<()> {
    let mut client = EntryClient::new(channel);
    let (before, after): (Vec<_>, Vec<_>) = plan.delete.iter().partition(|old| {
        let mut new = plan
            .create
            .iter()
            .chain(plan.update.iter().map(|(_, new)| new));
        new.any(|new| stands_in_the_way(old, new))
    });
    delete(&mut client, &before).await?;
    let updates: Vec<_> = plan.update.iter().map(|(_, new)| new.clone()).collect();
    for entries in updates.chunks(PAGE) {
        let request = BatchUpdateEntryRequest {
            entries: entries.to_vec(),
            input_mask: None,
            output_mask: None,
        };
        let answer = client.batch_update_entry(request).await;
        let answer = answer.answered("BatchUpdateEntry")?;
        let ids = entries.iter().map(|entry| entry.id.as_str());
        good(ids.zip(answer.results.iter().map(|result| &result.status)))?;
    }
    for entries in plan.create.chunks(PAGE) {
        let request = BatchCreateEntryRequest {
            entries: entries.to_vec(),
            output_mask: None,
        };
        let answer = client.batch_create_entry(request).await;
        let answer = answer.answered("BatchCreateEntry")?;
        let ids = entries.iter().map(|entry| entry.id.as_str());
        good(ids.zip(answer.results.iter().map(|result| &result.status)))?;
    }
    delete(&mut client, &after).await
}

/// Two entries are not the same in these (spire-api.md §7).
fn stands_in_the_way(old: &types::Entry, new: &types::Entry) -> bool {
    let key = |entry: &types::Entry| {
        let said = said(entry).into_iter();
        said.filter(|(name, _)| ["spiffe_id", "parent", "selectors"].contains(name))
            .collect::<Vec<_>>()
    };
    key(old) == key(new)
}

async fn delete(
    client: &mut EntryClient<Channel>,
    entries: &[&types::Entry],
) -> anyhow::Result<()> {
    let ids: Vec<String> = entries.iter().map(|entry| entry.id.clone()).collect();
    for ids in ids.chunks(PAGE) {
        let request = BatchDeleteEntryRequest { ids: ids.to_vec() };
        let answer = client.batch_delete_entry(request).await;
        let answer = answer.answered("BatchDeleteEntry")?;
        let results = answer.results.iter();
        good(results.map(|result| (result.id.as_str(), &result.status)))?;
    }
    Ok(())
}

fn good<'a>(
    results: impl Iterator<Item = (&'a str, &'a Option<types::Status>)>,
) -> anyhow::Result<()> {
    for (id, status) in results {
        let status = status
            .as_ref()
            .with_context(|| format!("{id}: no answer"))?;
        if status.code != 0 {
            bail!(
                "{id}: {} ({:?})",
                status.message,
                tonic::Code::from(status.code)
            );
        }
    }
    Ok(())
}
