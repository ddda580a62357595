//! Bundles as people and programs read them.

use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use sekisho_agent::{bundle::Bundle, jwt::jwks::jwks};
use sekisho_certs::TrustBundle;
use sekisho_spire_api::types;
use serde_json::{Map, Value, json};

use super::Form;
use crate::output;

/// A bundle, with what an authority says of it beside what a file can say.
#[derive(Debug)]
pub(crate) struct Told {
    trust: TrustBundle,
    /// Of each CA, whether SVIDs below it are to be replaced.
    tainted: Vec<bool>,
    jwt: Vec<JwtKey>,
    /// SPIFFE bundle JSON.
    document: Value,
}

/// A JWT authority.
#[derive(Debug)]
struct JwtKey {
    id: String,
    /// In seconds since 1970; 0: it does not say.
    expires_at: i64,
    tainted: bool,
}

impl Told {
    /// A bundle of a file.
    ///
    /// # Errors
    /// When a JWT key in it cannot be used.
    pub(super) fn of_file(bundle: &TrustBundle) -> anyhow::Result<Self> {
        let keys = bundle.jwt_keys()?.into_iter();
        Ok(Self {
            document: bundle.to_json(),
            tainted: vec![false; bundle.authorities().len()],
            jwt: keys
                .map(|key| JwtKey {
                    id: key.key_id,
                    expires_at: 0,
                    tainted: false,
                })
                .collect(),
            trust: bundle.clone(),
        })
    }

    /// A bundle that an authority has told.
    ///
    /// # Errors
    /// When something in it cannot be used.
    pub(crate) fn of_authority(wire: types::Bundle) -> anyhow::Result<Self> {
        let jwt = wire.jwt_authorities.iter();
        let jwt = jwt
            .map(|key| JwtKey {
                id: key.key_id.clone(),
                expires_at: key.expires_at,
                tainted: key.tainted,
            })
            .collect();
        let (domain, bundle) =
            Bundle::from_wire(wire).context("the authority has told a bundle that is none")?;
        let hint = (!bundle.refresh_hint.is_zero()).then_some(bundle.refresh_hint);
        let trust = bundle
            .trust(&domain)?
            .with_hints(Some(bundle.sequence), hint);
        let mut document = trust.to_json();
        let set: Value = serde_json::from_slice(&jwks(&bundle))?;
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.context("no JWK Set")?.iter().cloned();
        let keys = keys.map(|mut key| {
            if let Some(members) = key.as_object_mut() {
                members.insert("use".into(), "jwt-svid".into());
            }
            key
        });
        if let Some(all) = document.get_mut("keys").and_then(Value::as_array_mut) {
            all.extend(keys);
        }
        Ok(Self {
            trust,
            tainted: bundle.x509.iter().map(|ca| ca.tainted).collect(),
            jwt,
            document,
        })
    }

    /// The bundle, JWT keys included.
    ///
    /// # Errors
    /// When something in it cannot be used.
    pub(crate) fn trust(&self) -> anyhow::Result<TrustBundle> {
        let domain = self.trust.trust_domain().clone();
        Ok(TrustBundle::from_value(domain, &self.document)?)
    }

    fn name(&self) -> String {
        self.trust.trust_domain().to_string()
    }

    fn json(&self) -> Value {
        let authorities = self.trust.authorities().iter().zip(&self.tainted);
        let authorities = authorities.map(|(ca, tainted)| {
            let expires = ca.not_after().duration_since(UNIX_EPOCH);
            json!({
                "serial": ca.serial(),
                "sha256": ca.fingerprint(),
                "not_after": expires.map_or(0, |since| since.as_secs()),
                "tainted": tainted,
            })
        });
        let keys = self.jwt.iter().map(
            |key| json!({"key_id": key.id, "expires_at": key.expires_at, "tainted": key.tainted}),
        );
        json!({
            "trust_domain": self.name(),
            "sequence": self.trust.sequence(),
            "refresh_hint": self.trust.refresh_hint().map(|hint| hint.as_secs()),
            "authorities": authorities.collect::<Vec<_>>(),
            "jwt_authorities": keys.collect::<Vec<_>>(),
        })
    }
}

const CAS: [&str; 4] = [
    "trust domain",
    "CA serial",
    "expires (UTC)",
    "SHA-256 of the certificate",
];
const KEYS: [&str; 3] = ["trust domain", "JWT key", "expires (UTC)"];

/// Shows them: the CAs, and below them the JWT keys, where there are any.
pub(super) fn show(bundles: &[Told], as_json: bool) {
    if as_json {
        let documents: Vec<_> = bundles.iter().map(Told::json).collect();
        return output::json(&json!({ "bundles": documents }));
    }
    let (mut cas, mut keys) = (vec![head(&CAS)], vec![head(&KEYS)]);
    for bundle in bundles {
        for (ca, tainted) in bundle.trust.authorities().iter().zip(&bundle.tainted) {
            let expires = time::OffsetDateTime::from(ca.not_after());
            let mut row = vec![
                bundle.name(),
                ca.serial().to_owned(),
                expires.date().to_string(),
                ca.fingerprint(),
            ];
            row.extend(tainted.then(|| "tainted".to_owned()));
            cas.push(row);
        }
        for key in &bundle.jwt {
            let expires = time::OffsetDateTime::from_unix_timestamp(key.expires_at);
            let expires = expires.ok().filter(|_| key.expires_at != 0);
            let mut row = vec![
                bundle.name(),
                key.id.clone(),
                expires.map_or_else(|| "-".into(), |at| at.date().to_string()),
            ];
            row.extend(key.tainted.then(|| "tainted".to_owned()));
            keys.push(row);
        }
    }
    output::line(output::table(&cas).trim_end());
    if keys.len() > 1 {
        output::line(format_args!("\n{}", output::table(&keys).trim_end()));
    }
}

fn head(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|&column| column.to_owned()).collect()
}

/// Prints them in a form that others read.
pub(super) fn export(bundles: &[Told], form: Form) -> anyhow::Result<()> {
    match form {
        Form::Map => {
            let all = bundles.iter();
            let all: Map<_, _> = all
                .map(|bundle| (bundle.name(), bundle.document.clone()))
                .collect();
            output::json(&json!({ "trust_domains": all }));
        }
        Form::Spiffe => {
            let [one] = bundles else {
                anyhow::bail!(
                    "{} trust domains, and this form is for one: print them with --format map",
                    bundles.len()
                );
            };
            output::json(&one.document);
        }
        Form::Pem => {
            for bundle in bundles {
                // Outside of the certificates, so that readers of PEM pass it over.
                if bundles.len() > 1 {
                    output::line(format_args!("# {}", bundle.name()));
                }
                for ca in bundle.trust.authorities() {
                    output::line(ca.to_pem().trim_end());
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use rcgen::PublicKeyData as _;
    use sekisho_certs::TrustDomain;

    use super::*;

    #[test]
    fn what_an_authority_tells_is_read_back_from_its_json() {
        let site = sekisho_testkit::Site::new("a.example");
        let pem = site.ca().pem();
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let key = rcgen::KeyPair::generate()
            .unwrap()
            .subject_public_key_info();
        let wire = types::Bundle {
            trust_domain: "a.example".into(),
            x509_authorities: vec![types::X509Certificate {
                asn1: STANDARD.decode(body).unwrap(),
                tainted: true,
            }],
            jwt_authorities: vec![types::JwtKey {
                public_key: key.clone(),
                key_id: "k".into(),
                expires_at: 7,
                tainted: false,
            }],
            refresh_hint: 0,
            sequence_number: 3,
        };
        let told = Told::of_authority(wire).unwrap();
        let shown = told.json();
        assert_eq!(shown["authorities"][0]["tainted"], true);
        assert_eq!(shown["jwt_authorities"][0]["expires_at"], 7);
        let text = told.document.to_string();
        let domain = TrustDomain::new("a.example").unwrap();
        let read = TrustBundle::from_json(domain, text.as_bytes()).unwrap();
        assert_eq!((read.sequence(), read.authorities().len()), (Some(3), 1));
        let keys = read.jwt_keys().unwrap();
        assert_eq!((keys[0].key_id.as_str(), &keys[0].public_key), ("k", &key));
    }

    #[test]
    fn one_form_is_for_one_domain() {
        assert!(
            export(&[], Form::Spiffe)
                .unwrap_err()
                .to_string()
                .contains("--format map")
        );
    }
}
