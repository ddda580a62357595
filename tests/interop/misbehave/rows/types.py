"""Content types, inside and outside (RFC 8446 sections 5, 5.1, 5.2 and 5.4)."""

import messages as m
from link import noise
from records import ALERT, CCS, DATA, HANDSHAKE, HEARTBEAT, MAX, header, plain
from table import add, row

UNEXPECTED = "unexpected_message"


def inner(content):
    return lambda link: link.send(link.out.inner(content))


def outer(*records):
    return lambda link: link.send(*records)


add("inner-of-nothing", "a seal around nothing: no type", UNEXPECTED, inner(b""))
add("inner-zero", "one zero byte: no type", UNEXPECTED, inner(b"\0"))
add("inner-zeros", "43 zero bytes: no type", UNEXPECTED, inner(bytes(43)))
add("inner-zeros-of-the-greatest-length", "2^14 + 1 zeros", UNEXPECTED, inner(bytes(MAX + 1)))

for number, name in [
    (1, "1"),
    (CCS, "change_cipher_spec"),
    (HEARTBEAT, "heartbeat"),
    (25, "tls12_cid"),
    (26, "26"),
    (120, "120"),
    (255, "255"),
]:
    add(
        f"inner-type-{number}",
        f"a protected record of type {name}",
        UNEXPECTED,
        inner(b"\1" + bytes([number])),
    )
add("inner-type-255-empty", "type 255, no content", UNEXPECTED, inner(b"\xff"))
add("inner-type-255-padded", "type 255, padded", UNEXPECTED, inner(b"x\xff" + bytes(99)))

FATAL = b"\2\x28"
add("plain-alert", "a fatal alert in plaintext", UNEXPECTED, outer(plain(ALERT, FATAL)))
add(
    "plain-close-notify",
    "close_notify in plaintext",
    UNEXPECTED,
    outer(plain(ALERT, m.CLOSE_NOTIFY)),
)
add("plain-empty-alert", "an empty alert in plaintext", UNEXPECTED, outer(plain(ALERT, b"")))
add(
    "plain-handshake",
    "ClientHello in plaintext",
    UNEXPECTED,
    outer(plain(HANDSHAKE, m.client_hello())),
)
add(
    "plain-key-update",
    "KeyUpdate in plaintext",
    UNEXPECTED,
    outer(plain(HANDSHAKE, m.key_update(0))),
)
add(
    "plain-hello-request",
    "HelloRequest in plaintext",
    UNEXPECTED,
    outer(plain(HANDSHAKE, bytes(4))),
)
add("plain-ccs", "change_cipher_spec after the handshake", UNEXPECTED, outer(plain(CCS, b"\1")))
add("plain-ccs-of-2", "change_cipher_spec with value 2", UNEXPECTED, outer(plain(CCS, b"\2")))
add("plain-ccs-empty", "an empty change_cipher_spec", UNEXPECTED, outer(plain(CCS, b"")))
add(
    "plain-ccs-twice",
    "change_cipher_spec, two in a segment",
    UNEXPECTED,
    outer(plain(CCS, b"\1") * 2),
)
add("plain-heartbeat", "a heartbeat in plaintext", UNEXPECTED, outer(plain(HEARTBEAT, b"\1\0\1x")))
for number in (0, 25, 128, 255):
    add(
        f"outer-type-{number}",
        f"a record of type {number} in plaintext",
        UNEXPECTED,
        outer(plain(number, b"content of no known type")),
    )
add(
    "plain-data",
    "data in plaintext",
    "bad_record_mac",
    outer(plain(DATA, b"GET / HTTP/1.0\r\n\r\n")),
)
add("plain-http", "a request without any TLS", UNEXPECTED, outer(b"GET / HTTP/1.0\r\n\r\n"))


@row("KeyUpdate sealed under the outer type handshake", UNEXPECTED)
def sealed_as_handshake(link):
    link.send(link.out.inner(m.key_update(0) + bytes([HANDSHAKE]), kind=HANDSHAKE))


@row("data sealed under the outer type alert", UNEXPECTED)
def sealed_as_alert(link):
    link.send(link.out.inner(noise(9) + bytes([DATA]), kind=ALERT))


@row("data, then change_cipher_spec in the same segment", UNEXPECTED)
def ccs_behind_data(link):
    content = noise(30)
    link.send(link.data(content), plain(CCS, b"\1"))
    link.app_gets(content)


@row("change_cipher_spec with a whole record's length", UNEXPECTED)
def ccs_long(link):
    link.send(header(CCS, 300), bytes(300))
