"""What rustls' own record layer (0.23) does instead, where it does not do what RFC 8446 asks for."""

RUSTLS = {}


def instead(what, *names):
    RUSTLS.update(dict.fromkeys(names, what))


# Another alert.
instead(
    "decode_error",
    "empty-alert",
    "empty-alert-padded",
    "warning-handshake-failure",
    "warning-no-renegotiation",
    "warning-unrecognized-name",
    "warning-unknown",
    "early-unknown-type",
    "header-much-too-long",
    "message-hash",
    "inner-type-1",
    "inner-type-24",
    "inner-type-25",
    "inner-type-26",
    "inner-type-120",
    "inner-type-255",
    "inner-type-255-empty",
    "inner-type-255-padded",
    "plain-empty-alert",
    "plain-ccs-of-2",
    "plain-ccs-empty",
    "outer-type-0",
    "outer-type-25",
    "outer-type-128",
    "outer-type-255",
    "plain-http",
    "ccs-long",
)
# It leaves unread what follows close_notify. If that is still so at the close, the kernel makes a
# reset of it, which may overtake the rest of the answer.
instead(
    ("in order", "peer: reset"),
    "data-after-close-notify",
    "noise-after-close-notify",
    "too-long-after-close-notify",
    "alert-after-close-notify",
    "close-notify-twice",
    "flood-after-close-notify",
)
# It ends the connection without an alert.
instead(
    "closed",
    "early-no-type",
    "34-key-updates",
    "500-key-updates",
    "34-key-updates-requested",
    "500-key-updates-requested",
    "key-update-for-each-record",
    "key-update-of-16-mebibytes",
    "data-in-a-key-update",
    "empty-data-in-a-key-update",
    "alert-in-a-key-update",
    "empty-handshake-in-a-message",
    "huge-client-hello",
    "huge-unknown-handshake",
    "huge-finished",
    "huge-and-coming",
    "1000-empty-records",
    "1000-empty-records-padded",
    "inner-of-nothing",
    "inner-zero",
    "inner-zeros",
    "inner-zeros-of-the-greatest-length",
    "huge-ticket",
    "data-in-a-ticket",
)
# It takes them.
instead(
    "tolerated",
    "key-updates-between-empty-records",
    "empty-handshake",
    "empty-handshake-padded",
    "empty-handshake-in-a-ticket",
)
# It waits for the record.
instead(
    "open",
    "header-too-long",
)
# It decrypts before it looks at the outer type.
instead(
    "bad_record_mac",
    "plain-alert",
    "plain-close-notify",
    "plain-handshake",
    "plain-key-update",
    "plain-hello-request",
    "plain-heartbeat",
    "sealed-as-handshake",
    "sealed-as-alert",
)
