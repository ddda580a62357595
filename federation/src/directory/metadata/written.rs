//! Signatures over a file as it is written.
//!
//! What is signed is the canonical form of a value, and whoever writes canonically, as we do, has written it
//! into the file: then there is no need to make it again, which for a snapshot of ten thousand members is most of
//! the work of a sync. What does not hold in this way is checked in the general one: nothing is refused for how
//! it is written.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Key, MetadataError, RoleType, Root, Signature, Signed, Snapshot, signed_by_root};

/// What a snapshot begins with, in its canonical form: the general way has that in what it signs.
const BEGINS: &[u8] = br#"{"_type":"snapshot","#;

/// Checks a snapshot, which these bytes say, against the keys and the threshold that the root has for it.
pub(crate) fn snapshot_signed_by_root(
    file: &str,
    root: &Root,
    snapshot: &Signed<Snapshot>,
    bytes: &[u8],
) -> Result<(), MetadataError> {
    let message = signed_value(bytes);
    if message.is_some_and(|message| enough(root, &snapshot.signatures, message)) {
        return Ok(());
    }
    signed_by_root(file, root, snapshot)
}

/// The value of `signed` as it stands in a snapshot's file, where that is all that it could be read as: the
/// members of each object in ascending order, and so none of them twice.
fn signed_value(bytes: &[u8]) -> Option<&[u8]> {
    #[derive(Deserialize)]
    struct File<'a> {
        #[serde(borrow)]
        signed: &'a RawValue,
        #[serde(rename = "signatures")]
        _signatures: IgnoredAny,
    }
    let file: File<'_> = serde_json::from_slice(bytes).ok()?;
    let signed = file.signed.get();
    serde_json::from_str::<Ascending>(signed).ok()?;
    let signed = signed.as_bytes();
    signed.starts_with(BEGINS).then_some(signed)
}

/// Whether as many keys of the role as have to have signed this message: each is counted once, and by no other ID
/// than its own. The same as `tough`'s `Root::verify_role`.
fn enough(root: &Root, signatures: &[Signature], message: &[u8]) -> bool {
    let Some(role) = root.roles.get(&RoleType::Snapshot) else {
        return false;
    };
    let mut seen = HashSet::new();
    let mut valid = 0;
    for one in signatures {
        if !seen.insert(&one.keyid) {
            return false;
        }
        let is_its = role.keyids.contains(&one.keyid);
        let key = root.keys.get(&one.keyid).filter(|_| is_its);
        if key.is_some_and(|key| verifies(key, message, &one.sig)) {
            valid += 1;
        }
    }
    valid >= role.threshold.get()
}

/// The kinds of keys and signatures that `tough` knows.
fn verifies(key: &Key, message: &[u8], signature: &[u8]) -> bool {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1, ED25519, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
        VerificationAlgorithm,
    };
    let (algorithm, public): (&dyn VerificationAlgorithm, &[u8]) = match key {
        Key::Ecdsa { keyval, .. } | Key::EcdsaOld { keyval, .. } => {
            (&ECDSA_P256_SHA256_ASN1, &keyval.public)
        }
        Key::Ed25519 { keyval, .. } => (&ED25519, &keyval.public),
        Key::Rsa { keyval, .. } => (&RSA_PSS_2048_8192_SHA256, &keyval.public),
    };
    let public = UnparsedPublicKey::new(algorithm, public);
    public.verify(message, signature).is_ok()
}

/// A value in which each object has its members in ascending order.
struct Ascending;

impl<'de> Deserialize<'de> for Ascending {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> DeserializeSeed<'de> for Ascending {
    type Value = Self;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Ascending {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value whose objects are in ascending order")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self, A::Error> {
        while all.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self, A::Error> {
        let mut before: Option<&'de str> = None;
        // A name with an escape in it is not borrowed: that file goes the general way.
        while let Some(name) = all.next_key::<&'de str>()? {
            if before.is_some_and(|before| before >= name) {
                return Err(A::Error::custom("not in ascending order"));
            }
            before = Some(name);
            all.next_value::<Self>()?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
