//! A file of entries, for `sekisho apply` and `authority.entries`.

use std::{collections::HashMap, path::Path};

use sekisho_certs::{SpiffeId, TrustDomain, id::id_below};
use sekisho_spire_api::types;

use super::{
    ConfigErrors, environment,
    error::{Problem, Report},
    expand,
    field::{Field, Map},
    files, identity, keys,
    listed::Listed,
    unit::DAY,
};

/// What the names of entries from a file begin with: those alone are changed or deleted by it.
pub(crate) const PREFIX: &str = "apply.";
/// Whose node serves an entry that does not say: the one that `sekisho run` starts with the authority.
pub(crate) const LOCAL_NODE: &str = "/node/local";
/// Longest name of an entry.
const LONGEST: usize = 255;

/// Reads the entries of `site` in the file at `path`.
///
/// # Errors
/// All that is wrong, up to 100 errors.
pub(crate) fn load(path: &Path, site: &TrustDomain) -> Result<Vec<types::Entry>, ConfigErrors> {
    let mut report = Report::default();
    let sources = files::read(path, &mut report);
    read(path, &sources, site, &environment, report)
}

/// [`load`], once the text is there.
pub(super) fn read(
    path: &Path,
    sources: &[files::Source],
    site: &TrustDomain,
    env: expand::Env<'_>,
    mut report: Report,
) -> Result<Vec<types::Entry>, ConfigErrors> {
    let mut all = Vec::new();
    let mut names = HashMap::new();
    LISTED.each(sources, site, env, &mut report, |item, report| {
        let Some(entry) = entry(item, site, report) else {
            return;
        };
        match names.insert(entry.id.clone(), item.at().clone()) {
            Some(first) => {
                report.push(item.at(), &item.path, Problem::Duplicate { first });
            }
            None => all.push(entry),
        }
    });
    if report.count() == 0 {
        Ok(all)
    } else {
        Err(report.finish(path, sources))
    }
}

const LISTED: Listed = Listed {
    keys: &keys::ENTRIES_FILE,
    list: "entries",
    form: "a list of entries, as in {spiffe_id: /broker, selectors: [\"unix:uid:1000\"]}",
};

fn entry(field: &Field<'_>, site: &TrustDomain, report: &mut Report) -> Option<types::Entry> {
    let before = report.count();
    let map = field.map(&keys::ENTRY, report)?;
    let spiffe_id = map.required("spiffe_id", PATH, report);
    let spiffe_id = spiffe_id.and_then(|field| id(&field, site, report));
    let parent = match map.get("parent") {
        Some(field) => id(&field, site, report),
        None => id_below(site, LOCAL_NODE).ok(),
    };
    let selectors = map
        .required("selectors", SELECTORS, report)
        .and_then(|field| selectors(&field, report));
    let federates = map.get_or("federates_with", Vec::new(), report, |field, report| {
        texts(field, "a list of trust domains, or [\"*\"]", report)
    });
    let dns_names = map.get_or("dns_names", Vec::new(), report, |field, report| {
        texts(field, "a list of DNS names", report)
    });
    let x509_ttl = ttl(&map, "x509_ttl", report);
    let jwt_ttl = ttl(&map, "jwt_ttl", report);
    let hint = map.get_or("hint", String::new(), report, |field, report| {
        field.text("a word", report).map(str::to_owned)
    });
    let mut flag = |key| map.get_or(key, false, report, Field::boolean);
    let (admin, downstream, on_demand, jti) = (
        flag("admin"),
        flag("downstream"),
        flag("on_demand"),
        flag("jwt_id"),
    );
    let name = match map.get("id") {
        Some(field) => field.text(NAME, report).map(str::to_owned),
        None => spiffe_id
            .as_ref()
            .map(|id| id.path().trim_start_matches('/').replace('/', ".")),
    };
    let name = name.map(|name| format!("{PREFIX}{name}"));
    if let Some(name) = &name
        && !is_name(name)
    {
        field.rule(format!("{name:?} is no name: give `id`, {NAME}"), report);
    }
    if report.count() > before {
        return None;
    }
    Some(types::Entry {
        id: name?,
        spiffe_id: Some(wire(&spiffe_id?)),
        parent_id: Some(wire(&parent?)),
        selectors: selectors?,
        federates_with: federates?,
        dns_names: dns_names?,
        x509_svid_ttl: x509_ttl?,
        jwt_svid_ttl: jwt_ttl?,
        hint: hint?,
        admin: admin?,
        downstream: downstream?,
        additional_attributes: Some(types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: on_demand?,
            jwt_svid_include_jti: jti?,
        }),
        ..Default::default()
    })
}

const PATH: &str = "a path that begins with `/`, as in /broker/osaka; it stands below `site`";
const SELECTORS: &str = "a list of selectors, as in [\"unix:uid:1000\"]";
const NAME: &str = "letters, digits, `.`, `_` and `-`";

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.len() <= LONGEST && text.len() > PREFIX.len() && text.bytes().all(plain)
}

fn wire(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: id.trust_domain().to_string(),
        path: id.path().into(),
    }
}

fn id(field: &Field<'_>, site: &TrustDomain, report: &mut Report) -> Option<SpiffeId> {
    let text = field.parse(PATH, report, |text| {
        text.starts_with('/').then(|| text.to_owned())
    })?;
    match id_below(site, &text) {
        Ok(id) => Some(id),
        Err(error) => {
            field.problem(error.into(), report);
            None
        }
    }
}

fn selectors(field: &Field<'_>, report: &mut Report) -> Option<Vec<types::Selector>> {
    let mut all = Vec::new();
    for item in field.list(SELECTORS, report)? {
        let (kind, value) = identity::selector(&item, report)?;
        let selector = types::Selector {
            r#type: kind,
            value,
        };
        if all.contains(&selector) {
            item.rule("this selector is there already", report);
            return None;
        }
        all.push(selector);
    }
    Some(all)
}

fn texts(field: &Field<'_>, form: &str, report: &mut Report) -> Option<Vec<String>> {
    let items = field.list(form, report)?;
    let texts = items
        .iter()
        .map(|item| item.text(form, report).map(str::to_owned));
    texts.collect()
}

fn ttl(map: &Map<'_>, key: &str, report: &mut Report) -> Option<i32> {
    map.get_or(key, 0, report, |field, report| {
        let second = std::time::Duration::from_secs(1);
        let ttl = field.duration(second..=3660 * DAY, report)?;
        i32::try_from(ttl.as_secs()).ok()
    })
}
