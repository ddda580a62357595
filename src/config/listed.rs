//! A file that lists something of a site: its entries, its services.

use sekisho_certs::TrustDomain;

use super::{error::Report, expand, field::Field, files, keys::Keys, top, tree};

/// What a file lists.
pub(super) struct Listed {
    /// Its keys: `site`, and the one below.
    pub(super) keys: &'static Keys,
    /// The key of the list, and what is in it.
    pub(super) list: &'static str,
    /// What is expected there.
    pub(super) form: &'static str,
}

impl Listed {
    /// Gives each item of the files to `take`. What is wrong with the files is reported, and that they are
    /// of another site than `site`.
    pub(super) fn each(
        &self,
        sources: &[files::Source],
        site: &TrustDomain,
        env: expand::Env<'_>,
        report: &mut Report,
        mut take: impl FnMut(&Field<'_>, &mut Report),
    ) {
        for source in sources {
            let Some(mut root) = tree::parse(&source.file, &source.text, report) else {
                continue;
            };
            expand::expand(&mut root, "", env, report);
            let field = Field {
                path: String::new(),
                key: &root.at,
                node: &root,
            };
            let Some(map) = field.map(self.keys, report) else {
                continue;
            };
            if let Some(field) = map.get("site")
                && let Some(named) = top::site(&field, report)
                && named != *site
            {
                field.rule(format!("these are {} of {site}", self.list), report);
            }
            let Some(list) = map.required(self.list, self.form, report) else {
                continue;
            };
            for item in list.list(self.form, report).unwrap_or_default() {
                take(&item, report);
            }
        }
    }
}
