"""KeyUpdate (RFC 8446 sections 4.6.3 and 7.2)."""

import socket

import messages as m
from link import Got, noise
from records import HANDSHAKE, MAX
from table import CLIENT, TOLERATED, add, row

UNEXPECTED, DECODE, ILLEGAL = "unexpected_message", "decode_error", "illegal_parameter"
# In a row and without data between them: so many are taken, and no more.
LIMIT = 32


def updates(link, expected):
    """Data comes back, and before it so many answers to our requests."""
    link.back()
    came = link.takes_updates()
    if came != expected:
        raise Got(f"KeyUpdates {came}")


def once(requested):
    def act(link):
        link.send(link.key_update(requested))
        # The data behind it has arrived: it has been read.
        link.there()
        updates(link, [0] if requested else [])

    return act


for cipher in ("aes128", "aes256", "chacha20"):
    end = "" if cipher == "aes128" else f"-{cipher}"
    more = {"cipher": cipher}
    add(f"key-update{end}", f"KeyUpdate, nothing asked, {cipher}", TOLERATED, once(0), **more)
    add(
        f"key-update-requested{end}",
        f"KeyUpdate, one asked for, {cipher}",
        TOLERATED,
        once(1),
        **more,
    )


@row("KeyUpdate and data under the new keys in one segment", TOLERATED)
def key_update_and_data(link):
    content = noise(100)
    link.send(link.data(content), link.key_update(0), link.data(content))
    link.app_gets(content * 2)


@row("3 requests in one segment: one answer, or one each, before the next data", TOLERATED)
def key_updates_requested_at_once(link):
    link.send(*(link.key_update(1) for _ in range(3)))
    link.there()
    # One will do where nothing was said in between; an implementation that answers at once answers
    # each, which tlsfuzzer waits for.
    link.back()
    came = link.takes_updates()
    if came not in ([0], [0, 0, 0]):
        raise Got(f"KeyUpdates {came}")


@row("a request for each of 60 records that came, all at once", TOLERATED)
def key_update_for_each_record(link):
    # As Java does beyond its limit: it asks with every record that was under way already.
    for _ in range(60):
        link.back()
    link.send(*(link.key_update(1) for _ in range(60)))


@row("3 requests, each after the answer to the one before", TOLERATED)
def key_updates_requested_in_turn(link):
    for _ in range(3):
        link.send(link.key_update(1))
        link.there()
        updates(link, [0])


@row("a request, while the application sends", TOLERATED)
def key_update_in_the_midst_of_data(link):
    content = noise(12 * MAX)
    link.app.sendall(content[:MAX])
    link.peer_gets(content[:MAX])
    link.send(link.key_update(1))
    link.there()
    link.app.sendall(content[MAX:])
    link.peer_gets(content[MAX:])
    if link.takes_updates() != [0]:
        raise Got("not one KeyUpdate")


@row("a request after the application's end: no answer, and data arrives", "in order")
def key_update_requested_after_the_end(link):
    link.app.shutdown(socket.SHUT_WR)
    link.peer_ends()
    link.send(link.key_update(1))
    link.there()
    link.send(link.alert(m.CLOSE_NOTIFY))
    link.app_ends()
    link.closed()
    return "in order"


def flood(count, requested, between=lambda link: b""):
    def act(link):
        link.send(*(link.key_update(requested) + between(link) for _ in range(count)))

    return act


def empty(link):
    return link.data(b"")


for requested, word in ((0, "nothing asked"), (1, "one asked for")):
    end = "-requested" if requested else ""
    add(
        f"{LIMIT}-key-updates{end}",
        f"{LIMIT} KeyUpdates, {word}",
        TOLERATED,
        flood(LIMIT, requested),
    )
    # One more is borne for each data record that sekisho has sent: that of the greeting.
    add(
        f"{LIMIT + 2}-key-updates{end}",
        f"{LIMIT + 2}, {word}",
        UNEXPECTED,
        flood(LIMIT + 2, requested),
    )
    add(f"500-key-updates{end}", f"500 KeyUpdates, {word}", UNEXPECTED, flood(500, requested))
add(
    "key-updates-between-empty-records",
    "500 times a request and an empty record",
    UNEXPECTED,
    flood(500, 1, empty),
)


@row("200 KeyUpdates, each with data", TOLERATED)
def key_updates_between_data(link):
    for _ in range(4):
        content = [noise(20) for _ in range(50)]
        link.send(*(link.key_update(0) + link.data(part) for part in content))
        link.app_gets(b"".join(content))


def handshake(name, sent, expected, *contents, **more):
    """Records of these contents in one segment."""

    def act(link):
        link.send(*(link.handshake(content) for content in contents))
        if expected == TOLERATED:
            link.out.update()

    add(name, sent, expected, act, **more)


GOOD = m.key_update(0)
for value in (2, 3, 127, 255):
    handshake(
        f"key-update-of-{value}", f"KeyUpdate with value {value}", ILLEGAL, m.key_update(value)
    )
handshake("key-update-empty", "KeyUpdate without value", DECODE, m.message(m.KEY_UPDATE, b""))
handshake("key-update-of-2-bytes", "KeyUpdate of 2 bytes", DECODE, m.message(m.KEY_UPDATE, b"\0\0"))
handshake(
    "key-update-of-16-mebibytes",
    "a KeyUpdate that says 2^24 - 1 bytes",
    DECODE,
    m.message(m.KEY_UPDATE, b"\0", 0xFFFFFF),
)
handshake("key-update-twice-in-a-record", "two KeyUpdates in a record", UNEXPECTED, GOOD * 2)
handshake("key-update-and-a-byte", "KeyUpdate and a byte more", UNEXPECTED, GOOD + b"\x18")
handshake(
    "key-update-and-ticket",
    "KeyUpdate and a ticket in a record",
    UNEXPECTED,
    GOOD + m.ticket(),
    roles=(CLIENT,),
)
handshake(
    "ticket-and-key-update",
    "a ticket and KeyUpdate in a record",
    TOLERATED,
    m.ticket() + GOOD,
    roles=(CLIENT,),
)
handshake("key-update-in-two-records", "KeyUpdate over two records", TOLERATED, GOOD[:2], GOOD[2:])
handshake(
    "key-update-without-its-value",
    "KeyUpdate, its value in the next record",
    TOLERATED,
    GOOD[:4],
    GOOD[4:],
)
handshake(
    "key-update-byte-by-byte",
    "KeyUpdate over five records",
    TOLERATED,
    *(GOOD[n : n + 1] for n in range(5)),
)
# The rest of the first one, and something behind it.
handshake(
    "key-update-in-a-key-update",
    "4 bytes of a KeyUpdate, then a whole one",
    (ILLEGAL, UNEXPECTED),
    GOOD[:4],
    GOOD,
)


@row("half a KeyUpdate, data, the other half", UNEXPECTED)
def data_in_a_key_update(link):
    link.send(link.handshake(GOOD[:3]), link.data(b"between"), link.handshake(GOOD[3:]))


@row("half a KeyUpdate, an empty record of data, the other half", UNEXPECTED)
def empty_data_in_a_key_update(link):
    link.send(link.handshake(GOOD[:3]), link.data(b""), link.handshake(GOOD[3:]))


@row("half a KeyUpdate, user_canceled, the other half", UNEXPECTED)
def alert_in_a_key_update(link):
    link.send(link.handshake(GOOD[:3]), link.alert(m.USER_CANCELED), link.handshake(GOOD[3:]))


@row("KeyUpdate, then data under the old keys", "bad_record_mac")
def old_keys_after_a_key_update(link):
    link.send(link.handshake(GOOD), link.data(b"old keys"))


@row("data under new keys without KeyUpdate", "bad_record_mac")
def new_keys_without_a_key_update(link):
    link.out.update()
    link.send(link.data(b"new keys"))


@row("KeyUpdate, then new keys with the old numbers", "bad_record_mac")
def old_numbers_after_a_key_update(link):
    record = link.handshake(GOOD)
    number = link.out.number
    link.out.update()
    link.out.number = number
    link.send(record, link.data(b"old numbers"))


@row("a KeyUpdate again after itself", "bad_record_mac")
def key_update_replayed(link):
    record = link.key_update(0)
    link.send(record, record)


@row("a record from before the KeyUpdate after it", "bad_record_mac")
def replayed_over_a_key_update(link):
    content = noise(20)
    record = link.data(content)
    link.send(record, link.key_update(0), record)
    link.app_gets(content)


@row("half a ticket, a KeyUpdate as if between, new keys", "bad_record_mac", roles=(CLIENT,))
def key_update_in_a_ticket(link):
    ticket = m.ticket(b"t" * 200)
    link.send(link.out.seal(ticket[:40], HANDSHAKE), link.key_update(0), link.data(b"new keys"))
