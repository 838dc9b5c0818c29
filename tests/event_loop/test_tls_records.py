"""TLS: what is in records arrives whole and in order, whatever they are like and whatever is under way."""

import _ssl
import asyncio
import ctypes
import ssl

import pytest

from .test_stream_transports import Recording, until
from .test_stream_transports import run as run
from .test_tls import Peer, TlsBuffered, tcp_pair, to_peer


def test_what_is_written_before_the_handshake_goes_before_what_is_written_after_it(run, contexts):
    class Writing(Recording):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"second")

    async def main(reports):
        ours, theirs = tcp_pair()
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        protocol = Writing()
        transport = loop._make_ssl_transport(ours, protocol, contexts[1], waiter, server_hostname="localhost")
        await until(lambda: transport._ssl_protocol._transport is not None)
        transport.write(b"first, ")
        peer = Peer(theirs)
        await peer.wrap(contexts[0], server_side=True)
        await waiter
        assert await peer.receive(13) == b"first, second"
        transport.abort()
        await protocol.lost
        peer.socket.close()
        assert reports == []

    run(main)


def test_the_end_of_tls_is_the_end_of_what_is_received(run, contexts):
    """Though the connection below stays open until this side has said the same."""

    async def main(reports):
        _, protocol, peer = await to_peer(*contexts)
        await asyncio.to_thread(peer.socket.sendall, b"hello")
        below = await asyncio.to_thread(peer.socket.unwrap)
        assert await protocol.lost is None
        assert protocol.received == b"hello"
        assert protocol.told == ["connection_made", "data_received", "eof_received", "connection_lost"]
        assert await asyncio.to_thread(below.recv, 1) == b""
        below.close()
        assert reports == []

    run(main)


def test_who_is_told_of_the_end_of_tls_may_still_answer(run, contexts):
    class Answering(Recording):
        def eof_received(self):
            self.transport.write(b"not so fast")
            return super().eof_received()

    async def main(reports):
        _, protocol, peer = await to_peer(*contexts, Answering)
        # Its kind of an end takes no answer.
        with pytest.raises(ssl.SSLError, match="APPLICATION_DATA_AFTER_CLOSE_NOTIFY"):
            await asyncio.to_thread(peer.socket.unwrap)
        peer.socket.close()
        await protocol.lost
        assert protocol.told == ["connection_made", "eof_received", "connection_lost"]
        assert reports == []

    run(main)


def test_what_was_received_with_what_made_one_close_is_told_as_far_as_there_is_room(run, contexts):
    """That is what asyncio does: it reads once more when it is closed, and the rest is an error of who sent it."""

    class Closing(TlsBuffered):
        def buffer_updated(self, size):
            super().buffer_updated(size)
            self.transport.close()

    async def main(reports):
        _, protocol, peer = await to_peer(*contexts, Closing)
        await asyncio.to_thread(peer.socket.sendall, bytes(range(250)))
        assert isinstance(await protocol.notes.lost, ssl.SSLError)
        assert protocol.notes.received == bytes(range(200))
        peer.socket.close()
        assert reports == []

    run(main)


def test_an_object_of_tls_that_takes_only_part_is_given_the_rest(run, contexts):
    class Part(ssl.SSLObject):
        def write(self, data):
            return super().write(data[:100])

    async def main(reports):
        contexts[1].sslobject_class = Part
        transport, protocol, peer = await to_peer(*contexts)
        sent = bytes(range(256)) * 4
        transport.write(sent)
        transport.write(b"the end")
        assert await peer.receive(len(sent) + 7) == sent + b"the end"
        transport.abort()
        await protocol.lost
        peer.socket.close()
        assert reports == []

    run(main)


@pytest.mark.parametrize("make", [Recording, TlsBuffered])
def test_records_that_are_hardly_longer_than_what_is_in_them_arrive_whole(run, contexts, make):
    """Those of the cipher with the shortest tag, which nobody uses unless it is asked for."""
    for context in contexts:
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        use_ccm_8(context)

    async def main(reports):
        transport, protocol, peer = await to_peer(*contexts, make)
        assert transport.get_extra_info("cipher")[0] == "TLS_AES_128_CCM_8_SHA256"
        notes = getattr(protocol, "notes", protocol)
        whole = b""
        for size in (1, 5, 6, 7, 100, 16384, 100_000):
            whole += bytes([size % 256]) * size
            await asyncio.to_thread(peer.socket.sendall, whole[-size:])
            await until(lambda whole=whole: len(notes.received) == len(whole))
        assert notes.received == whole
        transport.abort()
        await notes.lost
        peer.socket.close()
        assert reports == []

    run(main)


def use_ccm_8(context):
    """The `ssl` module can't be told which ciphers TLS 1.3 is to use."""
    openssl = ctypes.CDLL(getattr(_ssl, "__file__", None))
    openssl.SSL_CTX_set_ciphersuites.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    inside = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    assert openssl.SSL_CTX_set_ciphersuites(inside, b"TLS_AES_128_CCM_8_SHA256") == 1
