//! How a node proves which one it is: `agent.join_token`, `x509pop`, `k8s_psat` or `evidence`.

use std::path::PathBuf;

use sekisho_agent::attest::k8s_psat::TOKEN;

use super::super::{
    authority::{self, Secret},
    error::Report,
    field::{Field, Map},
    keys,
};

/// How a node proves which one it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodeProof {
    /// By a token.
    JoinToken(Secret),
    /// By a certificate and its key.
    X509Pop(CertificateFiles),
    /// By a token of its own pod.
    K8sPsat {
        /// The name of the cluster.
        cluster: String,
        /// The file.
        token: PathBuf,
    },
    /// By several pieces together.
    Evidence(Vec<Piece>),
}

/// A certificate and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    /// The certificate with its intermediates.
    pub(crate) cert: PathBuf,
    /// The key.
    pub(crate) key: PathBuf,
}

/// An item of `agent.evidence`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The token that the supervisor hands over.
    HandedOver,
    /// A token.
    JoinToken(Secret),
    /// A certificate and its key.
    X509Pop(CertificateFiles),
    /// A token of its own pod.
    K8sPsat {
        /// The name of the cluster.
        cluster: String,
        /// The file. `None`: one is asked for, for each conversation.
        token: Option<PathBuf>,
    },
}

const KINDS: [&str; 4] = ["join_token", "x509pop", "k8s_psat", "evidence"];

/// Reads it; `Some(None)` where the supervisor hands over a token.
pub(super) fn read(
    map: &Map<'_>,
    supervised: bool,
    report: &mut Report,
) -> Option<Option<NodeProof>> {
    const FORM: &str = "{file: FILE} or {env: NAME}";
    let given: Vec<_> = KINDS
        .into_iter()
        .filter(|key| map.get(key).is_some())
        .collect();
    let [kind] = given.as_slice() else {
        if given.is_empty() {
            if supervised {
                return Some(None);
            }
            map.required("join_token", FORM, report);
        } else {
            let rule = "one kind of attestation; several together are items of `evidence`";
            let more: Vec<_> = given.into_iter().skip(1).collect();
            map.refuse(&more, rule, report);
        }
        return None;
    };
    let field = map.get(kind)?;
    let proof = match *kind {
        "join_token" => NodeProof::JoinToken(authority::secret(&field, report)?),
        "x509pop" => NodeProof::X509Pop(files(&field, report)?),
        "k8s_psat" => {
            let (cluster, token) = pod(&field, report)?;
            let token = token.unwrap_or_else(|| TOKEN.into());
            NodeProof::K8sPsat { cluster, token }
        }
        _ => NodeProof::Evidence(pieces(&field, supervised, report)?),
    };
    Some(Some(proof))
}

fn files(field: &Field<'_>, report: &mut Report) -> Option<CertificateFiles> {
    let map = field.map(&keys::NODE_X509POP, report)?;
    let cert = map.required("cert", "a PEM file", report);
    let key = map.required("key", "a PEM file", report);
    Some(CertificateFiles {
        cert: cert?.path("a PEM file", report)?,
        key: key?.path("a PEM file", report)?,
    })
}

fn pod(field: &Field<'_>, report: &mut Report) -> Option<(String, Option<PathBuf>)> {
    let form = "the name of this node's cluster, as the authority calls it";
    let map = field.map(&keys::NODE_K8S_PSAT, report)?;
    let cluster = map.required("cluster", form, report).and_then(|field| {
        field.parse(form, report, |text| {
            authority::k8s_psat::is_name(text).then(|| text.to_owned())
        })
    });
    let token = map.get_or("token", None, report, |field, report| {
        field.path("a file with a token", report).map(Some)
    });
    Some((cluster?, token?))
}

fn pieces(field: &Field<'_>, supervised: bool, report: &mut Report) -> Option<Vec<Piece>> {
    const FORM: &str = "a list of {join_token: {file: FILE}}, {x509pop: {cert: FILE, key: FILE}} or \
                        {k8s_psat: {cluster: NAME}}";
    /// As many as an authority takes.
    const MOST: usize = 8;
    let items = field.list(FORM, report)?;
    let mut all = Vec::new();
    for (place, item) in items.into_iter().enumerate() {
        if place == MOST {
            item.rule("at most eight pieces are shown together", report);
            return None;
        }
        let piece = piece(&item, supervised, FORM, report)?;
        let once = |known: &Piece| {
            let token = matches!(piece, Piece::HandedOver | Piece::JoinToken(_));
            *known == piece
                || !token && std::mem::discriminant(known) == std::mem::discriminant(&piece)
        };
        if all.iter().any(once) {
            item.rule(
                "this piece is there already; of each kind there is one, of tokens several",
                report,
            );
            return None;
        }
        all.push(piece);
    }
    Some(all)
}

fn piece(item: &Field<'_>, supervised: bool, form: &str, report: &mut Report) -> Option<Piece> {
    match item.as_text() {
        Some("join_token") if supervised => return Some(Piece::HandedOver),
        Some("join_token") => {
            let rule = "{join_token: {file: FILE}} or {join_token: {env: NAME}}: a token is handed \
                        over only where `authority` is in the same file";
            item.rule(rule, report);
            return None;
        }
        Some(_) => {
            item.wrong(form, report);
            return None;
        }
        None => {}
    }
    let before = report.count();
    let map = item.map(&keys::NODE_EVIDENCE, report)?;
    let mut given = KINDS
        .into_iter()
        .filter_map(|kind| Some((kind, map.get(kind)?)));
    match (given.next(), given.next()) {
        (Some(("join_token", field)), None) => {
            authority::secret(&field, report).map(Piece::JoinToken)
        }
        (Some(("x509pop", field)), None) => files(&field, report).map(Piece::X509Pop),
        (Some((_, field)), None) => {
            let (cluster, token) = pod(&field, report)?;
            Some(Piece::K8sPsat { cluster, token })
        }
        _ => {
            if report.count() == before {
                item.rule(format!("expected {form}, each an item of its own"), report);
            }
            None
        }
    }
}
