//! What the documents say of the tree is so.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read the tree has failed"
)]

use std::{fs, path::Path};

use sekisho_certs::Reason;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The texts in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn paths_in_the_architecture_exist() {
    let text = read("docs/architecture.md");
    let is_path = |word: &&str| {
        !word.contains(char::is_whitespace) && (word.ends_with(".rs") || word.ends_with('/'))
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let gone: Vec<_> = quoted(&text)
        .filter(is_path)
        .filter(|path| !path.starts_with('/') && !root.join(path).exists())
        .collect();
    assert!(gone.is_empty(), "{gone:?}");
    assert!(quoted(&text).filter(is_path).count() > 20);
}

#[test]
fn every_reason_stands_in_the_readme() {
    let text = read("README.md");
    let missing: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| !text.contains(&format!("`{reason}`")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_four_sites_are_a_hundred_lines_at_most() {
    let says = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with('#');
    let mut lines = 0;
    for site in ["hokkaido", "osaka", "kyushu", "tokyo"] {
        for file in ["site.yaml", "policy/authz.rego"] {
            let text = read(&format!("compose/sites/{site}/{file}"));
            assert!(
                text.lines().all(|line| line.chars().count() <= 100),
                "{site}/{file}"
            );
            lines += text.lines().filter(says).count();
        }
    }
    assert!(lines <= 100, "{lines} lines");
}
