"""The table of misbehaviours."""

from rustls import RUSTLS

SERVER, CLIENT = "server", "client"
BOTH = (SERVER, CLIENT)
TOLERATED = "tolerated"


def one_or_more(expected):
    return (expected,) if isinstance(expected, str) else expected


class Row:
    """What the peer does, and what RFC 8446 asks for."""

    def __init__(self, name, sent, expected, act, roles, early, cipher):
        self.name = name
        self.sent = sent
        self.expected = one_or_more(expected)
        self.act = act
        # What sekisho is.
        self.roles = roles
        # Records that follow the peer's Finished in its segment.
        self.early = early
        self.cipher = cipher

    def expects(self, layer):
        if layer == "rustls" and self.name in RUSTLS:
            return one_or_more(RUSTLS[self.name])
        return self.expected

    def run(self, link):
        """What was got. Without early records the connection is seen to work first."""
        if not self.early:
            link.there()
            link.back()
        got = self.act(link)
        if got is None:
            got = link.tolerated() if TOLERATED in self.expected else link.outcome()
        return got


ROWS = {}


def add(name, sent, expected, act, roles=BOTH, early=None, cipher="aes128"):
    if name in ROWS:
        raise ValueError(f"two rows {name}")
    ROWS[name] = Row(name, sent, expected, act, roles, early, cipher)


def row(sent, expected, **more):
    """Adds a function, which acts on a link, under its name. What it returns was got; where it
    returns nothing, the rest is seen to work, or how it ended is looked at."""

    def decorate(act):
        add(act.__name__.replace("_", "-"), sent, expected, act, **more)
        return act

    return decorate
