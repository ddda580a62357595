//! A member as it was answered, checked.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use sekisho_certs::{
    BundleError, Member, TrustBundle,
    id::{self, IdError},
    members::{MemberError, Service, Source},
};
use sekisho_spire_api::federation as wire;

/// Gateways, marks or services of one message that are looked at: more is refused by the member's own
/// bounds, before that it is not even read.
const MOST: usize = 256;

/// Why an answer about a member is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnsweredMemberError {
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A name.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Its marks or services.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// It does not say who vouches for it.
    #[error("it does not say who vouches for it")]
    Source,
    /// More than anybody needs.
    #[error("more than {MOST} {0}")]
    TooMany(&'static str),
}

/// How long ago something was, as a time of ours.
pub(super) fn confirmed(now: SystemTime, age_seconds: u64) -> SystemTime {
    let age = Duration::from_secs(age_seconds);
    now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The member of a message that was received at `now`.
///
/// # Errors
/// Each of [`AnsweredMemberError`]'s variants: it is refused whole.
pub(super) fn member(
    message: &wire::Member,
    now: SystemTime,
) -> Result<Member, AnsweredMemberError> {
    for (count, what) in [
        (message.marks.len(), "marks"),
        (message.services.len(), "services"),
    ] {
        if count > MOST {
            return Err(AnsweredMemberError::TooMany(what));
        }
    }
    let domain = id::parse_trust_domain(&message.trust_domain)?;
    let source = match message.source() {
        wire::Source::Peer => Source::Peer,
        wire::Source::Directory => Source::Directory,
        wire::Source::Unspecified => return Err(AnsweredMemberError::Source),
    };
    let marks: Result<_, _> = message.marks.iter().map(|mark| mark.parse()).collect();
    let services: Result<Vec<_>, _> = message.services.iter().map(service).collect();
    let mut member = Member::new(domain.clone(), source, confirmed(now, message.age_seconds))
        .with_marks(marks?)?
        .with_services(services?)?;
    if !message.bundle.is_empty() {
        let bundle = TrustBundle::from_json(domain, &message.bundle)?;
        member = member.with_bundle(Arc::new(bundle))?;
    }
    Ok(member)
}

fn service(message: &wire::Service) -> Result<Service, AnsweredMemberError> {
    if message.gateways.len() > MOST || message.marks.len() > MOST {
        return Err(AnsweredMemberError::TooMany("gateways or marks"));
    }
    let gateways: Result<_, _> = message.gateways.iter().map(|text| text.parse()).collect();
    let marks: Result<_, _> = message.marks.iter().map(|mark| mark.parse()).collect();
    let id = id::parse_workload_id(&message.spiffe_id)?;
    Ok(Service::new(&message.name, gateways?, id, marks?)?)
}

#[cfg(test)]
mod tests {
    use sekisho_testkit::Site;

    use super::*;

    fn message() -> wire::Member {
        let site = Site::new("b.example");
        wire::Member {
            trust_domain: "b.example".into(),
            source: wire::Source::Directory.into(),
            bundle: site.bundle().to_json().to_string().into_bytes(),
            age_seconds: 5,
            marks: vec!["hpci".into()],
            services: vec![wire::Service {
                name: "mdx".into(),
                gateways: vec!["gw.b.example:1".into()],
                spiffe_id: "spiffe://b.example/mdx".into(),
                marks: Vec::new(),
            }],
        }
    }

    fn refused(change: impl FnOnce(&mut wire::Member)) {
        let mut message = message();
        change(&mut message);
        member(&message, SystemTime::UNIX_EPOCH).unwrap_err();
    }

    #[test]
    fn what_is_right_is_taken_and_as_old_as_it_says() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let member = member(&message(), now).unwrap();
        assert_eq!(member.age(now), Duration::from_secs(5));
        assert!(member.bundle().is_some() && member.services().contains_key("mdx"));
        let old = confirmed(now, u64::MAX);
        assert_eq!(old, SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn what_is_wrong_in_one_part_is_refused_whole() {
        refused(|one| one.trust_domain = "B.example".into());
        refused(|one| one.source = 0);
        refused(|one| one.source = 7);
        refused(|one| one.bundle = b"{}".to_vec());
        // The bundle of another site under this name: its CA says whose it is.
        let other = Site::new("c.example").bundle().to_json().to_string();
        refused(|one| one.bundle = other.into_bytes());
        refused(|one| one.marks.push("No".into()));
        refused(|one| one.marks = (0..257).map(|mark| mark.to_string()).collect());
        refused(|one| one.services[0].name = "a.b".into());
        refused(|one| one.services[0].gateways.clear());
        refused(|one| one.services[0].gateways.push("nowhere".into()));
        refused(|one| one.services[0].spiffe_id = "spiffe://c.example/mdx".into());
        refused(|one| one.services[0].spiffe_id = "spiffe://b.example".into());
        let twice = message().services.remove(0);
        refused(|one| one.services.push(twice));
    }
}
