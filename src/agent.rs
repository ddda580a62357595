//! `sekisho agent`: this node's agent until a signal ends it, or the authority puts it out.

pub(crate) mod introduced;

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, bail};
use clap::Args;
use sekisho_agent::{
    attest::{Evidence, NodeAttestor, Token, evidence::PodToken, k8s_psat},
    cache::SealKind,
    run::{Agent, Bootstrap, Settings},
    serve::{Doors, SdsNames, Serve, Serving},
    workload::WorkloadAttestors,
};
use sekisho_certs::{SystemClock, tls};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::{
    child::ChildArgs,
    cli::{self, ConfigArgs},
    config::{self, AgentConfig, CertificateFiles, Config, NodeProof, Piece, Secret, environment},
    logging, output, run,
};
use introduced::Introduced;

/// Options of `sekisho agent`.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Take whoever answers first for the site's authority, once: whoever stands between could be it
    #[arg(long)]
    insecure_bootstrap: bool,
    #[command(flatten)]
    child: ChildArgs,
    /// Ask for tokens and the site's bundle over standard input, a socket
    #[arg(long, hide = true)]
    introduced: bool,
}

/// Does what was asked.
pub(crate) fn agent(args: &AgentArgs) -> u8 {
    if !args.child.begin() {
        return cli::FAILED;
    }
    let own = |file: &Config| file.agent.clone();
    let Some((file, own)) = config::load_part(&args.config.config, "agent", own) else {
        return cli::INVALID;
    };
    let log = Arc::new(logging::start_changeable(&file.log));
    run::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(serve(args, &file, own, log)));
    match outcome {
        Ok(()) => cli::OK,
        Err(error) => {
            output::complain(format_args!("agent: {error:#}"));
            cli::FAILED
        }
    }
}

async fn serve(
    args: &AgentArgs,
    file: &Config,
    own: AgentConfig,
    log: Arc<logging::Changeable>,
) -> anyhow::Result<()> {
    let introduced = args.introduced.then(Introduced::inherited).transpose()?;
    let introduced = introduced.map(Arc::new);
    let settings = Settings {
        domain: file.site.clone(),
        servers: own.authority.clone(),
        bootstrap: bootstrap(args, &own, introduced.as_ref())?,
        attestor: attestor(&own, introduced.as_ref())?,
        availability: own.availability,
        data: own.data.clone(),
        seal: if own.keyring {
            SealKind::Keyring
        } else {
            SealKind::File
        },
    };
    let provider = Arc::new(tls::provider());
    let agent = Agent::new(settings, Arc::new(SystemClock), provider)?;
    let shared = agent.shared();
    let seal = shared.health.borrow().seal;
    let delegated = own.delegated;
    let doors = Doors {
        socket: Some(own.socket.clone()),
        tcp: own.listen,
        admin: delegated.as_ref().map(|one| one.socket.clone()),
    };
    let renewer = shared.clone();
    let serve = Serve {
        shared,
        attestors: WorkloadAttestors::new(own.workloads),
        delegates: delegated.map(|one| one.delegates).unwrap_or_default(),
        sds: SdsNames::default(),
        log: Some(log),
    };
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let mut usr1 = signal(SignalKind::user_defined1())?;
    tokio::spawn(async move {
        while usr1.recv().await.is_some() {
            tracing::info!("SVIDs renewed on request");
            renewer.renew();
        }
    });
    let serving = Serving::start(serve, &doors).await?;
    tracing::info!(
        site = %file.site,
        authority = own.authority.join(" "),
        socket = %own.socket.display(),
        cache = %own.data.display(),
        sealed_by = seal.as_str(),
        "started"
    );
    let ended = agent
        .run(async {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        })
        .await;
    tracing::info!("ending");
    serving.stop().await;
    Ok(ended?)
}

fn bootstrap(
    args: &AgentArgs,
    own: &AgentConfig,
    introduced: Option<&Arc<Introduced>>,
) -> anyhow::Result<Bootstrap> {
    match (&own.bootstrap, introduced) {
        _ if args.insecure_bootstrap => Ok(Bootstrap::Insecure),
        (Some(path), _) => Ok(Bootstrap::File(path.clone())),
        (None, Some(introduced)) => Ok(Bootstrap::Asked(Arc::<Introduced>::clone(introduced))),
        (None, None) => bail!(
            "`agent.bootstrap` is missing: the file of the site's bundle (sekisho bundle export, at the authority), or start both by `sekisho run`"
        ),
    }
}

fn attestor(
    own: &AgentConfig,
    introduced: Option<&Arc<Introduced>>,
) -> anyhow::Result<NodeAttestor> {
    Ok(match &own.attest {
        Some(NodeProof::JoinToken(secret)) => NodeAttestor::JoinToken(token(secret)?),
        Some(NodeProof::X509Pop(CertificateFiles { cert, key })) => NodeAttestor::X509Pop {
            cert: cert.clone(),
            key: key.clone(),
        },
        Some(NodeProof::K8sPsat { cluster, token }) => NodeAttestor::K8sPsat {
            cluster: cluster.clone(),
            token: token.clone(),
        },
        Some(NodeProof::Evidence(pieces)) => {
            let mut all = Vec::with_capacity(pieces.len());
            for one in pieces {
                let piece = match one {
                    Piece::HandedOver => Evidence::JoinToken(asked_token(introduced)?),
                    other => evidence(other)?,
                };
                all.push(piece);
            }
            NodeAttestor::Evidence(all)
        }
        None => NodeAttestor::JoinToken(asked_token(introduced)?),
    })
}

/// A token for each attempt, by the supervisor.
fn asked_token(introduced: Option<&Arc<Introduced>>) -> anyhow::Result<Token> {
    match introduced {
        Some(introduced) => Ok(Token::Asked(Arc::<Introduced>::clone(introduced))),
        None => bail!(
            "`agent.join_token` is missing: where the token is (sekisho token create), or start both by `sekisho run`"
        ),
    }
}

fn evidence(piece: &Piece) -> anyhow::Result<Evidence> {
    Ok(match piece {
        Piece::HandedOver => bail!("a token is handed over by `sekisho run` only"),
        Piece::JoinToken(secret) => Evidence::JoinToken(token(secret)?),
        Piece::X509Pop(CertificateFiles { cert, key }) => Evidence::X509Pop {
            cert: cert.clone(),
            key: key.clone(),
        },
        Piece::K8sPsat { cluster, token } => Evidence::K8sPsat {
            cluster: cluster.clone(),
            token: match token {
                Some(path) => PodToken::File(path.clone()),
                None => {
                    let (host, port) = crate::authority::api_server()?;
                    PodToken::Requested(k8s_psat::Api::in_pod(host, port))
                }
            },
        },
    })
}

fn token(secret: &Secret) -> anyhow::Result<Token> {
    Ok(match secret {
        Secret::File(path) => Token::File(PathBuf::clone(path)),
        Secret::Env(name) => {
            let value = environment(name).with_context(|| format!("{name} is not set"))?;
            Token::Value(Zeroizing::new(value))
        }
    })
}
