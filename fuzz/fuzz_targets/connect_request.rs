//! The head of an HTTP CONNECT request, as it was read off a socket.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((wanted, length))) = sekisho_proxy::connect::parse(bytes) {
        assert!(length <= bytes.len());
        // The same without what follows, and no piece of it is whole.
        let head = &bytes[..length];
        assert!(
            matches!(sekisho_proxy::connect::parse(head), Ok(Some(again)) if again == (wanted, length))
        );
        assert!(!matches!(
            sekisho_proxy::connect::parse(&head[..length - 1]),
            Ok(Some(_))
        ));
    }
});
