"""TLS: on `EventLoop` as on the standard loop."""

import _ssl
import asyncio
import contextlib
import ctypes
import gc
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import warnings
import weakref
from asyncio import sslproto

import pytest
from self_signed import self_signed

from asyncio_thread_loop import EventLoop

from .conftest import WAIT, reporting
from .test_stream_transports import Buffered, Recording, turns, until

LARGE = 8 * 1024 * 1024
"""More than the buffers of a connection hold."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def for_server(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def for_client(certificate):
    return ssl.create_default_context(cafile=certificate)


@pytest.fixture(params=[asyncio.SelectorEventLoop, EventLoop], ids=["standard", "native"])
def run(request):
    """Run a coroutine function on a fresh loop with what went to its exception handler; a hang is an error."""
    return reporting(request.param)


@pytest.fixture
def run_natively():
    return reporting(EventLoop)


class Echo(Recording):
    def data_received(self, data):
        super().data_received(data)
        self.transport.write(data)


class TlsBuffered(Buffered):
    """Memory of its own; TLS tells how much there may be."""

    def __init__(self, size=100, **kwargs):
        # The standard loop's TLS needs a view: it would read into a copy of what is left of a bytearray.
        super().__init__(memoryview(bytearray(size)), **kwargs)

    def get_buffer(self, size):
        assert size >= 0
        self.notes._tell("get_buffer")
        return self.memory


async def connect(for_server, for_client, make_server=Echo, make_client=Recording, **options):
    """A connection to a server of the same loop: the protocols of the server and of the client."""
    loop = asyncio.get_running_loop()
    accepted = loop.create_future()

    def accept():
        protocol = make_server()
        accepted.set_result(protocol)
        return protocol

    server = await loop.create_server(accept, "127.0.0.1", 0, ssl=for_server)
    address = server.sockets[0].getsockname()
    options = {"ssl": for_client, "server_hostname": "localhost", **options}
    _, protocol = await loop.create_connection(make_client, *address, **options)
    server.close()
    theirs = await accepted
    await until(lambda: hasattr(theirs, "transport"))
    return theirs, protocol


async def closed(*protocols):
    for each in protocols:
        each.transport.close()
    for each in protocols:
        await getattr(each, "notes", each).lost


class Peer:
    """The other side, in threads of its own: a plain blocking socket, with or without TLS."""

    def __init__(self, sock):
        self.socket = sock

    async def wrap(self, context, **options):
        self.socket.setblocking(True)
        self.socket.settimeout(WAIT)
        self.socket = await asyncio.to_thread(context.wrap_socket, self.socket, **options)

    async def receive(self, size):
        data = bytearray()
        while len(data) < size and (piece := await asyncio.to_thread(self.socket.recv, 65536)):
            data += piece
        return bytes(data)

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    ours.setblocking(False)
    return ours, theirs


async def to_peer(for_server, for_client, make=Recording, **options):
    """A client's transport and protocol, of which the server is a `Peer`."""
    ours, theirs = tcp_pair()
    peer = Peer(theirs)
    _, (transport, protocol) = await asyncio.gather(
        peer.wrap(for_server, server_side=True),
        asyncio.get_running_loop().create_connection(
            make, sock=ours, ssl=for_client, server_hostname="localhost", **options
        ),
    )
    return transport, protocol, peer


class ByHand:
    """The other side, a server whose bytes the test sends itself."""

    def __init__(self, sock, context):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    async def handshake(self):
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.send()
                self.incoming.write(await asyncio.get_running_loop().sock_recv(self.socket, 65536))
            else:
                return await self.send()

    def encrypted(self, message=b""):
        if message:
            self.tls.write(message)
        return self.outgoing.read()

    async def send(self, message=b""):
        await self.send_bytes(self.encrypted(message))

    async def send_bytes(self, data):
        await asyncio.get_running_loop().sock_sendall(self.socket, data)


class Dripping(ByHand):
    async def send_bytes(self, data):
        for byte in data:
            await super().send_bytes(bytes([byte]))
            await asyncio.sleep(0)


async def to_hand(for_server, for_client, make=Recording, make_peer=ByHand):
    """A client's transport and protocol, of which the server is a `ByHand`."""
    ours, theirs = tcp_pair()
    peer = make_peer(theirs, for_server)
    (transport, protocol), _ = await asyncio.gather(
        asyncio.get_running_loop().create_connection(
            make, sock=ours, ssl=for_client, server_hostname="localhost"
        ),
        peer.handshake(),
    )
    return transport, protocol, peer


def test_the_transport_is_native_and_looks_like_asyncios(run_natively, for_server, for_client):
    async def main(_):
        theirs, ours = await connect(for_server, for_client)
        for transport in (theirs.transport, ours.transport):
            assert type(transport).__module__ == "asyncio_thread_loop._tls"
            assert isinstance(transport, sslproto._SSLProtocolTransport)
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(transport._ssl_protocol, sslproto.SSLProtocol)
            below = transport._ssl_protocol._transport
            assert below.get_protocol() is transport._ssl_protocol
        await closed(theirs, ours)

    run_natively(main)


def test_what_there_is_to_know_of_a_connection(run, for_server, for_client):
    async def main(_):
        theirs, ours = await connect(for_server, for_client)
        ask = ours.transport.get_extra_info
        assert type(ask("ssl_object")) is ssl.SSLObject
        assert ask("ssl_object").version() == "TLSv1.3"
        assert ask("sslcontext") is for_client
        assert ask("cipher") == ask("ssl_object").cipher()
        assert ask("compression") is None
        assert dict(item for (item,) in ask("peercert")["subject"]) == {"commonName": "localhost"}
        assert ask("peername") == theirs.transport.get_extra_info("sockname")
        assert ask("socket").fileno() >= 0
        assert ask("nothing", "else") == "else"
        assert theirs.transport.get_extra_info("sslcontext") is for_server
        assert ours.transport.get_protocol() is ours
        assert not ours.transport.can_write_eof()
        with pytest.raises(NotImplementedError):
            ours.transport.write_eof()
        await closed(ours, theirs)
        assert ask("socket") is None
        assert ask("cipher") is not None

    run(main)


def test_a_protocol_is_told_in_asyncios_order(run, for_server, for_client):
    async def main(reports):
        theirs, ours = await connect(for_server, for_client)
        ours.transport.write(b"hello")
        await until(lambda: ours.received == b"hello")
        ours.transport.close()
        assert ours.transport.is_closing()
        assert await theirs.lost is None
        assert await ours.lost is None
        assert theirs.told == ["connection_made", "data_received", "eof_received", "connection_lost"]
        assert ours.told in (
            ["connection_made", "data_received", "connection_lost"],
            ["connection_made", "data_received", "eof_received", "connection_lost"],
        )
        assert reports == []

    run(main)


CIPHERS = {
    "TLSv1.3": ("TLSv1_3", None),
    "GCM": ("TLSv1_2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    "ChaCha": ("TLSv1_2", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    "CBC": ("TLSv1_2", "ECDHE-ECDSA-AES128-SHA256"),
    "CCM8": ("TLSv1_2", "ECDHE-ECDSA-AES128-CCM8"),
}


def agree_on(cipher, *contexts):
    version, ciphers = CIPHERS[cipher]
    for context in contexts:
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
        if ciphers is not None:
            context.set_ciphers(ciphers)


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("make", [Recording, TlsBuffered, lambda: TlsBuffered(1 << 18)])
def test_messages_of_any_size_arrive_whole(run, for_server, for_client, make, cipher):
    agree_on(cipher, for_server, for_client)

    async def main(_):
        theirs, ours = await connect(for_server, for_client, make_client=make)
        notes = getattr(ours, "notes", ours)
        sent = b""
        for number, size in enumerate([1, 16384, 16385, 5000, 100_000, 1_000_000]):
            message = bytes([number, 1, 2, 3]) * (size // 4 + 1)
            sent += message
            ours.transport.write(message)
            await until(lambda sent=sent: len(notes.received) == len(sent))
        assert notes.received == sent
        await closed(ours, theirs)

    run(main)


def test_records_may_come_byte_by_byte(run, for_server, for_client):
    async def main(_):
        transport, protocol, peer = await to_hand(for_server, for_client, make_peer=Dripping)
        for message in (b"hello", b"x" * 300, b"", b"y" * 20):
            peer.tls.write(message)
        await peer.send()
        await until(lambda: len(protocol.received) == 325)
        assert protocol.received == b"hello" + b"x" * 300 + b"y" * 20
        transport.abort()
        await protocol.lost
        peer.socket.close()

    run(main)


def test_what_is_written_while_data_is_received_is_sent_in_order(run, for_server, for_client):
    class Chatty(Recording):
        def data_received(self, data):
            for number in range(100):
                self.transport.write(b"%d," % number)
            self.transport.writelines([b"a", bytearray(b"b"), memoryview(b"c"), b""])
            self.transport.write(b"z" * 200_000)
            self.transport.write(b".")
            assert self.transport.get_write_buffer_size() >= 0

    async def main(_):
        theirs, ours = await connect(for_server, for_client, make_server=Chatty)
        ours.transport.write(b"?")
        whole = b"".join(b"%d," % number for number in range(100)) + b"abc" + b"z" * 200_000 + b"."
        await until(lambda: len(ours.received) == len(whole))
        assert ours.received == whole
        await closed(ours, theirs)

    run(main)


def test_who_writes_and_closes_while_data_is_received_loses_nothing(run, for_server, for_client):
    class Once(Recording):
        def data_received(self, data):
            self.transport.write(data * 1000)
            self.transport.close()

    async def main(reports):
        theirs, ours = await connect(for_server, for_client, make_server=Once)
        ours.transport.write(b"x" * 1000)
        assert await ours.lost is None
        assert ours.received == b"x" * 1_000_000
        assert await theirs.lost is None
        assert reports == []

    run(main)


@pytest.mark.parametrize("data", ["text", 1, None, [b"x"]])
def test_what_is_no_bytes_is_refused_and_nothing_is_lost(run, for_server, for_client, data):
    async def main(reports):
        theirs, ours = await connect(for_server, for_client)
        with pytest.raises(TypeError, match="expecting a bytes-like instance"):
            ours.transport.write(data)
        ours.transport.write(b"")
        ours.transport.write(b"hello")
        await until(lambda: ours.received == b"hello")
        await closed(ours, theirs)
        assert reports == []

    run(main)


def test_lines_of_which_one_is_no_bytes_are_refused_as_a_whole(run_natively, for_server, for_client):
    async def main(reports):
        theirs, ours = await connect(for_server, for_client)
        with pytest.raises(TypeError, match="str found"):
            ours.transport.writelines([b"lost", "text"])
        ours.transport.write(b"hello")
        await until(lambda: ours.received == b"hello")
        await closed(ours, theirs)
        assert reports == []

    run_natively(main)


def test_another_protocol_may_take_over_whatever_its_kind(run, for_server, for_client):
    async def main(_):
        theirs, first = await connect(for_server, for_client)
        transport = first.transport
        second = TlsBuffered()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        transport.write(b"for the second")
        await until(lambda: second.notes.received == b"for the second")
        transport.set_protocol(first)
        transport.write(b"for the first")
        await until(lambda: first.received == b"for the first")
        await closed(first, theirs)

    run(main)


@pytest.mark.parametrize("make", [Recording, TlsBuffered])
def test_a_paused_transport_reads_nothing_until_it_is_resumed(run, for_server, for_client, make):
    async def main(_):
        theirs, ours = await connect(for_server, for_client, make_client=make)
        notes = getattr(ours, "notes", ours)
        for _ in range(3):
            ours.transport.pause_reading()
            ours.transport.pause_reading()
            assert not ours.transport.is_reading()
            theirs.transport.write(b"x")
            before = notes.received
            await asyncio.sleep(0.01)
            assert notes.received == before
            ours.transport.resume_reading()
            ours.transport.resume_reading()
            assert ours.transport.is_reading()
            await until(lambda before=before: notes.received != before)
        await closed(ours, theirs)

    run(main)


def test_who_reads_nothing_is_sent_no_more_than_is_asked_for(run, for_server, for_client):
    async def main(_):
        theirs, ours = await connect(for_server, for_client, make_server=Recording)
        ours.transport.pause_reading()
        ours.transport.set_read_buffer_limits(high=1000, low=100)
        assert ours.transport.get_read_buffer_limits() == (100, 1000)
        message = bytes(range(256)) * (LARGE // 256)
        theirs.transport.write(
            message
        )  # all of it goes into the buffer of the transport below, and pauses that one
        theirs.transport.write(message)
        assert theirs.told == ["connection_made", "pause_writing"]
        below = ours.transport._ssl_protocol._transport
        await until(lambda: not below.is_reading())
        assert ours.received == b""
        assert 1000 <= ours.transport.get_read_buffer_size() <= 1 << 18
        ours.transport.resume_reading()
        await until(lambda: len(ours.received) == 2 * LARGE)
        assert ours.received == message * 2
        await until(lambda: "resume_writing" in theirs.told)
        await closed(ours, theirs)

    run(main)


def test_what_the_socket_does_not_take_waits_and_the_protocol_is_told(run, for_server, for_client):
    async def main(_):
        transport, protocol, peer = await to_peer(for_server, for_client)
        transport.set_write_buffer_limits(high=1000, low=100)
        assert transport.get_write_buffer_limits() == (100, 1000)
        message = bytes(range(256)) * (LARGE // 256)
        transport.write(message)  # all of it goes into the buffer of the transport below, and pauses that one
        tail = bytearray(b"t" * 2000)
        transport.write(tail)
        tail[:] = b"u" * 2000
        assert transport.get_write_buffer_size() > 2000
        assert protocol.told == ["connection_made", "pause_writing"]
        received = await peer.receive(LARGE + 2000)
        assert received == message + b"t" * 2000
        await until(lambda: transport.get_write_buffer_size() == 0)
        assert protocol.told == ["connection_made", "pause_writing", "resume_writing"]
        transport.abort()
        await protocol.lost
        peer.socket.close()

    run(main)


def test_a_bytearray_may_be_changed_that_waits_for_the_handshake(run_natively, for_server, for_client):
    async def main(_):
        loop = asyncio.get_running_loop()
        ours, theirs = tcp_pair()
        protocol = Recording()
        waiter = loop.create_future()
        transport = loop._make_ssl_transport(ours, protocol, for_client, waiter, server_hostname="localhost")
        await until(lambda: transport._ssl_protocol._transport is not None)
        data = bytearray(b"early")
        transport.write(data)
        data[:] = b"later"
        assert transport.get_write_buffer_size() == 5
        peer = Peer(theirs)
        await peer.wrap(for_server, server_side=True)
        await waiter
        assert await peer.receive(5) == b"early"
        transport.abort()
        await protocol.lost
        peer.socket.close()

    run_natively(main)


def test_closing_sends_what_was_written_and_that_this_was_all(run, for_server, for_client):
    async def main(reports):
        transport, protocol, peer = await to_peer(for_server, for_client)
        transport.write(b"x" * LARGE)
        transport.close()
        transport.write(b"nobody gets this")
        assert await peer.receive(LARGE) == b"x" * LARGE
        assert await asyncio.to_thread(peer.socket.recv, 10) == b""  # not an error: TLS was ended
        below = await asyncio.to_thread(peer.socket.unwrap)
        assert await protocol.lost is None
        below.close()
        assert reports == []

    run(main)


def test_who_is_closed_without_the_end_of_tls_is_told_of_it(run, for_server, for_client):
    async def main(_):
        transport, protocol, peer = await to_peer(for_server, for_client)
        await asyncio.to_thread(peer.socket.sendall, b"hello")
        os.close(peer.socket.detach())
        assert await protocol.lost is None
        assert protocol.received == b"hello"
        assert protocol.told[-1] == "connection_lost"
        assert transport.is_closing()

    run(main)


@pytest.mark.parametrize("size", [0, LARGE])
def test_a_reset_is_the_reason_of_the_loss(run, for_server, for_client, size):
    async def main(reports):
        transport, protocol, peer = await to_peer(for_server, for_client)
        transport.write(b"x" * size)
        peer.reset()
        assert isinstance(await protocol.lost, ConnectionError)
        for _ in range(10):
            transport.write(b"nobody gets this")
        assert reports == []

    run(main)


def test_who_aborts_loses_what_was_not_sent(run, for_server, for_client):
    async def main(_):
        transport, protocol, peer = await to_peer(for_server, for_client)
        transport.write(b"x" * LARGE)
        transport.abort()
        assert transport.is_closing()
        assert await protocol.lost is None
        with contextlib.suppress(OSError):
            assert len(await peer.receive(LARGE)) < LARGE
        peer.socket.close()

    run(main)


def test_a_peer_that_does_not_answer_the_end_is_given_up(run, for_server, for_client):
    async def main(_):
        transport, protocol, peer = await to_peer(for_server, for_client, ssl_shutdown_timeout=0.05)
        transport.close()
        assert isinstance(await protocol.lost, TimeoutError)
        peer.socket.close()

    run(main)


def test_bytes_that_are_no_tls_end_the_connection_with_the_reason(run, for_server, for_client):
    async def main(reports):
        _transport, protocol, peer = await to_peer(for_server, for_client)
        os.write(peer.socket.fileno(), b"this is no record of TLS, as OpenSSL will say")
        reason = await protocol.lost
        assert isinstance(reason, ssl.SSLError)
        assert reports == []
        peer.socket.close()

    run(main)


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("make", [Recording, TlsBuffered])
def test_a_record_that_was_changed_on_its_way_ends_the_connection(run, for_server, for_client, make, cipher):
    agree_on(cipher, for_server, for_client)

    async def main(reports):
        _, protocol, peer = await to_hand(for_server, for_client, make)
        notes = getattr(protocol, "notes", protocol)
        await peer.send(b"unchanged")
        await until(lambda: notes.received == b"unchanged")
        changed = bytearray(peer.encrypted(b"changed"))
        changed[-1] ^= 1
        await peer.send_bytes(changed)
        reason = await notes.lost
        assert type(reason) is ssl.SSLError
        assert (reason.library, reason.reason) == ("SSL", "DECRYPTION_FAILED_OR_BAD_RECORD_MAC")
        assert notes.received == b"unchanged"
        assert reports == []
        peer.socket.close()

    run(main)


@pytest.mark.parametrize("cipher", ["TLSv1.3", "GCM"])
def test_an_alert_of_the_other_side_is_the_reason_of_the_loss(run, for_server, for_client, cipher):
    agree_on(cipher, for_server, for_client)

    async def main(reports):
        _, protocol, peer = await to_hand(for_server, for_client)
        peer.incoming.write(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        with pytest.raises(ssl.SSLError):
            peer.tls.read()
        await peer.send()
        reason = await protocol.lost
        assert type(reason) is ssl.SSLError
        assert (reason.library, reason.reason) == ("SSL", "SSLV3_ALERT_BAD_RECORD_MAC")
        assert reports == []
        peer.socket.close()

    run(main)


@pytest.mark.parametrize("cipher", ["TLSv1.3", "GCM"])
@pytest.mark.parametrize("make", [Recording, TlsBuffered])
def test_what_comes_together_with_the_end_of_tls_is_received(run, for_server, for_client, make, cipher):
    agree_on(cipher, for_server, for_client)

    async def main(reports):
        _, protocol, peer = await to_hand(for_server, for_client, make)
        notes = getattr(protocol, "notes", protocol)
        peer.tls.write(b"the last")
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.unwrap()
        await peer.send()
        await until(lambda: "eof_received" in notes.told)
        peer.socket.close()
        assert await notes.lost is None
        assert notes.received == b"the last"
        assert reports == []

    run(main)


# Handshakes


@pytest.mark.parametrize("nonsense", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\0" * 100])
def test_nonsense_instead_of_a_handshake_ends_that_connection_alone(run, for_server, for_client, nonsense):
    async def main(reports):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=for_server)
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(nonsense)
        with contextlib.suppress(ConnectionResetError):
            await reader.read()  # at most what OpenSSL answers
        writer.close()
        _, protocol = await loop.create_connection(
            Recording, *address, ssl=for_client, server_hostname="localhost"
        )
        protocol.transport.write(b"hello")
        await until(lambda: protocol.received == b"hello")
        await closed(protocol)
        server.close()
        await server.wait_closed()
        assert reports == []

    run(main)


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_peer_that_leaves_during_the_handshake_is_an_error_of_who_connects(run, for_client, end):
    async def main(_):
        ours, theirs = tcp_pair()
        connecting = asyncio.ensure_future(
            asyncio.get_running_loop().create_connection(
                Recording, sock=ours, ssl=for_client, server_hostname="localhost"
            )
        )
        peer = Peer(theirs)
        assert await asyncio.to_thread(theirs.recv, 65536)
        theirs.close() if end == "close" else peer.reset()
        with pytest.raises(ConnectionError):
            await connecting

    run(main)


def test_a_handshake_that_takes_too_long_is_given_up(run, for_client):
    async def main(_):
        ours, theirs = tcp_pair()
        with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than"):
            await asyncio.get_running_loop().create_connection(
                Recording, sock=ours, ssl=for_client, server_hostname="localhost", ssl_handshake_timeout=0.05
            )
        theirs.close()

    run(main)


@pytest.mark.parametrize("timeout", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_a_timeout_has_to_be_positive(run, for_client, timeout):
    async def main(_):
        ours, theirs = tcp_pair()
        with pytest.raises(ValueError, match=f"{timeout} should be a positive number"):
            await asyncio.get_running_loop().create_connection(
                Recording, sock=ours, ssl=for_client, server_hostname="localhost", **{timeout: 0}
            )
        ours.close()
        theirs.close()

    run(main)


def test_who_is_cancelled_during_the_handshake_leaves_nothing(run, for_client):
    async def main(_):
        ours, theirs = tcp_pair()
        connecting = asyncio.ensure_future(
            asyncio.get_running_loop().create_connection(
                Recording, sock=ours, ssl=for_client, server_hostname="localhost"
            )
        )
        assert await asyncio.to_thread(theirs.recv, 65536)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await until(lambda: ours.fileno() == -1)
        theirs.close()

    run(main)


def test_both_sides_may_have_to_show_a_certificate(run, certificate, for_server, for_client):
    async def main(_):
        for_server.verify_mode = ssl.CERT_REQUIRED
        for_server.load_verify_locations(certificate)
        for_client.load_cert_chain(certificate)
        theirs, ours = await connect(for_server, for_client)
        peercert = theirs.transport.get_extra_info("peercert")
        assert dict(item for (item,) in peercert["subject"]) == {"commonName": "localhost"}
        ours.transport.write(b"hello")
        await until(lambda: ours.received == b"hello")
        await closed(ours, theirs)

    run(main)


def test_who_shows_no_certificate_although_it_has_to_is_refused(run, certificate, for_server, for_client):
    async def main(_):
        for_server.verify_mode = ssl.CERT_REQUIRED
        for_server.load_verify_locations(certificate)
        for_client.maximum_version = ssl.TLSVersion.TLSv1_2
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=for_server)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await loop.create_connection(
                Recording, *server.sockets[0].getsockname(), ssl=for_client, server_hostname="localhost"
            )
        server.close()
        await server.wait_closed()

    run(main)


def test_new_keys_may_be_agreed_on_at_any_time(run, for_server):
    async def main(_):
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, ssl=for_server)
        port = server.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *f"openssl s_client -tls1_3 -connect 127.0.0.1:{port}".split(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        printed = b""
        # A line with a K alone is no message: it asks for new keys on both sides.
        for line, answer in [(b"first", b"first"), (b"K", b"KEYUPDATE"), (b"x" * 1000, b"x" * 1000)]:
            process.stdin.write(line + b"\n")
            while answer not in printed:
                more = await process.stdout.read(1000)
                assert more
                printed += more
        process.stdin.close()
        await process.communicate()
        server.close()
        await server.wait_closed()

    run(main)


@pytest.mark.skipif(ssl.OPENSSL_VERSION_INFO < (3, 0), reason="OpenSSL 1.1.1 lets clients renegotiate")
def test_a_client_of_tls_1_2_that_wants_new_keys_is_refused_alone(run, for_server, for_client):
    async def main(reports):
        accepted = []

        def accept():
            accepted.append(Echo())
            return accepted[-1]

        loop = asyncio.get_running_loop()
        server = await loop.create_server(accept, "127.0.0.1", 0, ssl=for_server)
        address = server.sockets[0].getsockname()
        _, other = await loop.create_connection(
            Recording, *address, ssl=for_client, server_hostname="localhost"
        )
        process = await asyncio.create_subprocess_exec(
            *f"openssl s_client -tls1_2 -connect 127.0.0.1:{address[1]}".split(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        await until(lambda: len(accepted) == 2 and hasattr(accepted[1], "transport"))
        process.stdin.write(b"before\n")
        await until(lambda: accepted[1].received == b"before\n")
        process.stdin.write(b"R\n")
        printed, _ = await process.communicate()
        assert b"no renegotiation" in printed
        reason = await accepted[1].lost
        assert type(reason) is ssl.SSLError
        assert reason.reason == "SSLV3_ALERT_HANDSHAKE_FAILURE"  # which is how the client takes it
        other.transport.write(b"goes on")
        await until(lambda: other.received == b"goes on")
        await closed(other)
        server.close()
        await server.wait_closed()
        assert reports == []

    run(main)


HANDSHAKE = b"\x16"
"""How a record of a handshake begins."""


def test_new_keys_of_tls_1_2_are_agreed_on_while_the_protocol_writes(run, for_client, certificate, tmp_path):
    for_client.keylog_filename = str(tmp_path / "keys")

    async def main(reports):
        loop = asyncio.get_running_loop()
        command = "openssl s_server -tls1_2 -naccept 1 -accept 127.0.0.1:0 -cert"
        process = await asyncio.create_subprocess_exec(
            *command.split(),
            certificate,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        printed = b""

        async def prints(text):
            nonlocal printed
            while text not in printed:
                more = await process.stdout.read(1000)
                assert more
                printed += more

        await prints(b"ACCEPT 127.0.0.1:")
        await prints(b"\n")
        port = int(printed.split(b"ACCEPT 127.0.0.1:")[1].split()[0])
        ours, theirs = tcp_pair()
        server = socket.create_connection(("127.0.0.1", port))
        shakes_hands, may_go_on = asyncio.Event(), asyncio.Event()

        async def forward(source, target, is_held=lambda data: False):
            source.setblocking(False)
            while data := await loop.sock_recv(source, 65536):
                if is_held(data):
                    shakes_hands.set()
                    await may_go_on.wait()
                await loop.sock_sendall(target, data)
            target.shutdown(socket.SHUT_WR)

        forwarding = asyncio.gather(
            forward(server, theirs),
            forward(theirs, server, lambda data: protocol is not None and data.startswith(HANDSHAKE)),
        )
        protocol = None
        transport, protocol = await loop.create_connection(
            Recording, sock=ours, ssl=for_client, server_hostname="localhost"
        )
        transport.write(b"before\n")
        await prints(b"before")
        process.stdin.write(b"r\n")  # a new handshake
        await shakes_hands.wait()
        transport.write(b"meanwhile\n")
        assert transport.get_write_buffer_size() >= len(b"meanwhile\n")
        may_go_on.set()
        await prints(b"meanwhile")
        process.stdin.write(b"after\n")
        await until(lambda: protocol.received == b"after\n")
        assert (tmp_path / "keys").read_text().count("CLIENT_RANDOM") == 2
        transport.close()
        assert await protocol.lost is None
        process.stdin.close()
        await process.communicate()
        await forwarding
        server.close()
        theirs.close()
        assert reports == []

    run(main)


# Upgrades


async def upgraded(for_server, for_client, make_pair, make=Recording):
    """Two protocols over TLS over a pair of transports that are connected already."""
    loop = asyncio.get_running_loop()
    theirs, ours = await make_pair()
    server, client = make(), make()
    for protocol in (server, client):
        assert protocol.told == []
    server.transport, client.transport = await asyncio.gather(
        loop.start_tls(theirs.transport, server, for_server, server_side=True),
        loop.start_tls(ours.transport, client, for_client, server_hostname="localhost"),
    )
    return server, client


async def plain_pair():
    first, second = tcp_pair()
    second.setblocking(False)
    loop = asyncio.get_running_loop()
    _, theirs = await loop.create_connection(Recording, sock=first)
    _, ours = await loop.create_connection(Recording, sock=second)
    return theirs, ours


async def pair_of_subclasses():
    class Socket(socket.socket):
        pass

    protocols = []
    for each in tcp_pair():
        own = Socket(fileno=each.detach())
        own.setblocking(False)
        _, protocol = await asyncio.get_running_loop().create_connection(Recording, sock=own)
        protocols.append(protocol)
    return protocols


async def exchange(*protocols, size=300_000):
    for number, (one, other) in enumerate([protocols, protocols[::-1]]):
        message = bytes([number, 1, 2]) * (size // 3)
        one.transport.write(message)
        await until(lambda other=other, message=message: len(other.received) == len(message))
        assert other.received == message


@pytest.mark.parametrize("make_pair", [plain_pair, pair_of_subclasses])
def test_a_connection_can_be_upgraded_from_both_sides(run, for_server, for_client, make_pair):
    async def main(reports):
        server, client = await upgraded(for_server, for_client, make_pair)
        await exchange(server, client)
        assert "connection_made" not in server.told  # which the protocols were told before
        await closed(server, client)
        assert reports == []

    run(main)


def test_tls_goes_over_tls(run, for_server, for_client):
    async def main(reports):
        server, client = await upgraded(
            for_server, for_client, lambda: connect(for_server, for_client, make_server=Recording)
        )
        await exchange(server, client)
        inner = client.transport._ssl_protocol._transport
        assert isinstance(inner, sslproto._SSLProtocolTransport)
        await closed(server, client)
        assert reports == []

    run(main)


def test_what_came_before_the_upgrade_is_not_lost(run, for_server, for_client):
    async def main(_):
        ours, theirs = tcp_pair()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(Recording, sock=ours)
        peer = Peer(theirs)
        connecting = asyncio.ensure_future(peer.wrap(for_client, server_hostname="localhost"))
        transport.pause_reading()  # so that the first bytes of TLS wait in the socket
        await until(lambda: len(peek(ours)) > 0)
        server = Recording()
        server.transport = await loop.start_tls(transport, server, for_server, server_side=True)
        await connecting
        await asyncio.to_thread(peer.socket.sendall, b"hello")
        await until(lambda: server.received == b"hello")
        server.transport.abort()
        await server.lost
        peer.socket.close()

    run(main)


def peek(sock):
    try:
        return sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def test_an_upgrade_of_what_it_can_not_be_is_refused(run, for_client):
    async def main(_):
        loop = asyncio.get_running_loop()
        theirs, ours = await plain_pair()
        with pytest.raises(TypeError, match="is expected to be an instance"):
            await loop.start_tls(ours.transport, Recording(), None)
        with pytest.raises(TypeError, match="is not supported by start_tls"):
            await loop.start_tls(object(), Recording(), for_client)
        ours.transport.write(b"it goes on")
        await until(lambda: theirs.received == b"it goes on")
        await closed(ours, theirs)

    run(main)


def test_an_upgrade_that_fails_closes_the_connection(run, for_server, for_client):
    async def main(_):
        loop = asyncio.get_running_loop()
        theirs, ours = await plain_pair()
        upgrade = asyncio.ensure_future(
            loop.start_tls(ours.transport, Recording(), for_client, server_hostname="elsewhere")
        )
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await loop.start_tls(theirs.transport, Recording(), for_server, server_side=True)
        with pytest.raises(ssl.SSLCertVerificationError):
            await upgrade
        assert ours.transport.is_closing() and theirs.transport.is_closing()

    run(main)


# Protocols that fail


@pytest.mark.parametrize("position", ["data_received", "get_buffer", "buffer_updated"])
@pytest.mark.parametrize("error", [LookupError, asyncio.CancelledError])
def test_an_error_of_a_protocol_that_reads_ends_the_connection(run, for_server, for_client, position, error):
    async def main(reports):
        make = Recording if position == "data_received" else TlsBuffered
        theirs, ours = await connect(for_server, for_client, make_server=Recording, make_client=make)
        notes = getattr(ours, "notes", ours)
        notes.raises, notes.error = position, error
        theirs.transport.write(b"hello")
        assert isinstance(await notes.lost, error)
        await theirs.lost
        if error is LookupError:
            assert [each["message"] for each in reports] == ["Fatal error on SSL protocol"]
            assert isinstance(reports[0]["exception"], error)

    run(main)


def test_an_error_of_connection_made_goes_where_asyncio_puts_it(run, for_server, for_client):
    async def main(reports):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Recording, "127.0.0.1", 0, ssl=for_server)
        raises = lambda: Recording(raises="connection_made")  # noqa: E731
        connecting = asyncio.ensure_future(
            loop.create_connection(
                raises, *server.sockets[0].getsockname(), ssl=for_client, server_hostname="localhost"
            )
        )
        await until(lambda: reports)
        assert isinstance(reports[0]["exception"], LookupError)
        await asyncio.wait([connecting])
        assert isinstance(connecting.exception(), LookupError)
        server.close()
        await server.wait_closed()

    run(main)


def test_an_error_of_eof_received_is_reported(run, for_server, for_client):
    async def main(reports):
        make = lambda: Recording(raises="eof_received")  # noqa: E731
        theirs, ours = await connect(for_server, for_client, make_client=make)
        theirs.transport.close()
        assert isinstance(await ours.lost, LookupError)
        assert [each["message"] for each in reports] == ["Error calling eof_received()"]

    run(main)


def test_errors_of_flow_control_are_reported_and_the_connection_goes_on(run, for_server, for_client):
    class Fails(Recording):
        def pause_writing(self):
            super().pause_writing()
            raise LookupError("pause_writing")

        def resume_writing(self):
            super().resume_writing()
            raise LookupError("resume_writing")

    async def main(reports):
        transport, protocol, peer = await to_peer(for_server, for_client, make=Fails)
        transport.set_write_buffer_limits(high=1000, low=100)
        transport.write(b"x" * LARGE)
        transport.write(b"y" * 2000)
        assert await peer.receive(LARGE + 2000) == b"x" * LARGE + b"y" * 2000
        await until(lambda: "resume_writing" in protocol.told)
        assert [each["message"] for each in reports] == [
            "protocol.pause_writing() failed",
            "protocol.resume_writing() failed",
        ]
        transport.abort()
        await protocol.lost
        peer.socket.close()

    run(main)


def test_an_error_of_connection_lost_is_reported(run, for_server, for_client):
    async def main(reports):
        make = lambda: Recording(raises="connection_lost")  # noqa: E731
        theirs, ours = await connect(for_server, for_client, make_client=make)
        await closed(theirs, ours)
        await turns()
        assert [type(each["exception"]) for each in reports] == [LookupError]

    run(main)


def test_memory_of_no_length_is_an_error_instead_of_an_end(run_natively, for_server, for_client):
    async def main(reports):
        theirs, ours = await connect(for_server, for_client, make_server=Recording, make_client=TlsBuffered)
        ours.memory = bytearray()
        theirs.transport.write(b"hello")
        assert "returned an empty buffer" in str(await ours.notes.lost)
        assert [each["message"] for each in reports] == ["Fatal error on SSL protocol"]
        await theirs.lost

    run_natively(main)


# What else may stand in the way


def test_a_context_may_have_its_own_class_of_objects(run, for_server, for_client):
    class Counting(ssl.SSLObject):
        written = 0
        memory = []  # noqa: RUF012

        def read(self, size=1024, buffer=None):
            self.memory.append(buffer)  # and keeps it
            return super().read(size, buffer)

        def write(self, data):
            Counting.written += len(data)
            return super().write(data)

    async def main(_):
        for_client.sslobject_class = Counting
        theirs, ours = await connect(for_server, for_client)
        assert type(ours.transport.get_extra_info("ssl_object")) is Counting
        ours.transport.write(b"hello")
        await until(lambda: ours.received == b"hello")
        assert Counting.written == 5
        ours.transport.write(b"world" * 20_000)
        await until(lambda: len(ours.received) == 100_005)
        assert [bytes(each) for each in Counting.memory if each is not None] == []
        await closed(ours, theirs)

    run(main)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_is_encrypted_in_part_is_encrypted_to_the_end(run, for_server, for_client, kind):
    class Slow(ssl.SSLObject):
        def write(self, data):
            return super().write(bytes(data)[:1000])

    async def main(_):
        for_client.sslobject_class = Slow
        theirs, ours = await connect(for_server, for_client, make_server=Recording)
        message = bytes(range(256)) * 10
        ours.transport.write(kind(message))
        ours.transport.write(b".")
        await until(lambda: len(theirs.received) == len(message) + 1)
        assert theirs.received == message + b"."
        await closed(ours, theirs)

    run(main)


def test_other_threads_go_on_while_much_is_encrypted(run, for_server, for_client):
    async def main(_):
        transport, protocol, peer = await to_peer(for_server, for_client)
        goes_on, may_go_on = threading.Event(), threading.Lock()
        may_go_on.acquire()

        def other():
            with may_go_on:
                goes_on.set()

        thread = threading.Thread(target=other)
        thread.start()
        interval = sys.getswitchinterval()
        sys.setswitchinterval(WAIT)  # nobody has to let go of the GIL
        try:
            may_go_on.release()
            message = b"x" * LARGE
            while not goes_on.is_set() and transport.get_write_buffer_size() < 20 * LARGE:
                transport.write(message)
            assert goes_on.is_set()
        finally:
            sys.setswitchinterval(interval)
            thread.join()
        transport.abort()
        await protocol.lost
        peer.socket.close()

    run(main)


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_callback_of_the_context_is_told_of_every_record(run, for_server, for_client, size):
    told = []

    def callback(tls, direction, version, content, message, data):
        told.append((direction, content))

    async def main(_):
        for_client._msg_callback = callback
        theirs, ours = await connect(for_server, for_client)
        told.clear()
        ours.transport.write(b"x" * size)
        await until(lambda: len(ours.received) == size)
        directions = {direction for direction, content in told if content == ssl._TLSContentType.HEADER}
        assert directions == {"read", "write"}
        await closed(ours, theirs)

    run(main)


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("direction", ["read", "write"])
def test_an_error_of_a_callback_of_the_context_ends_the_connection(
    run, for_server, for_client, direction, size
):
    fails = False

    def callback(tls, which, version, content, message, data):
        if fails and which == direction:
            raise LookupError(which)

    async def main(reports):
        nonlocal fails
        for_client._msg_callback = callback
        theirs, ours = await connect(for_server, for_client, make_server=Recording)
        await exchange(ours, theirs, size=300)
        fails = True
        (ours if direction == "write" else theirs).transport.write(b"x" * size)
        reason = await ours.lost
        assert type(reason) is LookupError
        assert [each["exception"] for each in reports] == [reason]
        await theirs.lost

    run(main)


def test_an_unclosed_transport_is_warned_of(run_natively, for_server, for_client):
    async def main(_):
        transport, protocol, peer = await to_peer(for_server, for_client)
        transport._ssl_protocol._transport.pause_reading()  # the loop lets go of it
        await turns()
        del protocol.transport
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport, protocol
            gc.collect()
        kinds = {str(each.message).split(" object")[0] for each in caught if each.category is ResourceWarning}
        assert "unclosed transport <asyncio._SSLProtocolTransport" in kinds
        peer.socket.close()

    run_natively(main)


def test_who_asks_a_transport_that_was_closed_twice_gets_an_answer(run_natively, for_server, for_client):
    async def main(_):
        theirs, ours = await connect(for_server, for_client)
        transport = ours.transport
        await closed(ours, theirs)
        transport.close()
        assert transport.is_closing() and not transport.is_reading()
        assert transport.get_extra_info("peername", "gone") == "gone"
        assert transport.get_protocol() is None
        assert transport.get_write_buffer_size() == transport.get_read_buffer_size() == 0
        transport.write(b"nobody gets this")
        transport.writelines([b"nor this"])
        transport.pause_reading()
        transport.resume_reading()
        transport.abort()

    run_natively(main)


def test_nothing_is_left_of_many_connections(run_natively, for_server, for_client):
    rounds, many, at_once = 5, 200, 20
    made = []

    class Once(Recording):
        def data_received(self, data):
            self.transport.write(data)
            self.transport.close()

    async def main(reports):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Once, "127.0.0.1", 0, ssl=for_server)
        address = server.sockets[0].getsockname()

        async def one(number):
            _, protocol = await loop.create_connection(
                Recording, *address, ssl=for_client, server_hostname="localhost"
            )
            made.append(weakref.ref(protocol.transport._ssl_protocol))
            protocol.transport.write(b"hello")
            if number % 3:
                await protocol.lost
                assert protocol.received == b"hello"
            else:
                protocol.transport.abort()
                await protocol.lost

        for begin in range(0, many, at_once):
            await asyncio.gather(*(one(begin + number) for number in range(at_once)))
        server.close()
        await server.wait_closed()
        await turns()
        assert reports == []

    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(rounds):
        run_natively(main)
    gc.collect()
    assert len(made) == rounds * many
    assert [each for each in made if each() is not None] == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


# The memory between OpenSSL and the transport below.

OPENSSLS_OWN = 0x401
"""The type of OpenSSL's memory, of its bio.h."""

HIDDEN = os.environ.get("HIDDEN_OPENSSL")
"""Where `_ssl` is, if the event loop isn't to find it."""

HIDE_AND_TEST = """
import os, sys, _ssl, pytest
os.environ["HIDDEN_OPENSSL"] = _ssl.__file__
del _ssl.__file__  # as when it is part of the program
sys.exit(pytest.main(sys.argv[1:]))
"""


def type_of(memory):
    openssl = ctypes.CDLL(HIDDEN or _ssl.__file__)
    openssl.BIO_method_type.argtypes = [ctypes.c_void_p]
    return openssl.BIO_method_type(ctypes.c_void_p.from_address(id(memory) + object.__basicsize__))


def test_the_memory_of_both_directions_is_the_loops_own(run_natively, for_server, for_client):
    async def main(_):
        theirs, ours = await connect(for_server, for_client)
        tls = ours.transport._ssl_protocol
        types = [type_of(tls._incoming), type_of(tls._outgoing)]
        assert [each == OPENSSLS_OWN for each in types] == [bool(HIDDEN)] * 2
        await closed(ours, theirs)

    run_natively(main)


SAID = object.__basicsize__ + 48
"""Where the object of a connection keeps what OpenSSL has said to it last."""

IS_ASKED = bool(HIDDEN) or _ssl._SSLSocket.__basicsize__ != SAID + (32 if sys.version_info < (3, 12) else 16)
"""Whether that is how OpenSSL is asked: some versions of CPython have more in the object, to which that matters."""


def test_openssl_is_asked_without_the_object_of_the_standard_library(run_natively, for_server, for_client):
    async def main(_):
        theirs, ours = await connect(for_server, for_client, make_server=Recording)
        said = []
        for each in (ours, theirs):
            tls = each.transport.get_extra_info("ssl_object")._sslobj
            said.append(ctypes.c_int.from_address(id(tls) + SAID))
            said[-1].value = 77  # which it never says
        await exchange(ours, theirs)
        assert [each.value == 77 for each in said] == [not IS_ASKED] * 2
        await closed(ours, theirs)

    run_natively(main)


def resident():
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(bool(HIDDEN), reason="OpenSSL keeps the memory of each connection")
def test_a_connections_memory_is_used_by_others_while_it_is_at_rest(run_natively, for_server, for_client):
    async def main(_):
        pairs = [await connect(for_server, for_client, make_server=Echo) for _ in range(50)]
        before = resident()
        for theirs, ours in pairs:
            ours.transport.write(b"x" * 100_000)
            await until(lambda ours=ours: len(ours.received) == 100_000)
            ours.received = theirs.received = b""
        assert resident() - before < len(pairs) * 200_000
        for pair in pairs:
            await closed(*pair)

    run_natively(main)


def test_all_of_this_holds_where_openssl_can_not_be_found(pytestconfig):
    here = "test_all_of_this_holds_where_openssl_can_not_be_found"
    command = [
        sys.executable,
        "-c",
        HIDE_AND_TEST,
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        pytestconfig.inipath,
    ]
    command += [f"--rootdir={pytestconfig.rootpath}", __file__, "-k", f"not standard and not {here}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=WAIT * 5)
    assert ended.returncode == 0, ended.stdout
