"""A handshake by tlslite-ng, which then hands over the keys."""

from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey

from records import Half

CIPHERS = {"aes128": "aes128gcm", "aes256": "aes256gcm", "chacha20": "chacha20-poly1305"}


class Identity:
    """A chain and its key, from files in PEM."""

    def __init__(self, cert, key):
        with open(cert, encoding="ascii") as file:
            self.chain = X509CertChain()
            self.chain.parsePemList(file.read())
        with open(key, encoding="ascii") as file:
            self.key = parsePEMKey(file.read(), private=True, implementations=["python"])


class Held:
    """A socket for tlslite-ng. What it writes is held until it wants to read, so that the last
    flight can go out in one segment with what follows it."""

    def __init__(self, sock):
        self.sock = sock
        self.held = bytearray()
        self.before_reading = lambda: b""

    def send(self, data):
        self.held += data
        return len(data)

    def sendall(self, data):
        self.held += data

    def recv(self, size):
        self.held += self.before_reading()
        self.flush()
        return self.sock.recv(size)

    def flush(self):
        if self.held:
            self.sock.sendall(bytes(self.held))
            self.held.clear()

    def __getattr__(self, name):
        return getattr(self.sock, name)


def run(sock, identity, we_are_client, cipher, early):
    """Shakes hands. `early(out)` gives records that follow our Finished in its segment. Returns
    both directions, ours first, and what tlslite-ng has read beyond the handshake."""
    held = Held(sock)
    connection = TLSConnection(held)
    secrets = []
    calculate = connection._recordLayer.calcTLS1_3PendingState

    # Of the handshake first, then of the application.
    def listen_in(suite, client, server, *rest):
        secrets.append((suite, bytearray(client), bytearray(server)))
        return calculate(suite, client, server, *rest)

    connection._recordLayer.calcTLS1_3PendingState = listen_in
    halves = []

    def follow():
        if len(secrets) < 2 or halves:
            return b""
        suite, client, server = secrets[1]
        ours, theirs = (client, server) if we_are_client else (server, client)
        halves.extend([Half(suite, ours), Half(suite, theirs)])
        return early(halves[0]) if early else b""

    # A server reads the client's last flight after its own Finished; a client reads no more.
    held.before_reading = follow
    settings = HandshakeSettings()
    settings.minVersion = settings.maxVersion = (3, 4)
    settings.cipherNames = [CIPHERS[cipher]]
    settings.keyShares = ["x25519"]
    # Or the certificate is compressed for a peer that has not offered it.
    settings.certificate_compression_send = []
    if we_are_client:
        connection.handshakeClientCert(identity.chain, identity.key, settings=settings)
        held.held += follow()
    else:
        connection.handshakeServer(
            certChain=identity.chain, privateKey=identity.key, reqCert=True, settings=settings
        )
        if not connection.session.clientCertChain:
            raise RuntimeError("no certificate came")
    held.flush()
    return halves[0], halves[1], bytes(connection.sock._read_buffer)
