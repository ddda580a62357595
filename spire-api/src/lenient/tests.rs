//! What clients send, and what the library sees of it.

use proptest::prelude::*;

use super::*;

/// What grpc-python 1.85 sends, and what goes on.
fn stream(authority: &str) -> Vec<u8> {
    let mut block = b"@\x05:path\x20/SpiffeWorkloadAPI/FetchX509SVID".to_vec();
    block.extend_from_slice(b"@\x0a:authority");
    block.push(u8::try_from(authority.len()).unwrap());
    block.extend_from_slice(authority.as_bytes());
    block.extend_from_slice(b"\x83\x86@\x02te\x08trailers\x00\x12workload.spiffe.io\x04true");
    let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
    all.extend_from_slice(&[
        0,
        0,
        u8::try_from(block.len()).unwrap(),
        HEADERS,
        4,
        0,
        0,
        0,
        1,
    ]);
    all.extend_from_slice(&block);
    // Data that only looks the same.
    all.extend_from_slice(b"\x00\x00\x10\x00\x01\x00\x00\x00\x01A\x0etmp%2Fcap.sock");
    all
}

fn fed(bytes: &[u8], pieces: usize) -> Vec<u8> {
    let (mut mend, mut out) = (Mend::default(), Vec::new());
    for piece in bytes.chunks(pieces) {
        mend.feed(piece, &mut out);
    }
    out
}

#[test]
fn the_path_of_a_socket_becomes_an_authority_however_it_is_cut() {
    let paths = [
        ("tmp%2Fcap.sock", "tmp.2Fcap.sock"),
        ("/tmp/a b@c.sock", ".tmp.a.b.c.sock"),
    ];
    for (path, authority) in paths {
        let (sent, expected) = (stream(path), stream(authority));
        for pieces in 1..sent.len() {
            assert_eq!(fed(&sent, pieces), expected, "{pieces}");
        }
    }
}

/// What grpc-java 1.73 sends: by the index of the name, with a priority.
#[test]
fn java_names_the_path_as_it_is() {
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\xaa\x01$\x00\x00\x00\x03\
        \x00\x00\x00\x00\x0fA\x14/tmp/capt/agent.sockD\x20/SpiffeWorkloadAPI/FetchX509SVID\
        \x83\x86_\x10application/grpc@\x02te\x08trailersz\x16grpc-java-netty/1.73.0\
        @\x12workload.spiffe.io\x04true@\x14grpc-accept-encoding\x04gzip"
        .to_vec();
    let mended = fed(&sent, 50);
    let at = sent
        .windows(20)
        .position(|it| it == b"/tmp/capt/agent.sock")
        .unwrap();
    sent[at..at + 20].copy_from_slice(b".tmp.capt.agent.sock");
    assert_eq!(mended, sent);
}

#[test]
fn everything_else_goes_on_as_it_is() {
    let sent = stream("localhost");
    assert_eq!(fed(&sent, 7), sent);
    // By index, without indexing, padded, with a priority.
    let mut padded = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    padded.extend_from_slice(&[0, 0, 13, HEADERS, 4 | PADDED | PRIORITY, 0, 0, 0, 1]);
    padded.extend_from_slice(b"\x00\x00\x00\x00\x00\x00\x3f\x01\x01\x03a%b");
    let mended = fed(&padded, 3);
    assert_eq!(mended.len(), padded.len());
    assert!(mended.ends_with(b"a.b"));
}

proptest! {
    #[test]
    fn nothing_is_lost_or_moved(bytes in prop::collection::vec(any::<u8>(), 0..600), pieces in 1_usize..50) {
        let whole = fed(&bytes, usize::MAX);
        let cut = fed(&bytes, pieces);
        prop_assert_eq!(&whole, &cut);
        // A frame that is not whole yet is kept back; the rest differs in what no host has.
        prop_assert!(whole.len() <= bytes.len());
        for (ours, theirs) in whole.iter().zip(&bytes) {
            prop_assert!(ours == theirs || (!is_of_host(*theirs) && *ours == b'.'));
        }
    }
}
