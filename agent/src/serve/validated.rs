//! Claims of a token that holds, as protobuf's JSON values.

use prost_types::{ListValue, Struct, Value, value::Kind};
use sekisho_certs::TrustDomain;
use sekisho_spire_api::workload::ValidateJwtsvidResponse;
use serde_json::Value as Json;

use crate::jwt::validate::Valid;

/// Claims that are told of tokens of other trust domains, which may put anything into theirs: those of
/// RFC 7519 §4.1, as SPIRE's agent.
const COMMON: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

/// The answer to the caller.
pub(super) fn answer(valid: Valid, domain: &TrustDomain) -> ValidateJwtsvidResponse {
    let own = valid.id.trust_domain() == domain;
    let claims = valid.claims.into_iter();
    let claims = claims.filter(|(name, _)| own || COMMON.contains(&name.as_str()));
    ValidateJwtsvidResponse {
        spiffe_id: valid.id.to_string(),
        claims: Some(Struct {
            fields: claims.map(|(name, claim)| (name, value(claim))).collect(),
        }),
    }
}

/// Deeper nesting was refused when the token was read.
fn value(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(one) => Kind::BoolValue(one),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(all) => Kind::ListValue(ListValue {
            values: all.into_iter().map(value).collect(),
        }),
        Json::Object(all) => Kind::StructValue(Struct {
            fields: all
                .into_iter()
                .map(|(name, one)| (name, value(one)))
                .collect(),
        }),
    };
    Value { kind: Some(kind) }
}
