"""All rows."""

from rows import (  # noqa: F401
    alerts,
    closing,
    early,
    integrity,
    key_update,
    limits,
    post_handshake,
    sizes,
    types,
)
