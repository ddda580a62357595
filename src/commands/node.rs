//! `sekisho node`: agents that have attested.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sekisho_spire_api::{
    server::agent::{
        BanAgentRequest, DeleteAgentRequest, GetAgentRequest, ListAgentsRequest,
        agent_client::AgentClient,
    },
    types,
};
use serde_json::{Value, json};

use super::{Asked, id, remaining, run, selectors, shown};
use crate::{api::Answered as _, cli, output};

/// Agents in one call.
const PAGE: i32 = 1000;

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// All agents
    #[command(after_help = "Example:\n  sekisho node list --json")]
    List(Asked),
    /// One agent
    Show(One),
    /// Forget an agent: it may attest again
    Evict(One),
    /// Shut an agent out, until it is evicted
    Ban(One),
}

#[derive(Debug, Args)]
pub(crate) struct One {
    #[command(flatten)]
    asked: Asked,
    /// Its ID, as a path or whole
    id: String,
}

/// Does it.
pub(crate) fn node(command: &NodeCommand) -> u8 {
    match command {
        NodeCommand::List(asked) => run(asked, async |authority| {
            let mut client = AgentClient::new(authority.channel);
            let mut agents = Vec::new();
            let mut page_token = String::new();
            loop {
                let request = ListAgentsRequest {
                    page_size: PAGE,
                    page_token,
                    ..Default::default()
                };
                let page = client.list_agents(request).await.answered("ListAgents")?;
                agents.extend(page.agents);
                if page.next_page_token.is_empty() {
                    break;
                }
                page_token = page.next_page_token;
            }
            show(asked.json, &agents);
            Ok(cli::OK)
        }),
        NodeCommand::Show(one) => run(&one.asked, async |authority| {
            let request = GetAgentRequest {
                id: Some(id(&one.id, &authority.site)?),
                output_mask: None,
            };
            let answer = AgentClient::new(authority.channel).get_agent(request).await;
            show(one.asked.json, &[answer.answered("GetAgent")?]);
            Ok(cli::OK)
        }),
        NodeCommand::Evict(one) => run(&one.asked, async |authority| {
            let id = Some(id(&one.id, &authority.site)?);
            let request = DeleteAgentRequest { id };
            let answer = AgentClient::new(authority.channel)
                .delete_agent(request)
                .await;
            answer.answered("DeleteAgent").context("not evicted")?;
            Ok(cli::OK)
        }),
        NodeCommand::Ban(one) => run(&one.asked, async |authority| {
            let id = Some(id(&one.id, &authority.site)?);
            let request = BanAgentRequest { id };
            let answer = AgentClient::new(authority.channel).ban_agent(request).await;
            answer.answered("BanAgent").context("not banned")?;
            Ok(cli::OK)
        }),
    }
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
