//! An authority with its doors: in a process of its own, or in that of the endpoints where the CA is
//! embedded there.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustls::crypto::CryptoProvider;
use sekisho_authority::{
    api::LogLevel,
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
use sekisho_certs::{Clock, SystemClock, TrustDomain, id::id_below, tls};
use sekisho_federation::directory::following::Following;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::{attest, embedded, federation};
use crate::config::{AuthorityConfig, Config, Secret, UpstreamConfig, environment};

/// The first pause before the authority above is asked again, where nothing can be signed without it,
/// and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Most bytes of a secret in a file.
const SECRET: u64 = 64 * 1024;

/// The database of an authority.
pub(super) fn database(config: &AuthorityConfig) -> PathBuf {
    config.data.join("authority.db")
}

/// An authority that serves.
#[derive(Debug)]
pub(crate) struct Running {
    core: Arc<Core>,
    serving: Serving,
    following: Option<Task>,
    // Held for its lock.
    _lock: fs::File,
}

/// A task that ends with whoever has started it.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Running {
    /// Takes up what is in the folder, and opens the doors.
    ///
    /// # Errors
    /// When another has the folder, something in it cannot be used, or a door cannot be opened. An
    /// authority above that cannot be reached is waited for.
    pub(crate) async fn start(
        file: &Config,
        config: &AuthorityConfig,
        log: Option<Arc<dyn LogLevel>>,
    ) -> anyhow::Result<Self> {
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
        let store = Arc::new(Store::open(&database(config))?);
        let provider = Arc::new(tls::provider());
        let ca = Arc::new(ca(file, config, &store, &provider).await?);
        let settings = Settings {
            x509_ttl: config.x509_ttl,
            jwt_ttl: config.jwt_ttl,
            agent_ttl: config.agent_ttl,
            jwt_issuer: config.jwt_issuer.clone(),
            attestors: attest::attestors(&config.attest)?,
            admin_ids: config.admins.clone(),
            federation: federation::settings(file, data)?,
            member: federation::member(file, data)?,
            ..Settings::new(file.site.clone())
        };
        let mut core = Core::new(settings, store, ca, Arc::new(SystemClock));
        if let Some(log) = log {
            core = core.with_log(log);
        }
        let (core, following) = follow(core, file, data, &provider)?;
        let core = Arc::new(core);
        let doors = Doors {
            tcp: config.listen,
            socket: Some(config.socket.clone()),
            // A folder of an embedded CA was made for one user.
            owner_only: file.authority.is_none(),
        };
        let serving = Serving::start(Arc::clone(&core), &doors, provider).await?;
        tracing::info!(
            site = %file.site,
            listen = config.listen.map(tracing::field::display),
            socket = %config.socket.display(),
            bundles = serving.bundles().map(tracing::field::display),
            authority = core.ca.x509().id(),
            "authority started"
        );
        Ok(Self {
            core,
            serving,
            following: following.map(|following| Task(tokio::spawn(following.run()))),
            _lock: lock,
        })
    }

    /// What it has.
    pub(crate) const fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Closes the doors, and waits for what runs.
    pub(crate) async fn stop(self) {
        drop(self.following);
        self.serving.stop().await;
    }
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
            announced: federation::announced(file, config.ca_ttl),
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        if file.authority.is_none() {
            embedded::take_up(&config.data, &settings, store, &keys, &clock).await?;
        }
        let store = Arc::clone(store);
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

pub(super) fn read_secret(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    use std::io::Read as _;
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
    fs::File::open(path)?.take(SECRET).read_to_end(&mut bytes)?;
    Ok(bytes)
}
