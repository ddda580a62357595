//! The messages of FetchX509SVID and FetchX509Bundles (SPIFFE `workload.proto`), by hand.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

/// `X509SVIDResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct X509Svids {
    #[prost(message, repeated, tag = "1")]
    pub(super) svids: Vec<X509Svid>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) crl: Vec<Vec<u8>>,
    #[prost(map = "string, bytes", tag = "3")]
    pub(super) federated_bundles: HashMap<String, Vec<u8>>,
}

/// `X509SVID`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct X509Svid {
    #[prost(string, tag = "1")]
    pub(super) spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) x509_svid: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) x509_svid_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) bundle: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(super) hint: String,
}

/// `X509BundlesResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct X509Bundles {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) crl: Vec<Vec<u8>>,
    #[prost(map = "string, bytes", tag = "2")]
    pub(super) bundles: HashMap<String, Vec<u8>>,
}

impl X509Svids {
    /// Out of protobuf JSON, as recorded.
    pub(super) fn from_json(text: &str) -> Self {
        let json: Value = serde_json::from_str(text).expect("JSON");
        let svids = json["svids"].as_array().expect("svids").iter();
        let svids = svids.map(|svid| X509Svid {
            spiffe_id: text_of(&svid["spiffeId"]),
            x509_svid: bytes_of(&svid["x509Svid"]),
            x509_svid_key: bytes_of(&svid["x509SvidKey"]),
            bundle: bytes_of(&svid["bundle"]),
            hint: text_of(&svid["hint"]),
        });
        Self {
            svids: svids.collect(),
            crl: Vec::new(),
            federated_bundles: map_of(&json["federatedBundles"]),
        }
    }
}

impl X509Bundles {
    /// Out of protobuf JSON, as recorded.
    pub(super) fn from_json(text: &str) -> Self {
        let json: Value = serde_json::from_str(text).expect("JSON");
        Self {
            crl: Vec::new(),
            bundles: map_of(&json["bundles"]),
        }
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn bytes_of(value: &Value) -> Vec<u8> {
    STANDARD.decode(text_of(value)).expect("base64")
}

fn map_of(value: &Value) -> HashMap<String, Vec<u8>> {
    let entries = value.as_object().expect("an object").iter();
    entries
        .map(|(name, bundle)| (name.clone(), bytes_of(bundle)))
        .collect()
}
