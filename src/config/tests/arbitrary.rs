use std::{fs, path::Path};

use proptest::prelude::*;

use super::{INBOUND, OUTBOUND, load_text, site};
use crate::config::{ConfigErrors, keys, load};

/// Something wrong always has a reason, and can be shown.
fn has_reasons(errors: &ConfigErrors) {
    assert!(!errors.errors().is_empty());
    assert!(!errors.render(true).contains("a defect"), "{errors}");
}

fn check(text: &str) {
    match load_text(text) {
        Ok(config) => assert!(!config.endpoints.is_empty()),
        Err(errors) => has_reasons(&errors),
    }
}

/// Every key there is, and words that stand in values.
fn words() -> Vec<String> {
    let mut words: Vec<_> = keys::ALL.iter().flat_map(|(_, keys)| keys.known).collect();
    words.extend(&[
        "x",
        "[",
        "]",
        "{",
        "}",
        ":",
        ",",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "&a ",
        "*a",
        "?",
        "\"",
        "'",
        "${TWO}",
        "${",
        "true",
        "1s",
        "5",
        "mtls://127.0.0.1:1",
        "tcp://h:1",
        "unix:///run/s",
        "spiffe://a.example/w",
        "federated",
        "b.example",
        "# ",
        "|",
        "~",
    ]);
    words.into_iter().map(|word| (*word).to_owned()).collect()
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f.yaml");
        fs::write(&file, bytes).unwrap();
        if let Err(errors) = load(Path::new(&file), &|_| None) {
            has_reasons(&errors);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,100}") {
        check(&text);
    }

    #[test]
    fn words_of_the_format_in_any_order_never_panic(
        words in prop::collection::vec(prop::sample::select(words()), 0..60),
        spaces in any::<bool>(),
    ) {
        check(&words.join(if spaces { " " } else { "" }));
    }

    #[test]
    fn a_good_file_with_a_part_replaced_never_panics(
        outbound in any::<bool>(),
        from in any::<prop::sample::Index>(),
        length in 0_usize..12,
        word in prop::sample::select(words()),
    ) {
        let text = site(if outbound { OUTBOUND } else { INBOUND });
        let from = from.index(text.len());
        let until = (from + length).min(text.len());
        check(&format!("{}{word}{}", &text[..from], &text[until..]));
    }

    #[test]
    fn an_endpoint_of_arbitrary_values_never_panics(
        key in prop::sample::select(keys::ENDPOINT.known),
        value in "\\PC{0,40}",
    ) {
        let quoted = serde_json::to_string(&value).unwrap();
        let base: Vec<_> = INBOUND.lines().filter(|line| !line.starts_with(key)).collect();
        check(&site(&format!("{}\n{key}: {quoted}\n", base.join("\n"))));
    }
}
