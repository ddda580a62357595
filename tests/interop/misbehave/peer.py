#!/usr/bin/env python3
"""A TLS 1.3 peer that misbehaves, row by row, towards a sekisho between it and an application.

    peer.py --role server --tls ADDR --app ADDR --cert PEM --key PEM [--row NAME]... [--layer own]

The role is sekisho's. As a server it listens at --tls (mTLS) and forwards to --app, where this
program listens; as a client it listens at --app (plain) and forwards to --tls, where this program
listens. Prints one line of JSON per row; --list names the rows, --text prints for people. tlslite-ng
must be on PYTHONPATH; it shakes hands, and the records are made here.
"""

import argparse
import json
import socket
import sys
import time
import traceback

# Nothing is left behind in the sources.
sys.dont_write_bytecode = True

import rows  # noqa: F401
from handshake import Identity, run
from link import PATIENCE, Got, Link
from table import ROWS, SERVER


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def listener(where):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(where)
    sock.listen(16)
    return sock


def accept(sock, patience):
    sock.settimeout(patience)
    try:
        accepted, _ = sock.accept()
    except (TimeoutError, BlockingIOError):
        return None
    accepted.settimeout(PATIENCE)
    return accepted


def drain(sock):
    """Nobody of a row before is taken for one of this."""
    while (left := accept(sock, 0)) is not None:
        left.close()


class Peer:
    """Opens connections through sekisho."""

    def __init__(self, role, tls, app, identity):
        self.role = role
        self.tls = tls
        self.app = app
        self.identity = identity
        self.listener = listener(app if role == SERVER else tls)

    def open(self, row):
        drain(self.listener)
        if self.role == SERVER:
            tls = socket.create_connection(self.tls, PATIENCE)
            app = None
        else:
            app = socket.create_connection(self.app, PATIENCE)
            tls = accept(self.listener, PATIENCE)
            if tls is None:
                raise Got("no connection at the TLS server")
        we_are_client = self.role == SERVER
        try:
            halves = run(tls, self.identity, we_are_client, row.cipher, row.early)
        except BaseException:
            tls.close()
            raise
        link = Link(tls, *halves, lambda patience: accept(self.listener, patience))
        link._app = app
        return link

    def verdict(self, row, layer):
        begin = time.monotonic()
        link = None
        try:
            link = self.open(row)
            got = row.run(link)
        except Got as other:
            got = str(other)
        except Exception as error:  # A row that breaks is a row that is wrong.
            traceback.print_exc(limit=-3)
            got = f"{type(error).__name__}: {error}"
        finally:
            if link is not None:
                link.close()
        expected = row.expects(layer)
        return {
            "name": row.name,
            "role": self.role,
            "sent": row.sent,
            "expected": " or ".join(expected),
            "got": got,
            "ok": got in expected,
            "ms": round((time.monotonic() - begin) * 1000),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--role", choices=["server", "client"], required=True)
    parser.add_argument("--tls", type=address, default=("127.0.0.1", 0))
    parser.add_argument("--app", type=address, default=("127.0.0.1", 0))
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--row", action="append", default=[], choices=ROWS, metavar="NAME")
    parser.add_argument("--layer", choices=["own", "rustls"], default="own")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--text", action="store_true")
    options = parser.parse_args()
    chosen = [
        row
        for row in ROWS.values()
        if options.role in row.roles and (not options.row or row.name in options.row)
    ]
    if options.list:
        for row in chosen:
            print(f"{row.name:45} {' or '.join(row.expected)}")
        return 0
    peer = Peer(options.role, options.tls, options.app, Identity(options.cert, options.key))
    print("listening", file=sys.stderr, flush=True)
    wrong = 0
    for row in chosen:
        verdict = peer.verdict(row, options.layer)
        wrong += not verdict["ok"]
        if options.text:
            mark = "ok   " if verdict["ok"] else "WRONG"
            print(
                f"{mark} {row.name:42} {verdict['expected']:24} {verdict['got']}"
                f" ({verdict['ms']} ms)",
                flush=True,
            )
        else:
            print(json.dumps(verdict), flush=True)
    print("done", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
