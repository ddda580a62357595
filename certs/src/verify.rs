//! Whether a chain is a peer's X.509-SVID, by the bundle of its own trust domain only.
//!
//! X509-SVID §5; path building and signatures are rustls-webpki's, everything SPIFFE asks beyond
//! them is here.

use std::{
    cell::Cell,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::{EndEntityCert, KeyUsage as PathUsage, VerifiedPath};

use crate::{
    bundle::{BundleSet, TrustBundle},
    clock::unix_time,
    id::{IdError, SpiffeId, TrustDomain, parse_any_id, parse_workload_id},
    reason::Reason,
    x509::CertificateInfo,
};

/// Most certificates a peer may send: a leaf, and the intermediates of nested authorities.
const MAX_CHAIN: usize = 10;

/// Why a chain is not an acceptable X.509-SVID.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum VerifyError {
    /// No path to a CA of the trust domain's bundle.
    #[error("{id}: no valid path to a CA in the bundle of {} ({detail})", id.trust_domain())]
    BadChain {
        /// What the leaf claims.
        id: SpiffeId,
        /// What path building found.
        detail: String,
    },
    /// The URI name is not a workload's SPIFFE ID.
    #[error("the certificate's URI name is no workload's SPIFFE ID: {0}")]
    BadSpiffeId(#[source] IdError),
    /// A certificate of the chain has expired.
    #[error("{id}: the certificate expired")]
    Expired {
        /// What the leaf claims.
        id: SpiffeId,
    },
    /// Key usages or basic constraints forbid its use.
    #[error("the certificate must not be used as an SVID: {0}")]
    KeyUsage(&'static str),
    /// A certificate cannot be read.
    #[error("certificate {0} of the chain is not a readable X.509 certificate")]
    Malformed(usize),
    /// No URI name at all.
    #[error("the certificate carries no SPIFFE ID (no URI name)")]
    NoSpiffeId,
    /// The ID that answered is not on the `expect` list.
    #[error("{id} answered, which is not on the `expect` list")]
    NotExpected {
        /// Who answered, proven by its key.
        id: SpiffeId,
    },
    /// A certificate of the chain is not valid yet.
    #[error("{id}: the certificate is not valid yet")]
    NotYetValid {
        /// What the leaf claims.
        id: SpiffeId,
    },
    /// X509-SVID §2: exactly one URI name.
    #[error("the certificate carries {0} URI names, exactly one is allowed")]
    SeveralUris(usize),
    /// No bundle for the trust domain.
    #[error("{id}: no bundle is trusted here for {}", id.trust_domain())]
    UnknownTrustDomain {
        /// What the leaf claims.
        id: SpiffeId,
    },
}

impl VerifyError {
    /// The stable word for it.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::BadChain { .. } | Self::Malformed(_) => Reason::BadChain,
            Self::BadSpiffeId(_) => Reason::BadSpiffeId,
            Self::Expired { .. } => Reason::Expired,
            Self::KeyUsage(_) => Reason::KeyUsage,
            Self::NoSpiffeId => Reason::NoSpiffeId,
            Self::NotExpected { .. } => Reason::NotExpected,
            Self::NotYetValid { .. } => Reason::NotYetValid,
            Self::SeveralUris(_) => Reason::SeveralUris,
            Self::UnknownTrustDomain { .. } => Reason::UnknownTrustDomain,
        }
    }

    /// The ID that the refused certificate carries. Claimed, not verified, except for
    /// [`VerifyError::NotExpected`].
    #[must_use]
    pub const fn claimed_id(&self) -> Option<&SpiffeId> {
        match self {
            Self::BadChain { id, .. }
            | Self::Expired { id }
            | Self::NotExpected { id }
            | Self::NotYetValid { id }
            | Self::UnknownTrustDomain { id } => Some(id),
            _ => None,
        }
    }
}

/// A leaf that has the form of an X.509-SVID; nothing is proven yet.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) id: SpiffeId,
    pub(crate) info: CertificateInfo,
}

impl Leaf {
    /// Checks form only: one URI name that is a workload's ID (X509-SVID §2, §3.1), no CA, and
    /// usages as §4.1, §4.3 and §4.4 ask.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, VerifyError> {
        let info = CertificateInfo::parse(der).map_err(|_| VerifyError::Malformed(1))?;
        let id = match info.uris.as_slice() {
            [] => return Err(VerifyError::NoSpiffeId),
            [uri] => parse_workload_id(uri).map_err(VerifyError::BadSpiffeId)?,
            several => return Err(VerifyError::SeveralUris(several.len())),
        };
        let refuse = |what| Err(VerifyError::KeyUsage(what));
        if info.is_ca {
            return refuse("it is a CA (basic constraints)");
        }
        match info.key_usage {
            None => return refuse("it has no key usage extension"),
            Some(usage) if !usage.critical => return refuse("its key usage is not critical"),
            Some(usage) if usage.cert_sign || usage.crl_sign => {
                return refuse("its key usage has keyCertSign or cRLSign");
            }
            Some(usage) if !usage.digital_signature => {
                return refuse("its key usage lacks digitalSignature");
            }
            Some(_) => {}
        }
        match info.extended_key_usage {
            Some(usage) if !usage.server_auth || !usage.client_auth => {
                return refuse("its extended key usage lacks serverAuth or clientAuth");
            }
            _ => {}
        }
        Ok(Self { id, info })
    }
}

/// A peer whose chain was verified.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedPeer {
    id: SpiffeId,
    serial: String,
    not_after: SystemTime,
    verified_at: SystemTime,
    chain: Arc<[CertificateDer<'static>]>,
}

impl VerifiedPeer {
    /// Who it is.
    #[must_use]
    pub const fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Its leaf's serial number, in hexadecimal.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// When the first certificate of its path expires.
    #[must_use]
    pub const fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

/// The bundles that one endpoint trusts, ready for path building.
#[derive(Debug)]
pub struct Trust {
    bundles: BundleSet,
    algorithms: WebPkiSupportedAlgorithms,
    /// Chains that verified, by the digest of the whole chain. An entry never outlives a change of
    /// the bundle it was verified by; time is checked on every use.
    known: Mutex<HashMap<[u8; 32], Known>>,
}

/// A chain that verified, and the time in which it does.
#[derive(Clone, Debug)]
struct Known {
    peer: VerifiedPeer,
    not_before: SystemTime,
}

/// Which CAs of a bundle count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Roots {
    /// All of them: the bundle alone decides.
    AnyTime,
    /// Those whose time has come and is not over.
    ValidNow,
}

/// Chains remembered by one trust: about 2 KiB each.
const MAX_KNOWN: usize = 1024;
/// Most bytes of a chain that is remembered. A peer may add certificates that its path does not
/// need, and nothing is proven yet when a chain is remembered.
const MAX_KNOWN_BYTES: usize = 8 * 1024;

impl Trust {
    /// Trust in these bundles, for every handshake until they change.
    #[must_use]
    pub fn new(bundles: BundleSet, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self {
            bundles,
            algorithms,
            known: Mutex::default(),
        }
    }

    /// Trust in what became of these bundles. Chains that verified before are remembered on where
    /// the bundle of their trust domain is the same: where there are many sites, one changes every
    /// few seconds, and the peers of all others need no new look.
    pub(crate) fn changed_to(&self, bundles: BundleSet) -> Self {
        let same = |domain| match (self.bundles.get(domain), bundles.get(domain)) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new) || old == new,
            _ => false,
        };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = known
            .iter()
            .filter(|(_, known)| same(known.peer.id.trust_domain()))
            .map(|(digest, known)| (*digest, known.clone()))
            .collect();
        drop(known);
        Self {
            bundles,
            algorithms: self.algorithms,
            known: Mutex::new(kept),
        }
    }

    /// What is trusted.
    #[must_use]
    pub const fn bundles(&self) -> &BundleSet {
        &self.bundles
    }

    pub(crate) const fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }

    /// Verifies a chain, leaf first, at `now`. A chain that verified before is only asked whether
    /// its time is over.
    ///
    /// # Errors
    /// Each of [`VerifyError`]'s variants but `NotExpected`: lists are not looked at here.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<VerifiedPeer, VerifyError> {
        let digest = digest(chain);
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&digest).cloned()
        };
        if let Some(Known { peer, not_before }) = known
            && not_before <= now
            && now <= peer.not_after
        {
            return Ok(VerifiedPeer {
                verified_at: now,
                ..peer
            });
        }
        let (peer, not_before) = self.verify_path(chain, now, Roots::ValidNow)?;
        if chain.iter().map(|der| der.len()).sum::<usize>() > MAX_KNOWN_BYTES {
            return Ok(peer);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let peer_known = peer.clone();
        known.insert(
            digest,
            Known {
                peer: peer_known,
                not_before,
            },
        );
        Ok(peer)
    }

    fn verify_path(
        &self,
        chain: &[CertificateDer<'_>],
        now: SystemTime,
        roots: Roots,
    ) -> Result<(VerifiedPeer, SystemTime), VerifyError> {
        let Some((leaf_der, intermediates)) = chain.split_first() else {
            return Err(VerifyError::Malformed(1));
        };
        let Leaf { id, info } = Leaf::parse(leaf_der)?;
        let domain = id.trust_domain();
        let Some(bundle) = self.bundles.get(domain) else {
            return Err(VerifyError::UnknownTrustDomain { id });
        };
        if intermediates.len() >= MAX_CHAIN {
            return Err(VerifyError::BadChain {
                id,
                detail: format!("more than {MAX_CHAIN} certificates"),
            });
        }
        let leaf = EndEntityCert::try_from(leaf_der).map_err(|_| VerifyError::Malformed(1))?;
        // Kept from the last path that was tried, for a better word than "unknown issuer".
        let refused = Cell::new(None);
        let validity = Cell::new((info.not_before, info.not_after));
        let check = |path: &VerifiedPath<'_>| {
            check_authorities(path, bundle, domain, now, roots).map_or_else(
                |detail| {
                    refused.set(Some(detail));
                    Err(webpki::Error::UnknownIssuer)
                },
                |(begins, ends)| {
                    validity.set((info.not_before.max(begins), info.not_after.min(ends)));
                    Ok(())
                },
            )
        };
        leaf.verify_for_usage(
            self.algorithms.all,
            bundle.anchors(),
            intermediates,
            unix_time(now),
            // Leaf::parse has asked for both usages already; this one asks the intermediates.
            PathUsage::client_auth(),
            None,
            Some(&check),
        )
        .map_err(|error| path_error(&id, &error, refused.get()))?;
        let (not_before, not_after) = validity.get();
        let peer = VerifiedPeer {
            serial: info.serial,
            not_after,
            verified_at: now,
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
            id,
        };
        Ok((peer, not_before))
    }

    /// Whether a peer that was verified before still has a path by today's bundles. Validity in
    /// time is that of its handshake: running connections outlive SVIDs (design.md §4, 4). A CA
    /// that was renewed since then with the same key, and so begins later, is still the same CA.
    #[must_use]
    pub fn still_trusts(&self, peer: &VerifiedPeer) -> bool {
        let (chain, then) = (&peer.chain, peer.verified_at);
        self.verify(chain, then).is_ok() || self.verify_path(chain, then, Roots::AnyTime).is_ok()
    }
}

/// What webpki does not look at: usages and names of the CAs on the path, validity of the root.
/// Returns the time in which all of them are valid.
fn check_authorities(
    path: &VerifiedPath<'_>,
    bundle: &TrustBundle,
    domain: &TrustDomain,
    now: SystemTime,
    roots: Roots,
) -> Result<(SystemTime, SystemTime), &'static str> {
    let anchor = path.anchor();
    let same = |own: &TrustAnchor<'_>| {
        own.subject == anchor.subject
            && own.subject_public_key_info == anchor.subject_public_key_info
    };
    let root = bundle
        .authorities()
        .iter()
        .zip(bundle.anchors())
        .filter_map(|(ca, own)| same(own).then_some(ca))
        .filter(|ca| {
            roots == Roots::AnyTime || (ca.info.not_before <= now && now <= ca.info.not_after)
        })
        .max_by_key(|ca| ca.info.not_after)
        .ok_or("the CA in the bundle is not valid at this time")?;
    // webpki takes of an anchor only its name, key and name constraints (RFC 5280 §6.1.1).
    let below = path.intermediate_certificates().count();
    let allowed = root.info.path_length.map(usize::try_from);
    if allowed.is_some_and(|allowed| allowed.is_ok_and(|allowed| below > allowed)) {
        return Err("the path is longer than the CA in the bundle allows");
    }
    let (mut begins, mut ends) = (root.info.not_before, root.info.not_after);
    for certificate in path.intermediate_certificates() {
        let info = CertificateInfo::parse(&certificate.der())
            .map_err(|_| "an intermediate certificate cannot be read")?;
        if !info.key_usage.is_some_and(|usage| usage.cert_sign) {
            return Err("an intermediate certificate lacks keyCertSign");
        }
        match info.uris.as_slice() {
            [] => {}
            [uri] => {
                let same = parse_any_id(uri).is_ok_and(|id| id.trust_domain() == domain);
                if !same {
                    return Err("an intermediate CA carries a name of another trust domain");
                }
            }
            _ => return Err("an intermediate CA carries more than one URI name"),
        }
        begins = begins.max(info.not_before);
        ends = ends.min(info.not_after);
    }
    Ok((begins, ends))
}

/// One number for a whole chain; lengths keep two chains of the same bytes apart.
fn digest(chain: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for der in chain {
        context.update(&(der.len() as u64).to_be_bytes());
        context.update(der);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

fn path_error(id: &SpiffeId, error: &webpki::Error, refused: Option<&'static str>) -> VerifyError {
    let id = id.clone();
    match error {
        webpki::Error::CertExpired { .. } => VerifyError::Expired { id },
        webpki::Error::CertNotValidYet { .. } => VerifyError::NotYetValid { id },
        webpki::Error::CaUsedAsEndEntity => VerifyError::KeyUsage("it is a CA"),
        webpki::Error::RequiredEkuNotFoundContext(_) => {
            VerifyError::KeyUsage("an extended key usage on the path forbids clientAuth")
        }
        other => VerifyError::BadChain {
            id,
            detail: refused.map_or_else(|| other.to_string(), Into::into),
        },
    }
}
