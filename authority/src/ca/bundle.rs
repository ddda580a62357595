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
) {
    let is = |own: &X509Authority| issue::authority_id(&own.der).as_deref() == Some(id);
    match (kind, step) {
        (_, Step::Activate(_)) => {}
        (Kind::X509, Step::Prepare) => {
            let der = record.and_then(|record| record.public.into_iter().next());
            bundle.x509.extend(der.map(|der| X509Authority {
                der,
                tainted: false,
            }));
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
