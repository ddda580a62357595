//! A small CA inside the process, for the demo, tests and single nodes.
//!
//! Its identities carry no attestation: whoever can start the process has them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::crypto::CryptoProvider;
use tokio::sync::watch;

use super::Supply;
use crate::{
    bundle::{BundleError, BundleSet, TrustBundle},
    clock::Clock,
    id::{SpiffeId, TrustDomain},
    issue::{Ca, IssueError},
    persist,
    svid::{Svid, SvidError},
};

/// How long an SVID is valid.
pub const SVID_LIFETIME: Duration = Duration::from_secs(3600);
/// How long the CA is valid. It is not rotated: peers hold copies of its bundle.
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Longest sleep between two looks at the clock: it may jump, or the host may sleep.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Wait after a failure to issue, which only a broken random source explains.
const RETRY: Duration = Duration::from_secs(5);

/// Why an embedded CA cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Its certificate cannot be used for this trust domain.
    #[error("{}: {error}", path.display())]
    Bundle {
        /// The certificate file.
        path: PathBuf,
        /// What is wrong.
        error: BundleError,
    },
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Certificates cannot be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// Another process uses it.
    #[error("{} is in use by another process: one at a time", .0.display())]
    Locked(PathBuf),
    /// It issues for its own trust domain only.
    #[error("{id} is not of the trust domain {domain} of this CA")]
    ForeignDomain {
        /// What was asked for.
        id: SpiffeId,
        /// Whose CA it is.
        domain: TrustDomain,
    },
    /// What was issued is not an SVID.
    #[error(transparent)]
    Svid(#[from] SvidError),
}

/// A CA with its state in a folder: `ca.key` (0600), `ca.pem`, `bundle.json` for others to fetch,
/// and a lock.
#[derive(Debug)]
pub struct EmbeddedCa {
    domain: TrustDomain,
    ca: Ca,
    bundles: BundleSet,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
    rotate: watch::Sender<u64>,
    supplies: Mutex<Vec<(SpiffeId, watch::Receiver<Arc<Supply>>)>>,
    // Held for its lock.
    _lock: fs::File,
}

impl EmbeddedCa {
    /// Opens the CA in `folder`, or makes one there.
    ///
    /// # Errors
    /// When another process has it, a file cannot be read or written, or its state is damaged.
    pub fn open(
        folder: &Path,
        domain: &TrustDomain,
        provider: Arc<CryptoProvider>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, EmbeddedError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| EmbeddedError::Io { path, error }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .map_err(failed(folder))?;
        let lock_path = folder.join("lock");
        let lock = fs::File::create(&lock_path).map_err(failed(&lock_path))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => EmbeddedError::Locked(folder.into()),
            fs::TryLockError::Error(error) => failed(&lock_path)(error),
        })?;
        let (cert_path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
        // The key is written last: with it the CA exists, without it a new one is made.
        let ca = if key_path.exists() {
            let key = super::files::read_bounded(&key_path).map_err(|_| EmbeddedError::Io {
                path: key_path.clone(),
                error: io::Error::other("cannot be read as a key"),
            })?;
            let key = std::str::from_utf8(&key).unwrap_or_default();
            let cert = fs::read_to_string(&cert_path).map_err(failed(&cert_path))?;
            Ca::from_pem(&cert, key)?
        } else {
            let ca = Ca::generate(domain, clock.now(), CA_LIFETIME)?;
            persist::replace(&cert_path, crate::x509::pem(ca.der()).as_bytes(), true)
                .map_err(failed(&cert_path))?;
            persist::replace(&key_path, ca.key_pem().as_bytes(), false)
                .map_err(failed(&key_path))?;
            ca
        };
        let bundle = TrustBundle::new(domain.clone(), [ca.der().clone()])
            .map_err(|error| EmbeddedError::Bundle {
                path: cert_path,
                error,
            })?
            .with_hints(Some(1), Some(Duration::from_secs(300)));
        let path = folder.join("bundle.json");
        let text = format!("{:#}\n", bundle.to_json());
        persist::replace(&path, text.as_bytes(), true).map_err(failed(&path))?;
        let mut bundles = BundleSet::default();
        bundles
            .insert(Arc::new(bundle))
            .map_err(|error| EmbeddedError::Bundle { path, error })?;
        Ok(Arc::new(Self {
            domain: domain.clone(),
            ca,
            bundles,
            provider,
            clock,
            rotate: watch::Sender::new(0),
            supplies: Mutex::default(),
            _lock: lock,
        }))
    }

    /// Issues every SVID anew, now. What SIGUSR1 asks for.
    pub fn rotate(&self) {
        self.rotate.send_modify(|count| *count += 1);
    }

    /// The CA's own bundle.
    #[must_use]
    pub const fn bundles(&self) -> &BundleSet {
        &self.bundles
    }

    /// Mints an SVID for `id` and keeps it fresh: a new one at half of its life, give or take a
    /// tenth, or at [`EmbeddedCa::rotate`]. Asked twice for an ID, it gives the same supply.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When `id` is of another trust domain, or the first SVID cannot be issued.
    pub fn supply(
        self: &Arc<Self>,
        id: &SpiffeId,
    ) -> Result<watch::Receiver<Arc<Supply>>, EmbeddedError> {
        if id.trust_domain() != &self.domain {
            return Err(EmbeddedError::ForeignDomain {
                id: id.clone(),
                domain: self.domain.clone(),
            });
        }
        let mut supplies = self.supplies.lock().unwrap_or_else(PoisonError::into_inner);
        supplies.retain(|(_, supply)| supply.has_changed().is_ok());
        if let Some((_, supply)) = supplies.iter().find(|(known, _)| known == id) {
            return Ok(supply.clone());
        }
        let (sender, receiver) = watch::channel(Arc::new(self.issue(id)?));
        supplies.push((id.clone(), receiver.clone()));
        drop(supplies);
        let (this, id) = (Arc::downgrade(self), id.clone());
        let mut forced = self.rotate.subscribe();
        tokio::spawn(async move {
            loop {
                let Some(ca) = this.upgrade() else { return };
                let svid = sender.borrow().svids.first().cloned();
                let wait = svid.map_or(RETRY, |svid| rotation_wait(&svid, ca.clock.now()));
                drop(ca);
                tokio::select! {
                    () = tokio::time::sleep(wait.min(LOOK_AGAIN)) => {
                        if wait > LOOK_AGAIN {
                            continue;
                        }
                    }
                    changed = forced.changed() => if changed.is_err() { return },
                }
                let Some(ca) = this.upgrade() else { return };
                match ca.issue(&id) {
                    Ok(supply) => {
                        sender.send_replace(Arc::new(supply));
                    }
                    Err(error) => {
                        tracing::error!(%id, %error, "SVID not rotated");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        });
        Ok(receiver)
    }

    fn issue(&self, id: &SpiffeId) -> Result<Supply, EmbeddedError> {
        let (leaf, key) = self.ca.issue(id, self.clock.now(), SVID_LIFETIME)?;
        Ok(Supply {
            svids: vec![Arc::new(Svid::new(vec![leaf], key, &self.provider)?)],
            bundles: self.bundles.clone(),
            ..Supply::default()
        })
    }
}

/// Time until an SVID should be replaced: at half of its life, give or take a tenth of it, so that
/// the SVIDs of a site do not all rotate in one moment. A pure function but for the jitter, which
/// comes from the serial number: random, and the same at every look.
#[must_use]
pub fn rotation_wait(svid: &Svid, now: SystemTime) -> Duration {
    let life = svid
        .not_after()
        .duration_since(svid.not_before())
        .unwrap_or_default();
    let seed = svid.serial().bytes().fold(0_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    let jitter = life / 10 * (seed % 1000) / 1000;
    let at = svid.not_before() + life / 2 - life / 20 + jitter;
    // A clock that jumped must not make a loop without pause.
    at.duration_since(now)
        .unwrap_or_default()
        .max(Duration::from_secs(1))
}
