//! Answers within their bounds.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::SystemTime};

use aws_lc_rs::digest;
use prost::Message as _;
use sekisho_certs::{Member, members};
use sekisho_spire_api::federation as wire;

use super::encoded::Encoded;
use crate::members::{Answer, Wanted};

/// Bytes of an answer, with room below the 4 MiB that gRPC's clients take.
const MOST: usize = 3 << 20;
/// Members that are answered because of their mark alone.
const BY_MARK: usize = 256;
/// Bytes of their bundles.
const BUNDLES_BY_MARK: usize = 1 << 20;
/// What a member costs beside its bundle, at the most that is usual: with what a length needs.
const OVERHEAD: usize = 64;

/// What is sent of an answer.
pub(super) fn answer(
    answer: Answer,
    wanted: &Wanted,
    now: SystemTime,
    known: u64,
    encoded: &Encoded,
) -> wire::GetMembersResponse {
    let Answer { members, unknown } = answer;
    let (named, marked): (Vec<_>, Vec<_>) = members
        .into_iter()
        .partition(|member| wanted.domains.contains(member.trust_domain()));
    let mut whole = wire::GetMembersResponse {
        unknown: unknown.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let mut room = MOST.saturating_sub(whole.encoded_len());
    let mut taken = Vec::new();
    for member in named {
        let message = message(&member, encoded);
        let size = message.encoded_len() + OVERHEAD;
        if size > room {
            whole.left_out.push(message.trust_domain);
            continue;
        }
        room -= size;
        whole.members.push(message);
        taken.push(member);
    }
    let mut bundles = BUNDLES_BY_MARK;
    let mut count = 0;
    for member in loaded_first(marked) {
        let message = message(&member, encoded);
        let size = message.encoded_len() + OVERHEAD;
        // The others are asked for by name, by whoever meets them.
        if count >= BY_MARK || size > room || message.bundle.len() > bundles {
            continue;
        }
        count += 1;
        room -= size;
        bundles -= message.bundle.len();
        whole.members.push(message);
        taken.push(member);
    }
    whole.revision = revision(&whole);
    let ages: Vec<u64> = taken
        .iter()
        .map(|member| member.age(now).as_secs())
        .collect();
    if whole.revision == known {
        let names = whole
            .members
            .into_iter()
            .map(|message| message.trust_domain);
        let ages = names
            .zip(ages)
            .map(|(trust_domain, age_seconds)| wire::Age {
                trust_domain,
                age_seconds,
            });
        return wire::GetMembersResponse {
            revision: known,
            unchanged: true,
            left_out: whole.left_out,
            ages: ages.collect(),
            ..Default::default()
        };
    }
    for (message, age) in whole.members.iter_mut().zip(ages) {
        message.age_seconds = age;
    }
    whole
}

fn loaded_first(mut members: Vec<Arc<Member>>) -> Vec<Arc<Member>> {
    members.sort_by_key(|member| member.bundle().is_none());
    members
}

/// One number for all facts of an answer, ages left out.
fn revision(answer: &wire::GetMembersResponse) -> u64 {
    let digest = digest::digest(&digest::SHA256, &answer.encode_to_vec());
    let bytes = digest.as_ref().first_chunk::<8>();
    bytes.map_or(1, |bytes| u64::from_be_bytes(*bytes)).max(1)
}

/// A member without its age.
fn message(member: &Member, encoded: &Encoded) -> wire::Member {
    let bundle = member.bundle();
    let bundle = bundle.map(|bundle| encoded.document(bundle).to_vec());
    let source = match member.source() {
        members::Source::Peer => wire::Source::Peer,
        members::Source::Directory => wire::Source::Directory,
    };
    let services = member.services().values().map(|service| wire::Service {
        name: service.name().into(),
        gateways: service.gateways().iter().map(ToString::to_string).collect(),
        spiffe_id: service.id().to_string(),
        marks: service.marks().iter().map(ToString::to_string).collect(),
    });
    wire::Member {
        trust_domain: member.trust_domain().to_string(),
        source: source.into(),
        bundle: bundle.unwrap_or_default(),
        age_seconds: 0,
        marks: member.marks().iter().map(ToString::to_string).collect(),
        services: services.collect(),
    }
}
