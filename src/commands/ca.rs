//! `sekisho ca`: the authorities that sign, and their rotation.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sekisho_spire_api::server::local_authority::{
    ActivateJwtAuthorityRequest, ActivateX509AuthorityRequest, AuthorityState,
    GetJwtAuthorityStateRequest, GetX509AuthorityStateRequest, PrepareJwtAuthorityRequest,
    PrepareX509AuthorityRequest, RevokeJwtAuthorityRequest, RevokeX509AuthorityRequest,
    TaintJwtAuthorityRequest, TaintX509AuthorityRequest,
    local_authority_client::LocalAuthorityClient,
};
use serde_json::{Value, json};

use super::{Asked, remaining, run};
use crate::{api::Answered as _, cli, output};

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Which authorities there are: active, prepared, old
    #[command(after_help = "Examples:\n  sekisho ca show\n  sekisho ca show --jwt --json")]
    Show(Which),
    /// Make the next one: it is in the bundle at once, and signs nothing yet
    Prepare(Which),
    /// Have the prepared one sign, once every node knows it (`authorities` in its status)
    Activate(Named),
    /// Have everything below the old one replaced; it still counts
    Taint(Named),
    /// Take the tainted one out of the bundle: what it has signed does not count any more
    Revoke(Named),
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    #[command(flatten)]
    asked: Asked,
    /// Those of JWT-SVIDs in place of X.509-SVIDs
    #[arg(long)]
    jwt: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    #[command(flatten)]
    which: Which,
    /// Its ID, as `sekisho ca show` tells it
    id: String,
}

/// Does it.
pub(crate) fn ca(command: &CaCommand) -> u8 {
    let which = match command {
        CaCommand::Show(which) | CaCommand::Prepare(which) => which,
        CaCommand::Activate(named) | CaCommand::Taint(named) | CaCommand::Revoke(named) => {
            &named.which
        }
    };
    run(&which.asked, async |authority| {
        let mut client = LocalAuthorityClient::new(authority.channel);
        let client = &mut client;
        let states = match command {
            CaCommand::Show(which) if which.jwt => {
                let all = client
                    .get_jwt_authority_state(GetJwtAuthorityStateRequest {})
                    .await;
                let all = all.answered("GetJWTAuthorityState")?;
                vec![
                    ("active", all.active),
                    ("prepared", all.prepared),
                    ("old", all.old),
                ]
            }
            CaCommand::Show(_) => {
                let all = client
                    .get_x509_authority_state(GetX509AuthorityStateRequest {})
                    .await;
                let all = all.answered("GetX509AuthorityState")?;
                vec![
                    ("active", all.active),
                    ("prepared", all.prepared),
                    ("old", all.old),
                ]
            }
            CaCommand::Prepare(which) if which.jwt => {
                let answer = client
                    .prepare_jwt_authority(PrepareJwtAuthorityRequest {})
                    .await;
                let answer = answer.answered("PrepareJWTAuthority")?;
                vec![("prepared", answer.prepared_authority)]
            }
            CaCommand::Prepare(_) => {
                let answer = client
                    .prepare_x509_authority(PrepareX509AuthorityRequest {})
                    .await;
                let answer = answer.answered("PrepareX509Authority")?;
                vec![("prepared", answer.prepared_authority)]
            }
            CaCommand::Activate(named) => vec![("active", activate(client, named).await?)],
            CaCommand::Taint(named) => vec![("tainted", taint(client, named).await?)],
            CaCommand::Revoke(named) => vec![("revoked", revoke(client, named).await?)],
        };
        show(which.asked.json, states)?;
        Ok(cli::OK)
    })
}

type Client = LocalAuthorityClient<tonic::transport::Channel>;

async fn activate(client: &mut Client, named: &Named) -> anyhow::Result<Option<AuthorityState>> {
    let authority_id = named.id.clone();
    if named.which.jwt {
        let request = ActivateJwtAuthorityRequest { authority_id };
        let answer = client.activate_jwt_authority(request).await;
        return Ok(answer.answered("ActivateJWTAuthority")?.activated_authority);
    }
    let request = ActivateX509AuthorityRequest { authority_id };
    let answer = client.activate_x509_authority(request).await;
    Ok(answer
        .answered("ActivateX509Authority")?
        .activated_authority)
}

async fn taint(client: &mut Client, named: &Named) -> anyhow::Result<Option<AuthorityState>> {
    let authority_id = named.id.clone();
    if named.which.jwt {
        let request = TaintJwtAuthorityRequest { authority_id };
        let answer = client.taint_jwt_authority(request).await;
        return Ok(answer.answered("TaintJWTAuthority")?.tainted_authority);
    }
    let request = TaintX509AuthorityRequest { authority_id };
    let answer = client.taint_x509_authority(request).await;
    Ok(answer.answered("TaintX509Authority")?.tainted_authority)
}

async fn revoke(client: &mut Client, named: &Named) -> anyhow::Result<Option<AuthorityState>> {
    let authority_id = named.id.clone();
    if named.which.jwt {
        let request = RevokeJwtAuthorityRequest { authority_id };
        let answer = client.revoke_jwt_authority(request).await;
        return Ok(answer.answered("RevokeJWTAuthority")?.revoked_authority);
    }
    let request = RevokeX509AuthorityRequest { authority_id };
    let answer = client.revoke_x509_authority(request).await;
    Ok(answer.answered("RevokeX509Authority")?.revoked_authority)
}

fn show(as_json: bool, states: Vec<(&'static str, Option<AuthorityState>)>) -> anyhow::Result<()> {
    let states: Vec<_> = states
        .into_iter()
        .filter_map(|(slot, state)| Some((slot, state?)))
        .collect();
    states.first().context("the answer names no authority")?;
    if as_json {
        let rows = states.iter().map(|(slot, state)| {
            json!({"slot": slot, "id": state.authority_id, "expires_at": state.expires_at})
        });
        output::json(&Value::Array(rows.collect()));
        return Ok(());
    }
    let mut rows = vec![["slot", "id", "expires in"].map(str::to_owned).to_vec()];
    rows.extend(states.iter().map(|(slot, state)| {
        vec![
            (*slot).to_owned(),
            state.authority_id.clone(),
            remaining(state.expires_at),
        ]
    }));
    output::line(output::table(&rows).trim_end());
    Ok(())
}
