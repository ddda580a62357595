//! Relationships as people and programs read them.

use std::time::UNIX_EPOCH;

use sekisho_certs::{Clock as _, SystemClock};
use sekisho_spire_api::types::{
    FederationRelationship, federation_relationship::BundleEndpointProfile,
};
use serde_json::{Value, json};

use crate::output;

/// A relationship.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) trust_domain: String,
    pub(super) url: String,
    pub(super) profile: &'static str,
    pub(super) endpoint_id: Option<String>,
    /// Of the bundle that is stored.
    pub(super) sequence: Option<u64>,
    /// `None`: a SPIRE server does not say.
    pub(super) fares: Option<Fares>,
}

/// How it fares. Times in seconds since 1970; 0: never.
#[derive(Debug)]
pub(super) struct Fares {
    pub(super) origin: &'static str,
    pub(super) confirmed_at: i64,
    pub(super) tried_at: i64,
    pub(super) error: Option<String>,
    pub(super) accepts_rollback: bool,
    pub(super) authorities: u32,
    pub(super) jwt_authorities: u32,
    pub(super) refresh_hint: i64,
}

impl From<FederationRelationship> for Row {
    fn from(one: FederationRelationship) -> Self {
        let (profile, endpoint_id) = match one.bundle_endpoint_profile {
            Some(BundleEndpointProfile::HttpsWeb(_)) => ("https_web", None),
            Some(BundleEndpointProfile::HttpsSpiffe(profile)) => {
                ("https_spiffe", Some(profile.endpoint_spiffe_id))
            }
            None => ("-", None),
        };
        Self {
            trust_domain: one.trust_domain,
            url: one.bundle_endpoint_url,
            profile,
            endpoint_id,
            sequence: one.trust_domain_bundle.map(|it| it.sequence_number),
            fares: None,
        }
    }
}

impl Fares {
    /// Whole seconds since it was confirmed.
    fn age(&self, now: i64) -> Option<i64> {
        (self.confirmed_at > 0).then(|| (now - self.confirmed_at).max(0))
    }
}

fn json(row: &Row, now: i64) -> Value {
    let mut told = json!({
        "trust_domain": row.trust_domain,
        "url": row.url,
        "profile": row.profile,
        "endpoint_id": row.endpoint_id,
        "bundle_sequence": row.sequence,
    });
    if let (Some(fares), Some(members)) = (&row.fares, told.as_object_mut()) {
        let time = |at: i64| (at > 0).then_some(at);
        for (name, value) in [
            ("origin", json!(fares.origin)),
            ("confirmed_at", json!(time(fares.confirmed_at))),
            ("age", json!(fares.age(now))),
            ("tried_at", json!(time(fares.tried_at))),
            ("error", json!(fares.error)),
            ("accepts_rollback", json!(fares.accepts_rollback)),
            ("authorities", json!(fares.authorities)),
            ("jwt_authorities", json!(fares.jwt_authorities)),
            ("refresh_hint", json!(time(fares.refresh_hint))),
        ] {
            members.insert(name.into(), value);
        }
    }
    told
}

pub(super) fn ago(seconds: i64) -> String {
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

const HEAD: [&str; 7] = [
    "trust domain",
    "url",
    "profile",
    "endpoint id",
    "bundle",
    "from",
    "confirmed",
];

fn cells(row: &Row, now: i64) -> Vec<String> {
    let confirmed = match &row.fares {
        None => "-".to_owned(),
        Some(fares) => fares.age(now).map_or_else(|| "never".into(), ago),
    };
    vec![
        row.trust_domain.clone(),
        row.url.clone(),
        row.profile.to_owned(),
        row.endpoint_id.clone().unwrap_or_else(|| "-".into()),
        row.sequence
            .map_or_else(|| "none yet".into(), |sequence| sequence.to_string()),
        row.fares
            .as_ref()
            .map_or("-", |fares| fares.origin)
            .to_owned(),
        confirmed,
    ]
}

/// Shows them; below the table, why one is not fetched.
pub(super) fn show(as_json: bool, rows: &[Row]) {
    let now = SystemClock.now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    if as_json {
        let rows = rows.iter().map(|row| json(row, now));
        return output::json(&Value::Array(rows.collect()));
    }
    let mut table = vec![HEAD.map(str::to_owned).to_vec()];
    table.extend(rows.iter().map(|row| cells(row, now)));
    output::line(output::table(&table).trim_end());
    for row in rows {
        let Some(fares) = &row.fares else { continue };
        if let Some(error) = &fares.error {
            output::line(format_args!("{}: {error}", row.trust_domain));
        }
        if fares.accepts_rollback {
            let domain = &row.trust_domain;
            output::line(format_args!("{domain}: an older bundle is let in, once"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_has_its_age_and_its_reason() {
        let row = Row {
            trust_domain: "b.example".into(),
            url: "https://b.example".into(),
            profile: "https_web",
            endpoint_id: None,
            sequence: Some(7),
            fares: Some(Fares {
                origin: "file",
                confirmed_at: 1000,
                tried_at: 4000,
                error: Some("away".into()),
                accepts_rollback: false,
                authorities: 1,
                jwt_authorities: 0,
                refresh_hint: 0,
            }),
        };
        let told = json(&row, 4700);
        assert_eq!(
            (&told["age"], &told["error"]),
            (&json!(3700), &json!("away"))
        );
        assert_eq!(told["refresh_hint"], Value::Null);
        assert_eq!(cells(&row, 4700)[5..], ["file", "1h ago"]);
        assert_eq!(cells(&row, 900)[6], "0s ago", "clocks differ");
    }
}
