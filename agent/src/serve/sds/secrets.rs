//! Secrets by name.

use std::{collections::BTreeSet, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message as _;
use prost_types::{Any, value::Kind};
use sekisho_spire_api::envoy::{
    core::{DataSource, Node, TypedExtensionConfig, data_source::Specifier, node},
    tls::{
        CertificateValidationContext, Secret, SpiffeCertValidatorConfig, TlsCertificate,
        secret::Type, spiffe_cert_validator_config,
    },
};
use tonic::Status;
use zeroize::{Zeroize as _, Zeroizing};

use super::super::{SdsNames, view::View};
use crate::{bundle::Bundle, svid::Signed};

const PACKAGE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

/// The secrets that a caller may have.
pub(super) struct Secrets<'a> {
    view: &'a View,
    names: &'a SdsNames,
    /// With the plain list of CAs, for an Envoy that has no SPIFFE validator or is told to do without.
    plain: bool,
}

impl<'a> Secrets<'a> {
    pub(super) fn new(view: &'a View, names: &'a SdsNames, node: Option<&Node>) -> Self {
        Self {
            view,
            names,
            plain: node.is_some_and(|node| is_old(node) || is_disabled(node)),
        }
    }

    /// What these names stand for; all, under SPIFFE IDs, where there are none.
    ///
    /// # Errors
    /// When a name stands for nothing that the caller may have.
    pub(super) fn answer(&self, names: &BTreeSet<String>) -> Result<Vec<Any>, Status> {
        let mut missing = names.clone();
        let mut found = Vec::new();
        let all = names.is_empty();
        let mut wanted = |name: &str| missing.remove(name) || all;
        let alias = |name: &str, missing: &mut BTreeSet<String>| missing.remove(name);
        if let Some(own) = &self.view.own {
            let domain = &self.view.domain;
            let id = format!("spiffe://{domain}");
            if wanted(&id) {
                found.push(self.context(&id, &[(domain, own)]));
            }
            if alias(&self.names.bundle, &mut missing) {
                found.push(self.context(&self.names.bundle, &[(domain, own)]));
            }
            if alias(&self.names.all_bundles, &mut missing) {
                found.push(self.all_bundles()?);
            }
        }
        for (domain, bundle) in &self.view.federated {
            let id = format!("spiffe://{domain}");
            if missing.remove(&id) || all {
                found.push(self.context(&id, &[(domain, bundle)]));
            }
        }
        for (place, (entry, signed)) in self.view.identities.iter().enumerate() {
            let id = &entry.spiffe_id;
            if missing.remove(id) || all {
                found.push(certificate(id, signed));
            }
            if place == 0 && alias(&self.names.svid, &mut missing) {
                found.push(certificate(&self.names.svid, signed));
            }
        }
        if missing.is_empty() {
            return Ok(found.iter_mut().map(any).collect());
        }
        let each: Vec<String> = missing.iter().map(|name| format!("{name:?}")).collect();
        Err(Status::invalid_argument(format!(
            "workload is not authorized for the requested identities [{}]",
            each.join(" ")
        )))
    }

    fn all_bundles(&self) -> Result<Secret, Status> {
        if self.plain {
            let text = "unable to use \"SPIFFE validator\" on Envoy below 1.17";
            return Err(Status::internal(text));
        }
        let all = self.view.bundles();
        let all: Vec<_> = all.iter().collect();
        Ok(self.context(&self.names.all_bundles, &all))
    }

    fn context<B: std::ops::Deref<Target = Bundle>>(
        &self,
        name: &str,
        bundles: &[(&String, &B)],
    ) -> Secret {
        let context = if self.plain {
            let pem: String = bundles
                .iter()
                .map(|(_, bundle)| bundle_pem(bundle))
                .collect();
            CertificateValidationContext {
                trusted_ca: inline(pem.into_bytes()),
                custom_validator_config: None,
            }
        } else {
            let domains = bundles.iter();
            let domains =
                domains.map(
                    |(domain, bundle)| spiffe_cert_validator_config::TrustDomain {
                        name: (*domain).clone(),
                        trust_bundle: inline(bundle_pem(bundle).into_bytes()),
                    },
                );
            let config = SpiffeCertValidatorConfig {
                trust_domains: domains.collect(),
            };
            CertificateValidationContext {
                trusted_ca: None,
                custom_validator_config: Some(TypedExtensionConfig {
                    name: "envoy.tls.cert_validator.spiffe".into(),
                    typed_config: Some(Any {
                        type_url: format!("{PACKAGE}.SPIFFECertValidatorConfig"),
                        value: config.encode_to_vec(),
                    }),
                }),
            }
        };
        Secret {
            name: name.into(),
            r#type: Some(Type::ValidationContext(context)),
        }
    }
}

/// Encodes a secret, and wipes the key in it.
fn any(secret: &mut Secret) -> Any {
    let value = secret.encode_to_vec();
    if let Some(Type::TlsCertificate(TlsCertificate {
        private_key:
            Some(DataSource {
                specifier: Some(Specifier::InlineBytes(key)),
            }),
        ..
    })) = &mut secret.r#type
    {
        key.zeroize();
    }
    Any {
        type_url: format!("{PACKAGE}.Secret"),
        value,
    }
}

fn certificate(name: &str, signed: &Signed) -> Secret {
    let chain = signed.held.chain.iter();
    let chain: String = chain
        .map(|der| pem("CERTIFICATE", der).to_string())
        .collect();
    let key = pem("PRIVATE KEY", &signed.held.key);
    Secret {
        name: name.into(),
        r#type: Some(Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(chain.into_bytes()),
            private_key: inline(key.as_bytes().to_vec()),
        })),
    }
}

const fn inline(bytes: Vec<u8>) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(Specifier::InlineBytes(bytes)),
    })
}

fn bundle_pem(bundle: &Bundle) -> String {
    let cas = bundle.x509.iter();
    cas.map(|ca| pem("CERTIFICATE", &ca.der).to_string())
        .collect()
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    const LINE: usize = 64;
    let text = Zeroizing::new(STANDARD.encode(der));
    let mut lines = Zeroizing::new(String::with_capacity(text.len() * 66 / 64 + 80));
    // Text into memory does not fail.
    let _ = writeln!(lines, "-----BEGIN {label}-----");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        let _ = writeln!(lines, "{line}");
        rest = after;
    }
    let _ = writeln!(lines, "-----END {label}-----");
    lines
}

/// Envoy has its SPIFFE validator since 1.18; one that does not say is taken for a new one.
fn is_old(node: &Node) -> bool {
    let Some(node::UserAgentVersionType::UserAgentBuildVersion(build)) =
        &node.user_agent_version_type
    else {
        return false;
    };
    let version = build.version.as_ref();
    version.is_some_and(|version| (version.major_number, version.minor_number) < (1, 18))
}

/// What an Envoy's own metadata asks for.
fn is_disabled(node: &Node) -> bool {
    let metadata = node.metadata.as_ref();
    let field = metadata.and_then(|all| all.fields.get("disable_spiffe_cert_validation"));
    match field.and_then(|value| value.kind.as_ref()) {
        Some(Kind::BoolValue(yes)) => *yes,
        Some(Kind::StringValue(text)) => {
            matches!(text.as_str(), "true" | "True" | "TRUE" | "1" | "t" | "T")
        }
        _ => false,
    }
}
