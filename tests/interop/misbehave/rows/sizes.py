"""Records of every size, padded and cut as no sane peer does: the data is intact (RFC 8446
sections 5.1 and 5.4)."""

import random

from link import Got, noise
from records import MAX
from table import TOLERATED, add, row

# The same at each run.
chance = random.Random(8446)
# Records without content in a row: so many are taken, and no more.
LIMIT = 32


def carry(link, sizes, paddings, cuts=None):
    """Sends records of these sizes, whole or cut at random."""
    content = [noise(size) for size in sizes]
    stream = b"".join(link.data(part, next(paddings)) for part in content)
    expected = b"".join(content)
    if cuts is None:
        link.send(stream)
    while cuts is not None and stream:
        cut = next(cuts)
        link.send(stream[:cut])
        stream = stream[cut:]
    link.app_gets(expected)


def always(value):
    while True:
        yield value


def up_to(most, least=0):
    while True:
        yield chance.randint(least, most)


@row("2000 records of 1 byte in one write", TOLERATED)
def tiny_records(link):
    carry(link, [1] * 2000, always(0))


@row("records of 1 to 300 bytes, with random padding", TOLERATED)
def every_small_size(link):
    carry(link, range(1, 301), up_to(40))


@row("100 random records with random padding, cut at random", TOLERATED)
def random_records(link):
    carry(link, [chance.randint(1, 1500) for _ in range(100)], up_to(300), up_to(900, 1))


@row("records of 2^14 - 2 to 2^14 bytes, cut at random", TOLERATED)
def great_records_cut(link):
    carry(link, [MAX - 2, MAX - 1, MAX], always(0), up_to(5000, 1))


@row("two records, a write for each byte", TOLERATED)
def byte_by_byte(link):
    carry(link, [30, 40], up_to(5), always(1))


@row("a record cut at each byte, the rest when the first part has been read", TOLERATED)
def cut_at_each_byte(link):
    for cut in range(1, 40):
        content = noise(18)
        record = link.data(content)
        link.send(record[:cut])
        # Sekisho has come round to it.
        link.back()
        link.send(record[cut:])
        link.app_gets(content)


@row("a record and a part of the next, the rest later", TOLERATED)
def record_and_a_part(link):
    for cut in (1, 4, 5, 6, 20, 37):
        contents = noise(100), noise(16)
        first, second = map(link.data, contents)
        link.send(first, second[:cut])
        link.app_gets(contents[0])
        link.back()
        link.send(second[cut:])
        link.app_gets(contents[1])


@row("a great record in three parts, each when the last has been read", TOLERATED)
def great_record_in_parts(link):
    content = noise(MAX)
    record = link.data(content)
    for part in (record[:7], record[7:9000], record[9000:]):
        link.send(part)
        if part is not record:
            link.back()
    link.app_gets(content)


def empties(count, padding=0):
    return lambda link: link.send(*(link.data(b"", padding) for _ in range(count)))


add("empty-record", "a record of data without data", TOLERATED, empties(1))
add("empty-record-padded", "the same, padded", TOLERATED, empties(1, 200))
add("5-empty-records", "5 empty records in a row", TOLERATED, empties(5))
add(f"{LIMIT}-empty-records", f"{LIMIT} empty records in a row", TOLERATED, empties(LIMIT))
add("1000-empty-records", "1000 empty records in a row", "unexpected_message", empties(1000))
add(
    "1000-empty-records-padded",
    "1000 empty records with padding",
    "unexpected_message",
    empties(1000, 20),
)


@row("500 empty records, each with data", TOLERATED)
def empty_records_between_data(link):
    carry(link, [0, 3] * 500, always(0))


@row("nothing: the application's data is well cut into records", TOLERATED)
def records_from_sekisho(link):
    content = noise(20 * MAX + 1)
    # In parts that fit into the socket's buffers: both ends are in one thread.
    for at in range(0, len(content), 4 * MAX):
        link.app.sendall(content[at : at + 4 * MAX])
        link.peer_gets(content[at : at + 4 * MAX])
    if link.longest > MAX:
        raise Got(f"a record of {link.longest} bytes")
