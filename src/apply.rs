//! Brings an authority's entries to what a file says: shows the difference, and makes it.

mod order;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

use anyhow::{Context as _, bail};
use sekisho_spire_api::{
    server::entry::{
        BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, EntryFilter,
        ListEntriesRequest, entry_client::EntryClient,
    },
    types,
};
use tonic::transport::Channel;

use crate::{api::Answered as _, config::entries::PREFIX};

pub(crate) use order::Collision;

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

/// What a file says of an entry, by name, as text; of the last two, always nothing.
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
        ("store_svid", entry.store_svid.to_string()),
        ("expires_at", entry.expires_at.to_string()),
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
/// When the authority does not tell what it has, or cannot have what is wanted: two entries that differ
/// in their names alone.
pub(crate) async fn plan(channel: Channel, wanted: Vec<types::Entry>) -> anyhow::Result<Plan> {
    let all = all(channel, None).await?;
    let (from_files, others): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|entry| entry.id.starts_with(PREFIX));
    order::apart(wanted.iter(), others.iter())?;
    let mut there: BTreeMap<_, _> = from_files
        .into_iter()
        .map(|entry| (entry.id.clone(), entry))
        .collect();
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

/// All entries of the authority, or those that a filter lets pass.
///
/// # Errors
/// When a call fails.
pub(crate) async fn all(
    channel: Channel,
    filter: Option<EntryFilter>,
) -> anyhow::Result<Vec<types::Entry>> {
    let mut client = EntryClient::new(channel);
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListEntriesRequest {
            page_size: i32::try_from(PAGE).unwrap_or(i32::MAX),
            page_token,
            filter: filter.clone(),
            output_mask: None,
        };
        let page = client.list_entries(request).await.answered("ListEntries")?;
        found.extend(page.entries);
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        page_token = page.next_page_token;
    }
}

/// What was done before something was refused.
#[derive(Debug, Default)]
struct Done {
    deleted: usize,
    updated: usize,
    created: usize,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if (self.deleted, self.updated, self.created) == (0, 0, 0) {
            return f.write_str("nothing was done");
        }
        write!(
            f,
            "not all was done: {} deleted, {} changes, {} created, and that stays; \
             `sekisho apply --dry-run` shows what is left",
            self.deleted, self.updated, self.created
        )
    }
}

/// Does it: what is to go last, but for what stands in the way of an entry that is to come; changes in an
/// order in which no entry meets another.
///
/// # Errors
/// When the authority refuses something, or does not say what has become of it. What it has done before
/// stays done, and the error says what that is; the next plan shows the rest.
pub(crate) async fn apply(channel: Channel, plan: &Plan) -> anyhow::Result<()> {
    let mut client = EntryClient::new(channel);
    let mut done = Done::default();
    let outcome = steps(&mut client, plan, &mut done).await;
    outcome.with_context(|| done.to_string())
}

async fn steps(
    client: &mut EntryClient<Channel>,
    plan: &Plan,
    done: &mut Done,
) -> anyhow::Result<()> {
    let new = plan.update.iter().map(|(_, new)| new);
    let coming: HashSet<_> = plan.create.iter().chain(new).map(order::key).collect();
    let (before, after): (Vec<_>, Vec<_>) = plan
        .delete
        .iter()
        .partition(|old| coming.contains(&order::key(old)));
    delete(client, &before, &mut done.deleted).await?;
    for entries in order::changes(&plan.update).chunks(PAGE) {
        let request = BatchUpdateEntryRequest {
            entries: entries.to_vec(),
            input_mask: None,
            output_mask: None,
        };
        let answer = client.batch_update_entry(request).await;
        let answer = answer.answered("BatchUpdateEntry")?;
        let results = answer.results.iter().map(|result| &result.status);
        good(&names(entries), results, &mut done.updated)?;
    }
    for entries in plan.create.chunks(PAGE) {
        let request = BatchCreateEntryRequest {
            entries: entries.to_vec(),
            output_mask: None,
        };
        let answer = client.batch_create_entry(request).await;
        let answer = answer.answered("BatchCreateEntry")?;
        let results = answer.results.iter().map(|result| &result.status);
        good(&names(entries), results, &mut done.created)?;
    }
    delete(client, &after, &mut done.deleted).await
}

fn names(entries: &[types::Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.id.clone()).collect()
}

async fn delete(
    client: &mut EntryClient<Channel>,
    entries: &[&types::Entry],
    done: &mut usize,
) -> anyhow::Result<()> {
    let ids: Vec<String> = entries.iter().map(|entry| entry.id.clone()).collect();
    for ids in ids.chunks(PAGE) {
        let request = BatchDeleteEntryRequest { ids: ids.to_vec() };
        let answer = client.batch_delete_entry(request).await;
        let answer = answer.answered("BatchDeleteEntry")?;
        let results = answer.results.iter().map(|result| &result.status);
        good(ids, results, done)?;
    }
    Ok(())
}

/// Counts what was done of a batch.
///
/// # Errors
/// All that was not, in one; or that the authority has not answered each.
fn good<'a>(
    names: &[String],
    results: impl ExactSizeIterator<Item = &'a Option<types::Status>>,
    done: &mut usize,
) -> anyhow::Result<()> {
    let answered = results.len();
    let mut refused = Vec::new();
    for (name, status) in names.iter().zip(results) {
        match status {
            None => refused.push(format!("{name}: no answer")),
            Some(status) if status.code == 0 => *done += 1,
            Some(status) => {
                let kind = tonic::Code::from(status.code);
                refused.push(format!("{name}: {} ({kind:?})", status.message));
            }
        }
    }
    if answered != names.len() {
        bail!(
            "the authority has answered {answered} of {} items",
            names.len()
        );
    }
    if !refused.is_empty() {
        bail!("{}", refused.join("; "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_counted_and_a_short_answer_refused() {
        let names = ["a".to_owned(), "b".to_owned()];
        let fine = Some(types::Status::default());
        let bad = Some(types::Status {
            code: 6,
            message: "there".into(),
        });
        let mut done = 0;
        good(&names, [&fine, &fine].into_iter(), &mut done).unwrap();
        assert_eq!(done, 2);
        let refused = good(&names, [&bad, &fine].into_iter(), &mut done).unwrap_err();
        assert_eq!(refused.to_string(), "a: there (AlreadyExists)");
        assert_eq!(done, 3);
        let short = good(&names, [&fine].into_iter(), &mut done).unwrap_err();
        assert!(short.to_string().contains("1 of 2"), "{short}");
        good(&names, [&fine, &None].into_iter(), &mut done).unwrap_err();
    }
}
