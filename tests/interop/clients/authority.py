"""An administrator's program on gRPC's C core: asks the authority behind a Unix socket.

    authority.py SOCKET
"""

import json
import sys

import grpc

with grpc.insecure_channel(f"unix:{sys.argv[1]}") as channel:

    def ask(method):
        # Messages as they are on the wire: an empty one asks, and bytes come back.
        return channel.unary_unary(method)(b"", timeout=30).hex()

    print(
        json.dumps(
            {
                "health": ask("/grpc.health.v1.Health/Check"),
                "entries": ask("/spire.api.server.entry.v1.Entry/CountEntries"),
            }
        )
    )
