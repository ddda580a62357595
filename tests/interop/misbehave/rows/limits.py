"""Lengths of records (RFC 8446 sections 5.1, 5.2 and 5.4)."""

import messages as m
from link import noise
from records import ALERT, DATA, HANDSHAKE, MAX, header
from table import TOLERATED, add, row

OVER = "record_overflow"


def sized(content, padding=0, kind=DATA, then=None):
    """A record of so many bytes of content and of padding, which arrives where it may."""

    def act(link):
        body = then if then is not None else noise(content)
        link.send(link.out.seal(body, kind, padding))
        if kind == DATA and content + padding <= MAX:
            link.app_gets(body)

    return act


for cipher in ("aes128", "aes256", "chacha20"):
    end = "" if cipher == "aes128" else f"-{cipher}"
    more = {"cipher": cipher}
    add(f"greatest-content{end}", f"2^14 bytes of data, {cipher}", TOLERATED, sized(MAX), **more)
    add(f"content-too-long{end}", f"2^14 + 1 bytes of data, {cipher}", OVER, sized(MAX + 1), **more)

add("greatest-padding", "1 byte and 2^14 - 1 of padding", TOLERATED, sized(1, MAX - 1))
add("nothing-but-padding", "no data and 2^14 bytes of padding", TOLERATED, sized(0, MAX))
add("padding-up-to-the-limit", "2^14 - 8 bytes, 8 of padding", TOLERATED, sized(MAX - 8, 8))
add("padding-too-long", "1 byte and 2^14 of padding", OVER, sized(1, MAX))
add("padding-one-too-long", "2^14 - 8 bytes and 9 of padding", OVER, sized(MAX - 8, 9))
add("only-padding-too-long", "no data and 2^14 + 1 of padding", OVER, sized(0, MAX + 1))
add(
    "greatest-ciphertext",
    "2^14 + 256 bytes of ciphertext: too much inside",
    OVER,
    sized(MAX + 239),
)
add(
    "alert-with-too-much-padding",
    "close_notify and 2^14 bytes of padding",
    OVER,
    sized(2, MAX, ALERT, m.CLOSE_NOTIFY),
)
add(
    "key-update-with-too-much-padding",
    "KeyUpdate and 2^14 bytes of padding",
    OVER,
    sized(5, MAX, HANDSHAKE, m.key_update(0)),
)


@row("2^14 + 257 bytes of ciphertext, sealed well", OVER)
def ciphertext_too_long(link):
    link.send(link.data(noise(MAX + 240)))


@row("a header that says 2^14 + 257, and nothing else", OVER)
def header_too_long(link):
    link.send(header(DATA, MAX + 257))


@row("a header that says 65535, and nothing else", OVER)
def header_much_too_long(link):
    link.send(header(DATA, 0xFFFF))


@row("16 greatest records in one write", TOLERATED)
def many_greatest_records(link):
    content = noise(16 * MAX)
    link.send(*(link.data(content[at : at + MAX]) for at in range(0, len(content), MAX)))
    link.app_gets(content)


@row("KeyUpdate with the greatest padding", TOLERATED)
def key_update_with_the_greatest_padding(link):
    link.send(link.handshake(m.key_update(0), MAX - 5))
    link.out.update()
