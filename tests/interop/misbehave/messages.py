"""Handshake messages and alerts, well-formed or not."""

(
    HELLO_REQUEST,
    CLIENT_HELLO,
    SERVER_HELLO,
    NEW_SESSION_TICKET,
    END_OF_EARLY_DATA,
    ENCRYPTED_EXTENSIONS,
    CERTIFICATE,
    CERTIFICATE_REQUEST,
    CERTIFICATE_VERIFY,
    FINISHED,
    KEY_UPDATE,
    MESSAGE_HASH,
) = (0, 1, 2, 4, 5, 8, 11, 13, 15, 20, 24, 254)

CLOSE_NOTIFY, USER_CANCELED = b"\1\0", b"\1\x5a"

ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    47: "illegal_parameter",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    80: "internal_error",
    90: "user_canceled",
    109: "missing_extension",
    116: "certificate_required",
}


def alert_name(description):
    return ALERTS.get(description, f"alert {description}")


def vector(data, width):
    return len(data).to_bytes(width, "big") + data


def message(kind, body, length=None):
    """A handshake message; the length may lie."""
    length = len(body) if length is None else length
    return bytes([kind]) + length.to_bytes(3, "big") + body


def key_update(requested):
    return message(KEY_UPDATE, bytes([requested]))


def ticket(ticket=b"t" * 32, extensions=b"", lifetime=3600, rest=b""):
    body = lifetime.to_bytes(4, "big") + b"\1\2\3\4" + vector(b"n", 1)
    return message(NEW_SESSION_TICKET, body + vector(ticket, 2) + vector(extensions, 2) + rest)


def certificate_request():
    algorithms = b"\0\x0d" + vector(vector(b"\4\3", 2), 2)
    return message(CERTIFICATE_REQUEST, vector(b"context", 1) + vector(algorithms, 2))


def finished():
    return message(FINISHED, bytes(32))


def client_hello():
    versions = b"\0\x2b" + vector(vector(b"\3\4", 1), 2)
    body = b"\3\3" + bytes(32) + vector(b"", 1) + vector(b"\x13\1", 2) + vector(b"\0", 1)
    return message(CLIENT_HELLO, body + vector(versions, 2))


def server_hello():
    versions = b"\0\x2b" + vector(b"\3\4", 2)
    body = b"\3\3" + bytes(32) + vector(b"", 1) + b"\x13\1\0"
    return message(SERVER_HELLO, body + vector(versions, 2))
