//! `accept` and `expect`.

use sekisho_certs::{IdList, IdPattern};

use crate::config::{error::Report, field::Field};

/// What such a list looks like.
pub(super) const FORM: &str = "a list of SPIFFE IDs, as in [spiffe://osaka.example/sender], of marks, as in [mark:hpci], or \
     [federated]";

/// Reads a list of patterns, or `[federated]`.
pub(in crate::config) fn read(field: &Field<'_>, report: &mut Report) -> Option<IdList> {
    let before = report.count();
    let items = field.list(FORM, report)?;
    if let [only] = items.as_slice()
        && only.as_text() == Some("federated")
    {
        return Some(IdList::Federated);
    }
    let mut patterns: Vec<IdPattern> = Vec::new();
    for item in &items {
        let form = "a SPIFFE ID, as in spiffe://osaka.example/sender, or a mark, as in mark:hpci";
        let Some(text) = item.text(form, report) else {
            continue;
        };
        if text == "federated" {
            item.rule(
                "`federated` stands alone: it already is every trusted domain",
                report,
            );
            continue;
        }
        match text.parse::<IdPattern>() {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => item.problem(error.into(), report),
        }
    }
    (report.count() == before && !patterns.is_empty()).then_some(IdList::Named(patterns))
}
