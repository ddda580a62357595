//! What our bundle takes over from that of the authority above.

use std::{collections::HashSet, time::SystemTime};

use super::super::{Above, root_id};
use crate::{
    ca::{issue, issue::authority_id},
    store::{Bundle, JwtAuthority, X509Authority},
};

/// What is not for the authority above to say.
pub(super) struct Own {
    pub(super) revoked: HashSet<String>,
    /// Names of JWT keys in our slots.
    pub(super) keys: HashSet<String>,
    /// Of the root above the CA that signs.
    pub(super) root: String,
    /// Of the root above the CA that will.
    pub(super) next_root: String,
    /// Roots that have been above and are no longer.
    pub(super) gone: HashSet<String>,
    pub(super) now: SystemTime,
}

pub(super) fn merge(bundle: &mut Bundle, above: &Above, own: &Own) {
    merge_x509(bundle, above, own);
    merge_jwt(bundle, above, own);
}

fn merge_x509(bundle: &mut Bundle, above: &Above, own: &Own) {
    let names: HashSet<String> = above
        .x509
        .iter()
        .filter_map(|root| root_id(&root.der))
        .collect();
    for root in &above.x509 {
        let Some(name) = root_id(&root.der) else {
            continue;
        };
        let ended = issue::not_after(&root.der).is_none_or(|end| end <= own.now);
        match bundle.x509.iter_mut().find(|known| known.der == root.der) {
            Some(known) => {
                known.above = true;
                // Agents are not told to leave what we have not left ourselves.
                known.tainted |= root.tainted && name != own.root;
            }
            None if ended || own.revoked.contains(&name) => {}
            None => bundle.x509.push(X509Authority {
                above: true,
                ..root.clone()
            }),
        }
    }
    let name = |known: &X509Authority| {
        let name = root_id(&known.der);
        name.or_else(|| authority_id(&known.der))
            .unwrap_or_default()
    };
    bundle.x509.retain(|known| {
        let name = name(known);
        let stands = name == own.root || name == own.next_root;
        !known.tainted || stands || names.contains(&name)
    });
    // Those that went without a taint that we could see: they go with the next look, after agents have
    // been told to replace what is below them.
    for known in &mut bundle.x509 {
        let name = name(known);
        known.tainted |= known.above && own.gone.contains(&name) && name != own.root;
    }
}

fn merge_jwt(bundle: &mut Bundle, above: &Above, own: &Own) {
    let same = |a: &JwtAuthority, b: &JwtAuthority| a.key_id == b.key_id;
    for key in &above.jwt {
        let ended = key.expires_at.is_some_and(|end| end <= own.now);
        match bundle.jwt.iter_mut().find(|known| same(known, key)) {
            // Who taints a key of ours is asked here, where the next one can be activated.
            Some(known) if own.keys.contains(&known.key_id) => {}
            Some(known) if known.public_key != key.public_key => {
                tracing::debug!(key = key.key_id, "another key has this name above");
            }
            Some(known) => known.tainted |= key.tainted,
            None if ended || own.revoked.contains(&key.key_id) => {}
            None => bundle.jwt.push(key.clone()),
        }
    }
    bundle.jwt.retain(|known| {
        let ours = own.keys.contains(&known.key_id);
        !known.tainted || ours || above.jwt.iter().any(|key| same(known, key))
    });
}
