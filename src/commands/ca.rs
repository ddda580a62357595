//! `sekisho ca`: the authorities that sign, and their rotation.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sekisho_authority::api::FORCE;
use sekisho_spire_api::server::local_authority::{
    ActivateJwtAuthorityRequest, ActivateX509AuthorityRequest, AuthorityState,
    GetJwtAuthorityStateRequest, GetX509AuthorityStateRequest, PrepareJwtAuthorityRequest,
    PrepareX509AuthorityRequest, RevokeJwtAuthorityRequest, RevokeX509AuthorityRequest,
    RevokeX509UpstreamAuthorityRequest, TaintJwtAuthorityRequest, TaintX509AuthorityRequest,
    TaintX509UpstreamAuthorityRequest, local_authority_client::LocalAuthorityClient,
};
use serde_json::{Value, json};
use tonic::{Request, metadata::MetadataValue};

use super::{Asked, remaining, run};
use crate::{api::Answered as _, cli, output};

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Which authorities there are: active, prepared, old
    #[command(after_help = "Examples:\n  sekisho ca show\n  sekisho ca show --jwt --json")]
    Show(Which),
    /// Make the next one: it is in the bundle at once, and signs nothing yet
    #[command(after_help = "Examples:\n  sekisho ca prepare\n  sekisho ca prepare --jwt")]
    Prepare(Which),
    /// Have the prepared one sign, once every node knows it (`authorities` in its status)
    #[command(
        after_help = "Where other sites fetch the bundle (`federation.endpoint`), it is refused until they \
        have asked three times since it was prepared.\n\nExample:\n  sekisho ca activate 3f2b…"
    )]
    Activate(Activated),
    /// Have everything below the old one replaced; it still counts
    #[command(after_help = "Examples:\n  sekisho ca taint 3f2b…\n  sekisho ca taint --above 77c1…")]
    Taint(Ended),
    /// Take the tainted one out of the bundle: what it has signed does not count any more
    #[command(
        after_help = "Examples:\n  sekisho ca revoke 3f2b…\n  sekisho ca revoke --above 77c1…"
    )]
    Revoke(Ended),
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

#[derive(Debug, Args)]
pub(crate) struct Activated {
    #[command(flatten)]
    named: Named,
    /// At once, even if sites that fetch the bundle cannot know it yet: they refuse what it signs
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Ended {
    #[command(flatten)]
    named: Named,
    /// The ID is that of the root above the old one (`above` in `sekisho ca show`)
    #[arg(long, conflicts_with = "jwt")]
    above: bool,
}

/// Does it.
pub(crate) fn ca(command: &CaCommand) -> u8 {
    let which = match command {
        CaCommand::Show(which) | CaCommand::Prepare(which) => which,
        CaCommand::Activate(activated) => &activated.named.which,
        CaCommand::Taint(ended) | CaCommand::Revoke(ended) => &ended.named.which,
    };
    run(&which.asked.at, async |authority| {
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
            CaCommand::Activate(activated) => {
                vec![("active", activate(client, activated).await?)]
            }
            CaCommand::Taint(ended) if ended.above => {
                let subject_key_id = ended.named.id.clone();
                let request = TaintX509UpstreamAuthorityRequest { subject_key_id };
                let answer = client.taint_x509_upstream_authority(request).await;
                let answer = answer.answered("TaintX509UpstreamAuthority")?;
                vec![(
                    "tainted above",
                    root(answer.upstream_authority_subject_key_id),
                )]
            }
            CaCommand::Revoke(ended) if ended.above => {
                let subject_key_id = ended.named.id.clone();
                let request = RevokeX509UpstreamAuthorityRequest { subject_key_id };
                let answer = client.revoke_x509_upstream_authority(request).await;
                let answer = answer.answered("RevokeX509UpstreamAuthority")?;
                vec![(
                    "revoked above",
                    root(answer.upstream_authority_subject_key_id),
                )]
            }
            CaCommand::Taint(ended) => vec![("tainted", taint(client, &ended.named).await?)],
            CaCommand::Revoke(ended) => vec![("revoked", revoke(client, &ended.named).await?)],
        };
        show(which.asked.json, states)?;
        Ok(cli::OK)
    })
}

/// Of a root above nothing is told but its name.
fn root(id: String) -> Option<AuthorityState> {
    Some(AuthorityState {
        authority_id: id,
        ..AuthorityState::default()
    })
}

type Client = LocalAuthorityClient<tonic::transport::Channel>;

async fn activate(
    client: &mut Client,
    activated: &Activated,
) -> anyhow::Result<Option<AuthorityState>> {
    /// The request, with what SPIRE does not know.
    fn asked<T>(message: T, force: bool) -> Request<T> {
        let mut request = Request::new(message);
        if force {
            let yes = MetadataValue::from_static("true");
            request.metadata_mut().insert(FORCE, yes);
        }
        request
    }
    let (named, force) = (&activated.named, activated.force);
    let authority_id = named.id.clone();
    if named.which.jwt {
        let request = asked(ActivateJwtAuthorityRequest { authority_id }, force);
        let answer = client.activate_jwt_authority(request).await;
        return Ok(answer.answered("ActivateJWTAuthority")?.activated_authority);
    }
    let request = asked(ActivateX509AuthorityRequest { authority_id }, force);
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
            let above = Some(&state.upstream_authority_subject_key_id);
            json!({
                "slot": slot,
                "id": state.authority_id,
                "expires_at": state.expires_at,
                "above": above.filter(|above| !above.is_empty()),
            })
        });
        output::json(&Value::Array(rows.collect()));
        return Ok(());
    }
    let above = |state: &AuthorityState| state.upstream_authority_subject_key_id.clone();
    let below = states.iter().any(|(_, state)| !above(state).is_empty());
    let head = ["slot", "id", "expires in", "above"].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    rows.extend(states.iter().map(|(slot, state)| {
        let remaining = match state.expires_at {
            0 => String::new(),
            at => remaining(at),
        };
        let id = state.authority_id.clone();
        vec![(*slot).to_owned(), id, remaining, above(state)]
    }));
    if !below {
        for row in &mut rows {
            row.truncate(3);
        }
    }
    output::line(output::table(&rows).trim_end());
    Ok(())
}
