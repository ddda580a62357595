//! The latest result, in a document that says more than figures.

use std::{fs, path::Path};

use anyhow::Context as _;

use crate::{plot, report::Report, table};

const BEGIN: &str = "<!-- latest result: begin";
const END: &str = "<!-- latest result: end -->";

/// Replaces what is between the markers of `document`. Plots are linked where `folder` is below the
/// document's own.
pub(crate) fn fill(document: &Path, folder: &Path, report: &Report) -> anyhow::Result<()> {
    let name = || document.display().to_string();
    let text = fs::read_to_string(document).with_context(name)?;
    let mut result = table::markdown(report);
    let home = document.canonicalize()?;
    let home = home.parent().map(Path::to_owned).unwrap_or_default();
    if let Ok(below) = folder.canonicalize()?.strip_prefix(home) {
        result.push('\n');
        for (plot, _) in plot::plots(report) {
            let path = below.join(plot);
            result.push_str(&format!("![{plot}]({}.svg)\n", path.display()));
        }
    }
    let filled = between(&text, &result)
        .with_context(|| format!("{}: no line \"{BEGIN} …\" or no \"{END}\"", name()))?;
    fs::write(document, filled).with_context(name)
}

/// `text` with `result` between its markers; `None` if it has none.
fn between(text: &str, result: &str) -> Option<String> {
    let begin = text.find(BEGIN)?;
    let (before, rest) = text.split_at(begin);
    let (marker, rest) = rest.split_once('\n')?;
    let (_, behind) = rest.split_once(END)?;
    Some(format!("{before}{marker}\n\n{result}\n{END}{behind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = "a\n<!-- latest result: begin (x) -->\nold\n<!-- latest result: end -->\nb\n";
        let filled = between(text, "new\n").unwrap();
        assert_eq!(
            filled,
            "a\n<!-- latest result: begin (x) -->\n\nnew\n\n<!-- latest result: end -->\nb\n"
        );
        assert_eq!(between(&filled, "new\n").unwrap(), filled);
        assert_eq!(between("a\nb\n", "new"), None);
    }

    #[test]
    fn the_readme_of_the_bench_has_the_markers() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        assert!(between(&fs::read_to_string(path).unwrap(), "").is_some());
    }
}
