"""A connection through sekisho: the TLS peer's end, where everything is allowed, and the
application's end, where it must not show."""

import os
import select
import socket
import struct

import messages as m
from records import ALERT, DATA, HANDSHAKE

# Far more than anything takes on a machine that does its work.
PATIENCE = 10
# After so long without an answer, the peer looks whether its misbehaviour was taken.
SOON = 1


class Got(Exception):
    """Something else than expected; the text is what the table shows."""


def resets(sock):
    """Makes the socket's close a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def noise(count):
    return os.urandom(count)


class Link:
    """Both ends. `out` seals what the peer sends; `come` opens what it gets."""

    def __init__(self, tls, out, come, rest, find_app):
        self.tls = tls
        self.out = out
        self.come = come
        self.buffer = bytearray(rest)
        self.find_app = find_app
        self._app = None
        # How it ended for the application, once that is known.
        self.app_ended = None
        # Values of the KeyUpdates that came since somebody looked.
        self.updates = []
        self.longest = 0
        self.tls.settimeout(PATIENCE)
        self.tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def app(self):
        if self._app is None:
            self._app = self.find_app(PATIENCE)
            if self._app is None:
                raise Got("no connection at the service")
        return self._app

    def close(self):
        self.tls.close()
        if self._app is not None:
            self._app.close()

    # What the peer sends.

    def send(self, *parts):
        """All in one write."""
        try:
            self.tls.sendall(b"".join(parts))
        except OSError:
            # Ended already: what came shows it.
            pass

    def data(self, content, padding=0):
        return self.out.seal(content, DATA, padding)

    def handshake(self, content, padding=0):
        return self.out.seal(content, HANDSHAKE, padding)

    def alert(self, content, padding=0):
        return self.out.seal(content, ALERT, padding)

    def key_update(self, requested):
        """A KeyUpdate, and our new keys from there on."""
        record = self.handshake(m.key_update(requested))
        self.out.update()
        return record

    # What the peer gets.

    def _fill(self, count):
        """Reads until there are so many bytes; how it ended if there are not."""
        while len(self.buffer) < count:
            try:
                part = self.tls.recv(1 << 16)
            except TimeoutError:
                return "open"
            except OSError:
                return "reset"
            if not part:
                return "cut" if self.buffer else "end"
            self.buffer += part
        return None

    def record(self):
        """The next record as (type, content); the type is how it ended where there is none."""
        ended = self._fill(5)
        if ended:
            return ended, b""
        head = bytes(self.buffer[:5])
        length = int.from_bytes(head[3:], "big")
        ended = self._fill(5 + length)
        if ended:
            return ended, b""
        body = bytes(self.buffer[5 : 5 + length])
        del self.buffer[: 5 + length]
        if head[:3] != b"\x17\3\3":
            return f"plaintext record of type {head[0]}", body
        opened = self.come.open(head, body)
        if opened is None:
            return "record that does not open", b""
        kind, content = opened
        if kind == HANDSHAKE:
            self._handshake(content)
        self.longest = max(self.longest, len(content))
        return kind, content

    def _handshake(self, content):
        # What sekisho has to say after the handshake is a KeyUpdate and nothing else.
        if len(content) != 5 or content[:4] != m.key_update(0)[:4]:
            raise Got(f"handshake message {content[:8].hex()}")
        self.updates.append(content[4])
        self.come.update()

    def peer_gets(self, expected):
        """The peer receives exactly this as application data."""
        came = bytearray()
        while len(came) < len(expected):
            kind, content = self.record()
            if kind == DATA:
                came += content
            elif kind == ALERT:
                raise Got(m.alert_name(content[1]))
            elif kind != HANDSHAKE:
                raise Got(f"peer: {kind}")
        if came != expected:
            raise Got("other data at the peer")

    def app_gets(self, expected):
        """The application receives exactly this."""
        came = bytearray()
        while len(came) < len(expected):
            part = self._app_part(len(expected) - len(came))
            if self.app_ended == "open":
                raise Got(f"{len(came)} of {len(expected)} bytes at the application")
            if self.app_ended:
                # An alert says more.
                raise Got(self.outcome())
            came += part
        if came != expected:
            raise Got("other data at the application")

    def takes_updates(self):
        """The KeyUpdates that came since the last look."""
        came, self.updates = self.updates, []
        return came

    # Both ends together.

    def there(self):
        """Data from the peer to the application."""
        content = noise(20)
        self.send(self.data(content))
        self.app_gets(content)

    def back(self):
        """Data from the application to the peer. Once it is here, sekisho has come round to what
        was sent before."""
        content = noise(20)
        self.app.sendall(content)
        self.peer_gets(content)

    def app_ends(self):
        """The application sees an orderly end, and nothing before it."""
        data, how = self.app_end()
        if how != "end" or data:
            raise Got(f"application: {how} after {len(data)} bytes")

    def peer_ends(self):
        """The peer sees an orderly end: close_notify, and nothing before it."""
        kind, content = self.record()
        if kind == ALERT and content == m.CLOSE_NOTIFY:
            return
        raise Got(m.alert_name(content[1]) if kind == ALERT else f"peer: {kind}")

    def closed(self):
        """The connection itself ends, after close_notify in both directions."""
        kind, _ = self.record()
        if kind != "end":
            raise Got(f"after close_notify: {kind}")

    def close_in_order(self):
        """Half by half."""
        self.send(self.alert(m.CLOSE_NOTIFY))
        self.app_ends()
        self.back()
        self.app.shutdown(socket.SHUT_WR)
        self.peer_ends()
        self.closed()

    def tolerated(self):
        """Both directions still work, and end in order."""
        self.there()
        self.back()
        self.close_in_order()
        return "tolerated"

    def _app_part(self, most=1 << 16):
        try:
            part = self.app.recv(most)
        except TimeoutError:
            self.app_ended = "open"
            return b""
        except OSError:
            self.app_ended = "reset"
            return b""
        if not part:
            self.app_ended = "end"
        return part

    def app_end(self):
        """What the application still gets, and how it ends."""
        came = bytearray()
        while self.app_ended is None:
            came += self._app_part()
        return bytes(came), self.app_ended

    def _probe(self):
        """What becomes of data behind what was sent, where no answer came: it arrives if that was
        tolerated, as nothing does behind an error. `None` if there is an answer."""
        self.find_app_now()
        if self._app is None or self.app_ended or self.buffer:
            return None
        ends = [self.tls, self._app]
        if select.select(ends, [], [], SOON)[0]:
            return None
        content = noise(20)
        self.send(self.data(content))
        if not select.select(ends, [], [], PATIENCE)[0]:
            return "open"
        if not select.select([self._app], [], [], 0)[0]:
            return None
        try:
            self.app_gets(content)
        except Got:
            return None
        return "tolerated"

    def find_app_now(self):
        if self._app is None:
            self._app = self.find_app(0)

    def outcome(self):
        """How it has ended: the alert's name alone where it came, was the last thing that came,
        and the application saw a reset."""
        taken = self._probe()
        if taken:
            return taken
        alerts, data = [], 0
        while True:
            kind, content = self.record()
            if kind == ALERT:
                level = "" if content[0] == 2 or content == m.CLOSE_NOTIFY else " as a warning"
                alerts.append(m.alert_name(content[1]) + level)
            elif kind == DATA:
                data += len(content)
            elif kind != HANDSHAKE:
                break
        text = [", then ".join(alerts) or "closed"]
        if kind not in ("end", "reset"):
            text.append(str(kind))
        if data:
            text.append(f"{data} bytes at the peer")
        self.find_app_now()
        if self._app is not None:
            came, how = self.app_end()
            if came:
                text.append(f"{len(came)} bytes at the application")
            if how != "reset":
                text.append(f"application: {how}")
        return ", ".join(text)
