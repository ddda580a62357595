//! What a command line says of an entry that is made or changed.

use clap::{Args, ValueEnum};
use sekisho_certs::TrustDomain;
use sekisho_spire_api::types::{self, EntryMask, entry::AdditionalAttributes};

use crate::commands::{Asked, value};

/// What an entry may say beside its IDs and selectors.
#[derive(Debug, Default, Args)]
pub(crate) struct Details {
    /// Whose bundles it gets; may be given several times, or as `*`
    #[arg(long, value_name = "TRUST DOMAIN", value_parser = value::federated)]
    federates_with: Vec<String>,
    /// Lifetime of its X.509-SVIDs; 0s is the authority's own
    #[arg(long, value_name = "TIME", value_parser = value::seconds)]
    x509_ttl: Option<i32>,
    /// Lifetime of its JWT-SVIDs; 0s is the authority's own
    #[arg(long, value_name = "TIME", value_parser = value::seconds)]
    jwt_ttl: Option<i32>,
    /// A DNS name in its SVIDs; may be given several times
    #[arg(long = "dns", value_name = "NAME", value_parser = value::word)]
    dns_names: Vec<String>,
    /// A word for those that have several identities
    #[arg(long, value_name = "WORD")]
    hint: Option<String>,
    /// It may administer the authority
    #[arg(long)]
    admin: bool,
    /// It is a server below
    #[arg(long)]
    downstream: bool,
    /// Its SVIDs go to a store, not to processes (SPIRE's agents)
    #[arg(long)]
    store_svid: bool,
    /// Its X.509-SVID is signed when somebody asks, not before
    #[arg(long)]
    on_demand: bool,
    /// Its JWT-SVIDs have an ID (`jti`)
    #[arg(long)]
    jwt_id: bool,
    /// When it ends, in seconds since 1970
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(1..))]
    expires_at: Option<i64>,
}

/// A new entry.
#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// Its name; a new one gets a random one
    #[arg(long, value_name = "NAME", value_parser = value::word)]
    entry_id: Option<String>,
    /// The identity
    #[arg(long, value_name = "ID", value_parser = value::id)]
    pub(super) spiffe_id: value::Id,
    /// Whose node serves it
    #[arg(long, value_name = "ID", value_parser = value::id)]
    parent_id: value::Id,
    /// What must be true of a process; may be given several times
    #[arg(long = "selector", value_name = "TYPE:VALUE", required = true, value_parser = value::selector)]
    selectors: Vec<types::Selector>,
    #[command(flatten)]
    details: Details,
}

impl Create {
    /// The entry at this site.
    pub(super) fn entry(&self, site: &TrustDomain) -> anyhow::Result<types::Entry> {
        Ok(types::Entry {
            id: self.entry_id.clone().unwrap_or_default(),
            spiffe_id: Some(self.spiffe_id.at(site)?),
            parent_id: Some(self.parent_id.at(site)?),
            selectors: self.selectors.clone(),
            ..self.details.entry()
        })
    }
}

/// What is to change of an entry.
#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// Its name
    #[arg(long, value_name = "NAME", value_parser = value::word)]
    pub(super) entry_id: String,
    /// Another identity
    #[arg(long, value_name = "ID", value_parser = value::id)]
    spiffe_id: Option<value::Id>,
    /// Another node
    #[arg(long, value_name = "ID", value_parser = value::id)]
    parent_id: Option<value::Id>,
    /// What must be true of a process, in place of what must be now; may be given several times
    #[arg(long = "selector", value_name = "TYPE:VALUE", value_parser = value::selector)]
    selectors: Vec<types::Selector>,
    #[command(flatten)]
    details: Details,
    /// Empty it, or set it to no; may be given several times
    #[arg(long, value_name = "WHAT", value_enum)]
    clear: Vec<Field>,
}

/// What of an entry may be cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Field {
    FederatesWith,
    X509Ttl,
    JwtTtl,
    Dns,
    Hint,
    Admin,
    Downstream,
    StoreSvid,
    OnDemand,
    JwtId,
    ExpiresAt,
}

/// What an update does.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) entry: types::Entry,
    pub(super) mask: EntryMask,
    /// What is said of the attributes, which are changed together; `None` stays as it is.
    on_demand: Option<bool>,
    jwt_id: Option<bool>,
}

impl Change {
    /// Takes the attributes that nothing is said of from the entry as it is.
    pub(super) fn keep_attributes(&mut self, now: &types::Entry) {
        let now = now.additional_attributes.unwrap_or_default();
        self.entry.additional_attributes = Some(AdditionalAttributes {
            disable_x509_svid_prefetch: self.on_demand.unwrap_or(now.disable_x509_svid_prefetch),
            jwt_svid_include_jti: self.jwt_id.unwrap_or(now.jwt_svid_include_jti),
        });
    }
}

impl Update {
    /// What it does at this site. What it does not name stays as it is.
    pub(super) fn change(&self, site: &TrustDomain) -> anyhow::Result<Change> {
        let said = &self.details;
        let cleared = |field| self.clear.contains(&field);
        let at = |id: &Option<value::Id>| id.as_ref().map(|id| id.at(site)).transpose();
        let (on_demand, jwt_id) = (
            flag(said.on_demand, cleared(Field::OnDemand)),
            flag(said.jwt_id, cleared(Field::JwtId)),
        );
        let mask = EntryMask {
            spiffe_id: self.spiffe_id.is_some(),
            parent_id: self.parent_id.is_some(),
            selectors: !self.selectors.is_empty(),
            x509_svid_ttl: said.x509_ttl.is_some() || cleared(Field::X509Ttl),
            federates_with: !said.federates_with.is_empty() || cleared(Field::FederatesWith),
            admin: said.admin || cleared(Field::Admin),
            downstream: said.downstream || cleared(Field::Downstream),
            expires_at: said.expires_at.is_some() || cleared(Field::ExpiresAt),
            dns_names: !said.dns_names.is_empty() || cleared(Field::Dns),
            store_svid: said.store_svid || cleared(Field::StoreSvid),
            jwt_svid_ttl: said.jwt_ttl.is_some() || cleared(Field::JwtTtl),
            hint: said.hint.is_some() || cleared(Field::Hint),
            additional_attributes: on_demand.is_some() || jwt_id.is_some(),
            ..EntryMask::default()
        };
        Ok(Change {
            entry: types::Entry {
                id: self.entry_id.clone(),
                spiffe_id: at(&self.spiffe_id)?,
                parent_id: at(&self.parent_id)?,
                selectors: self.selectors.clone(),
                ..said.entry()
            },
            mask,
            on_demand,
            jwt_id,
        })
    }

    /// What is wrong with it: nothing is to change, or something is given and cleared at once.
    pub(super) fn problem(&self) -> Option<String> {
        let said = &self.details;
        let given = |field| match field {
            Field::FederatesWith => !said.federates_with.is_empty(),
            Field::X509Ttl => said.x509_ttl.is_some(),
            Field::JwtTtl => said.jwt_ttl.is_some(),
            Field::Dns => !said.dns_names.is_empty(),
            Field::Hint => said.hint.is_some(),
            Field::Admin => said.admin,
            Field::Downstream => said.downstream,
            Field::StoreSvid => said.store_svid,
            Field::OnDemand => said.on_demand,
            Field::JwtId => said.jwt_id,
            Field::ExpiresAt => said.expires_at.is_some(),
        };
        let both = self.clear.iter().find(|field| given(**field));
        if let Some(name) = both.and_then(Field::to_possible_value) {
            let name = name.get_name();
            return Some(format!("--{name} and --clear {name}: one of them"));
        }
        let named = self.spiffe_id.is_some() || self.parent_id.is_some();
        let any = Field::value_variants().iter().any(|field| given(*field));
        (!named && !any && self.selectors.is_empty() && self.clear.is_empty())
            .then(|| "nothing is to change: name what is (sekisho entry update --help)".to_owned())
    }
}

const fn flag(set: bool, cleared: bool) -> Option<bool> {
    match (set, cleared) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}

impl Details {
    fn entry(&self) -> types::Entry {
        types::Entry {
            federates_with: self.federates_with.clone(),
            x509_svid_ttl: self.x509_ttl.unwrap_or_default(),
            jwt_svid_ttl: self.jwt_ttl.unwrap_or_default(),
            dns_names: self.dns_names.clone(),
            hint: self.hint.clone().unwrap_or_default(),
            admin: self.admin,
            downstream: self.downstream,
            store_svid: self.store_svid,
            expires_at: self.expires_at.unwrap_or_default(),
            additional_attributes: Some(AdditionalAttributes {
                disable_x509_svid_prefetch: self.on_demand,
                jwt_svid_include_jti: self.jwt_id,
            }),
            ..types::Entry::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        update: Update,
    }

    fn update(words: &str) -> Update {
        let line = format!("update --entry-id one {words}");
        Line::parse_from(line.split_whitespace()).update
    }

    fn change(words: &str) -> Change {
        let update = update(words);
        assert_eq!(update.problem(), None);
        update
            .change(&TrustDomain::new("a.example").unwrap())
            .unwrap()
    }

    #[test]
    fn only_what_is_named_changes() {
        let hint = change("--hint db --x509-ttl 0s --clear dns");
        let mask = EntryMask {
            hint: true,
            x509_svid_ttl: true,
            dns_names: true,
            ..Default::default()
        };
        assert_eq!((hint.mask, hint.entry.hint.as_str()), (mask, "db"));
        let id = change("--spiffe-id /other");
        assert_eq!(id.entry.spiffe_id.unwrap().path, "/other");
        assert!(id.mask.spiffe_id && !id.mask.parent_id && !id.mask.selectors);
    }

    #[test]
    fn one_attribute_leaves_the_other() {
        let mut change = change("--clear on-demand");
        assert!(change.mask.additional_attributes);
        let now = types::Entry {
            additional_attributes: Some(AdditionalAttributes {
                disable_x509_svid_prefetch: true,
                jwt_svid_include_jti: true,
            }),
            ..Default::default()
        };
        change.keep_attributes(&now);
        let kept = change.entry.additional_attributes.unwrap();
        assert!(!kept.disable_x509_svid_prefetch && kept.jwt_svid_include_jti);
    }

    #[test]
    fn nothing_and_both_are_wrong() {
        assert!(update("").problem().unwrap().contains("nothing"));
        let both = update("--hint x --clear hint").problem().unwrap();
        assert!(both.contains("--clear hint"), "{both}");
        assert!(update("--admin --clear admin").problem().is_some());
    }
}
