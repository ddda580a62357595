//! Asking the authority.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::SystemTime,
};

use sekisho_certs::TrustDomain;
use sekisho_spire_api::federation::{
    GetMembersRequest, GetMembersResponse, federation_client::FederationClient,
};
use tonic::{Code, Status, transport::Channel};

use super::{
    desk::{Interest, Known, Told},
    wire,
};

/// Names in one question.
const AT_ONCE: usize = 256;
/// What an answer may have: the authority keeps to 3 MiB.
const LARGEST: usize = 4 << 20;

/// Questions that were asked, and the revisions of their answers.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    answered: Vec<(GetMembersRequest, u64)>,
    /// The authority does not know this service.
    said_missing: bool,
}

/// What the authority knows of `wanted`. Facts that have not changed are those of `before`.
///
/// An authority without the service, such as a SPIRE server, knows nobody.
///
/// # Errors
/// When a call fails otherwise: what was known stays.
pub(crate) async fn ask(
    channel: Channel,
    own: &TrustDomain,
    wanted: &Interest,
    before: &Known,
    asked: &mut Asked,
    now: SystemTime,
) -> Result<Known, Status> {
    let mut client = FederationClient::new(channel).max_decoding_message_size(LARGEST);
    let mut found = Known::default();
    let mut answered = Vec::new();
    let mut questions = questions(wanted);
    while let Some(question) = questions.pop_front() {
        let known = asked
            .answered
            .iter()
            .find(|(before, _)| *before == question);
        let revision = known.map_or(0, |(_, revision)| *revision);
        let request = GetMembersRequest {
            revision,
            ..question.clone()
        };
        let answer = match client.get_members(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::Unimplemented => {
                if !std::mem::replace(&mut asked.said_missing, true) {
                    tracing::warn!(
                        "the authority does not tell members of a federation: proxies of this node \
                         get bundles by their entries alone, and no mark"
                    );
                }
                return Ok(Known {
                    unknown: wanted.domains.clone(),
                    ..Known::default()
                });
            }
            Err(status) => return Err(status),
        };
        asked.said_missing = false;
        if answer.unchanged {
            same(&answer, before, &question, &mut found, now);
        } else {
            take(&answer, own, before, &mut found, now);
        }
        left_out(&answer, &question, &mut questions);
        answered.push((question, answer.revision));
    }
    asked.answered = answered;
    Ok(found)
}

/// The names in parts that fit an answer; the marks go with the first.
fn questions(wanted: &Interest) -> VecDeque<GetMembersRequest> {
    let names: Vec<&String> = wanted.domains.iter().collect();
    let mut questions: VecDeque<_> = names
        .chunks(AT_ONCE)
        .map(|names| GetMembersRequest {
            trust_domains: names.iter().map(|name| (*name).clone()).collect(),
            ..GetMembersRequest::default()
        })
        .collect();
    if !wanted.marks.is_empty() {
        if questions.is_empty() {
            questions.push_back(GetMembersRequest::default());
        }
        if let Some(first) = questions.front_mut() {
            first.marks = wanted.marks.iter().cloned().collect();
        }
    }
    questions
}

/// All that was answered to this question before, with new ages.
fn same(
    answer: &GetMembersResponse,
    before: &Known,
    question: &GetMembersRequest,
    found: &mut Known,
    now: SystemTime,
) {
    for age in &answer.ages {
        if let Some(told) = before.members.get(&age.trust_domain) {
            let told = Told {
                facts: Arc::clone(&told.facts),
                confirmed: later(told.confirmed, wire::confirmed(now, age.age_seconds)),
            };
            found.members.insert(age.trust_domain.clone(), told);
        }
    }
    let names = question.trust_domains.iter();
    let unknown = names.filter(|name| before.unknown.contains(*name)).cloned();
    found.unknown.extend(unknown);
}

/// Whole seconds that were rounded down make no younger age.
fn later(before: SystemTime, now: SystemTime) -> SystemTime {
    let step = now.duration_since(before);
    if step.is_ok_and(|step| step.as_secs() >= 1) {
        now
    } else {
        before
    }
}

fn take(
    answer: &GetMembersResponse,
    own: &TrustDomain,
    before: &Known,
    found: &mut Known,
    now: SystemTime,
) {
    for message in &answer.members {
        let name = &message.trust_domain;
        let confirmed = wire::confirmed(now, message.age_seconds);
        let mut facts = message.clone();
        facts.age_seconds = 0;
        let known = before.members.get(name);
        if let Some(told) = known.filter(|told| *told.facts == facts) {
            let told = Told {
                facts: Arc::clone(&told.facts),
                confirmed: later(told.confirmed, confirmed),
            };
            found.members.insert(name.clone(), told);
            continue;
        }
        let problem = match wire::member(message, now) {
            Ok(member) if member.trust_domain() != own => {
                let told = Told {
                    facts: Arc::new(facts),
                    confirmed,
                };
                found.members.insert(name.clone(), told);
                continue;
            }
            Ok(_) => "nobody tells us about our own trust domain".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            domain = name,
            problem,
            "what is said of a site is not taken"
        );
        // As it was: one that is broken on its way is no reason to cut anybody off.
        if let Some(told) = known {
            found.members.insert(name.clone(), told.clone());
        }
    }
    found.unknown.extend(answer.unknown.iter().cloned());
}

/// Those that had no place are asked for again, among fewer.
fn left_out(
    answer: &GetMembersResponse,
    question: &GetMembersRequest,
    questions: &mut VecDeque<GetMembersRequest>,
) {
    let asked: BTreeSet<&String> = question.trust_domains.iter().collect();
    let left: Vec<String> = answer
        .left_out
        .iter()
        .filter(|name| asked.contains(name))
        .cloned()
        .collect();
    if left.is_empty() {
        return;
    }
    if left.len() >= asked.len() {
        tracing::warn!(count = left.len(), "bundles are too large to be told");
        return;
    }
    questions.push_back(GetMembersRequest {
        trust_domains: left,
        ..GetMembersRequest::default()
    });
}

/// What is kept of members: messages as they were answered.
pub(crate) mod kept {
    use prost::Message as _;
    use serde::{Deserialize, Serialize};

    use super::{Arc, BTreeMap, SystemTime, Told};

    /// One of them.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub(crate) struct KeptMember {
        #[serde(with = "crate::cache::bytes")]
        message: Vec<u8>,
        confirmed: SystemTime,
    }

    pub(crate) fn keep(members: &BTreeMap<String, Told>) -> Vec<KeptMember> {
        let kept = members.values().map(|told| KeptMember {
            message: told.facts.encode_to_vec(),
            confirmed: told.confirmed,
        });
        kept.collect()
    }

    /// What was kept; what makes no sense any more is left out.
    pub(crate) fn take_up(kept: &[KeptMember], now: SystemTime) -> BTreeMap<String, Told> {
        let taken = kept.iter().filter_map(|kept| {
            let message = sekisho_spire_api::federation::Member::decode(&*kept.message).ok()?;
            super::wire::member(&message, now).ok()?;
            let told = Told {
                confirmed: kept.confirmed,
                facts: Arc::new(message),
            };
            Some((told.facts.trust_domain.clone(), told))
        });
        taken.collect()
    }
}
