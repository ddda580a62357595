//! A change of an entry by mask.

use sekisho_spire_api::{server::entry::batch_update_entry_response, types};
use tonic::Code;

use super::{EntryService, Mask, status, wire};
use crate::{
    caller::Caller,
    entry::{self, Draft, EntryError},
    store::Update,
};

impl EntryService {
    pub(super) async fn updated(
        &self,
        caller: &Caller,
        sent: types::Entry,
        input: Mask,
        output: Mask,
    ) -> batch_update_entry_response::Result {
        const WHAT: &str = "failed to update entry";
        let answer = |status, entry| batch_update_entry_response::Result { status, entry };
        if sent.id.is_empty() {
            let refused =
                status::item(Code::InvalidArgument, "failed to convert entry: missing ID");
            return answer(refused, None);
        }
        let (id, domain) = (sent.id.clone(), self.core.settings.domain.clone());
        let edit = move |draft: &mut Draft| apply(draft, sent, input, &domain);
        let by = self.core.by(caller.name());
        match self.core.store.update_entry(by, id, edit).await {
            Ok(Update::Updated(entry)) => {
                answer(status::ok(), Some(wire::to_entry(&entry, output, None)))
            }
            Ok(Update::Missing) => {
                // Without a cause, as SPIRE tells it.
                answer(status::item(Code::NotFound, WHAT), None)
            }
            Ok(Update::NoBundle(domain)) => {
                let text = format!("{WHAT}: unable to find federated bundle \"spiffe://{domain}\"");
                answer(status::item(Code::Internal, text), None)
            }
            Ok(Update::Repeats(other)) => {
                let text = format!(
                    "{WHAT}: entry {:?} has the same IDs and selectors",
                    other.id
                );
                answer(status::item(Code::AlreadyExists, text), None)
            }
            Ok(Update::Refused(error)) => {
                let refused = status::entry("failed to convert entry", &error);
                answer(status::of(&refused), None)
            }
            Err(error) => answer(status::of(&status::store(WHAT, &error)), None),
        }
    }
}

/// Puts the fields of the mask in place of what they were. Those outside of it are not looked at.
fn apply(
    draft: &mut Draft,
    sent: types::Entry,
    mask: Mask,
    domain: &sekisho_certs::TrustDomain,
) -> Result<(), EntryError> {
    if mask.spiffe_id() {
        let id = wire::own_id("spiffe ID", sent.spiffe_id.as_ref(), domain)?;
        draft.spiffe_id = entry::workload_id(&id.to_string(), domain)?;
    }
    if mask.parent_id() {
        draft.parent_id = wire::own_id("parent ID", sent.parent_id.as_ref(), domain)?;
    }
    if mask.selectors() {
        draft.selectors = wire::selectors(sent.selectors)?;
    }
    if mask.x509_svid_ttl() {
        draft.x509_ttl = entry::ttl(sent.x509_svid_ttl.into())?;
    }
    if mask.jwt_svid_ttl() {
        draft.jwt_ttl = entry::ttl(sent.jwt_svid_ttl.into())?;
    }
    if mask.federates_with() {
        draft.federates_with = entry::federates_with(sent.federates_with, domain)?;
    }
    if mask.admin() {
        draft.admin = sent.admin;
    }
    if mask.downstream() {
        draft.downstream = sent.downstream;
    }
    if mask.expires_at() {
        draft.expires_at = wire::time(sent.expires_at);
    }
    if mask.dns_names() {
        draft.dns_names = entry::dns_names(sent.dns_names)?;
    }
    if mask.store_svid() {
        draft.store_svid = sent.store_svid;
    }
    if mask.hint() {
        draft.hint = entry::hint(sent.hint)?;
    }
    if mask.additional_attributes() {
        let attributes = sent.additional_attributes.unwrap_or_default();
        draft.no_prefetch = attributes.disable_x509_svid_prefetch;
        draft.jwt_id = attributes.jwt_svid_include_jti;
    }
    draft.check()
}
