//! `authority.attest`: how nodes come in.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    super::{
        error::Report,
        field::{Field, Map},
        keys,
    },
    k8s_psat,
};

/// A kind of node attestation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attest {
    /// By join token.
    JoinToken,
    /// By certificate of one of these CAs (a PEM file), and its key.
    X509Pop {
        /// The file.
        ca: PathBuf,
    },
    /// By SVID of our own below `/spire-exchange/`, and its key.
    X509PopSpiffe,
    /// By token of a pod of one of these clusters.
    K8sPsat(BTreeMap<String, k8s_psat::ClusterConfig>),
    /// By several pieces of evidence together.
    Evidence(EvidenceConfig),
}

/// `sekisho_evidence`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EvidenceConfig {
    /// What counts: none of them is evidence itself.
    pub(crate) evidence: Vec<Attest>,
    /// The folder of the attestation policy. Default: one piece makes the node that SPIRE makes of it.
    pub(crate) policy: Option<PathBuf>,
}

impl Attest {
    /// Its name, SPIRE's where that has it.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::JoinToken => "join_token",
            Self::X509Pop { .. } | Self::X509PopSpiffe => "x509pop",
            Self::K8sPsat(_) => "k8s_psat",
            Self::Evidence(_) => "sekisho_evidence",
        }
    }
}

const PIECES: &str = "a list of join_token, {x509pop: {ca: FILE}}, {x509pop: spiffe} or \
                      {k8s_psat: {clusters: {NAME: {…}}}}";
const FORM: &str = "a list of join_token, {x509pop: {ca: FILE}}, {x509pop: spiffe}, \
                    {k8s_psat: {clusters: {NAME: {…}}}} or {sekisho_evidence: {evidence: […]}}";

/// Reads `authority.attest`.
pub(super) fn list(field: &Field<'_>, report: &mut Report) -> Option<Vec<Attest>> {
    items(field, FORM, report)
}

fn items(field: &Field<'_>, form: &str, report: &mut Report) -> Option<Vec<Attest>> {
    let mut all: Vec<Attest> = Vec::new();
    for item in field.list(form, report)? {
        let one = one(&item, form, report)?;
        if all.iter().any(|known| known.kind() == one.kind()) {
            item.rule("this kind of attestation is there already", report);
            return None;
        }
        all.push(one);
    }
    Some(all)
}

fn one(item: &Field<'_>, form: &str, report: &mut Report) -> Option<Attest> {
    if item.as_text() == Some("join_token") {
        return Some(Attest::JoinToken);
    }
    if item.as_text().is_some() {
        item.wrong(form, report);
        return None;
    }
    let known = if form == FORM {
        &keys::ATTEST
    } else {
        &keys::EVIDENCE_PIECE
    };
    let before = report.count();
    let map = item.map(known, report)?;
    let mut given = known.known.iter().filter_map(|kind| map.get(kind));
    match (given.next(), given.next()) {
        (Some(field), None) => named(&map, &field, report),
        _ => {
            if report.count() == before {
                item.rule(format!("expected {form}, each an item of its own"), report);
            }
            None
        }
    }
}

fn named(map: &Map<'_>, field: &Field<'_>, report: &mut Report) -> Option<Attest> {
    if map.get("x509pop").is_some() {
        x509pop(field, report)
    } else if map.get("k8s_psat").is_some() {
        k8s_psat::clusters(field, report).map(Attest::K8sPsat)
    } else {
        evidence(field, report).map(Attest::Evidence)
    }
}

fn x509pop(field: &Field<'_>, report: &mut Report) -> Option<Attest> {
    if field.as_text() == Some("spiffe") {
        return Some(Attest::X509PopSpiffe);
    }
    let map = field.map(&keys::X509POP, report)?;
    let ca = map.required("ca", "a PEM file of CA certificates", report)?;
    Some(Attest::X509Pop {
        ca: ca.path("a PEM file of CA certificates", report)?,
    })
}

fn evidence(field: &Field<'_>, report: &mut Report) -> Option<EvidenceConfig> {
    let map = field.map(&keys::EVIDENCE, report)?;
    let evidence = map.required("evidence", PIECES, report);
    let evidence = evidence.and_then(|field| items(&field, PIECES, report));
    let policy = map.get_or("policy", None, report, |field, report| {
        field.path("a folder of Rego files", report).map(Some)
    });
    Some(EvidenceConfig {
        evidence: evidence?,
        policy: policy?,
    })
}
