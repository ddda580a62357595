//! Our own bundle, as it follows the authorities.

use rustls_pki_types::CertificateDer;

use super::{Step, issue};
use crate::store::{AuthorityRecord, Bundle, JwtAuthority, Kind, X509Authority};

/// What a step means for the bundle.
pub(super) fn edit_bundle(
    bundle: &mut Bundle,
    kind: Kind,
    step: &Step,
    id: &str,
    record: Option<AuthorityRecord>,
    roots: Vec<Vec<u8>>,
) {
    let is = |own: &X509Authority| issue::authority_id(&own.der).as_deref() == Some(id);
    match (kind, step) {
        (_, Step::Activate(_)) => {}
        (Kind::X509, Step::Prepare) => {
            let own = record.and_then(|record| record.public.into_iter().next());
            // Below others, it is they who are believed.
            let believed = if roots.is_empty() {
                own.into_iter().collect()
            } else {
                roots
            };
            for der in believed {
                if bundle.x509.iter().all(|known| known.der != der) {
                    bundle.x509.push(X509Authority {
                        der,
                        tainted: false,
                        // Where it can be missing later, following says so.
                        above: false,
                    });
                }
            }
        }
        (Kind::Jwt, Step::Prepare) => {
            bundle.jwt.extend(record.map(|record| JwtAuthority {
                key_id: record.id,
                public_key: record.public.concat(),
                expires_at: Some(record.not_after),
                tainted: false,
            }));
        }
        (Kind::X509, Step::Taint(_)) => {
            for own in bundle.x509.iter_mut().filter(|own| is(own)) {
                own.tainted = true;
            }
        }
        (Kind::Jwt, Step::Taint(_)) => {
            for own in bundle.jwt.iter_mut().filter(|own| own.key_id == id) {
                own.tainted = true;
            }
        }
        (Kind::X509, Step::Revoke(_)) => bundle.x509.retain(|own| !is(own)),
        (Kind::Jwt, Step::Revoke(_)) => bundle.jwt.retain(|own| own.key_id != id),
    }
}

/// The certificates of a bundle, for whoever verifies by it.
#[must_use]
pub fn certificates(bundle: &Bundle) -> Vec<CertificateDer<'static>> {
    let ders = bundle.x509.iter();
    ders.map(|own| CertificateDer::from(own.der.clone()))
        .collect()
}
