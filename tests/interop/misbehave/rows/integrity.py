"""Records that were changed on the way, or stand in the wrong place (RFC 8446 section 5.2)."""

from link import noise
from records import ALERT, DATA, TAG, Half, header
from table import TOLERATED, add, row

BAD = "bad_record_mac"
CONTENT = b"to be changed"


def changed(record, at):
    record = bytearray(record)
    record[at] ^= 0x40
    return bytes(record)


def tampered(at, kind=DATA):
    def act(link):
        link.send(changed(link.out.seal(CONTENT, kind), at))

    return act


add("tampered-first-byte", "a record, its first byte of ciphertext changed", BAD, tampered(5))
add("tampered-last-byte", "a record, the last byte of its tag changed", BAD, tampered(-1))
add("tampered-tag", "a record, the first byte of its tag changed", BAD, tampered(-TAG))
add("tampered-type", "a record, its type byte changed below the seal", BAD, tampered(-TAG - 1))
add("tampered-alert", "a close_notify, changed", BAD, tampered(5, ALERT))
# The record's version is in the additional data, unless it is ignored altogether.
add(
    "tampered-version",
    "a record, 0x0303 in its header changed to 0x0343",
    (BAD, "protocol_version", TOLERATED),
    lambda link: version_changed(link),
)


def version_changed(link):
    link.send(changed(link.data(CONTENT), 2))
    link.app_gets(CONTENT)
    return TOLERATED


@row("a record whose header says one byte less, which follows", BAD)
def length_one_less(link):
    record = bytearray(link.data(CONTENT))
    record[4] -= 1
    link.send(record)


@row("a record whose header says one byte more, which follows", BAD)
def length_one_more(link):
    record = bytearray(link.data(CONTENT))
    record[4] += 1
    link.send(record, b"\0")


@row("a record twice", BAD)
def replayed(link):
    record = link.data(CONTENT)
    link.send(record)
    link.app_gets(CONTENT)
    link.send(record)


@row("a record twice, in one segment", BAD)
def replayed_at_once(link):
    record = link.data(CONTENT)
    link.send(record, record)
    link.app_gets(CONTENT)


@row("the second of two records, then the first", BAD)
def reordered(link):
    first, second = link.data(b"first"), link.data(b"second")
    link.send(second, first)


@row("a record after one that was left out", BAD)
def left_out(link):
    link.data(b"left out")
    link.send(link.data(CONTENT))


@row("a record of the first connection's beginning, again", BAD)
def replayed_from_the_beginning(link):
    old = Half(link.out.suite, link.out.secret)
    link.send(old.seal(CONTENT))


@row("a record sealed with a key nobody has", BAD)
def other_key(link):
    link.send(Half(link.out.suite, noise(32)).seal(CONTENT))


@row("sekisho's own record, sent back to it", BAD)
def reflected(link):
    mirror = link.come.copy()
    link.back()
    mirror.number = link.out.number
    link.send(mirror.seal(CONTENT))


@row("15 bytes, one less than a tag", BAD)
def shorter_than_a_tag(link):
    link.send(header(DATA, TAG - 1), noise(TAG - 1))


@row("1 byte", BAD)
def one_byte_of_ciphertext(link):
    link.send(header(DATA, 1), b"x")


@row("a protected record of length 0", BAD)
def no_ciphertext(link):
    link.send(header(DATA, 0))


@row("16 random bytes, a tag that is none", BAD)
def random_tag(link):
    link.send(header(DATA, TAG), noise(TAG))


@row("random bytes of the greatest length", BAD)
def random_of_the_greatest_length(link):
    link.send(header(DATA, (1 << 14) + 256), noise((1 << 14) + 256))


@row("a changed record in the middle of many good ones", BAD)
def tampered_in_the_middle(link):
    good = [link.data(noise(10)) for _ in range(40)]
    good[20] = changed(good[20], 7)
    link.send(*good)
    # Those before it may have arrived.
    return link.outcome().split(", ")[0]


@row("a changed record, and a megabyte behind it before the answer is read", BAD)
def tampered_before_a_flood(link):
    link.send(changed(link.data(CONTENT), 5))
    link.send(header(DATA, 1 << 14), bytes(1 << 20))


for cipher in ("aes256", "chacha20"):
    add(f"tampered-{cipher}", f"a changed record, {cipher}", BAD, tampered(-1), cipher=cipher)
    add(
        f"shorter-than-a-tag-{cipher}",
        f"15 bytes, {cipher}",
        BAD,
        shorter_than_a_tag,
        cipher=cipher,
    )
