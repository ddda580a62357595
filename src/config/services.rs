//! A file of services, for `sekisho directory member request` and `publish`: what others may reach at a
//! site.

use std::{collections::BTreeSet, path::Path};

use sekisho_certs::{
    SpiffeId, TrustDomain,
    id::{id_below, parse_workload_id},
    members::{Gateway, MAX_SERVICES, Mark, Service},
};

use super::{
    ConfigErrors, environment,
    error::Report,
    expand,
    field::{Field, Map},
    files, keys,
    listed::Listed,
};

const LISTED: Listed = Listed {
    keys: &keys::SERVICES_FILE,
    list: "services",
    form: "a list of services, as in {name: mdx, gateways: [\"gate.tokyo.example:9443\"]}",
};
const GATEWAYS: &str = "a list of HOST:PORT, as in [\"gate.tokyo.example:9443\"]";
const ID: &str = "a SPIFFE ID of the site, or a path below it, as in /mdx";
const MARKS: &str = "a list of marks, as in [hpci]";

/// Reads the services of `site` in the file at `path`.
///
/// # Errors
/// All that is wrong, up to 100 errors.
pub(crate) fn load(path: &Path, site: &TrustDomain) -> Result<Vec<Service>, ConfigErrors> {
    let mut report = Report::default();
    let sources = files::read(path, &mut report);
    read(path, &sources, site, &environment, report)
}

/// [`load`], once the text is there.
fn read(
    path: &Path,
    sources: &[files::Source],
    site: &TrustDomain,
    env: expand::Env<'_>,
    mut report: Report,
) -> Result<Vec<Service>, ConfigErrors> {
    let mut all = Vec::new();
    let mut names = BTreeSet::new();
    LISTED.each(sources, site, env, &mut report, |item, report| {
        let Some(one) = service(item, site, report) else {
            return;
        };
        if !names.insert(one.name().to_owned()) {
            item.rule(format!("{} is there already", one.name()), report);
        }
        all.push(one);
        if all.len() == MAX_SERVICES + 1 {
            item.rule(format!("at most {MAX_SERVICES} services"), report);
        }
    });
    if report.count() == 0 {
        Ok(all)
    } else {
        Err(report.finish(path, sources))
    }
}

fn service(field: &Field<'_>, site: &TrustDomain, report: &mut Report) -> Option<Service> {
    let before = report.count();
    let map = field.map(&keys::SERVICE, report)?;
    let name = map.required("name", "a name, as in mdx", report);
    let name = name.and_then(|field| field.text("a name, as in mdx", report));
    let gateways = map.required("gateways", GATEWAYS, report);
    let gateways = gateways.and_then(|field| {
        each(&field, GATEWAYS, report, |text| {
            text.parse::<Gateway>().map_err(|error| error.to_string())
        })
    });
    let id = match map.get("spiffe_id") {
        Some(field) => id(&field, site, report),
        None => name.and_then(|name| id_below(site, &format!("/{name}")).ok()),
    };
    let marks = marks(&map, report);
    if report.count() > before {
        return None;
    }
    match Service::new(name?, gateways?, id?, marks?) {
        Ok(service) => Some(service),
        Err(error) => {
            field.rule(error.to_string(), report);
            None
        }
    }
}

fn marks(map: &Map<'_>, report: &mut Report) -> Option<BTreeSet<Mark>> {
    map.get_or("marks", BTreeSet::new(), report, |field, report| {
        let marks = each(field, MARKS, report, |text| {
            text.parse::<Mark>().map_err(|error| error.to_string())
        })?;
        Some(marks.into_iter().collect())
    })
}

/// Each item of a list, as `read` makes it.
fn each<T>(
    field: &Field<'_>,
    form: &str,
    report: &mut Report,
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<Vec<T>> {
    let items = field.list(form, report)?;
    let mut all = Vec::new();
    for item in items {
        match read(item.text(form, report)?) {
            Ok(one) => all.push(one),
            Err(problem) => {
                item.rule(problem, report);
                return None;
            }
        }
    }
    Some(all)
}

fn id(field: &Field<'_>, site: &TrustDomain, report: &mut Report) -> Option<SpiffeId> {
    let text = field.text(ID, report)?;
    let read = if text.starts_with('/') {
        id_below(site, text).map_err(|error| error.to_string())
    } else {
        parse_workload_id(text).map_err(|error| error.to_string())
    };
    match read {
        Ok(id) if id.trust_domain() == site => Some(id),
        Ok(_) => {
            field.rule(format!("it is no ID of {site}"), report);
            None
        }
        Err(problem) => {
            field.rule(problem, report);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Service>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("services.yaml");
        std::fs::write(&file, text).unwrap();
        let site = TrustDomain::new("tokyo.example").unwrap();
        load(&file, &site).map_err(|errors| errors.render(false))
    }

    #[test]
    fn services_are_read() {
        let all = read_text(
            "site: tokyo.example\nservices:\n\
             - {name: mdx, gateways: [\"gate.tokyo.example:9443\", \"192.0.2.1:9443\"], marks: [hpci]}\n\
             - {name: db, gateways: [\"gate.tokyo.example:9443\"], spiffe_id: /data/base}\n",
        )
        .unwrap();
        let [mdx, db] = all.as_slice() else {
            panic!("{all:?}")
        };
        assert_eq!(mdx.id().to_string(), "spiffe://tokyo.example/mdx");
        assert_eq!((mdx.gateways().len(), mdx.marks().len()), (2, 1));
        assert_eq!(db.id().to_string(), "spiffe://tokyo.example/data/base");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, word) in [
            ("services: []", "empty list"),
            ("{}", "services"),
            ("services: [{name: mdx}]", "gateways"),
            (
                "services: [{name: Mdx, gateways: [\"a.example:1\"]}]",
                "DNS label",
            ),
            (
                "services: [{name: mdx, gateways: [a.example]}]",
                "HOST:PORT",
            ),
            (
                "services: [{name: mdx, gateways: [\"a.example:1\"], spiffe_id: \"spiffe://b.example/x\"}]",
                "no ID of tokyo.example",
            ),
            (
                "services: [{name: mdx, gateways: [\"a.example:1\"], marks: [A B]}]",
                "mark",
            ),
            (
                "services: [{name: mdx, gateways: [\"a.example:1\"]}, {name: mdx, gateways: [\"a.example:1\"]}]",
                "there already",
            ),
            (
                "site: b.example\nservices: [{name: mdx, gateways: [\"a.example:1\"]}]",
                "services of",
            ),
            ("services: [{name: mdx, gateway: x}]", "did you mean"),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
            assert!(error.contains("services.yaml:"), "{error}");
        }
    }
}
