//! `sekisho entry`: which processes of which nodes have which identity.

mod filter;
mod said;

use clap::{Args, Subcommand};
use sekisho_spire_api::{
    server::entry::{
        BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest,
        CountEntriesRequest, GetEntryRequest, entry_client::EntryClient,
    },
    types,
};
use serde_json::{Value, json};

use super::{Asked, Authority, count, done, outcome, run, run_at, selectors, shown, value};
use crate::{api::Answered as _, apply, cli, output};
use filter::Filter;
use said::{Create, Update};

/// Of an entry that is not there.
const MISSING: &str = ": sekisho entry list names those there are";

#[derive(Debug, Subcommand)]
pub(crate) enum EntryCommand {
    /// Make an entry
    #[command(after_help = "IDs are whole, or paths below the site.\n\nExample:\n  \
        sekisho entry create --parent-id /node/local --spiffe-id /broker --selector unix:user:kafka")]
    Create(Box<Create>),
    /// All entries, or those that are as the options say
    #[command(
        after_help = "Examples:\n  sekisho entry list\n  sekisho entry list --parent-id /node/local --json"
    )]
    List(Listed),
    /// One entry
    #[command(after_help = "Example:\n  sekisho entry show apply.broker")]
    Show(One),
    /// How many entries there are, or are as the options say
    #[command(after_help = "Example:\n  sekisho entry count --selector unix:user:kafka")]
    Count(Listed),
    /// Change what an entry says; what no option names stays as it is
    #[command(
        after_help = "Examples:\n  sekisho entry update --entry-id apply.broker --x509-ttl 2h\n  \
        sekisho entry update --entry-id apply.broker --clear hint --clear dns"
    )]
    Update(Box<Update>),
    /// Delete entries
    #[command(after_help = "Example:\n  sekisho entry delete apply.broker apply.sender")]
    Delete(Several),
}

#[derive(Debug, Args)]
pub(crate) struct Listed {
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    #[command(flatten)]
    asked: Asked,
    /// Its name
    #[arg(value_parser = value::word)]
    id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Several {
    #[command(flatten)]
    asked: Asked,
    /// Their names
    #[arg(required = true, value_parser = value::word)]
    ids: Vec<String>,
}

/// Does it.
pub(crate) fn entry(command: &EntryCommand) -> u8 {
    match command {
        EntryCommand::Create(said) => run(&said.asked.at, async |at| create(at, said).await),
        EntryCommand::Update(said) => match said.problem() {
            Some(problem) => {
                output::complain(problem);
                cli::INVALID
            }
            None => run(&said.asked.at, async |at| update(at, said).await),
        },
        EntryCommand::List(listed) => run(&listed.asked.at, async |authority| {
            let filter = listed.filter.at(&authority.site)?;
            let all = apply::all(authority.channel, Some(filter)).await?;
            show(listed.asked.json, &all);
            Ok(cli::OK)
        }),
        EntryCommand::Count(listed) => run(&listed.asked.at, async |authority| {
            let filter = Some(listed.filter.at(&authority.site)?);
            let answer = EntryClient::new(authority.channel)
                .count_entries(CountEntriesRequest { filter })
                .await
                .answered("CountEntries")?;
            count(listed.asked.json, "entries", answer.count);
            Ok(cli::OK)
        }),
        EntryCommand::Show(one) => run_at(&one.asked.at, async |channel| {
            let request = GetEntryRequest {
                id: one.id.clone(),
                output_mask: None,
            };
            let answer = EntryClient::new(channel).get_entry(request).await;
            show(one.asked.json, &[answer.found("GetEntry", MISSING)?]);
            Ok(cli::OK)
        }),
        EntryCommand::Delete(several) => run_at(&several.asked.at, async |channel| {
            let ids = several.ids.clone();
            let answer = EntryClient::new(channel)
                .batch_delete_entry(BatchDeleteEntryRequest { ids })
                .await
                .answered("BatchDeleteEntry")?;
            let results = answer.results.iter();
            let answers: Vec<_> = results
                .map(|one| (one.id.clone(), one.status.as_ref()))
                .collect();
            done(several.asked.json, "deleted", several.ids.len(), &answers)
        }),
    }
}

async fn create(authority: Authority, said: &Create) -> anyhow::Result<u8> {
    let request = BatchCreateEntryRequest {
        entries: vec![said.entry(&authority.site)?],
        output_mask: None,
    };
    let answer = EntryClient::new(authority.channel)
        .batch_create_entry(request)
        .await
        .answered("BatchCreateEntry")?;
    let results = answer.results.iter();
    let name = said.spiffe_id.as_str();
    let answers: Vec<_> = results
        .map(|one| (name.to_owned(), one.status.as_ref()))
        .collect();
    let code = outcome(1, &answers)?;
    if code == cli::OK {
        let made = answer.results.into_iter().filter_map(|one| one.entry);
        show(said.asked.json, &made.collect::<Vec<_>>());
    }
    Ok(code)
}

async fn update(authority: Authority, said: &Update) -> anyhow::Result<u8> {
    let mut change = said.change(&authority.site)?;
    let mut client = EntryClient::new(authority.channel);
    if change.mask.additional_attributes {
        let request = GetEntryRequest {
            id: said.entry_id.clone(),
            output_mask: None,
        };
        let now = client.get_entry(request).await.found("GetEntry", MISSING)?;
        change.keep_attributes(&now);
    }
    let request = BatchUpdateEntryRequest {
        entries: vec![change.entry],
        input_mask: Some(change.mask),
        output_mask: None,
    };
    let answer = client
        .batch_update_entry(request)
        .await
        .answered("BatchUpdateEntry")?;
    let results = answer.results.iter();
    let answers: Vec<_> = results
        .map(|one| (said.entry_id.clone(), one.status.as_ref()))
        .collect();
    let code = outcome(1, &answers)?;
    if code == cli::OK {
        let now = answer.results.into_iter().filter_map(|one| one.entry);
        show(said.asked.json, &now.collect::<Vec<_>>());
    }
    Ok(code)
}

fn show(as_json: bool, entries: &[types::Entry]) {
    if as_json {
        let more = |entry: &types::Entry| entry.additional_attributes.unwrap_or_default();
        let rows = entries.iter().map(|entry| {
            json!({
                "id": entry.id,
                "spiffe_id": shown(entry.spiffe_id.as_ref()),
                "parent_id": shown(entry.parent_id.as_ref()),
                "selectors": selectors(&entry.selectors),
                "federates_with": entry.federates_with,
                "x509_svid_ttl": entry.x509_svid_ttl,
                "jwt_svid_ttl": entry.jwt_svid_ttl,
                "dns_names": entry.dns_names,
                "hint": entry.hint,
                "admin": entry.admin,
                "downstream": entry.downstream,
                "expires_at": entry.expires_at,
                "store_svid": entry.store_svid,
                "on_demand": more(entry).disable_x509_svid_prefetch,
                "jwt_id": more(entry).jwt_svid_include_jti,
                "revision_number": entry.revision_number,
                "created_at": entry.created_at,
            })
        });
        return output::json(&Value::Array(rows.collect()));
    }
    let head = ["name", "spiffe id", "parent", "selectors", "revision"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(entries.iter().map(|entry| {
        vec![
            entry.id.clone(),
            shown(entry.spiffe_id.as_ref()),
            shown(entry.parent_id.as_ref()),
            selectors(&entry.selectors).join(" "),
            entry.revision_number.to_string(),
        ]
    }));
    output::line(output::table(&rows).trim_end());
}
