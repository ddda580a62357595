//! A kubeconfig file: of its current context, where the API server is and who we are to it.
//!
//! What would make it believe anybody, start a program or be somebody else is refused; what else we do
//! not know is not ours to complain of.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hyper::Uri;
use sekisho_kube::{KubeLogin, KubeServer, Material};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    ConfigErrors,
    error::{Problem, Report},
    field::Field,
    files,
    tree::{self, Kind, Node},
};

/// Reads the file at `path`. Files that it names are read by whoever uses what is returned.
///
/// # Errors
/// All that is wrong, without lines of the file: they may hold secrets.
pub(crate) fn load(path: &Path) -> Result<KubeServer, ConfigErrors> {
    let mut report = Report::default();
    let mut sources = files::read(path, &mut report);
    let mut server = None;
    if let [source] = sources.as_mut_slice() {
        if let Some(mut root) = tree::parse(&source.file, &source.text, &mut report) {
            let field = Field {
                path: String::new(),
                key: &root.at,
                node: &root,
            };
            server = read(&field, &mut report);
            wipe(&mut root);
        }
        source.text.zeroize();
    } else if report.count() == 0 {
        let problem = Problem::Expected {
            expected: "a kubeconfig file".into(),
            found: "a folder".into(),
        };
        report.push(&super::Location::whole(path), "", problem);
    }
    match server {
        Some(server) if report.count() == 0 => Ok(server),
        _ => Err(report.finish(path, &[])),
    }
}

/// Overwrites what may be a secret.
fn wipe(node: &mut Node) {
    match &mut node.kind {
        Kind::Failed | Kind::Null => {}
        Kind::List(items) => items.iter_mut().for_each(wipe),
        Kind::Map(entries) => entries.iter_mut().for_each(|entry| wipe(&mut entry.value)),
        Kind::Scalar(text) => text.zeroize(),
    }
}

/// The value of `key`, where there is one.
fn get<'a>(field: &Field<'a>, key: &str) -> Option<Field<'a>> {
    let Kind::Map(entries) = &field.node.kind else {
        return None;
    };
    let entry = entries.iter().find(|entry| entry.key == key)?;
    let found = Field::new(&field.path, entry);
    let nothing = matches!(&found.node.kind, Kind::Null) || found.as_text() == Some("");
    (!nothing).then_some(found)
}

fn missing(field: &Field<'_>, key: &str, expected: &str, report: &mut Report) {
    let path = if field.path.is_empty() {
        key.into()
    } else {
        format!("{}.{key}", field.path)
    };
    report.push(field.key, &path, Problem::Missing(expected.into()));
}

/// What is called `name` in a list of `{name: …, KIND: {…}}`.
fn named<'a>(
    root: &Field<'a>,
    list: &str,
    kind: &str,
    name: &str,
    report: &mut Report,
) -> Option<Field<'a>> {
    let expected = format!("a list with {{name: {name:?}, {kind}: {{…}}}}");
    let Some(field) = get(root, list) else {
        missing(root, list, &expected, report);
        return None;
    };
    for item in field.list(&expected, report)? {
        if get(&item, "name").and_then(|field| field.as_text()) == Some(name) {
            let found = get(&item, kind);
            if found.is_none() {
                missing(&item, kind, "a map", report);
            }
            return found;
        }
    }
    field.rule(format!("there is no {kind} {name:?}"), report);
    None
}

fn read(root: &Field<'_>, report: &mut Report) -> Option<KubeServer> {
    if !matches!(&root.node.kind, Kind::Map(_)) {
        root.wrong(
            "a kubeconfig: a map with clusters, users, contexts and current-context",
            report,
        );
        return None;
    }
    let text = |field: &Field<'_>, key: &str, expected: &str, report: &mut Report| {
        let Some(found) = get(field, key) else {
            missing(field, key, expected, report);
            return None;
        };
        found.text(expected, report).map(str::to_owned)
    };
    let current = text(root, "current-context", "the name of a context", report)?;
    let context = named(root, "contexts", "context", &current, report)?;
    let cluster = text(&context, "cluster", "the name of a cluster", report);
    let user = text(&context, "user", "the name of a user", report);
    let cluster = named(root, "clusters", "cluster", &cluster?, report);
    let user = named(root, "users", "user", &user?, report);
    let server = cluster.and_then(|field| server(&field, report));
    let login = user.and_then(|field| login(&field, report));
    Some(server?.with_login(login?))
}

fn server(cluster: &Field<'_>, report: &mut Report) -> Option<KubeServer> {
    const SERVER: &str = "the API server, as in https://192.0.2.1:6443";
    let before = report.count();
    if let Some(field) = get(cluster, "insecure-skip-tls-verify")
        && field.as_text() != Some("false")
    {
        field.rule("an API server that is not verified is not believed", report);
    }
    refuse(
        cluster,
        &["proxy-url", "tls-server-name"],
        "is not understood here",
        report,
    );
    let server = match get(cluster, "server") {
        Some(field) if field.as_text().is_some_and(|text| text.contains('@')) => {
            field.rule("an address without a name or a password in it", report);
            None
        }
        Some(field) => field.parse(SERVER, report, address),
        None => {
            missing(cluster, "server", SERVER, report);
            None
        }
    };
    let ca = material(cluster, "certificate-authority", report);
    if ca.is_none() && report.count() == before {
        let expected = "a PEM file, or certificate-authority-data";
        missing(cluster, "certificate-authority", expected, report);
    }
    let server = server?.with_ca(ca?);
    (report.count() == before).then_some(server)
}

/// `https://HOST[:PORT][/PATH]`.
fn address(text: &str) -> Option<KubeServer> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    if uri.scheme_str() != Some("https") || uri.query().is_some() {
        return None;
    }
    let host = authority.host();
    let port = match authority.as_str().strip_prefix(host)? {
        "" => 443,
        more => more
            .strip_prefix(':')?
            .parse()
            .ok()
            .filter(|port| *port != 0)?,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return None;
    }
    let server = KubeServer::api_server().named(host).at(port);
    Some(server.below(uri.path().trim_end_matches('/')))
}

fn login(user: &Field<'_>, report: &mut Report) -> Option<KubeLogin> {
    let before = report.count();
    let program =
        "would have to start or ask a program: give a token, tokenFile or client-certificate";
    refuse(user, &["exec", "auth-provider"], program, report);
    let whose = "is not understood here: give a token, tokenFile or client-certificate";
    refuse(
        user,
        &[
            "username",
            "password",
            "as",
            "as-uid",
            "as-groups",
            "as-user-extra",
        ],
        whose,
        report,
    );
    let certificate = material(user, "client-certificate", report);
    let key = material(user, "client-key", report);
    let token = match (get(user, "tokenFile"), get(user, "token")) {
        // As with kubectl, the file counts where both are there.
        (Some(field), _) => field
            .path("a file with a token", report)
            .map(Material::File),
        (None, Some(field)) => secret(&field, "a token", report)
            .map(|text| Material::Inline(Zeroizing::new(text.as_bytes().to_vec()))),
        (None, None) => None,
    };
    if report.count() > before {
        return None;
    }
    match (token, certificate, key) {
        (Some(token), None, None) => Some(KubeLogin::Token(token)),
        (None, Some(certificate), Some(key)) => Some(KubeLogin::Certificate { certificate, key }),
        _ => {
            let rule = "either token or tokenFile, or client-certificate and client-key (or both with -data)";
            report.push(user.key, &user.path, Problem::Rule(rule.into()));
            None
        }
    }
}

fn refuse(field: &Field<'_>, keys: &[&str], rule: &str, report: &mut Report) {
    for key in keys {
        if let Some(found) = get(field, key) {
            report.push(found.key, &found.path, Problem::Rule(rule.into()));
        }
    }
}

/// `KEY-data`, base64 of PEM, which wins as with kubectl; or the file that `KEY` names.
fn material(field: &Field<'_>, key: &str, report: &mut Report) -> Option<Material> {
    if let Some(data) = get(field, &format!("{key}-data")) {
        let text = secret(&data, "base64 of PEM", report)?;
        let decoded = BASE64.decode(text).map(Zeroizing::new);
        return match decoded {
            Ok(bytes) => Some(Material::Inline(bytes)),
            Err(_) => {
                data.rule("expected base64 of PEM", report);
                None
            }
        };
    }
    get(field, key)?
        .path("a PEM file", report)
        .map(Material::File)
}

/// A text that is not shown where it is wrong.
fn secret<'a>(field: &Field<'a>, expected: &str, report: &mut Report) -> Option<&'a str> {
    let text = field.as_text();
    if text.is_none() {
        field.rule(format!("expected {expected}"), report);
    }
    text
}
