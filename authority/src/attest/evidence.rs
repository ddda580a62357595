//! Attestation by several pieces of evidence together, which a policy in Rego weighs
//! (docs/adr/0013-evidence.md). SPIRE takes exactly one.
//!
//! Every piece is bound to this conversation, to the agent's key and to the trust domain. One that does
//! not verify refuses them all; one that cannot be verified now puts the agent off, before anything is
//! used up, and so does a policy that fails. A policy that refuses uses join tokens up, as a wrong proof
//! does.

mod judge;

use std::{collections::BTreeSet, time::SystemTime};

use aws_lc_rs::rand;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::CertificateDer;
use sekisho_certs::{TrustDomain, hex, id};
use sekisho_spire_api::evidence::{
    Asked, Binding, Kind, LENGTH, MOST_BYTES, MOST_PIECES, Offer, Piece, Shown, VERSION,
};
pub use sekisho_spire_api::evidence::{TYPE, token_key, token_lookup};
use serde_json::json;

use super::{AttestError, Attested, Challenge, join_token, k8s_psat, place, x509pop};
use crate::{
    entry::Selector,
    store::{By, Spent, Store},
};
pub use judge::{DECISION, DEFAULT_POLICY, Judge, Source};

/// Which pieces count, and who weighs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Join tokens.
    pub join_token: bool,
    /// Certificates with their keys.
    pub x509pop: Option<x509pop::Mode>,
    /// Tokens of pods.
    pub k8s_psat: Option<k8s_psat::Setting>,
    /// The attestation policy.
    pub judge: Judge,
}

impl Setting {
    const fn takes(&self, kind: Kind) -> bool {
        match kind {
            Kind::JoinToken => self.join_token,
            Kind::X509Pop => self.x509pop.is_some(),
            Kind::K8sPsat => self.k8s_psat.is_some(),
        }
    }
}

/// What attestation needs of the authority.
#[derive(Debug)]
pub struct With<'a> {
    /// What counts.
    pub setting: &'a Setting,
    /// Our trust domain.
    pub domain: &'a TrustDomain,
    /// Our own CAs, for [`x509pop::Mode::Spiffe`].
    pub own: &'a [CertificateDer<'static>],
    /// Signatures that count.
    pub algorithms: WebPkiSupportedAlgorithms,
    /// Where join tokens are.
    pub store: &'a Store,
    /// Who asks, for the audit log; when.
    pub by: By,
    /// From where, for the policy.
    pub address: Option<std::net::IpAddr>,
}

impl With<'_> {
    fn now(&self) -> SystemTime {
        self.by.at
    }
}

fn invalid(text: impl std::fmt::Display) -> AttestError {
    AttestError::Invalid(format!("{TYPE}: {text}"))
}

fn denied(text: impl std::fmt::Display) -> AttestError {
    AttestError::Denied(format!("{TYPE}: {text}"))
}

/// A piece that has been verified.
struct Found {
    /// What attestation by it alone would find.
    attested: Attested,
    /// What the policy sees of it.
    claims: serde_json::Value,
}

/// Lets in whoever shows what the policy wants. `public_key` is that of the signing request, whose
/// signature has been verified (SubjectPublicKeyInfo, DER).
///
/// # Errors
/// When what is offered or shown cannot be read, is not taken here, does not verify, or the policy says
/// no.
pub async fn attest(
    payload: &[u8],
    public_key: &[u8],
    with: &With<'_>,
    talk: &mut dyn Challenge,
) -> Result<Attested, AttestError> {
    let kinds = offered(payload, with.setting)?;
    let mut nonce = [0; LENGTH];
    rand::fill(&mut nonce).map_err(|_| AttestError::Unavailable("no random numbers".into()))?;
    let asked = serde_json::to_vec(&Asked { nonce }).map_err(invalid)?;
    let binding = Binding::new(&nonce, public_key, with.domain.as_str());
    let shown = read(&talk.challenge(asked).await?, &kinds)?;
    let mut found = Vec::with_capacity(shown.len());
    // What is nonsense is to cost no question to an API server; tokens come last, since a wrong proof uses
    // them up.
    for kind in [Kind::X509Pop, Kind::K8sPsat, Kind::JoinToken] {
        for piece in shown.iter().filter(|piece| piece.kind() == kind) {
            found.push(verify(piece, &binding, with).await?);
        }
    }
    let input = input(&found, public_key, with);
    let pieces = found.into_iter().map(|piece| piece.attested).collect();
    let verdict = with.setting.judge.decide(input).await;
    let attested = verdict.and_then(|verdict| verdict.attested(pieces, with.domain));
    // Where the policy fails, it is as if nobody had asked.
    if matches!(attested, Ok(_) | Err(AttestError::Denied(_))) {
        for piece in &shown {
            if let Piece::JoinToken { lookup, .. } = piece {
                let (store, by) = (with.store, with.by.clone());
                // Who was quicker has it.
                join_token::take(*lookup, store, by, Spent::Proven).await?;
            }
        }
    }
    attested
}

fn offered(payload: &[u8], setting: &Setting) -> Result<Vec<Kind>, AttestError> {
    let offer: Offer = serde_json::from_slice(payload)
        .map_err(|error| invalid(format_args!("failed to unmarshal data: {}", place(&error))))?;
    if offer.version != VERSION {
        return Err(invalid(format_args!(
            "version {} of the messages is not known, {VERSION} is",
            offer.version
        )));
    }
    if !(1..=MOST_PIECES).contains(&offer.kinds.len()) {
        return Err(invalid(format_args!("1 to {MOST_PIECES} pieces are taken")));
    }
    for (at, kind) in offer.kinds.iter().enumerate() {
        if !setting.takes(*kind) {
            return Err(invalid(format_args!("{kind} is not taken here")));
        }
        // Of two certificates a node would have selectors that no certificate has together.
        let before = offer.kinds.iter().take(at);
        if *kind != Kind::JoinToken && before.into_iter().any(|known| known == kind) {
            return Err(invalid(format_args!("{kind} is taken once")));
        }
    }
    Ok(offer.kinds)
}

fn read(response: &[u8], kinds: &[Kind]) -> Result<Vec<Piece>, AttestError> {
    if response.len() > MOST_BYTES {
        return Err(invalid("the evidence is too large"));
    }
    // What serde_json would say of it could quote a token.
    let shown: Shown = serde_json::from_slice(response)
        .map_err(|_| invalid("unable to unmarshal challenge response"))?;
    let shown = shown.evidence;
    if shown.iter().map(Piece::kind).ne(kinds.iter().copied()) {
        return Err(invalid("what is shown is not what was offered"));
    }
    Ok(shown)
}

async fn verify(piece: &Piece, binding: &Binding, with: &With<'_>) -> Result<Found, AttestError> {
    match piece {
        Piece::JoinToken { lookup, proof } => token(*lookup, proof, binding, with).await,
        Piece::X509Pop {
            certificates,
            signature,
        } => certificate(certificates.clone(), signature, binding, with),
        Piece::K8sPsat { cluster, token } => pod(cluster, token, binding, with).await,
    }
}

async fn token(
    lookup: [u8; LENGTH],
    proof: &[u8; LENGTH],
    binding: &Binding,
    with: &With<'_>,
) -> Result<Found, AttestError> {
    let token = with.store.token(lookup).await;
    let token = token.map_err(|error| AttestError::Unavailable(error.to_string()))?;
    let token = token.ok_or_else(join_token::unknown)?;
    let proven = binding.proves_token(&token.evidence_key, proof);
    if !proven || token.expires_at < with.now() {
        // Every attempt uses a token up, as SPIRE has it.
        join_token::take(lookup, with.store, with.by.clone(), Spent::Proven).await?;
        return Err(denied("join_token: the proof is not for this conversation"));
    }
    // The token itself is nowhere: what it is found by names the node where nothing else does.
    let path = format!("/spire/agent/{TYPE}/join_token/{}", hex(&lookup));
    let own = id::id_below(with.domain, &path).map_err(invalid)?;
    let claims = json!({
        "type": Kind::JoinToken,
        "ok": true,
        "bound": true,
        "id": own.to_string(),
        "agent_id": token.agent_id.as_ref().map(ToString::to_string),
        "selectors": [],
    });
    let attested = Attested {
        aliases: token.agent_id.into_iter().collect(),
        ..Attested::once(own)
    };
    Ok(Found { attested, claims })
}

fn certificate(
    certificates: Vec<Vec<u8>>,
    signature: &[u8],
    binding: &Binding,
    with: &With<'_>,
) -> Result<Found, AttestError> {
    let mode = with.setting.x509pop.as_ref();
    let mode = mode.ok_or_else(|| invalid("x509pop is not taken here"))?;
    let setting = x509pop::Setting {
        mode,
        domain: with.domain,
        own: with.own,
        algorithms: with.algorithms,
        now: with.now(),
    };
    let shown = x509pop::show(certificates, signature, &binding.message(), &setting)?;
    let claims = json!({
        "type": Kind::X509Pop,
        "ok": true,
        "bound": true,
        "id": shown.attested.id.to_string(),
        "selectors": texts(&shown.attested.selectors),
        "common_name": shown.common_name,
        "serial": shown.serial,
        "sha256": shown.sha256,
        "issuers": shown.issuers,
        "uris": shown.uris,
        "dns_names": shown.dns_names,
        "not_after": shown.not_after,
    });
    Ok(Found {
        attested: shown.attested,
        claims,
    })
}

async fn pod(
    name: &str,
    token: &str,
    binding: &Binding,
    with: &With<'_>,
) -> Result<Found, AttestError> {
    let setting = with.setting.k8s_psat.as_ref();
    let setting = setting.ok_or_else(|| invalid("k8s_psat is not taken here"))?;
    let cluster = setting.clusters.get(name);
    let cluster = cluster.ok_or_else(|| invalid("k8s_psat: the cluster is not known"))?;
    // A token that was issued for this conversation, or one that lies on the node for every
    // authority: the policy is told which.
    let own = binding.audience();
    let audiences: Vec<_> = [own.clone()]
        .into_iter()
        .chain(cluster.audience.iter().cloned())
        .collect();
    let claims = k8s_psat::review(setting, name, token, &audiences).await?;
    let attested = claims.attested(cluster, with.domain)?;
    let told = json!({
        "type": Kind::K8sPsat,
        "ok": true,
        "bound": claims.audiences.contains(&own),
        "id": attested.id.to_string(),
        "selectors": texts(&attested.selectors),
        "cluster": claims.cluster,
        "namespace": claims.namespace,
        "service_account": claims.service_account,
        "pod": { "name": claims.pod_name, "uid": claims.pod_uid, "labels": claims.pod_labels },
        "node": claims.node_name,
        "node_uid": claims.node_uid,
        "node_ip": claims.node_ip,
        "node_labels": claims.node_labels,
    });
    Ok(Found {
        attested,
        claims: told,
    })
}

fn texts(selectors: &BTreeSet<Selector>) -> Vec<String> {
    selectors.iter().map(ToString::to_string).collect()
}

/// What the policy sees (docs/configuration.md, "Several pieces of evidence").
fn input(found: &[Found], public_key: &[u8], with: &With<'_>) -> serde_json::Value {
    let key = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, public_key);
    let evidence: Vec<_> = found.iter().map(|piece| piece.claims.clone()).collect();
    json!({
        "site": with.domain.as_str(),
        "address": with.address.map(|address| address.to_string()),
        "key": { "sha256": hex(key.as_ref()) },
        "evidence": evidence,
    })
}
