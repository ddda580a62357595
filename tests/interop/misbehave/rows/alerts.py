"""Alerts from the peer (RFC 8446 section 6)."""

import messages as m
from records import ALERT
from table import TOLERATED, add, row

EMPTY, DECODE = "unexpected_message", "decode_error"
# Ended at once and without an answer, and the application does not take it for an orderly end.
ENDED = "closed"


def alert(content, padding=0):
    return lambda link: link.send(link.alert(content, padding))


add("empty-alert", "an alert without content", EMPTY, alert(b""))
add("empty-alert-padded", "an alert without content, padded", EMPTY, alert(b"", 100))
add("alert-of-1-byte", "the first byte of an alert", DECODE, alert(b"\1"))
add("alert-of-3-bytes", "an alert with a third byte", DECODE, alert(b"\1\0\0"))
add("two-alerts-in-a-record", "close_notify twice in a record", DECODE, alert(m.CLOSE_NOTIFY * 2))
add(
    "two-different-alerts-in-a-record",
    "user_canceled and close_notify in a record",
    DECODE,
    alert(m.USER_CANCELED + m.CLOSE_NOTIFY),
)
add("close-notify-padded", "close_notify, padded, is one", "in order", lambda link: ended(link, 77))

for number in (10, 20, 40, 49, 80):
    name = m.alert_name(number)
    add(f"fatal-{name}".replace("_", "-"), f"the alert {name}", ENDED, alert(bytes([2, number])))
add("fatal-unknown", "a fatal alert nobody knows", ENDED, alert(b"\2\xff"))
# The level says nothing in TLS 1.3: these are errors as well (section 6.2), and ended without an
# answer.
for number, name in (
    (40, "handshake_failure"),
    (100, "no_renegotiation"),
    (112, "unrecognized_name"),
):
    add(
        f"warning-{name}".replace("_", "-"),
        f"{name} as a warning",
        ENDED,
        alert(bytes([1, number])),
    )
add("warning-unknown", "a warning nobody knows", ENDED, alert(b"\1\xfe"))
add(
    "alert-of-no-level",
    "handshake_failure at level 7",
    (ENDED, "illegal_parameter", DECODE),
    alert(b"\7\x28"),
)


def ended(link, padding=0, content=m.CLOSE_NOTIFY):
    link.send(link.alert(content, padding))
    link.app_ends()
    link.back()
    return "in order"


@row("close_notify at level fatal is one", "in order")
def fatal_close_notify(link):
    return ended(link, content=b"\2\0")


@row("an alert split over two records", DECODE)
def split_alert(link):
    link.send(link.out.seal(b"\1", ALERT), link.out.seal(b"\0", ALERT))


@row("user_canceled, then close_notify", "in order")
def user_canceled(link):
    link.send(link.alert(m.USER_CANCELED))
    return ended(link)


@row("user_canceled, then more data", TOLERATED)
def user_canceled_and_data(link):
    link.send(link.alert(m.USER_CANCELED))


@row("data, then a fatal alert in the same segment", ENDED)
def data_and_fatal(link):
    content = b"the last words"
    link.send(link.data(content), link.alert(b"\2\x50"))
    link.app_gets(content)
