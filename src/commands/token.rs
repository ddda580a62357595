//! `sekisho token`: join tokens.

use clap::{Args, Subcommand};
use sekisho_spire_api::server::agent::{CreateJoinTokenRequest, agent_client::AgentClient};
use serde_json::json;

use super::{Asked, run, shown, value};
use crate::{api::Answered as _, cli, output};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token by which one node may attest, once
    #[command(
        after_help = "The token is a secret until it is used.\n\nExamples:\n  \
        sekisho token create\n  sekisho token create --ttl 1h --spiffe-id /node/gpu-7"
    )]
    Create(Create),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    asked: Asked,
    /// For how long it is good
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = value::seconds)]
    ttl: i32,
    /// Another ID of the node, as a path or whole: entries may name it as their parent
    #[arg(long, value_name = "ID", value_parser = value::id)]
    spiffe_id: Option<value::Id>,
}

/// Does it.
pub(crate) fn token(command: &TokenCommand) -> u8 {
    let TokenCommand::Create(create) = command;
    run(&create.asked.at, async |authority| {
        let agent_id = create.spiffe_id.as_ref();
        let agent_id = agent_id.map(|id| id.at(&authority.site)).transpose()?;
        let request = CreateJoinTokenRequest {
            ttl: create.ttl,
            token: String::new(),
            agent_id: agent_id.clone(),
        };
        let token = AgentClient::new(authority.channel)
            .create_join_token(request)
            .await
            .answered("CreateJoinToken")?;
        if create.asked.json {
            output::json(&json!({
                "value": token.value,
                "expires_at": token.expires_at,
                "spiffe_id": agent_id.as_ref().map(|id| shown(Some(id))),
            }));
        } else {
            output::line(&token.value);
        }
        Ok(cli::OK)
    })
}
