//! RFC 8448 §3, "Simple 1-RTT Handshake": what comes after the handshake.

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn traffic(key: &str, iv: &str) -> TrafficKey {
    TrafficKey {
        suite: Suite::Aes128Gcm,
        key: Zeroizing::new(bytes(key)),
        iv: Zeroizing::new(bytes(iv).try_into().unwrap()),
    }
}

fn client() -> TrafficKey {
    traffic(
        "17422dda596ed5d9acd890e3c63f5051",
        "5b78923dee08579033e523d9",
    )
}

fn server() -> TrafficKey {
    traffic(
        "9f02283b6c9c07efc26bb9f2ac92e356",
        "cf782b88dd83549aadf1e984",
    )
}

const CLIENT_DATA: &str = "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea \
    42 f9 14 aa 66 bc ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 \
    97 70 14 bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4";
const CLIENT_CLOSE: &str =
    "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3";
const SERVER_DATA: &str = "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc \
    32 25 d0 5f 82 aa 1b 36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2 \
    1c 00 47 c2 ab f3 32 54 0d d0 32 e1 67 c2 95 5d";
const SERVER_CLOSE: &str =
    "17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9";

#[test]
fn the_records_of_rfc_8448_are_sealed_and_opened_byte_for_byte() {
    // The server's first record is its ticket.
    for (key, first, data, close) in [
        (client(), 0, CLIENT_DATA, CLIENT_CLOSE),
        (server(), 1, SERVER_DATA, SERVER_CLOSE),
    ] {
        for backend in Backend::ALL {
            let text: Vec<u8> = (0..50).collect();
            let mut sender = pair().client;
            sender.send = Cipher::new(&key, first, backend).unwrap();
            let mut out = sealed(&mut sender, &text);
            assert_eq!(out, bytes(data));
            out.clear();
            sender.close_notify(&mut out).unwrap();
            assert_eq!(out, bytes(close));
            let mut receiver = pair().server;
            receiver.receive = Cipher::new(&key, first, backend).unwrap();
            let all = [bytes(data), bytes(close)].concat();
            assert_eq!(opened(&mut receiver, &all), Ok((text, all.len())));
            assert!(receiver.is_closed());
        }
    }
}
