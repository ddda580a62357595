"""Handshake messages after the handshake (RFC 8446 sections 4.6 and 5.1)."""

import messages as m
from link import noise
from records import MAX
from table import CLIENT, SERVER, TOLERATED, add, row

UNEXPECTED, DECODE = "unexpected_message", "decode_error"


def handshake(name, sent, expected, *contents, **more):
    """Records of these contents in one segment."""
    add(name, sent, expected, lambda link: link.send(*map(link.handshake, contents)), **more)


add(
    "empty-handshake",
    "a handshake record without content",
    UNEXPECTED,
    lambda link: link.send(link.handshake(b"")),
)
add(
    "empty-handshake-padded",
    "the same, padded",
    UNEXPECTED,
    lambda link: link.send(link.handshake(b"", 64)),
)
handshake(
    "empty-handshake-in-a-message",
    "half a KeyUpdate, an empty handshake record",
    UNEXPECTED,
    b"\x18\0",
    b"",
)

EITHER = [
    ("hello-request", "HelloRequest", m.message(m.HELLO_REQUEST, b"")),
    ("client-hello", "ClientHello: renegotiation", m.client_hello()),
    ("server-hello", "ServerHello", m.server_hello()),
    ("end-of-early-data", "EndOfEarlyData", m.message(m.END_OF_EARLY_DATA, b"")),
    ("encrypted-extensions", "EncryptedExtensions", m.message(m.ENCRYPTED_EXTENSIONS, b"\0\0")),
    ("certificate", "Certificate", m.message(m.CERTIFICATE, b"\0\0\0\0")),
    ("certificate-request", "CertificateRequest", m.certificate_request()),
    ("certificate-verify", "CertificateVerify", m.message(m.CERTIFICATE_VERIFY, b"\4\3\0\1x")),
    ("finished", "Finished", m.finished()),
    ("message-hash", "message_hash", m.message(m.MESSAGE_HASH, bytes(32))),
    ("unknown-handshake", "a handshake message of type 99", m.message(99, b"what")),
]
for name, sent, content in EITHER:
    handshake(name, f"{sent} after the handshake", UNEXPECTED, content)
handshake(
    "new-session-ticket-to-a-server",
    "NewSessionTicket to a server",
    UNEXPECTED,
    m.ticket(),
    roles=(SERVER,),
)
handshake(
    "finished-in-two-records",
    "Finished over two records",
    UNEXPECTED,
    m.finished()[:20],
    m.finished()[20:],
)

# Refused for what they are, before what they announce has come.
HUGE = 0xFFFFFF
for name, kind in (
    ("client-hello", m.CLIENT_HELLO),
    ("unknown-handshake", 99),
    ("finished", m.FINISHED),
):
    handshake(
        f"huge-{name}",
        f"type {kind} announcing 16 MiB",
        UNEXPECTED,
        m.message(kind, b"\0" * 100, HUGE),
    )


@row("type 99 announcing 16 MiB, and a megabyte of it", UNEXPECTED)
def huge_and_coming(link):
    link.send(link.handshake(m.message(99, b"\0" * 16000, HUGE)))
    link.send(*(link.handshake(bytes(MAX)) for _ in range(8)))


# To a client.
def to_client(name, sent, expected, *contents):
    handshake(name, sent, expected, *contents, roles=(CLIENT,))


TICKET = m.ticket()
GREATEST = m.ticket(noise(65000), b"\x2a\x2a" + m.vector(bytes(400), 2))
to_client("ticket", "NewSessionTicket", TOLERATED, TICKET)
to_client("3-tickets-in-a-record", "3 NewSessionTickets in a record", TOLERATED, TICKET * 3)
to_client("40-tickets", "40 NewSessionTickets", TOLERATED, *[TICKET] * 40)
to_client(
    "ticket-in-two-records", "NewSessionTicket over two records", TOLERATED, TICKET[:9], TICKET[9:]
)
to_client("ticket-after-3-bytes", "its header split", TOLERATED, TICKET[:3], TICKET[3:])
to_client(
    "ticket-byte-by-byte",
    "a record for each byte",
    TOLERATED,
    *(TICKET[n : n + 1] for n in range(len(TICKET))),
)
to_client(
    "tickets-across-records",
    "two tickets, the second begun in the first's record",
    TOLERATED,
    TICKET + TICKET[:20],
    TICKET[20:],
)
to_client("ticket-of-no-lifetime", "a ticket with lifetime 0", TOLERATED, m.ticket(lifetime=0))
to_client(
    "ticket-with-extensions",
    "a ticket with an unknown extension",
    TOLERATED,
    m.ticket(extensions=b"\x2a\x2a\0\1x"),
)
to_client(
    "great-ticket",
    f"a ticket of {len(GREATEST)} bytes",
    TOLERATED,
    *(GREATEST[at : at + MAX] for at in range(0, len(GREATEST), MAX)),
)
to_client(
    "huge-ticket",
    "a ticket announcing 16 MiB",
    DECODE,
    m.message(m.NEW_SESSION_TICKET, TICKET, HUGE),
)
to_client(
    "ticket-empty", "NewSessionTicket without content", DECODE, m.message(m.NEW_SESSION_TICKET, b"")
)
to_client(
    "ticket-cut",
    "a ticket without its last byte",
    DECODE,
    m.message(m.NEW_SESSION_TICKET, TICKET[4:-1]),
)
to_client("ticket-with-rest", "a ticket with a byte behind it", DECODE, m.ticket(rest=b"x"))
to_client("ticket-without-ticket", "a ticket of length 0", DECODE, m.ticket(b""))
to_client(
    "ticket-with-cut-extension",
    "an extension longer than the rest",
    DECODE,
    m.ticket(extensions=b"\x2a\x2a\0\x09x"),
)


@row("half a ticket, data, the other half", UNEXPECTED, roles=(CLIENT,))
def data_in_a_ticket(link):
    link.send(link.handshake(TICKET[:20]), link.data(b"between"), link.handshake(TICKET[20:]))


@row("half a ticket, an empty handshake record, the other half", UNEXPECTED, roles=(CLIENT,))
def empty_handshake_in_a_ticket(link):
    link.send(link.handshake(TICKET[:20]), link.handshake(b""), link.handshake(TICKET[20:]))


@row("a ticket between data, and KeyUpdates", TOLERATED, roles=(CLIENT,))
def tickets_and_data(link):
    for requested in (0, 1, 0):
        content = noise(50)
        link.send(
            link.data(content),
            link.handshake(TICKET),
            link.key_update(requested),
            link.handshake(TICKET),
        )
        link.app_gets(content)


@row("a ticket after the application's end", "in order", roles=(CLIENT,))
def ticket_after_the_end(link):
    link.app.shutdown(1)
    link.peer_ends()
    link.send(link.handshake(TICKET))
    link.there()
    link.send(link.alert(m.CLOSE_NOTIFY))
    link.app_ends()
    link.closed()
    return "in order"
