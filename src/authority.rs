//! `sekisho authority`: a site's authority until a signal ends it, and the care of its data.

pub(crate) mod federation;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use rustls::crypto::CryptoProvider;
use sekisho_authority::{
    attest::{
        Attestors,
        evidence::{self, Judge},
        k8s_psat,
        x509pop::Mode,
    },
    ca::{
        Ca, CaError, CaSettings,
        keys::{KeyFolder, Sealing},
        upstream::{Disk, Spire, SpireSpec, Upstream},
    },
    core::{Core, Settings},
    directory,
    serve::{Doors, Serving},
    store::Store,
};
use sekisho_certs::{SystemClock, TrustDomain, hex, id::id_below, tls};
use sekisho_federation::directory::following::Following;
use sekisho_kube::KubeServer;
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeroize::Zeroizing;

use crate::{
    child::ChildArgs,
    cli::{self, ConfigArgs},
    config::{
        self, Attest, AuthorityConfig, ClusterConfig, Config, EvidenceConfig, Secret,
        UpstreamConfig, environment, kubeconfig,
    },
    logging, output, run,
};

/// The first pause before the authority above is asked again, where nothing can be signed without it,
/// and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Most bytes of a secret in a file.
const SECRET: u64 = 64 * 1024;

/// Options of `sekisho authority`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
pub(crate) struct AuthorityArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    child: ChildArgs,
    #[command(subcommand)]
    command: Option<AuthorityCommand>,
}

#[derive(Debug, Subcommand)]
enum AuthorityCommand {
    /// Copy the database, which may be in use, to a file that is not there yet
    #[command(
        after_help = "The keys are files of their own in the folder `keys`: copy them too.\n\n\
        Example:\n  sekisho authority -c authority.yaml backup /var/backups/authority.db"
    )]
    Backup {
        /// The copy
        file: PathBuf,
    },
    /// The same as `sekisho audit verify`
    #[command(after_help = "Example:\n  sekisho authority -c authority.yaml verify-audit")]
    VerifyAudit {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Does what was asked.
pub(crate) fn authority(args: &AuthorityArgs) -> u8 {
    if !args.child.begin() {
        return cli::FAILED;
    }
    let Some((file, own)) = config::load_part(&args.config.config, "authority", |file| {
        file.authority.clone()
    }) else {
        return cli::INVALID;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            match &args.command {
                None => {
                    let log = Arc::new(logging::start_changeable(&file.log));
                    run::raise_file_limit();
                    serve(&file, own, log).await
                }
                Some(AuthorityCommand::Backup { file: copy }) => {
                    let store = existing(&own)?;
                    Ok(store.backup(copy.clone()).await?)
                }
                Some(AuthorityCommand::VerifyAudit { json }) => verify(&own, *json).await,
            }
        })
    });
    match outcome {
        Ok(()) => cli::OK,
        Err(error) => {
            output::complain(format_args!("authority: {error:#}"));
            cli::FAILED
        }
    }
}

/// Checks the audit log of the authority of a configuration.
pub(crate) fn verify_audit(config: &Path, json: bool) -> u8 {
    let own = |file: &Config| file.authority.clone();
    let Some((_, own)) = config::load_part(config, "authority", own) else {
        return cli::INVALID;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(verify(&own, json)));
    match outcome {
        Ok(()) => cli::OK,
        Err(error) => {
            output::complain(format_args!("audit: {error:#}"));
            cli::FAILED
        }
    }
}

fn database(config: &AuthorityConfig) -> PathBuf {
    config.data.join("authority.db")
}

/// The database, which must be there.
fn existing(config: &AuthorityConfig) -> anyhow::Result<Store> {
    let path = database(config);
    if !path.exists() {
        bail!("{}: there is no database", path.display());
    }
    // An authority may be using it.
    Ok(Store::open_read_only(&path)?)
}

async fn verify(config: &AuthorityConfig, json: bool) -> anyhow::Result<()> {
    let store = existing(config)?;
    let (lines, hash) = store.verify_audit().await?;
    let hash = hex(&hash);
    if json {
        output::json(&serde_json::json!({ "lines": lines, "hash": hash }));
    } else {
        output::line(format_args!(
            "{lines} lines, none altered; the last hash is {hash}"
        ));
    }
    Ok(())
}

async fn serve(
    file: &Config,
    config: AuthorityConfig,
    log: Arc<logging::Changeable>,
) -> anyhow::Result<()> {
    let data = &config.data;
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data);
    made.with_context(|| data.display().to_string())?;
    if let Some(folder) = config.socket.parent()
        && !folder.as_os_str().is_empty()
    {
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o755).create(folder);
        made.with_context(|| folder.display().to_string())?;
    }
    // Two would issue by different keys, and each undo what the other writes.
    let lock_path = data.join("lock");
    let lock = fs::File::create(&lock_path).with_context(|| lock_path.display().to_string())?;
    if lock.try_lock().is_err() {
        bail!("{}: another authority uses this folder", data.display());
    }
    let store = Arc::new(Store::open(&database(&config))?);
    let clock = Arc::new(SystemClock);
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let provider = Arc::new(tls::provider());
    let ca = tokio::select! {
        opened = ca(file, &config, &store, &provider) => Arc::new(opened?),
        () = asked(&mut term, &mut int) => return Ok(()),
    };
    let settings = Settings {
        x509_ttl: config.x509_ttl,
        jwt_ttl: config.jwt_ttl,
        agent_ttl: config.agent_ttl,
        jwt_issuer: config.jwt_issuer.clone(),
        attestors: attestors(&config.attest)?,
        admin_ids: config.admins.clone(),
        federation: federation::settings(file, &config.data)?,
        member: federation::member(file, data)?,
        ..Settings::new(file.site.clone())
    };
    let core = Core::new(settings, store, ca, clock).with_log(log);
    let (core, following) = follow(core, file, data, &provider)?;
    let core = Arc::new(core);
    let doors = Doors {
        tcp: config.listen,
        socket: Some(config.socket.clone()),
    };
    let serving = Serving::start(Arc::clone(&core), &doors, provider).await?;
    tracing::info!(
        site = %file.site,
        listen = config.listen.map(tracing::field::display),
        socket = %config.socket.display(),
        bundles = serving.bundles().map(tracing::field::display),
        authority = core.ca.x509().id(),
        "started"
    );
    let following = following.map(|following| tokio::spawn(following.run()));
    asked(&mut term, &mut int).await;
    tracing::info!("ending");
    if let Some(following) = following {
        following.abort();
    }
    tokio::select! {
        () = serving.stop() => {}
        // A second signal does not wait.
        () = asked(&mut term, &mut int) => {}
    }
    tracing::info!("ended");
    Ok(())
}

/// Opens the directories that the site follows, if it does.
fn follow(
    core: Core,
    file: &Config,
    data: &Path,
    provider: &Arc<CryptoProvider>,
) -> anyhow::Result<(Core, Option<Following>)> {
    let Some(settings) = federation::directories(file, data) else {
        return Ok((core, None));
    };
    let web = (&core.settings.web_roots, &core.settings.federation.allowed);
    let opened = directory::open(&settings, &file.site, web, provider, &core.clock)?;
    let (core, following) = core.following(opened);
    Ok((core, Some(following)))
}

/// Waits until its end is asked for.
async fn asked(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Takes up the CA. Where nothing can be signed without the authority above, and that is of no help, it
/// is asked again and again.
async fn ca(
    file: &Config,
    config: &AuthorityConfig,
    store: &Arc<Store>,
    provider: &Arc<CryptoProvider>,
) -> anyhow::Result<Ca> {
    let upstream = match &config.upstream {
        Some(above) => Some(upstream(above, &file.site, provider)?),
        None => None,
    };
    let mut pause = FIRST;
    loop {
        let sealing = config.encrypt.as_ref().map(sealing).transpose()?;
        let keys = KeyFolder::open(&config.data.join("keys"), sealing)?;
        let settings = CaSettings {
            domain: file.site.clone(),
            ttl: config.ca_ttl,
            announced: federation::announced(file),
        };
        let (store, clock) = (Arc::clone(store), Arc::new(SystemClock));
        match Ca::open_below(upstream.clone(), settings, store, keys, clock).await {
            Err(error @ CaError::Upstream(_)) => {
                tracing::error!(%error, again_in = ?pause, "nothing can be signed yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST);
            }
            opened => return Ok(opened?),
        }
    }
}

fn upstream(
    above: &UpstreamConfig,
    site: &TrustDomain,
    provider: &Arc<CryptoProvider>,
) -> anyhow::Result<Arc<dyn Upstream>> {
    Ok(match above {
        UpstreamConfig::Disk { cert, key, bundle } => Arc::new(Disk {
            domain: site.clone(),
            certificates: cert.clone(),
            key: key.clone(),
            roots: bundle.clone(),
        }),
        UpstreamConfig::Spire {
            authority,
            socket,
            path,
        } => {
            let own = path.as_ref().map(|path| id_below(site, path)).transpose()?;
            let spec = SpireSpec {
                domain: site.clone(),
                servers: authority.clone(),
                socket: socket.clone(),
                own,
            };
            Arc::new(Spire::new(
                spec,
                Arc::clone(provider),
                Arc::new(SystemClock),
            ))
        }
    })
}

fn attestors(attest: &[Attest]) -> anyhow::Result<Attestors> {
    let mut all = Attestors {
        join_token: false,
        ..Attestors::default()
    };
    for one in attest {
        match one {
            Attest::JoinToken => all.join_token = true,
            Attest::X509PopSpiffe => all.x509pop = Some(Mode::Spiffe),
            Attest::X509Pop { ca } => all.x509pop = Some(roots(ca)?),
            Attest::K8sPsat(clusters) => all.k8s_psat = Some(psat(clusters)?),
            Attest::Evidence(config) => {
                let pieces = attestors(&config.evidence)?;
                all.evidence = Some(evidence::Setting {
                    join_token: pieces.join_token,
                    x509pop: pieces.x509pop,
                    k8s_psat: pieces.k8s_psat,
                    judge: judge(config)?,
                });
            }
        }
    }
    Ok(all)
}

/// The attestation policy.
pub(crate) fn judge(config: &EvidenceConfig) -> anyhow::Result<Judge> {
    let source = config.policy.clone();
    let source = source.map_or(evidence::Source::Default, evidence::Source::Folder);
    Ok(Judge::load(source)?)
}

fn roots(ca: &Path) -> anyhow::Result<Mode> {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    let wrong = || format!("{}: CA certificates in PEM are expected", ca.display());
    let roots: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(ca)
        .with_context(wrong)?
        .collect::<Result<_, _>>()
        .with_context(wrong)?;
    Mode::external(roots)
        .map_err(|place| anyhow::anyhow!("{}: certificate {} is no CA", ca.display(), place + 1))
}

fn psat(clusters: &BTreeMap<String, ClusterConfig>) -> anyhow::Result<k8s_psat::Setting> {
    let clusters = clusters.iter().map(|(name, one)| {
        let cluster = cluster(one).with_context(|| format!("cluster {name}"))?;
        Ok((name.clone(), cluster))
    });
    let clusters = clusters.collect::<anyhow::Result<_>>()?;
    Ok(k8s_psat::Setting { clusters })
}

fn cluster(config: &ClusterConfig) -> anyhow::Result<k8s_psat::Cluster> {
    let server = match &config.kubeconfig {
        Some(path) => kubeconfig::load(path)?,
        None => in_pod()?,
    };
    Ok(k8s_psat::Cluster {
        server,
        accounts: config.accounts.clone(),
        audience: config.audience.clone(),
        node_labels: config.node_labels.clone(),
        pod_labels: config.pod_labels.clone(),
        name_by: config.name_by,
        places: k8s_psat::Places::default(),
    })
}

/// The API server as a pod finds it, with the pod's service account.
fn in_pod() -> anyhow::Result<KubeServer> {
    let (host, port) = api_server()?;
    Ok(KubeServer::api_server().named(host).at(port))
}

/// Where a pod finds the API server.
pub(crate) fn api_server() -> anyhow::Result<(String, u16)> {
    let variable = |name: &str| {
        environment(name)
            .with_context(|| format!("{name} is not set, as it is in a pod: give `kubeconfig`"))
    };
    let host = variable("KUBERNETES_SERVICE_HOST")?;
    let port = variable("KUBERNETES_SERVICE_PORT")?;
    let port = port
        .parse()
        .with_context(|| format!("KUBERNETES_SERVICE_PORT: {port:?}"))?;
    Ok((host, port))
}

/// The bytes of a file, or of a variable, as they stand there, without the end of the line.
fn sealing(secret: &Secret) -> anyhow::Result<Sealing> {
    let text = match secret {
        Secret::Env(name) => {
            let value = environment(name);
            Zeroizing::new(
                value
                    .with_context(|| format!("{name} is not set"))?
                    .into_bytes(),
            )
        }
        Secret::File(path) => read_secret(path).with_context(|| path.display().to_string())?,
    };
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    Ok(Sealing::new(text)?)
}

fn read_secret(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    use std::io::Read as _;
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
    fs::File::open(path)?.take(SECRET).read_to_end(&mut bytes)?;
    Ok(bytes)
}
