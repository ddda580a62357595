"""How connections end (RFC 8446 section 6.1)."""

import select
import socket

import messages as m
from link import PATIENCE, noise, resets
from records import DATA, header
from table import add, row

ORDER = "in order"
# The TLS peer has gone; the application must not take it for an orderly end.
CUT = "application: reset"
SOME = 100_000


def application(link):
    """How it ended for the application."""
    data, how = link.app_end()
    return f"application: {how}" + (f" after {len(data)} bytes" if data else "")


def peer(link):
    """How it ended for the TLS peer, which nothing but a reset tells from an orderly end."""
    kind, content = link.record()
    while kind == DATA:
        kind, content = link.record()
    return f"peer: {m.alert_name(content[1]) if content else kind}"


def finish(link):
    """The rest, after the peer's close_notify has arrived."""
    answer = noise(SOME)
    link.app.sendall(answer)
    link.app.shutdown(socket.SHUT_WR)
    link.peer_gets(answer)
    link.peer_ends()
    link.closed()
    return ORDER


@row("close_notify; then it receives all that the application has", ORDER)
def half_close(link):
    link.send(link.alert(m.CLOSE_NOTIFY))
    link.app_ends()
    return finish(link)


@row("close_notify and FIN; then it receives all", ORDER)
def half_close_with_fin(link):
    link.send(link.alert(m.CLOSE_NOTIFY))
    link.tls.shutdown(socket.SHUT_WR)
    link.app_ends()
    return finish(link)


@row("data and close_notify in one segment", ORDER)
def data_and_close_notify(link):
    content = noise(1000)
    link.send(link.data(content), link.alert(m.CLOSE_NOTIFY))
    link.app_gets(content)
    link.app_ends()
    return finish(link)


def after_the_end(name, sent, what):
    def act(link):
        link.send(link.alert(m.CLOSE_NOTIFY), what(link))
        link.app_ends()
        link.back()
        link.send(what(link))
        return finish(link)

    add(name, sent, ORDER, act)


after_the_end("data-after-close-notify", "data after close_notify", lambda link: link.data(b"late"))
after_the_end("noise-after-close-notify", "noise after close_notify", lambda link: noise(50))
after_the_end(
    "too-long-after-close-notify",
    "a record that is too long, after close_notify",
    lambda link: header(DATA, 0xFFFF),
)
after_the_end(
    "alert-after-close-notify",
    "a fatal alert after close_notify",
    lambda link: link.alert(b"\2\x50"),
)
after_the_end("close-notify-twice", "close_notify again", lambda link: link.alert(m.CLOSE_NOTIFY))


@row("close_notify, a megabyte of noise, and the answer still arrives", ORDER)
def flood_after_close_notify(link):
    link.send(link.alert(m.CLOSE_NOTIFY))
    link.app_ends()
    link.send(noise(1 << 20))
    return finish(link)


@row("nothing: the application ends its half, and the peer goes on sending", ORDER)
def half_close_by_the_application(link):
    link.app.shutdown(socket.SHUT_WR)
    link.peer_ends()
    content = noise(SOME)
    for at in range(0, SOME, 1 << 14):
        link.send(link.data(content[at : at + (1 << 14)]))
    link.app_gets(content)
    link.send(link.alert(m.CLOSE_NOTIFY))
    link.app_ends()
    link.closed()
    return ORDER


@row("FIN without close_notify", CUT)
def fin(link):
    link.tls.shutdown(socket.SHUT_WR)
    return application(link)


@row("data, then FIN without close_notify", CUT)
def data_and_fin(link):
    content = noise(500)
    link.send(link.data(content))
    link.app_gets(content)
    link.tls.shutdown(socket.SHUT_WR)
    return application(link)


@row("a reset", CUT)
def reset(link):
    resets(link.tls)
    link.tls.close()
    return application(link)


@row("FIN without close_notify, after the application's own end", CUT)
def fin_after_the_other_half(link):
    link.app.shutdown(socket.SHUT_WR)
    link.peer_ends()
    link.tls.shutdown(socket.SHUT_WR)
    return application(link)


@row("a reset, after the application's own end", CUT)
def reset_after_the_other_half(link):
    link.app.shutdown(socket.SHUT_WR)
    link.peer_ends()
    resets(link.tls)
    link.tls.close()
    return application(link)


def cut(name, sent, at):
    def act(link):
        link.send(link.data(noise(100))[:at])
        # It has been read, and lies there, before the end comes.
        link.back()
        link.tls.shutdown(socket.SHUT_WR)
        return application(link)

    add(name, sent, CUT, act)


cut("cut-in-the-header", "3 bytes of a record, then FIN", 3)
cut("cut-after-the-header", "the header of a record, then FIN", 5)
cut("cut-in-the-record", "half a record, then FIN", 60)
cut("cut-before-the-last-byte", "a record without its last byte, then FIN", -1)


@row("half a record after close_notify, then FIN", ORDER)
def cut_after_close_notify(link):
    link.send(link.alert(m.CLOSE_NOTIFY), link.data(noise(100))[:60])
    link.tls.shutdown(socket.SHUT_WR)
    link.app_ends()
    return finish(link)


@row("nothing: the application resets", "peer: reset")
def reset_by_the_application(link):
    resets(link.app)
    link.app.close()
    return peer(link)


@row("data, to an application that has ended its half and resets", "peer: reset")
def late_reset_by_the_application(link):
    link.app.shutdown(socket.SHUT_WR)
    link.peer_ends()
    resets(link.app)
    link.app.close()
    link.send(link.data(b"to nobody"))
    # An end may have come with close_notify; a reset behind it is an error of the socket.
    watch = select.poll()
    watch.register(link.tls, 0)
    watch.poll(PATIENCE * 1000)
    return "peer: reset" if link.tls.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) else "peer: end"


@row("nothing: the application sends, and resets", "peer: reset")
def data_and_reset_by_the_application(link):
    link.back()
    resets(link.app)
    link.app.close()
    return peer(link)


@row("nothing: both halves end at the application", "peer: close_notify")
def close_by_the_application(link):
    link.app.shutdown(socket.SHUT_WR)
    return peer(link)
