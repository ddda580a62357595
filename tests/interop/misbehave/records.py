"""TLS 1.3 records by hand (RFC 8446 section 5): one direction, its keys and its numbers."""

import hashlib

from tlslite.utils.cipherfactory import createAESGCM, createCHACHA20
from tlslite.utils.cryptomath import HKDF_expand_label

CCS, ALERT, HANDSHAKE, DATA, HEARTBEAT = 20, 21, 22, 23, 24
TAG = 16
MAX = 1 << 14

# cipher suite: hash, length of the key, AEAD
SUITES = {
    0x1301: ("sha256", 16, createAESGCM),
    0x1302: ("sha384", 32, createAESGCM),
    0x1303: ("sha256", 32, createCHACHA20),
}


def header(kind, length, version=0x0303):
    return bytes([kind]) + version.to_bytes(2, "big") + length.to_bytes(2, "big")


def plain(kind, body):
    """A record without protection."""
    return header(kind, len(body)) + body


class Half:
    """One direction of a connection."""

    def __init__(self, suite, secret):
        self.suite = suite
        self.number = 0
        self._take(bytearray(secret))

    def _expand(self, secret, label, length):
        return HKDF_expand_label(secret, label, b"", length, SUITES[self.suite][0])

    def _take(self, secret):
        _, length, aead = SUITES[self.suite]
        self.secret = secret
        self.aead = aead(self._expand(secret, b"key", length))
        self.iv = self._expand(secret, b"iv", 12)

    def update(self):
        """The next generation of keys (section 7.2); the numbers begin again."""
        size = hashlib.new(SUITES[self.suite][0]).digest_size
        self._take(self._expand(self.secret, b"traffic upd", size))
        self.number = 0

    def copy(self):
        """The same keys at the same number, to be used apart."""
        other = Half(self.suite, self.secret)
        other.number = self.number
        return other

    def _nonce(self):
        number = self.number.to_bytes(12, "big")
        self.number += 1
        return bytearray(a ^ b for a, b in zip(self.iv, number))

    def inner(self, inner, kind=DATA, version=0x0303):
        """Seals a whole TLSInnerPlaintext, whatever it is."""
        head = header(kind, len(inner) + TAG, version)
        return head + bytes(self.aead.seal(self._nonce(), bytearray(inner), bytearray(head)))

    def seal(self, content, kind=DATA, padding=0):
        """Seals content of a type, with zeros after it."""
        return self.inner(bytes(content) + bytes([kind]) + bytes(padding))

    def open(self, head, body):
        """Type and content of a record, which must be a good one."""
        inner = self.aead.open(self._nonce(), bytearray(body), bytearray(head))
        if inner is None:
            return None
        inner = bytes(inner)
        if len(inner) > MAX + 1:
            raise ValueError(f"a TLSInnerPlaintext of {len(inner)} bytes came")
        inner = inner.rstrip(b"\0")
        return (inner[-1], inner[:-1]) if inner else (0, b"")
