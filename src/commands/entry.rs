//! `sekisho entry`: which processes of which nodes have which identity.

use std::time::Duration;

use clap::{Args, Subcommand};
use sekisho_spire_api::{
    server::entry::{
        BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, GetEntryRequest,
        entry_client::EntryClient,
    },
    types,
};
use serde_json::{Value, json};

use super::{Asked, Authority, id, outcome, run, selector, selectors, shown};
use crate::{api::Answered as _, apply, cli, cli::duration, output};

#[derive(Debug, Subcommand)]
pub(crate) enum EntryCommand {
    /// Make an entry
    #[command(after_help = "IDs are whole, or paths below the site.\n\nExample:\n  \
        sekisho entry create --parent-id /node/local --spiffe-id /broker --selector unix:user:kafka")]
    Create(Said),
    /// All entries
    List(Asked),
    /// One entry
    Show(One),
    /// Replace what an entry says
    Update(Said),
    /// Delete entries
    Delete(Several),
}

#[derive(Debug, Args)]
pub(crate) struct One {
    #[command(flatten)]
    asked: Asked,
    /// Its name
    id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Several {
    #[command(flatten)]
    asked: Asked,
    /// Their names
    #[arg(required = true)]
    ids: Vec<String>,
}

/// What an entry says.
#[derive(Debug, Args)]
pub(crate) struct Said {
    #[command(flatten)]
    asked: Asked,
    /// Its name; a new one gets a random one
    #[arg(long, value_name = "NAME")]
    entry_id: Option<String>,
    /// The identity
    #[arg(long, value_name = "ID")]
    spiffe_id: String,
    /// Whose node serves it
    #[arg(long, value_name = "ID")]
    parent_id: String,
    /// What must be true of a process; may be given several times
    #[arg(long = "selector", value_name = "TYPE:VALUE", required = true, value_parser = selector)]
    selectors: Vec<types::Selector>,
    /// Whose bundles it gets; may be given several times, or as `*`
    #[arg(long, value_name = "TRUST DOMAIN")]
    federates_with: Vec<String>,
    /// Lifetime of its X.509-SVIDs
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    x509_ttl: Duration,
    /// Lifetime of its JWT-SVIDs
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    jwt_ttl: Duration,
    /// A DNS name in its SVIDs; may be given several times
    #[arg(long = "dns", value_name = "NAME")]
    dns_names: Vec<String>,
    /// A word for those that have several identities
    #[arg(long, default_value = "")]
    hint: String,
    /// It may administer the authority
    #[arg(long)]
    admin: bool,
    /// It is a server below
    #[arg(long)]
    downstream: bool,
}

impl Said {
    fn entry(&self, authority: &Authority) -> anyhow::Result<types::Entry> {
        Ok(types::Entry {
            id: self.entry_id.clone().unwrap_or_default(),
            spiffe_id: Some(id(&self.spiffe_id, &authority.site)?),
            parent_id: Some(id(&self.parent_id, &authority.site)?),
            selectors: self.selectors.clone(),
            federates_with: self.federates_with.clone(),
            x509_svid_ttl: i32::try_from(self.x509_ttl.as_secs())?,
            jwt_svid_ttl: i32::try_from(self.jwt_ttl.as_secs())?,
            dns_names: self.dns_names.clone(),
            hint: self.hint.clone(),
            admin: self.admin,
            downstream: self.downstream,
            ..Default::default()
        })
    }
}

/// Does it.
pub(crate) fn entry(command: &EntryCommand) -> u8 {
    match command {
        EntryCommand::Create(said) => run(&said.asked, async |authority| {
            let request = BatchCreateEntryRequest {
                entries: vec![said.entry(&authority)?],
                output_mask: None,
            };
            let answer = EntryClient::new(authority.channel)
                .batch_create_entry(request)
                .await
                .answered("BatchCreateEntry")?;
            let results = answer.results.iter();
            let code = outcome(results.map(|one| (said.spiffe_id.clone(), one.status.as_ref())))?;
            let made: Vec<_> = answer
                .results
                .into_iter()
                .filter_map(|one| one.entry)
                .collect();
            if code == cli::OK {
                show(said.asked.json, &made);
            }
            Ok(code)
        }),
        EntryCommand::Update(said) => run(&said.asked, async |authority| {
            if said.entry_id.is_none() {
                output::complain("--entry-id is needed: which entry (sekisho entry list)");
                return Ok(cli::INVALID);
            }
            let mut entry = said.entry(&authority)?;
            let mut client = EntryClient::new(authority.channel);
            let request = GetEntryRequest {
                id: entry.id.clone(),
                output_mask: None,
            };
            let before = client.get_entry(request).await.answered("GetEntry")?;
            // What no option says stays as it is.
            entry.additional_attributes = before.additional_attributes;
            entry.expires_at = before.expires_at;
            entry.store_svid = before.store_svid;
            let request = BatchUpdateEntryRequest {
                entries: vec![entry],
                input_mask: None,
                output_mask: None,
            };
            let answer = client
                .batch_update_entry(request)
                .await
                .answered("BatchUpdateEntry")?;
            let name = || said.entry_id.clone().unwrap_or_default();
            let results = answer.results.iter();
            let code = outcome(results.map(|one| (name(), one.status.as_ref())))?;
            let now: Vec<_> = answer
                .results
                .into_iter()
                .filter_map(|one| one.entry)
                .collect();
            if code == cli::OK {
                show(said.asked.json, &now);
            }
            Ok(code)
        }),
        EntryCommand::List(asked) => run(asked, async |authority| {
            show(asked.json, &apply::all(authority.channel).await?);
            Ok(cli::OK)
        }),
        EntryCommand::Show(one) => run(&one.asked, async |authority| {
            let request = GetEntryRequest {
                id: one.id.clone(),
                output_mask: None,
            };
            let answer = EntryClient::new(authority.channel).get_entry(request).await;
            show(one.asked.json, &[answer.answered("GetEntry")?]);
            Ok(cli::OK)
        }),
        EntryCommand::Delete(several) => run(&several.asked, async |authority| {
            let request = BatchDeleteEntryRequest {
                ids: several.ids.clone(),
            };
            let answer = EntryClient::new(authority.channel)
                .batch_delete_entry(request)
                .await
                .answered("BatchDeleteEntry")?;
            let results = answer.results.iter();
            outcome(results.map(|one| (one.id.clone(), one.status.as_ref())))
        }),
    }
}

fn show(as_json: bool, entries: &[types::Entry]) {
    if as_json {
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
