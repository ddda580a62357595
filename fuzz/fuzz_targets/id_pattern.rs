//! A line of an `accept` or `expect` list.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sekisho_certs::IdPattern;

fuzz_target!(|text: &str| {
    let Ok(pattern) = text.parse::<IdPattern>() else {
        return;
    };
    assert_eq!(pattern.to_string(), text);
    if let Some(id) = pattern.exact() {
        assert!(pattern.matches(&id));
    }
});
