//! `identity` and `bundles`.

use std::collections::BTreeMap;

use sekisho_certs::{
    TrustDomain,
    id::parse_trust_domain,
    source::{BundlesSpec, SourceSpec},
};

use super::{
    address,
    error::{Problem, Report},
    field::Field,
    keys,
};

/// An `identity`: the source, and the bundles beside it.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) source: SourceSpec,
    pub(super) bundles: Option<BundlesSpec>,
}

/// Whether bundles may be of our own trust domain.
#[derive(Clone, Copy, Debug)]
pub(super) enum Own<'a> {
    /// With an SVID from files there is no other source of it.
    Allowed,
    /// It comes from our own source only.
    Refused(&'a TrustDomain),
}

/// Reads an `identity`.
pub(super) fn identity(field: &Field<'_>, report: &mut Report) -> Option<Identity> {
    if let Some(text) = field.as_text() {
        if !text.starts_with("unix:") {
            field.wrong(keys::IDENTITY.of, report);
            return None;
        }
        return match address::unix(text) {
            Ok(socket) => Some(Identity {
                source: SourceSpec::WorkloadApi { socket },
                bundles: None,
            }),
            Err(expected) => {
                field.wrong(expected, report);
                None
            }
        };
    }
    let before = report.count();
    let map = field.map(&keys::IDENTITY, report)?;
    if let Some(embedded) = map.get("embedded") {
        let rule = "an embedded identity has no files: give either `embedded` or `cert` and `key`";
        map.refuse(&["cert", "key", "bundles"], rule, report);
        let data = embedded
            .map(&keys::EMBEDDED, report)?
            .required("data", "the folder of the embedded CA", report)?
            .path("the folder of the embedded CA", report)?;
        return (report.count() == before).then_some(Identity {
            source: SourceSpec::Embedded {
                data,
                // Said where the rest of the file is known.
                federated: false,
            },
            bundles: None,
        });
    }
    if let Some(delegated) = map.get("delegated") {
        let rule = "a delegated identity has no files: give either `delegated` or `cert` and `key`";
        map.refuse(&["cert", "key", "bundles"], rule, report);
        let form = "unix:///SOCKET, an agent's Delegated Identity API";
        let socket = match address::unix(delegated.text(form, report)?) {
            Ok(socket) => socket,
            Err(expected) => {
                delegated.wrong(expected, report);
                return None;
            }
        };
        let form = "a list of selectors, as in [\"unix:uid:1000\"]";
        let selectors = map.required("selectors", form, report)?;
        let mut all = Vec::new();
        for item in selectors.list(form, report)? {
            all.push(selector(&item, report)?);
        }
        return (report.count() == before).then_some(Identity {
            source: SourceSpec::Delegated {
                socket,
                selectors: all,
            },
            bundles: None,
        });
    }
    let mut file = |key, expected| {
        map.required(key, expected, report)
            .and_then(|field| field.path(expected, report))
    };
    let cert = file("cert", "the PEM file of the SVID");
    let key = file("key", "the PEM file of the private key");
    let bundles = map
        .get("bundles")
        .and_then(|field| bundles(&field, Own::Allowed, report));
    let source = SourceSpec::Files {
        cert: cert?,
        key: key?,
    };
    (report.count() == before).then_some(Identity { source, bundles })
}

/// Reads a selector: its type and its value.
pub(super) fn selector(field: &Field<'_>, report: &mut Report) -> Option<(String, String)> {
    field.parse("TYPE:VALUE, as in unix:uid:1000", report, |text| {
        let (kind, value) = text.split_once(':')?;
        let whole = !kind.is_empty() && !value.is_empty();
        whole.then(|| (kind.to_owned(), value.to_owned()))
    })
}

/// Reads `bundles`.
pub(super) fn bundles(field: &Field<'_>, own: Own<'_>, report: &mut Report) -> Option<BundlesSpec> {
    const FORMS: &str = "a map of trust domain to file, a Bundle Map file (*.json) or a folder \
                         (ending in `/`)";
    if let Some(text) = field.as_text() {
        let path = field.path(FORMS, report)?;
        return if text.ends_with('/') || path.is_dir() {
            Some(BundlesSpec::Folder(path))
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            Some(BundlesSpec::Map(path))
        } else {
            field.wrong(FORMS, report);
            None
        };
    }
    let before = report.count();
    let mut files = BTreeMap::new();
    for entry in field.entries(FORMS, report)? {
        let file = Field::new(&field.path, entry);
        match parse_trust_domain(&entry.key) {
            Ok(domain) => {
                if let Own::Refused(site) = own
                    && domain == *site
                {
                    let rule = "this is our own trust domain: its bundle comes from `identity`";
                    report.push(&entry.at, &file.path, Problem::Rule(rule.into()));
                }
            }
            Err(error) => report.push(&entry.at, &file.path, error.into()),
        }
        if let Some(path) = file.path("the file of this trust domain's bundle", report) {
            files.insert(entry.key.clone(), path);
        }
    }
    (report.count() == before).then_some(BundlesSpec::Files(files))
}
