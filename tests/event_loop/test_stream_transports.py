"""What stands between a socket and its protocol: on `EventLoop` as on the standard loop."""

import asyncio
import contextvars
import errno
import gc
import os
import resource
import socket
import struct
import warnings
from unittest import mock

import pytest

from asyncio_thread_loop import EventLoop

from .conftest import reporting

LARGE = 8 * 1024 * 1024
"""More than the buffers of a pair of sockets hold."""

variable = contextvars.ContextVar("variable", default="nothing")


class Recording(asyncio.Protocol):
    """Notes what it is told, and raises where it is asked to."""

    def __init__(self, raises=None, error=LookupError, keep_open=False):
        self.raises, self.error, self.keep_open = raises, error, keep_open
        self.told, self.received, self.reason = [], b"", None
        self.lost = asyncio.get_running_loop().create_future()

    def _tell(self, what):
        self.told.append(what)
        if what == self.raises:
            raise self.error(what)

    def connection_made(self, transport):
        self.transport = transport
        self._tell("connection_made")

    def data_received(self, data):
        assert type(data) is bytes
        self.received += data
        self._tell("data_received")

    def eof_received(self):
        self._tell("eof_received")
        return self.keep_open

    def pause_writing(self):
        self._tell("pause_writing")

    def resume_writing(self):
        self._tell("resume_writing")

    def connection_lost(self, reason):
        self.reason = reason
        if not self.lost.done():
            self.lost.set_result(reason)
        self._tell("connection_lost")


class Buffered(asyncio.BufferedProtocol):
    """The same, with memory of its own."""

    def __init__(self, memory=None, **kwargs):
        self.notes = Recording(**kwargs)
        self.memory = bytearray(100) if memory is None else memory

    def connection_made(self, transport):
        self.transport = transport
        self.notes.connection_made(transport)

    def get_buffer(self, size):
        assert size == -1
        self.notes._tell("get_buffer")
        return self.memory

    def buffer_updated(self, size):
        self.notes.received += bytes(self.memory[:size])
        self.notes._tell("buffer_updated")

    def eof_received(self):
        return self.notes.eof_received()

    def connection_lost(self, reason):
        self.notes.connection_lost(reason)


@pytest.fixture(params=[asyncio.SelectorEventLoop, EventLoop], ids=["standard", "native"])
def run(request):
    """Run a coroutine function on a fresh loop with what went to its exception handler; a hang is an error."""
    return reporting(request.param)


async def connect(make, pair):
    """A transport over one end of the pair, its protocol, and the other end."""
    ours, theirs = pair
    transport, protocol = await asyncio.get_running_loop().create_connection(make, sock=ours)
    return transport, protocol, theirs


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


async def sleeps_soundly():
    """The loop looks at its descriptors a few times meanwhile, not again and again."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, EventLoop):
        before = loop._polls
        await asyncio.sleep(0.05)
        looks = loop._polls - before
    else:
        with mock.patch.object(loop._selector, "select", side_effect=loop._selector.select) as select:
            await asyncio.sleep(0.05)
        looks = select.call_count
    # A busy loop looks thousands of times in a second.
    assert looks <= 4


def receive(sock, size):
    sock.setblocking(True)
    data = bytearray()
    while len(data) < size and (piece := sock.recv(65536)):
        data += piece
    return bytes(data)


def test_the_native_loop_has_native_transports_and_the_standard_class_for_subclasses_of_sockets(pair):
    class Socket(socket.socket):
        pass

    async def main():
        transport, _, theirs = await connect(Recording, pair)
        assert type(transport).__module__ == "asyncio_thread_loop._transports"
        assert isinstance(transport, asyncio.Transport)
        other = Socket(fileno=theirs.detach())
        other.setblocking(False)
        standard, protocol, _ = await connect(Recording, (other, None))
        assert type(standard) is asyncio.selector_events._SelectorSocketTransport
        transport.write(b"hello")
        await until(lambda: protocol.received == b"hello")
        standard.close()
        transport.close()
        await turns()

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(main())


def test_a_protocol_is_told_in_asyncios_order(run, pair):
    async def main(reports):
        transport, protocol, theirs = await connect(Recording, pair)
        assert protocol.told == ["connection_made"]
        theirs.send(b"hello")
        await until(lambda: protocol.received)
        theirs.close()
        assert await protocol.lost is None
        assert protocol.told == ["connection_made", "data_received", "eof_received", "connection_lost"]
        assert transport.is_closing() and not transport.is_reading()
        assert transport.get_protocol() is None
        assert reports == []

    run(main)


@pytest.mark.parametrize(
    "sizes",
    [
        [1],
        [10_000] * 5,
        [100_000, 10, 300_000, 5000, 1, 1],
        [20_000, 20_000, 20_001, 19_999, 9_000, 70_000, 9_000],
    ],
)
def test_messages_of_any_size_arrive_whole(run, pair, sizes):
    async def main(_):
        transport, protocol, theirs = await connect(Recording, pair)
        loop = asyncio.get_running_loop()
        sent = b""
        for number, size in enumerate(sizes):
            message = bytes([number]) * size
            sent += message
            await loop.sock_sendall(theirs, message)
            await until(lambda sent=sent: len(protocol.received) == len(sent))
        assert protocol.received == sent
        transport.close()
        await protocol.lost

    run(main)


def test_a_buffered_protocol_provides_the_memory(run, pair):
    async def main(_):
        transport, protocol, theirs = await connect(Buffered, pair)
        message = bytes(range(250))
        theirs.send(message)
        await until(lambda: len(protocol.notes.received) == 250)
        assert protocol.notes.received == message
        assert protocol.notes.told == ["connection_made"] + 3 * ["get_buffer", "buffer_updated"]
        protocol.memory.extend(b"it is not held")
        transport.close()
        await protocol.notes.lost

    run(main)


def test_another_protocol_may_take_over_whatever_its_kind(run, pair):
    async def main(_):
        transport, first, theirs = await connect(Recording, pair)
        second = Buffered()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        theirs.send(b"for the second")
        await until(lambda: second.notes.received == b"for the second")
        transport.set_protocol(first)
        theirs.send(b"for the first")
        await until(lambda: first.received == b"for the first")
        transport.close()
        await first.lost

    run(main)


def test_a_paused_transport_reads_nothing_until_it_is_resumed(run, pair):
    async def main(_):
        transport, protocol, theirs = await connect(Recording, pair)
        for _ in range(3):
            transport.pause_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            theirs.send(b"x")
            before = protocol.received
            await asyncio.sleep(0.01)
            assert protocol.received == before
            transport.resume_reading()
            transport.resume_reading()
            assert transport.is_reading()
            await until(lambda before=before: protocol.received != before)
        transport.close()
        transport.resume_reading()
        assert not transport.is_reading()
        await protocol.lost

    run(main)


def test_who_pauses_and_resumes_in_one_turn_loses_nothing(run, pair):
    async def main(_):
        transport, protocol, theirs = await connect(Recording, pair)
        for size in range(1, 5):
            theirs.send(b"x")
            transport.pause_reading()
            transport.resume_reading()
            await until(lambda size=size: len(protocol.received) == size)
        transport.close()
        await protocol.lost

    run(main)


def test_what_the_socket_does_not_take_waits_and_the_protocol_is_told(run, pair):
    async def main(_):
        transport, protocol, theirs = await connect(Recording, pair)
        transport.set_write_buffer_limits(high=1000, low=100)
        assert transport.get_write_buffer_limits() == (100, 1000)
        message = bytes(range(256)) * (LARGE // 256)
        transport.write(message)
        left = transport.get_write_buffer_size()
        assert 0 < left < LARGE
        assert protocol.told == ["connection_made", "pause_writing"]
        tail = bytearray(b"the end")
        transport.write(tail)
        transport.write(memoryview(b", really"))
        assert transport.get_write_buffer_size() == left + 15
        received = await asyncio.to_thread(receive, theirs, LARGE + 15)
        assert received == message + b"the end, really"
        await until(lambda: transport.get_write_buffer_size() == 0)
        assert protocol.told == ["connection_made", "pause_writing", "resume_writing"]
        transport.close()
        await protocol.lost

    run(main)


def test_a_bytearray_may_be_changed_once_it_is_written(pair):
    async def main():
        transport, protocol, theirs = await connect(Recording, pair)
        data = bytearray(b"x" * LARGE)
        transport.write(data)
        data[:] = b"y"
        received = await asyncio.to_thread(receive, theirs, LARGE)
        assert received == b"x" * LARGE
        transport.close()
        await protocol.lost

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(main())


@pytest.mark.parametrize("lines", [[b"a", b"", bytearray(b"b"), memoryview(b"c")], [b"0123456789"] * 3000])
def test_lines_are_written_in_order(run, pair, lines):
    async def main(_):
        transport, protocol, theirs = await connect(Recording, pair)
        whole = b"".join(lines)
        transport.writelines(lines)
        transport.writelines([])
        assert await asyncio.to_thread(receive, theirs, len(whole)) == whole
        transport.write(b"x" * LARGE)
        transport.writelines(lines)
        assert (await asyncio.to_thread(receive, theirs, LARGE + len(whole)))[LARGE:] == whole
        transport.close()
        await protocol.lost

    run(main)


@pytest.mark.parametrize(
    "high, low, limits", [(None, None, (16384, 65536)), (100, None, (25, 100)), (None, 10, (10, 40))]
)
def test_limits_that_are_not_given_follow_from_the_others(run, pair, high, low, limits):
    async def main(_):
        transport, protocol, _ = await connect(Recording, pair)
        transport.set_write_buffer_limits(high, low)
        assert transport.get_write_buffer_limits() == limits
        for wrong in [(1, 2), (-1, None), (None, -1)]:
            with pytest.raises(ValueError, match="must be >= low"):
                transport.set_write_buffer_limits(*wrong)
        assert transport.get_write_buffer_limits() == limits
        transport.close()
        await protocol.lost

    run(main)


def test_half_a_connection_can_be_closed_and_the_other_half_used(run, pair):
    async def main(_):
        transport, protocol, theirs = await connect(lambda: Recording(keep_open=True), pair)
        assert transport.can_write_eof()
        theirs.shutdown(socket.SHUT_WR)
        await until(lambda: "eof_received" in protocol.told)
        await turns()
        assert not transport.is_closing()
        transport.write(b"x" * LARGE)
        transport.write_eof()
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
            transport.write(b"more")
        assert len(await asyncio.to_thread(receive, theirs, LARGE + 1)) == LARGE
        transport.close()
        assert await protocol.lost is None

    run(main)


def test_closing_writes_what_waits_and_aborting_does_not(run):
    async def main(_):
        for end, whole in [("close", True), ("abort", False)]:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            transport, protocol, theirs = await connect(Recording, (ours, theirs))
            transport.write(b"x" * LARGE)
            getattr(transport, end)()
            getattr(transport, end)()
            assert transport.is_closing()
            received = await asyncio.to_thread(receive, theirs, LARGE + 1)
            assert (len(received) == LARGE) is whole
            assert await protocol.lost is None
            assert protocol.told.count("connection_lost") == 1
            theirs.close()

    run(main)


@pytest.mark.parametrize("data", ["text", None, 1, [b"x"]])
def test_only_bytes_can_be_written(run, pair, data):
    async def main(_):
        transport, protocol, _ = await connect(Recording, pair)
        with pytest.raises(TypeError, match="data argument must be a bytes-like object, not"):
            transport.write(data)
        transport.close()
        await protocol.lost

    run(main)


def test_callbacks_run_in_the_context_that_made_or_resumed_the_transport(run, pair):
    class Looking(Recording):
        def __init__(self):
            super().__init__()
            self.seen = []

        def connection_made(self, transport):
            super().connection_made(transport)
            self.seen.append(variable.get())
            variable.set("changed by connection_made")

        def data_received(self, data):
            super().data_received(data)
            self.seen.append(variable.get())

        def connection_lost(self, reason):
            self.seen.append(variable.get())
            super().connection_lost(reason)

    async def main(_):
        variable.set("made")
        transport, protocol, theirs = await connect(Looking, pair)
        theirs.send(b"x")
        await until(lambda: len(protocol.seen) == 2)
        transport.pause_reading()
        variable.set("resumed")
        transport.resume_reading()
        theirs.send(b"x")
        await until(lambda: len(protocol.seen) == 3)
        variable.set("closed")
        transport.close()
        await protocol.lost
        assert protocol.seen == ["made", "made", "resumed", "closed"]

    run(main)


def test_extra_info_is_asyncios(run):
    async def main(_):
        made = asyncio.get_running_loop().create_future()

        class Server(asyncio.Protocol):
            def connection_made(self, transport):
                made.set_result(transport)

        loop = asyncio.get_running_loop()
        async with await loop.create_server(Server, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            transport, protocol = await loop.create_connection(Recording, *address)
            accepted = await made
            assert transport.get_extra_info("peername") == address == accepted.get_extra_info("sockname")
            assert accepted.get_extra_info("peername") == transport.get_extra_info("sockname")
            sock = transport.get_extra_info("socket")
            assert isinstance(sock, asyncio.trsock.TransportSocket)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert transport.get_extra_info("nothing") is None
            assert transport.get_extra_info("nothing", 1) == 1
            accepted.abort()
            transport.abort()
            await protocol.lost
            assert transport.get_extra_info("peername") == address

    run(main)


@pytest.mark.parametrize("error", [LookupError, OSError])
@pytest.mark.parametrize(
    "position, message",
    [
        ("connection_made", "Exception in callback"),
        ("data_received", "Fatal error: protocol.data_received() call failed."),
        ("eof_received", "Fatal error: protocol.eof_received() call failed."),
        ("pause_writing", "protocol.pause_writing() failed"),
        ("resume_writing", "protocol.resume_writing() failed"),
        ("connection_lost", "Exception in callback"),
    ],
)
def test_a_protocol_that_raises_is_reported_where_asyncio_does(run, pair, position, message, error):
    async def main(reports):
        transport, protocol, theirs = await connect(lambda: Recording(position, error), pair)
        theirs.send(b"x")
        await until(lambda: transport.is_closing() or protocol.received)
        transport.write(b"x" * LARGE)
        await asyncio.to_thread(receive, theirs, 0 if transport.is_closing() else LARGE)
        if not transport.is_closing():
            await until(lambda: "resume_writing" in protocol.told)
            theirs.shutdown(socket.SHUT_WR)
        reason = await protocol.lost
        await turns()
        is_fatal = position in ("data_received", "eof_received")
        assert (type(reason) is error) is is_fatal
        if is_fatal and error is OSError:
            assert reports == []
        else:
            [report] = reports
            assert report["message"].startswith(message)
            assert type(report["exception"]) is error
            if not message.startswith("Exception"):
                assert report["transport"] is transport
                assert report["protocol"] is protocol
        assert transport.get_protocol() is None

    run(main)


@pytest.mark.parametrize(
    "options, message, kind",
    [
        ({"raises": "get_buffer"}, "protocol.get_buffer() call failed", LookupError),
        ({"raises": "buffer_updated"}, "protocol.buffer_updated() call failed", LookupError),
        ({"memory": bytearray()}, "protocol.get_buffer() call failed", RuntimeError),
        ({"memory": b"can't be written to"}, "Fatal read error on socket transport", TypeError),
        ({"memory": 1}, "protocol.get_buffer() call failed", TypeError),
    ],
)
def test_a_buffered_protocol_that_fails_loses_its_connection(run, pair, options, message, kind):
    async def main(reports):
        _, protocol, theirs = await connect(lambda: Buffered(**options), pair)
        theirs.send(b"x")
        assert type(await protocol.notes.lost) is kind
        [report] = reports
        assert message in report["message"]
        assert type(report["exception"]) is kind

    run(main)


@pytest.mark.parametrize("position", ["connection_made", "data_received", "connection_lost"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_the_program_passes_through_the_loop(pair, position, error):
    async def main():
        transport, protocol, theirs = await connect(lambda: Recording(position, error), pair)
        theirs.send(b"x")
        await until(lambda: protocol.received)
        transport.close()
        await protocol.lost

    loop = EventLoop()
    with pytest.raises(error):
        loop.run_until_complete(main())
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    del tasks
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop.close()
        gc.collect()


def reset(sock):
    """Ends a TCP connection rudely."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.fixture
def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("reads", [True, False])
def test_a_reset_while_something_waits_to_be_written_loses_the_connection(run, tcp_pair, reads):
    async def main(reports):
        transport, protocol, theirs = await connect(Recording, tcp_pair)
        if not reads:
            transport.pause_reading()
        transport.write(b"x" * LARGE)
        assert transport.get_write_buffer_size() > 0
        reset(theirs)
        reason = await protocol.lost
        assert isinstance(reason, ConnectionResetError | BrokenPipeError)
        assert reason.errno in (errno.ECONNRESET, errno.EPIPE)
        assert reason.strerror == os.strerror(reason.errno)
        for _ in range(10):
            transport.write(b"into the void")
        assert transport.get_write_buffer_size() == 0
        assert reports == []

    run(main)


def test_a_slow_reader_costs_the_loop_nothing_while_its_buffer_is_full(run, pair):
    async def main(_):
        transport, protocol, theirs = await connect(Recording, pair)
        transport.write(b"x" * LARGE)
        await turns(10)
        await sleeps_soundly()
        assert await asyncio.to_thread(receive, theirs, LARGE) == b"x" * LARGE
        transport.close()
        await protocol.lost

    run(main)


@pytest.mark.parametrize("paused", [True, False])
def test_a_socket_closed_behind_the_loops_back_is_an_error_for_who_writes(run, pair, paused):
    async def main(reports):
        ours, _ = pair
        transport, protocol, _theirs = await connect(Recording, pair)
        number = ours.fileno()
        if paused:
            transport.pause_reading()
        ours.close()
        other, peer = socket.socketpair()
        assert other.fileno() == number  # the lowest free one
        transport.write(b"not for a stranger")
        reason = await protocol.lost
        assert reason.errno == errno.EBADF
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(100)
        other.setblocking(False)
        again, second, _ = await connect(Recording, (other, peer))
        peer.send(b"hello")
        await until(lambda: second.received == b"hello")
        again.close()
        await second.lost
        peer.close()
        assert reports == []

    run(main)


def test_a_paused_transport_that_is_closed_is_forgotten_though_its_socket_was_duplicated(pair):
    """The system goes on telling of a duplicate that is left, unless the poller was told to forget it."""

    async def main():
        transport, protocol, theirs = await connect(Recording, pair)
        duplicate = os.dup(transport.get_extra_info("socket").fileno())
        transport.pause_reading()
        transport.close()
        await protocol.lost
        theirs.send(b"x")
        await sleeps_soundly()
        os.close(duplicate)

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(main())


def test_a_descriptor_in_use_is_refused_to_others(run, pair):
    async def main(_):
        loop = asyncio.get_running_loop()
        transport, protocol, _ = await connect(Recording, pair)
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(pair[0], print)
        transport.close()
        await protocol.lost

    run(main)


def test_the_representation_tells_the_state(run, pair):
    async def main(_):
        transport, protocol, _ = await connect(Recording, pair)
        number = pair[0].fileno()
        await turns()
        idle = f"<_SelectorSocketTransport fd={number} read=polling write=<idle, bufsize=0>>"
        assert repr(transport) == idle
        transport.pause_reading()
        assert "read=idle" in repr(transport)
        transport.close()
        assert repr(transport).startswith(f"<_SelectorSocketTransport closing fd={number}")
        await protocol.lost
        assert repr(transport) == f"<_SelectorSocketTransport closed fd={number}>"

    run(main)


def test_a_transport_that_is_never_closed_is_warned_of(run, pair):
    async def main(_):
        return await connect(lambda: Recording(), pair)

    with pytest.warns(ResourceWarning, match="unclosed transport <_SelectorSocketTransport fd="):
        connected = run(main)
        del connected
        gc.collect()


def test_a_server_waits_for_its_connections(run):
    async def main(_):
        loop = asyncio.get_running_loop()
        accepted = loop.create_future()

        class Server(asyncio.Protocol):
            def connection_made(self, transport):
                accepted.set_result(transport)

        server = await loop.create_server(Server, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Recording, *server.sockets[0].getsockname())
        theirs = await accepted
        server.close()
        waiting = asyncio.ensure_future(server.wait_closed())
        await turns()
        if hasattr(server, "abort_clients"):
            assert not waiting.done()
            server.abort_clients()
        else:
            theirs.abort()
        await waiting
        await protocol.lost
        transport.close()

    run(main)


@pytest.mark.parametrize("lets_read", [True, False])
def test_a_connection_holds_its_descriptor_no_longer_than_it_lasts(run, lets_read):
    async def main(_):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            transport, protocol, theirs = await connect(Recording, (ours, theirs))
            if not lets_read:
                transport.pause_reading()
            transport.write(b"x")
            transport.close()
            await protocol.lost
            theirs.close()
        assert len(os.listdir("/proc/self/fd")) == before

    run(main)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_accepted_connections_know_their_peers_and_do_not_block(run, host):
    async def main(_):
        loop = asyncio.get_running_loop()
        accepted = asyncio.Queue()

        class Server(asyncio.Protocol):
            def connection_made(self, transport):
                accepted.put_nowait(transport)

        server = await loop.create_server(Server, host, 0)
        for _ in range(3):
            transport, protocol = await loop.create_connection(
                Recording, *server.sockets[0].getsockname()[:2]
            )
            theirs = await accepted.get()
            sock = theirs.get_extra_info("socket")
            assert theirs.get_extra_info("peername") == sock.getpeername()
            assert theirs.get_extra_info("peername") == transport.get_extra_info("sockname")
            assert sock.type == socket.SOCK_STREAM and sock.gettimeout() == 0
            assert not os.get_blocking(sock.fileno()) and not os.get_inheritable(sock.fileno())
            theirs.close()
            assert await protocol.lost is None
        server.close()
        await server.wait_closed()

    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        pytest.skip(f"no server can listen on {host} here: {error}")
    run(main)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_factory_that_fails_costs_its_connection_and_is_told_of_in_debug_mode(run):
    async def main(reports):
        loop = asyncio.get_running_loop()

        def fail():
            raise LookupError("no protocol")

        server = await loop.create_server(fail, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        _, protocol = await loop.create_connection(Recording, *address)
        assert await protocol.lost is None
        assert reports == []
        loop.set_debug(True)
        _, protocol = await loop.create_connection(Recording, *address)
        await until(lambda: reports)
        loop.set_debug(False)
        report = reports.pop()
        assert report["message"] == "Error on transport creation for incoming connection"
        assert type(report["exception"]) is LookupError
        del report  # its traceback holds the connection
        gc.collect()
        assert await protocol.lost is None
        server.close()
        await server.wait_closed()

    run(main)


def test_connections_that_wait_are_accepted_together_and_made_in_order(run):
    async def main(_):
        loop = asyncio.get_running_loop()
        events = []

        class Server(asyncio.Protocol):
            def __init__(self):
                events.append("factory")

            def connection_made(self, transport):
                events.append("connection_made")
                transport.close()

        server = await loop.create_server(Server, "127.0.0.1", 0)
        clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(3)]
        await until(lambda: len(events) == 6)
        assert events == ["factory"] * 3 + ["connection_made"] * 3
        for client in clients:
            client.setblocking(False)
            assert await loop.sock_recv(client, 1) == b""
            client.close()
        server.close()
        await server.wait_closed()

    run(main)


def test_out_of_descriptors_a_server_tells_of_it_and_goes_on(run, monkeypatch):
    monkeypatch.setattr(asyncio.constants, "ACCEPT_RETRY_DELAY", 0.01)

    async def main(reports):
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        client = socket.socket()
        client.setblocking(False)
        held = []
        try:
            while True:
                held.append(os.dup(0))
        except OSError as full:
            assert full.errno == errno.EMFILE
        try:
            await loop.sock_connect(client, server.sockets[0].getsockname())
            await until(lambda: reports)
        finally:
            for each in held:
                os.close(each)
        assert reports[0]["message"] == "socket.accept() out of system resource"
        assert reports[0]["exception"].errno == errno.EMFILE
        assert isinstance(reports[0]["socket"], asyncio.trsock.TransportSocket)
        assert await loop.sock_recv(client, 1) == b""
        client.close()
        server.close()
        await server.wait_closed()

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        run(main)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
