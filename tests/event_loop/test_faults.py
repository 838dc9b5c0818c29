"""What goes wrong with connections, with and without TLS: no busy loop, and the error where asyncio puts it."""

import asyncio
import contextlib
import errno
import gc
import os
import resource
import socket
import ssl
import weakref

import pytest

from asyncio_thread_loop import EventLoop

from .conftest import WAIT, reporting
from .test_stream_transports import LARGE, Recording, sleeps_soundly, until
from .test_stream_transports import run as run
from .test_tls import Peer, tcp_pair, to_peer


@pytest.fixture(params=["plain", "TLS"])
def connect(request, contexts):
    """Make a client's transport and protocol, and the `Peer` at the other end."""

    async def over_tls(make=Recording):
        return await to_peer(*contexts, make)

    return plainly if request.param == "plain" else over_tls


@pytest.fixture(params=["plain", "TLS"])
def serve(request, contexts):
    """Serve connections, and make clients of the server."""
    for_server, for_client = contexts if request.param == "TLS" else (None, None)

    async def serve(make):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(make, "127.0.0.1", 0, ssl=for_server)
        name = "localhost" if for_client else None

        async def client(make=Recording):
            address = server.sockets[0].getsockname()
            _, protocol = await loop.create_connection(make, *address, ssl=for_client, server_hostname=name)
            return protocol

        return server, client

    return serve


async def plainly(make=Recording):
    """The same without TLS."""
    ours, theirs = tcp_pair()
    theirs.setblocking(True)
    transport, protocol = await asyncio.get_running_loop().create_connection(make, sock=ours)
    return transport, protocol, Peer(theirs)


async def hears(protocol, peer):
    await asyncio.to_thread(peer.socket.sendall, b"hello")
    await until(lambda: protocol.received == b"hello")


async def end(transport, protocol, peer):
    transport.abort()
    await protocol.lost
    peer.socket.close()


def below(transport):
    """The transport of the socket."""
    tls = getattr(transport, "_ssl_protocol", None)
    return transport if tls is None else tls._transport


# The peer.


def test_a_file_follows_what_was_written(run, connect):
    async def main(reports):
        transport, protocol, peer = await connect()
        transport.write(b"x" * LARGE)
        with open(__file__, "rb") as file:
            sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(transport, file))
            size = os.fstat(file.fileno()).st_size
            received = await peer.receive(LARGE + size)
            assert await sending == size
            file.seek(0)
            assert received == b"x" * LARGE + file.read()
        transport.write(b"more")
        assert await peer.receive(4) == b"more"
        await hears(protocol, peer)
        await end(transport, protocol, peer)
        assert reports == []

    run(main)


@pytest.mark.parametrize("lines", [False, True], ids=["write", "writelines"])
def test_what_is_written_as_there_is_room_again_waits_for_what_waits(run, connect, lines):
    async def main(reports):
        transport, protocol, peer = await connect()
        transport.write(b"x" * LARGE)
        transport.write(b"x" * LARGE)
        await until(lambda: transport.get_write_buffer_size() > 0)
        taken = bytearray()
        peer.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            while True:
                taken += peer.socket.recv(65536)
        assert 0 < len(taken) < 2 * LARGE  # and the loop doesn't know of it yet
        if lines:
            transport.writelines([b"y" * 100] * 10)
        else:
            transport.write(b"y" * 1000)
        peer.socket.settimeout(WAIT)
        taken += await peer.receive(2 * LARGE + 1000 - len(taken))
        assert taken == b"x" * 2 * LARGE + b"y" * 1000
        await end(transport, protocol, peer)
        assert reports == []

    run(main)


@pytest.mark.parametrize("waiting", [0, LARGE], ids=["nothing waits", "much waits"])
def test_a_reset_while_a_file_is_sent_is_an_error_of_who_sends_it(run, connect, tmp_path, waiting):
    path = tmp_path / "file"
    path.write_bytes(b"x" * LARGE)

    async def main(reports):
        transport, protocol, peer = await connect()
        # Over TLS asyncio tells no more of it.
        error = (ConnectionResetError, BrokenPipeError) if below(transport) is transport else ConnectionError
        transport.write(b"y" * waiting)
        with open(path, "rb") as file:
            sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(transport, file))
            assert await peer.receive(1)
            assert not sending.done()
            peer.reset()
            with pytest.raises(error):
                await sending
        await protocol.lost
        assert transport.is_closing()
        if isinstance(asyncio.get_running_loop(), EventLoop):
            assert reports == []  # the standard loop tells its waiter twice, and of that

    run(main)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_who_gives_up_a_file_before_it_is_sent_has_its_connection_back(end):
    """The standard loop goes on saying that a file is being sent, and closes with an error."""

    async def main(reports):
        loop = asyncio.get_running_loop()
        transport, protocol, peer = await plainly()
        transport.write(b"x" * LARGE)
        with open(__file__, "rb") as file:
            sending = asyncio.ensure_future(loop.sendfile(transport, file))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="is in progress"):
                transport.write(b"y")
            with pytest.raises(RuntimeError):
                await loop.sendfile(transport, file)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        assert loop._transports[transport._sock_fd] is transport
        transport.write(b"y")
        await hears(protocol, peer)
        if end == "close":
            transport.close()
            assert await peer.receive(LARGE + 2) == b"x" * LARGE + b"y"
        else:
            transport.abort()
        assert await protocol.lost is None
        peer.socket.close()
        assert reports == []

    reporting(EventLoop)(main)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_file_for_a_connection_that_ends_before_is_refused(end):
    async def main(reports):
        loop = asyncio.get_running_loop()
        transport, protocol, peer = await plainly()
        transport.write(b"x" * LARGE)
        with open(__file__, "rb") as file:
            sending = asyncio.ensure_future(loop.sendfile(transport, file))
            await asyncio.sleep(0)
            getattr(transport, end)()
            received = await peer.receive(LARGE + 1)
            assert (len(received) == LARGE) is (end == "close")
            with pytest.raises(ConnectionError):
                await sending
        assert await protocol.lost is None
        peer.socket.close()
        assert reports == []

    reporting(EventLoop)(main)


def test_who_gives_up_a_file_half_way_goes_on_writing_after_what_was_sent(run, connect, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * (LARGE // 256))

    async def main(reports):
        transport, protocol, peer = await connect()
        with open(path, "rb") as file:
            sending = asyncio.ensure_future(asyncio.get_running_loop().sendfile(transport, file))
            received = await peer.receive(1)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        transport.write(b"the end")
        while not received.endswith(b"the end"):
            received += await peer.receive(1)
        assert len(received) < LARGE
        assert received[:-7] == path.read_bytes()[: len(received) - 7]
        await hears(protocol, peer)
        await end(transport, protocol, peer)
        assert reports == []

    run(main)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_file_that_is_being_sent_ends_with_its_connection(tmp_path, end):
    """On the standard loop it is waited for for ever. Nothing of it is left for the next one with its number."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * LARGE)

    async def main(reports):
        loop = asyncio.get_running_loop()
        transport, protocol, peer = await plainly()
        number = transport._sock_fd
        with open(path, "rb") as file:
            sending = asyncio.ensure_future(loop.sendfile(transport, file))
            await peer.receive(1)
            await sleeps_soundly()
            assert not sending.done()
            getattr(transport, end)()
            with pytest.raises(ConnectionError):
                await sending
        assert await protocol.lost is None
        assert loop._watched(number) == (False, False)
        assert number not in loop._transports
        assert len(await peer.receive(LARGE)) < LARGE
        peer.socket.close()
        assert reports == []

    reporting(EventLoop)(main)


def test_a_peer_that_is_gone_without_a_word_is_the_reason_of_the_loss(run, connect):
    """As after its cable was cut: here it takes nothing any more, and that not for longer than it may."""

    async def main(reports):
        transport, protocol, peer = await connect()
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 50)
        transport.write(b"x" * LARGE)
        await sleeps_soundly()
        reason = await protocol.lost
        assert isinstance(reason, TimeoutError) and reason.errno == errno.ETIMEDOUT
        peer.socket.close()
        assert reports == []

    run(main)


def test_a_slow_reader_costs_the_loop_nothing_and_gets_everything(run, connect):
    async def main(reports):
        transport, protocol, peer = await connect()
        transport.write(b"x" * LARGE)
        transport.write(b"y" * LARGE)
        await until(lambda: "pause_writing" in protocol.told)
        await sleeps_soundly()
        assert transport.get_write_buffer_size() > 0
        assert await peer.receive(2 * LARGE) == b"x" * LARGE + b"y" * LARGE
        await until(lambda: "resume_writing" in protocol.told)
        assert transport.get_write_buffer_size() == 0
        await sleeps_soundly()
        assert protocol.told == ["connection_made", "pause_writing", "resume_writing"]
        transport.abort()
        assert await protocol.lost is None
        peer.socket.close()
        assert reports == []

    run(main)


def test_half_a_connection_costs_the_loop_nothing(run):
    async def main(reports):
        transport, protocol, peer = await plainly(lambda: Recording(keep_open=True))
        peer.socket.shutdown(socket.SHUT_WR)
        await until(lambda: "eof_received" in protocol.told)
        await sleeps_soundly()
        transport.write(b"still there")
        assert await asyncio.to_thread(peer.socket.recv, 100) == b"still there"
        assert protocol.told == ["connection_made", "eof_received"]
        transport.close()
        assert await protocol.lost is None
        peer.socket.close()
        assert reports == []

    run(main)


# Beginnings and ends.


def test_who_pauses_when_the_connection_is_made_reads_nothing_until_it_resumes(run):
    class Paused(Recording):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def main(reports):
        transport, protocol, peer = await plainly(Paused)
        peer.socket.send(b"hello")
        await sleeps_soundly()
        assert protocol.received == b""
        transport.resume_reading()
        await until(lambda: protocol.received == b"hello")
        await end(transport, protocol, peer)
        assert reports == []

    run(main)


def test_who_is_paused_filled_and_resumed_before_it_is_told_hears_everything(run):
    """By another one, in the turn in which both have something to read."""

    class Meddling(Recording):
        def data_received(self, data):
            super().data_received(data)
            self.other.pause_reading()
            self.other.write(b"x" * LARGE)
            self.other.resume_reading()

    async def main(reports):
        first, meddling, peer = await plainly(Meddling)
        second, protocol, other_peer = await plainly()
        meddling.other = second
        peer.socket.send(b"hello")
        other_peer.socket.send(b"hello")
        await until(lambda: protocol.received == b"hello")
        assert second.get_write_buffer_size() > 0
        await end(first, meddling, peer)
        await end(second, protocol, other_peer)
        assert reports == []

    run(main)


def test_who_closes_when_the_connection_is_made_is_told_of_the_end_once(run):
    class Closing(Recording):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.close()

    async def main(reports):
        _, protocol, peer = await plainly(Closing)
        assert await protocol.lost is None
        assert peer.socket.recv(1) == b""
        peer.socket.close()
        assert protocol.told == ["connection_made", "connection_lost"]
        assert reports == []

    run(main)


def test_who_gives_up_as_its_connection_is_made_leaves_nothing(run):
    async def main(reports):
        ours, theirs = tcp_pair()
        made = []

        def make():
            made.append(Recording())
            return made[-1]

        connecting = asyncio.ensure_future(asyncio.get_running_loop().create_connection(make, sock=ours))
        while not made:
            await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert await made[0].lost is None
        assert await asyncio.to_thread(theirs.recv, 1) == b""
        theirs.close()
        assert reports == []

    run(main)


def test_the_end_is_sent_once_and_then_writing_it_does_nothing(run):
    async def main(reports):
        transport, protocol, peer = await plainly(lambda: Recording(keep_open=True))
        transport.write_eof()
        assert await asyncio.to_thread(peer.socket.recv, 1) == b""
        peer.socket.send(b"still there")
        await until(lambda: protocol.received == b"still there")
        transport.pause_reading()
        peer.reset()
        transport.write_eof()  # the system would complain
        transport.close()
        transport.write_eof()
        assert await protocol.lost is None
        transport.write_eof()
        assert reports == []

    run(main)


def test_the_socket_is_open_as_long_as_its_protocol_is_told(run):
    class Asking(Recording):
        def connection_lost(self, reason):
            self.descriptor = self.transport.get_extra_info("socket").fileno()
            super().connection_lost(reason)

    async def main(_):
        transport, protocol, peer = await plainly(Asking)
        number = transport._sock_fd
        transport.close()
        await protocol.lost
        assert protocol.descriptor == number
        peer.socket.close()

    run(main)


def test_what_is_asked_of_a_connection_that_is_lost_does_nothing(run):
    async def main(reports):
        transport, protocol, peer = await plainly()
        transport.close()
        transport.write(b"nobody gets this")
        await protocol.lost
        assert peer.socket.recv(100) == b""
        transport.write(b"nobody gets this")
        if isinstance(asyncio.get_running_loop(), EventLoop):
            transport.writelines([b"nor", b"this"])  # the standard loop fails on its own remains
        transport.write_eof()
        transport.pause_reading()
        transport.resume_reading()
        transport.set_write_buffer_limits(high=0)
        transport.close()
        transport.abort()
        await asyncio.sleep(0)
        assert protocol.told == ["connection_made", "connection_lost"]
        assert transport.get_write_buffer_size() == 0
        peer.socket.close()
        assert reports == []

    run(main)


def test_a_connection_aborted_with_a_full_buffer_is_forgotten(run, connect):
    """Also by the next one that has its number."""

    async def main(reports):
        transport, protocol, peer = await connect()
        transport.write(b"x" * LARGE)
        number = transport.get_extra_info("socket").fileno()
        transport.abort()
        assert await protocol.lost is None
        peer.socket.close()
        gone = weakref.ref(transport)
        del transport, protocol.transport
        await asyncio.sleep(0)
        gc.collect()
        assert gone() is None

        ours, theirs = tcp_pair()
        if ours.fileno() != number:
            with ours:
                ours = socket.socket(fileno=os.dup2(ours.fileno(), number))
        ours.setblocking(False)
        transport, protocol = await asyncio.get_running_loop().create_connection(Recording, sock=ours)
        await sleeps_soundly()
        theirs.setblocking(True)
        await hears(protocol, Peer(theirs))
        transport.close()
        await protocol.lost
        theirs.close()
        assert reports == []

    run(main)


def test_a_paused_transport_that_nobody_closed_is_forgotten_though_its_socket_was_duplicated():
    async def main(_):
        transport, protocol, peer = await plainly()
        duplicate = os.dup(transport._sock_fd)
        transport.pause_reading()
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            del transport, protocol.transport
            gc.collect()
        peer.socket.send(b"x")
        await sleeps_soundly()
        os.close(duplicate)
        peer.socket.close()

    reporting(EventLoop)(main)


def test_who_aborts_when_it_may_write_again_is_told_of_the_end_in_a_turn_of_its_own():
    """The standard loop tells of it twice, of which the second time fails."""

    class Aborting(Recording):
        def resume_writing(self):
            super().resume_writing()
            asyncio.get_running_loop().call_soon(self.told.append, "another turn")
            self.transport.abort()

    async def main(reports):
        transport, protocol, peer = await plainly(Aborting)
        transport.write(b"x" * LARGE)
        await peer.receive(LARGE)
        assert await protocol.lost is None
        assert protocol.told[1:] == ["pause_writing", "resume_writing", "another turn", "connection_lost"]
        peer.socket.close()
        assert reports == []

    reporting(EventLoop)(main)


def test_a_loop_that_goes_on_after_its_end_reads_the_connection_whose_beginning_ended_it():
    async def main():
        ours, theirs = tcp_pair()
        make = lambda: Recording("connection_made", SystemExit)  # noqa: E731
        protocol = make()
        connecting = asyncio.ensure_future(
            asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
        )
        return protocol, theirs, connecting

    async def see(protocol, theirs, connecting):
        transport, _ = await connecting
        theirs.setblocking(True)
        await hears(protocol, Peer(theirs))
        transport.close()
        await protocol.lost
        theirs.close()

    loop = EventLoop()
    begun = loop.run_until_complete(main())
    with pytest.raises(SystemExit):
        loop.run_forever()
    loop.run_until_complete(asyncio.wait_for(see(*begun), WAIT))
    loop.close()


# Flow control.


def test_a_paused_transport_costs_the_loop_nothing_however_much_comes(run, connect):
    async def main(reports):
        transport, protocol, peer = await connect()
        transport.pause_reading()
        await asyncio.to_thread(peer.socket.sendall, b"hello")
        await sleeps_soundly()
        assert protocol.received == b""
        transport.resume_reading()
        await until(lambda: protocol.received == b"hello")
        await end(transport, protocol, peer)
        assert reports == []

    run(main)


def test_limits_that_are_lowered_pause_at_once(run, connect):
    async def main(reports):
        transport, protocol, peer = await connect()
        transport.set_write_buffer_limits(high=10 * LARGE)
        transport.write(b"x" * LARGE)
        transport.write(b"x" * LARGE)
        assert protocol.told == ["connection_made"]
        transport.set_write_buffer_limits(high=10)
        assert protocol.told == ["connection_made", "pause_writing"]
        await end(transport, protocol, peer)
        assert reports == []

    run(main)


def test_a_buffer_may_be_as_full_as_its_limit_and_no_fuller(run):
    async def main(reports):
        transport, protocol, peer = await plainly()
        transport.set_write_buffer_limits(high=10 * LARGE)
        transport.write(b"x" * LARGE)
        size = transport.get_write_buffer_size()
        transport.set_write_buffer_limits(high=size, low=0)
        assert protocol.told == ["connection_made"]
        transport.write(b"x")
        assert protocol.told == ["connection_made", "pause_writing"]
        transport.write(b"x")
        assert await peer.receive(LARGE + 2) == b"x" * (LARGE + 2)
        await until(lambda: transport.get_write_buffer_size() == 0)
        assert protocol.told == ["connection_made", "pause_writing", "resume_writing"]
        await end(transport, protocol, peer)
        assert reports == []

    run(main)


# Errors and their order.


@pytest.mark.parametrize("end", ["close", "abort"])
def test_who_closes_a_connection_that_failed_hears_why_it_did(run, connect, end):
    async def main(reports):
        transport, protocol, peer = await connect()
        transport.pause_reading()
        peer.reset()
        while not below(transport).is_closing():
            transport.write(b"into the void")
        getattr(transport, end)()
        assert isinstance(await protocol.lost, ConnectionError)
        await asyncio.sleep(0)
        assert protocol.told.count("connection_lost") == 1
        assert reports == []

    run(main)


@pytest.mark.parametrize(
    "position",
    [
        "connection_made",
        "data_received",
        "eof_received",
        "pause_writing",
        "resume_writing",
        "connection_lost",
    ],
)
def test_a_server_whose_protocols_raise_ends_with_its_last_connection(run, serve, position):
    made = []

    class Raising(Recording):
        def __init__(self):
            super().__init__(position)
            made.append(self)

    async def main(reports):
        server, client = await serve(Raising)
        protocol = await client()
        await until(lambda: made and hasattr(made[0], "transport"))
        theirs = made[0].transport
        protocol.transport.write(b"hello")
        await until(lambda: made[0].received or protocol.lost.done())
        if not theirs.is_closing():
            theirs.set_write_buffer_limits(high=1000, low=100)
            theirs.write(b"x" * LARGE)
            theirs.write(b"x" * LARGE)
            await until(lambda: len(protocol.received) == 2 * LARGE)
        server.close()
        waiting = asyncio.ensure_future(server.wait_closed())
        protocol.transport.close()
        await protocol.lost
        await made[0].lost
        await waiting
        assert position in made[0].told
        assert type(reports[0]["exception"]) is LookupError

    run(main)


# Descriptors.


def test_out_of_descriptors_a_server_waits_and_goes_on(run, serve, monkeypatch):
    monkeypatch.setattr(asyncio.constants, "ACCEPT_RETRY_DELAY", 0.2)

    async def main(reports):
        server, client = await serve(Recording)
        with socket.socket() as late:
            with no_descriptor_left():
                late.setblocking(False)
                late.connect_ex(server.sockets[0].getsockname())
                await until(lambda: reports)
                await sleeps_soundly()
            assert reports[0]["message"] == "socket.accept() out of system resource"
            assert reports[0]["exception"].errno == errno.EMFILE
            if isinstance(asyncio.get_running_loop(), EventLoop):
                assert len(reports) == 1  # the standard loop tells of it as often as the backlog is long
            protocol = await client()
            protocol.transport.close()
            await protocol.lost
        server.close()
        await server.wait_closed()

    with few_descriptors():
        run(main)


def test_a_server_that_lacks_descriptors_may_be_closed(serve, monkeypatch):
    """The standard loop tries to go on with a server that is closed."""
    monkeypatch.setattr(asyncio.constants, "ACCEPT_RETRY_DELAY", 0.01)

    async def main(reports):
        server, _ = await serve(Recording)
        with socket.socket() as late:
            with no_descriptor_left():
                late.setblocking(False)
                late.connect_ex(server.sockets[0].getsockname())
                await until(lambda: reports)
            server.close()
            await server.wait_closed()
            await asyncio.sleep(0.02)
        assert len(reports) == 1

    with few_descriptors():
        reporting(EventLoop)(main)


@contextlib.contextmanager
def few_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def no_descriptor_left():
    held = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(0))
        yield
    finally:
        for each in held:
            os.close(each)


def test_a_socket_closed_behind_the_loops_back_is_no_stranger(run, connect):
    """Its number belongs to another one then, which gets nothing that wasn't meant for it."""

    async def main(reports):
        transport, protocol, peer = await connect()
        sock = transport.get_extra_info("socket")._sock
        number = sock.fileno()
        other, friend = socket.socketpair()
        with other, friend:
            sock.close()
            stranger = socket.socket(fileno=os.dup2(other.fileno(), number))
            transport.write(b"not for a stranger")
            reason = await protocol.lost
            assert isinstance(reason, OSError) and reason.errno == errno.EBADF
            friend.setblocking(False)
            with pytest.raises(BlockingIOError):
                friend.recv(100)
            stranger.setblocking(False)
            loop = asyncio.get_running_loop()
            again, second = await loop.create_connection(Recording, sock=stranger)
            friend.send(b"hello")
            await until(lambda: second.received == b"hello")
            again.close()
            await second.lost
        peer.socket.close()
        assert reports == []

    run(main)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_a_socket_that_a_transport_has_is_refused_to_another(contexts, tls):
    """As by the standard loop since CPython 3.12."""

    async def main(reports):
        loop = asyncio.get_running_loop()
        transport, protocol, peer = await plainly()
        ours = transport.get_extra_info("socket")._sock
        options = {"ssl": contexts[1], "server_hostname": "localhost"} if tls else {}
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.create_connection(Recording, sock=ours, **options)
        await hears(protocol, peer)
        await end(transport, protocol, peer)
        assert reports == []

    reporting(EventLoop)(main)


# TLS that begins late.


def test_an_upgrade_that_is_given_up_ends_the_connection(run, contexts):
    async def main(reports):
        loop = asyncio.get_running_loop()
        transport, _, peer = await plainly()
        protocol = Recording()
        upgrading = asyncio.ensure_future(
            loop.start_tls(transport, protocol, contexts[1], server_hostname="localhost")
        )
        assert await asyncio.to_thread(peer.socket.recv, 65536)  # it says hello, and gets no answer
        upgrading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upgrading
        assert transport.is_closing()
        assert await asyncio.to_thread(peer.socket.recv, 65536) == b""
        peer.socket.close()
        assert protocol.told == []
        assert reports == []

    run(main)
