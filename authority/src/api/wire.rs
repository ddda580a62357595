//! Protobuf to what we mean by it, and back.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use sekisho_certs::{SpiffeId, TrustDomain, id};
use sekisho_spire_api::types;
use tonic::Status;

pub(super) use crate::epoch::seconds;
use crate::{
    entry::{self, Draft, Entry, EntryError, Federated, Selector},
    epoch,
    store::{Page, SetMatch},
};

/// A time that was sent; `None` for 0 and less.
pub(super) fn time(seconds: i64) -> Option<SystemTime> {
    (seconds > 0).then(|| epoch::time(seconds))
}

/// A lifetime as a 32-bit number of seconds.
fn lifetime(time: Duration) -> i32 {
    i32::try_from(time.as_secs()).unwrap_or(i32::MAX)
}

/// An ID as text, as it was sent. SPIRE takes a trust domain with or without its scheme.
pub(super) fn id_text(id: &types::Spiffeid) -> String {
    let domain = &id.trust_domain;
    let domain = domain.strip_prefix("spiffe://").unwrap_or(domain);
    format!("spiffe://{domain}{}", id.path)
}

pub(super) fn to_id(id: &SpiffeId) -> Option<types::Spiffeid> {
    Some(types::Spiffeid {
        trust_domain: id.trust_domain_name().into(),
        path: id.path().into(),
    })
}

/// An ID of our own domain in a request.
pub(super) fn own_id(
    field: &'static str,
    sent: Option<&types::Spiffeid>,
    domain: &TrustDomain,
) -> Result<SpiffeId, EntryError> {
    let sent = sent.ok_or_else(|| EntryError::SpiffeId {
        field,
        problem: "request must specify SPIFFE ID".into(),
    })?;
    entry::own_id(field, &id_text(sent), domain)
}

/// A trust domain in a request: `b.example` or `spiffe://b.example`.
pub(super) fn trust_domain(sent: &str) -> Result<TrustDomain, Status> {
    let bare = sent.strip_prefix("spiffe://").unwrap_or(sent);
    id::parse_trust_domain(bare)
        .map_err(|error| Status::invalid_argument(format!("trust domain is not valid: {error}")))
}

fn selector(sent: types::Selector) -> Selector {
    Selector {
        kind: sent.r#type,
        value: sent.value,
    }
}

pub(super) fn to_selectors<'a>(
    all: impl IntoIterator<Item = &'a Selector>,
) -> Vec<types::Selector> {
    let one = |selector: &Selector| types::Selector {
        r#type: selector.kind.clone(),
        value: selector.value.clone(),
    };
    all.into_iter().map(one).collect()
}

/// Selectors of an entry.
pub(super) fn selectors(sent: Vec<types::Selector>) -> Result<BTreeSet<Selector>, EntryError> {
    entry::selectors(sent.into_iter().map(selector))
}

/// Where a page begins and how long it is. Without a size it is everything.
pub(super) fn page(size: i32, token: &str) -> Result<(i64, usize), Status> {
    let most = usize::try_from(size)
        .ok()
        .filter(|size| *size > 0)
        .unwrap_or(usize::MAX);
    let after = if token.is_empty() {
        0
    } else {
        let parsed = token.parse();
        parsed.map_err(|_| Status::invalid_argument(format!("could not parse token {token:?}")))?
    };
    Ok((after, most))
}

/// Where the next page begins: told until a page is empty.
pub(super) fn next_page<T>(size: i32, page: &Page<T>) -> String {
    if size <= 0 || page.items.is_empty() {
        return String::new();
    }
    page.next.to_string()
}

/// How sets are to match. SPIRE has one enum twice, with the same numbers.
fn set_match(sent: i32) -> SetMatch {
    use types::selector_match::MatchBehavior;
    match MatchBehavior::try_from(sent).unwrap_or_default() {
        MatchBehavior::MatchAny => SetMatch::Any,
        MatchBehavior::MatchExact => SetMatch::Exact,
        MatchBehavior::MatchSubset => SetMatch::Subset,
        MatchBehavior::MatchSuperset => SetMatch::Superset,
    }
}

/// The selectors of a filter, of which there must be some.
pub(super) fn selector_match(
    sent: types::SelectorMatch,
) -> Result<(BTreeSet<Selector>, SetMatch), Status> {
    let how = set_match(sent.r#match);
    let set = selectors(sent.selectors).map_err(|error| {
        Status::invalid_argument(format!("malformed selectors filter: {error}"))
    })?;
    Ok((set, how))
}

/// The trust domains of a filter, of which there must be some.
pub(super) fn federates_match(
    sent: types::FederatesWithMatch,
) -> Result<(BTreeSet<TrustDomain>, SetMatch), Status> {
    let how = set_match(sent.r#match);
    let set: BTreeSet<_> = sent
        .trust_domains
        .iter()
        .map(|domain| trust_domain(domain))
        .collect::<Result<_, _>>()?;
    if set.is_empty() {
        return Err(Status::invalid_argument(
            "malformed federates with filter: empty trust domain set",
        ));
    }
    Ok((set, how))
}

/// An entry that is to be made.
pub(super) fn draft(sent: types::Entry, domain: &TrustDomain) -> Result<Draft, EntryError> {
    let spiffe_id = own_id("spiffe ID", sent.spiffe_id.as_ref(), domain)?;
    let attributes = sent.additional_attributes.unwrap_or_default();
    let draft = Draft {
        id: entry::entry_id(&sent.id)?,
        spiffe_id: entry::workload_id(&spiffe_id.to_string(), domain)?,
        parent_id: own_id("parent ID", sent.parent_id.as_ref(), domain)?,
        selectors: selectors(sent.selectors)?,
        x509_ttl: entry::ttl(sent.x509_svid_ttl.into())?,
        jwt_ttl: entry::ttl(sent.jwt_svid_ttl.into())?,
        federates_with: entry::federates_with(sent.federates_with, domain)?,
        admin: sent.admin,
        downstream: sent.downstream,
        expires_at: time(sent.expires_at),
        dns_names: entry::dns_names(sent.dns_names)?,
        store_svid: sent.store_svid,
        hint: entry::hint(sent.hint)?,
        no_prefetch: attributes.disable_x509_svid_prefetch,
        jwt_id: attributes.jwt_svid_include_jti,
    };
    draft.check()?;
    Ok(draft)
}

/// Which fields of an entry: all where none is named.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mask(Option<types::EntryMask>);

macro_rules! fields {
    ($($name:ident),*) => {
        $(pub(super) fn $name(self) -> bool {
            self.0.is_none_or(|mask| mask.$name)
        })*
    };
}

impl Mask {
    pub(super) const fn new(sent: Option<types::EntryMask>) -> Self {
        Self(sent)
    }

    fields!(
        spiffe_id,
        parent_id,
        selectors,
        x509_svid_ttl,
        federates_with,
        admin,
        downstream,
        expires_at,
        dns_names,
        revision_number,
        store_svid,
        jwt_svid_ttl,
        hint,
        created_at,
        additional_attributes
    );
}

/// An entry as it is told: the fields of a mask, its own name always.
pub(super) fn to_entry(entry: &Entry, mask: Mask, domains: Option<&[TrustDomain]>) -> types::Entry {
    let draft = &entry.draft;
    let mut told = types::Entry {
        id: entry.id.clone(),
        ..Default::default()
    };
    if mask.spiffe_id() {
        told.spiffe_id = to_id(&draft.spiffe_id);
    }
    if mask.parent_id() {
        told.parent_id = to_id(&draft.parent_id);
    }
    if mask.selectors() {
        told.selectors = to_selectors(&draft.selectors);
    }
    if mask.x509_svid_ttl() {
        told.x509_svid_ttl = lifetime(draft.x509_ttl);
    }
    if mask.jwt_svid_ttl() {
        told.jwt_svid_ttl = lifetime(draft.jwt_ttl);
    }
    if mask.federates_with() {
        told.federates_with = federates_with(&draft.federates_with, domains);
    }
    if mask.admin() {
        told.admin = draft.admin;
    }
    if mask.downstream() {
        told.downstream = draft.downstream;
    }
    if mask.expires_at() {
        told.expires_at = draft.expires_at.map_or(0, seconds);
    }
    if mask.dns_names() {
        told.dns_names.clone_from(&draft.dns_names);
    }
    if mask.revision_number() {
        told.revision_number = entry.revision;
    }
    if mask.store_svid() {
        told.store_svid = draft.store_svid;
    }
    if mask.hint() {
        told.hint.clone_from(&draft.hint);
    }
    if mask.created_at() {
        told.created_at = seconds(entry.created_at);
    }
    if mask.additional_attributes() && (draft.no_prefetch || draft.jwt_id) {
        told.additional_attributes = Some(types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: draft.no_prefetch,
            jwt_svid_include_jti: draft.jwt_id,
        });
    }
    told
}

/// As it stands, or with `*` written out as `domains`: a stock agent fails its whole sync on it.
fn federates_with(all: &[Federated], domains: Option<&[TrustDomain]>) -> Vec<String> {
    let mut names = Vec::new();
    for federated in all {
        match (federated, domains) {
            (Federated::All, Some(domains)) => {
                names.extend(domains.iter().map(ToString::to_string));
            }
            (other, _) => names.push(other.to_string()),
        }
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}
