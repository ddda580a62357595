"""What comes in one segment with the peer's Finished, and was read with it."""

import messages as m
from link import noise
from records import ALERT, HANDSHAKE, MAX
from table import CLIENT, SERVER, TOLERATED, add, row

FIRST = noise(300)
MUCH = noise(5 * MAX + 77)


def data(out):
    return out.seal(FIRST)


def many(out):
    return b"".join(out.seal(FIRST[n : n + 3]) for n in range(0, 300, 3))


def much(out):
    return b"".join(out.seal(MUCH[at : at + MAX]) for at in range(0, len(MUCH), MAX))


def updated(requested):
    def early(out):
        record = out.seal(m.key_update(requested), HANDSHAKE)
        out.update()
        return record + out.seal(FIRST)

    return early


def ticket(out):
    return out.seal(m.ticket(), HANDSHAKE)


def gets(content):
    return lambda link: link.app_gets(content)


def nothing(_link):
    pass


add("early-data", "data with Finished", TOLERATED, gets(FIRST), early=data)
add("early-tiny-records", "100 records with Finished", TOLERATED, gets(FIRST), early=many)
add("early-much-data", "82 KB with Finished", TOLERATED, gets(MUCH), early=much)
add(
    "early-key-update", "KeyUpdate and data with Finished", TOLERATED, gets(FIRST), early=updated(0)
)
add("early-ticket", "a ticket with Finished", TOLERATED, nothing, early=ticket, roles=(CLIENT,))
add(
    "early-ticket-and-data",
    "a ticket and data with Finished",
    TOLERATED,
    gets(FIRST),
    early=lambda out: ticket(out) + data(out),
    roles=(CLIENT,),
)
add(
    "early-tickets",
    "4 tickets with Finished",
    TOLERATED,
    nothing,
    early=lambda out: b"".join(ticket(out) for _ in range(4)),
    roles=(CLIENT,),
)
add(
    "early-empty-record",
    "an empty record with Finished",
    TOLERATED,
    nothing,
    early=lambda out: out.seal(b""),
)


@row("KeyUpdate that asks for one, with Finished", TOLERATED, early=updated(1))
def early_key_update_requested(link):
    link.app_gets(FIRST)
    link.back()
    came = link.takes_updates()
    return None if came == [0] else f"KeyUpdates {came}"


@row(
    "half a record with Finished, the rest later",
    TOLERATED,
    early=lambda out: data(out.copy())[:100],
)
def early_half_record(link):
    link.send(link.data(FIRST)[100:])
    link.app_gets(FIRST)


@row(
    "a header's first bytes with Finished, the rest later",
    TOLERATED,
    early=lambda out: data(out.copy())[:3],
)
def early_part_of_a_header(link):
    link.send(link.data(FIRST)[3:])
    link.app_gets(FIRST)


@row(
    "data and close_notify with Finished",
    "in order",
    early=lambda out: data(out) + out.seal(m.CLOSE_NOTIFY, ALERT),
)
def early_end(link):
    link.app_gets(FIRST)
    link.app_ends()
    link.back()
    return "in order"


def wrong(name, sent, expected, early, roles=(SERVER, CLIENT)):
    add(name, sent, expected, nothing, early=early, roles=roles)


def changed(record):
    return record[:-1] + bytes([record[-1] ^ 1])


wrong(
    "early-tampered",
    "a changed record with Finished",
    "bad_record_mac",
    lambda out: changed(data(out)),
)
wrong(
    "early-too-long",
    "2^14 + 1 bytes with Finished",
    "record_overflow",
    lambda out: out.seal(noise(MAX + 1)),
)
wrong("early-no-type", "zeros with Finished", "unexpected_message", lambda out: out.inner(bytes(9)))
wrong(
    "early-unknown-message",
    "an unknown message with Finished",
    "unexpected_message",
    lambda out: out.seal(m.message(99, b""), HANDSHAKE),
)
wrong(
    "early-fatal", "a fatal alert with Finished", "closed", lambda out: out.seal(b"\2\x50", ALERT)
)
wrong(
    "early-unknown-type",
    "type 77 with Finished",
    "unexpected_message",
    lambda out: out.seal(b"x", 77),
)
