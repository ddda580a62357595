//! `sekisho node`: agents that have attested.

mod filter;

use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sekisho_certs::{Clock as _, SystemClock};
use sekisho_spire_api::{
    server::agent::{
        AgentFilter, BanAgentRequest, CountAgentsRequest, DeleteAgentRequest, GetAgentRequest,
        ListAgentsRequest, agent_client::AgentClient,
    },
    types,
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::{Answer, Asked, count, done, done_to, remaining, run, run_at, selectors, shown, value};
use crate::{api::Answered as _, cli, output};
use filter::Filter;

/// Agents in one call.
const PAGE: i32 = 1000;
/// Of an agent that is not there.
const MISSING: &str = ": sekisho node list names those there are";

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// All agents, or those that are as the options say
    #[command(
        after_help = "Examples:\n  sekisho node list --json\n  sekisho node list --banned true"
    )]
    List(Listed),
    /// One agent
    #[command(after_help = "Example:\n  sekisho node show /spire/agent/join_token/3f2b…")]
    Show(One),
    /// How many agents there are, or are as the options say
    #[command(after_help = "Example:\n  sekisho node count --attestation k8s_psat")]
    Count(Listed),
    /// Forget an agent: it may attest again
    #[command(after_help = "Example:\n  sekisho node evict /spire/agent/join_token/3f2b…")]
    Evict(One),
    /// Shut an agent out, until it is evicted
    #[command(after_help = "Example:\n  sekisho node ban /spire/agent/x509pop/77c1…")]
    Ban(One),
    /// Forget agents that have expired long ago, and may attest again
    #[command(
        after_help = "Banned agents stay. Exit code 1 when one could not be forgotten.\n\nExamples:\n  \
        sekisho node purge --dry-run\n  sekisho node purge --expired-for 7d"
    )]
    Purge(Purge),
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
    /// Its ID, as a path or whole
    #[arg(value_parser = value::id)]
    id: value::Id,
}

#[derive(Debug, Args)]
pub(crate) struct Purge {
    #[command(flatten)]
    asked: Asked,
    /// For how long they have expired
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = value::seconds)]
    expired_for: i32,
    /// Show which, and forget none
    #[arg(long)]
    dry_run: bool,
}

/// Does it.
pub(crate) fn node(command: &NodeCommand) -> u8 {
    match command {
        NodeCommand::List(listed) => run_at(&listed.asked.at, async |channel| {
            let agents = all(channel, listed.filter.sent()).await?;
            show(listed.asked.json, &agents);
            Ok(cli::OK)
        }),
        NodeCommand::Count(listed) => run_at(&listed.asked.at, async |channel| {
            let filter = Some(listed.filter.sent());
            let answer = AgentClient::new(channel)
                .count_agents(CountAgentsRequest { filter })
                .await
                .answered("CountAgents")?;
            count(listed.asked.json, "agents", answer.count);
            Ok(cli::OK)
        }),
        NodeCommand::Show(one) => run(&one.asked.at, async |authority| {
            let request = GetAgentRequest {
                id: Some(one.id.at(&authority.site)?),
                output_mask: None,
            };
            let answer = AgentClient::new(authority.channel).get_agent(request).await;
            show(one.asked.json, &[answer.found("GetAgent", MISSING)?]);
            Ok(cli::OK)
        }),
        NodeCommand::Evict(one) => run(&one.asked.at, async |authority| {
            let id = one.id.at(&authority.site)?;
            let name = shown(Some(&id));
            let request = DeleteAgentRequest { id: Some(id) };
            let answer = AgentClient::new(authority.channel)
                .delete_agent(request)
                .await;
            answer
                .found("DeleteAgent", MISSING)
                .context("not evicted")?;
            done_to(one.asked.json, "evicted", name)
        }),
        NodeCommand::Ban(one) => run(&one.asked.at, async |authority| {
            let id = one.id.at(&authority.site)?;
            let name = shown(Some(&id));
            let request = BanAgentRequest { id: Some(id) };
            let answer = AgentClient::new(authority.channel).ban_agent(request).await;
            answer.found("BanAgent", MISSING).context("not banned")?;
            done_to(one.asked.json, "banned", name)
        }),
        NodeCommand::Purge(purge) => run_at(&purge.asked.at, async |channel| {
            forget(channel, purge).await
        }),
    }
}

async fn all(channel: Channel, filter: AgentFilter) -> anyhow::Result<Vec<types::Agent>> {
    let mut client = AgentClient::new(channel);
    let mut agents = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListAgentsRequest {
            filter: Some(filter.clone()),
            page_size: PAGE,
            page_token,
            output_mask: None,
        };
        let page = client.list_agents(request).await.answered("ListAgents")?;
        agents.extend(page.agents);
        if page.next_page_token.is_empty() {
            return Ok(agents);
        }
        page_token = page.next_page_token;
    }
}

async fn forget(channel: Channel, purge: &Purge) -> anyhow::Result<u8> {
    let filter = AgentFilter {
        // One that cannot attest again would be lost.
        by_can_reattest: Some(true),
        // To forget a banned one would be to let it in.
        by_banned: Some(false),
        ..AgentFilter::default()
    };
    let now = SystemClock.now().duration_since(UNIX_EPOCH)?;
    let before = i64::try_from(now.as_secs())?.saturating_sub(purge.expired_for.into());
    let mut agents = all(channel.clone(), filter).await?;
    agents.retain(|agent| is_old(agent, before));
    if purge.dry_run {
        show(purge.asked.json, &agents);
        return Ok(cli::OK);
    }
    let mut client = AgentClient::new(channel);
    let mut answers = Vec::new();
    for agent in agents {
        let name = shown(agent.id.as_ref());
        let answer = client
            .delete_agent(DeleteAgentRequest { id: agent.id })
            .await;
        let status = match answer {
            Ok(_) => types::Status::default(),
            Err(status) => types::Status {
                code: status.code().into(),
                message: status.message().into(),
            },
        };
        answers.push((name, status));
    }
    let told: Vec<Answer<'_>> = answers
        .iter()
        .map(|(name, status)| (name.clone(), Some(status)))
        .collect();
    done(purge.asked.json, "forgotten", told.len(), &told)
}

/// Whether an agent has expired before that time. Who filters is the authority; a filter that it does not
/// know must not cost an agent.
const fn is_old(agent: &types::Agent, before: i64) -> bool {
    agent.can_reattest
        && !agent.banned
        && agent.x509svid_expires_at != 0
        && agent.x509svid_expires_at <= before
}

fn show(as_json: bool, agents: &[types::Agent]) {
    if as_json {
        let rows = agents.iter().map(|agent| {
            json!({
                "id": shown(agent.id.as_ref()),
                "attestation": agent.attestation_type,
                "serial": agent.x509svid_serial_number,
                "expires_at": agent.x509svid_expires_at,
                "selectors": selectors(&agent.selectors),
                "banned": agent.banned,
                "can_reattest": agent.can_reattest,
                "version": agent.agent_version,
            })
        });
        return output::json(&Value::Array(rows.collect()));
    }
    let head = [
        "id",
        "attestation",
        "expires in",
        "banned",
        "version",
        "selectors",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(agents.iter().map(|agent| {
        vec![
            shown(agent.id.as_ref()),
            agent.attestation_type.clone(),
            remaining(agent.x509svid_expires_at),
            agent.banned.to_string(),
            agent.agent_version.clone(),
            selectors(&agent.selectors).join(" "),
        ]
    }));
    output::line(output::table(&rows).trim_end());
}

#[cfg(test)]
mod tests;
