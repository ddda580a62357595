//! `sekisho agent`: this node's agent until a signal ends it, or the authority puts it out.

use std::{
    io::{IsTerminal as _, Read as _},
    path::PathBuf,
    sync::Arc,
};

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
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::{
    cli::{self, ConfigArgs},
    config::{self, AgentConfig, CertificateFiles, Config, NodeProof, Piece, Secret, environment},
    logging, output, run,
};

/// Most bytes that are handed over at start.
const HANDED_OVER: u64 = 1 << 20;

/// Options of `sekisho agent`.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Take whoever answers first for the site's authority, once: whoever stands between could be it
    #[arg(long)]
    insecure_bootstrap: bool,
    /// End when the process that started this one, whose number this is, does
    #[arg(long, hide = true, value_name = "PID")]
    with_parent: Option<i32>,
    /// Read a token and the site's bundle from standard input
    #[arg(long, hide = true)]
    handed_over: bool,
}

/// What the supervisor hands to an agent, in memory.
#[derive(Deserialize, Serialize)]
pub(crate) struct HandedOver {
    /// A join token, where the agent needs one.
    pub(crate) token: Option<Zeroizing<String>>,
    /// The site's bundle, PEM.
    pub(crate) bundle: String,
}

/// Does what was asked.
pub(crate) fn agent(args: &AgentArgs) -> u8 {
    let own = |file: &Config| file.agent.clone();
    let Some((file, own)) = config::load_part(&args.config.config, "agent", own) else {
        return cli::INVALID;
    };
    if let Some(parent) = args.with_parent
        && !run::bind_to_parent(parent)
    {
        return cli::FAILED;
    }
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
    let handed_over = args.handed_over.then(handed_over).transpose()?;
    let settings = Settings {
        domain: file.site.clone(),
        servers: own.authority.clone(),
        bootstrap: bootstrap(args, &own, handed_over.as_ref())?,
        attestor: attestor(args, &own, handed_over.as_ref())?,
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

fn handed_over() -> anyhow::Result<HandedOver> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        bail!("--handed-over is for `sekisho run`, which hands over a token");
    }
    let mut text = Zeroizing::new(Vec::with_capacity(64 * 1024));
    stdin.lock().take(HANDED_OVER).read_to_end(&mut text)?;
    serde_json::from_slice(&text).context("what was handed over cannot be read")
}

fn bootstrap(
    args: &AgentArgs,
    own: &AgentConfig,
    handed_over: Option<&HandedOver>,
) -> anyhow::Result<Bootstrap> {
    match (&own.bootstrap, handed_over) {
        _ if args.insecure_bootstrap => Ok(Bootstrap::Insecure),
        (Some(path), _) => Ok(Bootstrap::File(path.clone())),
        (None, Some(handed_over)) => Ok(Bootstrap::Text(handed_over.bundle.as_bytes().into())),
        // The supervisor had none to give, for now: what was kept may do.
        (None, None) if args.with_parent.is_some() => Ok(Bootstrap::Nothing),
        (None, None) => bail!(
            "`agent.bootstrap` is missing: the file of the site's bundle (sekisho bundle export, at the authority), or start both by `sekisho run`"
        ),
    }
}

fn attestor(
    args: &AgentArgs,
    own: &AgentConfig,
    handed_over: Option<&HandedOver>,
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
                    Piece::HandedOver => match handed_over_token(args, handed_over)? {
                        Some(token) => Evidence::JoinToken(token),
                        None => return Ok(NodeAttestor::None),
                    },
                    other => evidence(other)?,
                };
                all.push(piece);
            }
            NodeAttestor::Evidence(all)
        }
        None => handed_over_token(args, handed_over)?
            .map_or(NodeAttestor::None, NodeAttestor::JoinToken),
    })
}

/// `None`: the supervisor had none to give, for now.
fn handed_over_token(
    args: &AgentArgs,
    handed_over: Option<&HandedOver>,
) -> anyhow::Result<Option<Token>> {
    let token = handed_over.and_then(|given| given.token.clone());
    match token {
        Some(token) => Ok(Some(Token::Value(token))),
        None if args.with_parent.is_some() => Ok(None),
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
