use std::num::NonZeroU64;

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::*;
use crate::directory::{
    fixture::{Federation, keys},
    key::{FileKey, Signer},
    metadata::{RoleKeys, canonical, parse},
};

const FILE: &str = "snapshot.json";

/// A root by which these keys, so many of them, sign the snapshot.
fn root(keys: &[&FileKey], threshold: u64) -> Root {
    let federation = Federation::new(1);
    let bytes = std::fs::read(federation.path().join("metadata/1.root.json")).unwrap();
    let mut root = parse::<Root>("root", &bytes).unwrap().signed;
    let public: Vec<_> = keys.iter().map(|key| key.public()).collect();
    let role = RoleKeys {
        keyids: public.iter().map(|key| key.keyid()).collect(),
        threshold: NonZeroU64::new(threshold).unwrap(),
        _extra: Default::default(),
    };
    for key in public {
        root.keys.insert(key.keyid(), key.0);
    }
    root.roles.insert(RoleType::Snapshot, role);
    root
}

fn snapshot() -> Value {
    json!({
        "_type": "snapshot",
        "expires": "2100-01-01T00:00:00Z",
        "meta": {
            "bin.json": { "version": 3 },
            "targets.json": { "version": 2 },
            "td-a.example.json": { "version": 7 },
        },
        "spec_version": "1.0.31",
        "version": 5,
    })
}

/// A file with this text of the value, which these keys have signed as it is written.
fn signed_as_written(text: &str, keys: &[&FileKey]) -> String {
    file(text, text.as_bytes(), keys)
}

fn file(text: &str, message: &[u8], keys: &[&FileKey]) -> String {
    let signatures = keys.iter().map(|key| {
        let sig = sekisho_certs::hex(&key.sign(message).unwrap());
        json!({ "keyid": key.public().id(), "sig": sig })
    });
    let signatures = Value::from_iter(signatures);
    format!(r#"{{"signatures":{signatures},"signed":{text}}}"#)
}

fn check(root: &Root, file: &str) -> Result<(), String> {
    let read = parse::<Snapshot>(FILE, file.as_bytes()).map_err(|error| error.to_string())?;
    snapshot_signed_by_root(FILE, root, &read, file.as_bytes()).map_err(|error| error.to_string())
}

/// Whether it is checked as it is written, and not in the general way.
fn is_written(root: &Root, file: &str) -> bool {
    let read = parse::<Snapshot>(FILE, file.as_bytes()).unwrap();
    let message = signed_value(file.as_bytes());
    message.is_some_and(|message| enough(root, &read.signatures, message))
}

#[test]
fn what_is_written_canonically_is_checked_as_it_stands() {
    let all = keys(1);
    let root = root(&[&all[0]], 1);
    let text = String::from_utf8(canonical(&snapshot()).unwrap()).unwrap();
    let good = signed_as_written(&text, &[&all[0]]);
    assert!(is_written(&root, &good));
    check(&root, &good).unwrap();
    for (from, to) in [(r#""version":7"#, r#""version":8"#), ("td-a", "td-b")] {
        let other = good.replace(from, to);
        assert!(!is_written(&root, &other));
        assert!(check(&root, &other).is_err(), "{to}");
    }
    // The host's own, as it writes it.
    let federation = Federation::new(1);
    let read = |file: &str| std::fs::read(federation.path().join(file)).unwrap();
    let of = parse::<Root>("root", &read("metadata/1.root.json")).unwrap();
    let here = federation.repository.snapshot().unwrap().unwrap();
    let message = signed_value(&here.bytes).unwrap();
    assert_eq!(message, canonical(&here.signed.signed).unwrap());
    assert!(enough(&of.signed, &here.signed.signatures, message));
}

#[test]
fn what_others_write_in_their_way_is_checked_in_the_general_one() {
    let all = keys(1);
    let root = root(&[&all[0]], 1);
    let message = canonical(&snapshot()).unwrap();
    let text = serde_json::to_string_pretty(&snapshot()).unwrap();
    let pretty = file(&text, &message, &[&all[0]]);
    assert!(!is_written(&root, &pretty));
    check(&root, &pretty).unwrap();
    // Another order, and a name with an escape.
    let canonical = String::from_utf8(message.clone()).unwrap();
    let moved = canonical.replace(r#","version":5}"#, "}");
    let moved = moved.replacen('{', r#"{"version":5,"#, 1);
    let escaped = canonical.replace("td-a", r"td-\u0061");
    for text in [moved, escaped] {
        let other = file(&text, &message, &[&all[0]]);
        assert_eq!(signed_value(other.as_bytes()), None, "{text}");
        check(&root, &other).unwrap();
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused_even_if_it_is_signed() {
    let all = keys(1);
    let root = root(&[&all[0]], 1);
    let text = String::from_utf8(canonical(&snapshot()).unwrap()).unwrap();
    let bin = r#""bin.json":{"version":3},"#;
    let timestamp = text.replace(r#""_type":"snapshot""#, r#""_type":"timestamp""#);
    let untyped = text.replace(r#""_type":"snapshot","#, "");
    for other in [
        text.replace(bin, r#""bin.json":{"version":3},"bin.json":{"version":4},"#),
        text.replace(bin, r#""bin.json":{"version":4,"version":3},"#),
        text.replace(bin, r#""bin.json":{"version":4,"\u0076ersion":3},"#),
        text.replace(r#""spec"#, r#""meta":{},"spec"#),
        timestamp,
        untyped,
    ] {
        assert_ne!(other, text);
        let signed = signed_as_written(&other, &[&all[0]]);
        assert!(check(&root, &signed).is_err(), "{other}");
    }
    let twice = signed_as_written(&text, &[&all[0]]);
    let twice = twice.replace(r#""signed":"#, r#""signed":{},"signed":"#);
    assert!(check(&root, &twice).is_err());
}

#[test]
fn each_key_of_the_role_counts_once_and_no_other() {
    let all = keys(3);
    let (one, two, stranger) = (&all[0], &all[1], &all[2]);
    let mut root = root(&[one, two], 2);
    // One of another role, an institution's say.
    root.keys
        .insert(stranger.public().keyid(), stranger.public().0);
    let text = String::from_utf8(canonical(&snapshot()).unwrap()).unwrap();
    let by = |keys: &[&FileKey]| signed_as_written(&text, keys);
    for good in [by(&[one, two]), by(&[two, one]), by(&[stranger, one, two])] {
        assert!(is_written(&root, &good));
        check(&root, &good).unwrap();
    }
    // A key by the ID of another.
    let lies = by(&[one, stranger]).replace(&stranger.public().id(), &two.public().id());
    for bad in [
        by(&[one]),
        by(&[one, one]),
        by(&[one, two, two]),
        by(&[one, stranger]),
        by(&[]),
        lies,
    ] {
        assert!(!is_written(&root, &bad));
        assert!(check(&root, &bad).is_err(), "{bad}");
    }
}

#[test]
fn keys_of_other_kinds_are_known_too() {
    let all = keys(1);
    let mut root = root(&[&all[0]], 1);
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let body = STANDARD.encode(der.as_ref());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
    let key = json!({
        "keytype": "ecdsa",
        "scheme": "ecdsa-sha2-nistp256",
        "keyval": { "public": pem },
    });
    let key: Key = serde_json::from_value(key).unwrap();
    let id = key.key_id().unwrap();
    let role = root.roles.get_mut(&RoleType::Snapshot).unwrap();
    role.keyids = vec![id.clone()];
    root.keys.insert(id.clone(), key);
    let text = String::from_utf8(canonical(&snapshot()).unwrap()).unwrap();
    let sig = pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
    let (id, sig) = (sekisho_certs::hex(&id), sekisho_certs::hex(sig.as_ref()));
    let signatures = json!([{ "keyid": id, "sig": sig }]);
    let good = format!(r#"{{"signatures":{signatures},"signed":{text}}}"#);
    assert!(is_written(&root, &good));
    check(&root, &good).unwrap();
    let bad = good.replace(r#""version":5"#, r#""version":6"#);
    assert!(!is_written(&root, &bad) && check(&root, &bad).is_err());
}
