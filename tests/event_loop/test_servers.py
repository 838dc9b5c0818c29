"""Servers and the connections they accept: what the loop, the server and the socket know of them."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import os
import platform
import socket
import struct
import sys
import threading
import warnings
import weakref

import pytest

from asyncio_thread_loop import EventLoop

from .conftest import WAIT, Records, in_a_caller, on

KNOWS_CLIENTS = pytest.mark.skipif(
    sys.version_info < (3, 13), reason="asyncio's server knows which its clients are since 3.13"
)

SOCKET_FIRST = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
"""On the standard loop the collector may come to the socket before it comes to the transport."""


@pytest.fixture
def run(run_everywhere):
    """Run a coroutine; what is promised holds on the standard loop, too."""
    return run_everywhere


class Recorder(Records, asyncio.Protocol):
    """A connection that records what it is told."""

    def connection_made(self, transport):
        self.transport = transport
        self.record("made")

    def data_received(self, data):
        self.record("received", data)

    def eof_received(self):
        self.record("eof")

    def connection_lost(self, exc):
        self.record("lost", exc)

    def is_lost(self):
        return any(what == "lost" for what, *_ in self.told)


class Server:
    """Listens until its block is left, and keeps the protocols of its connections."""

    def __init__(self, host="127.0.0.1", protocol=Recorder, path=None):
        self.host, self.protocol, self.path = host, protocol, path
        self.accepted = asyncio.Queue()

    def _make(self):
        protocol = self.protocol()
        self.accepted.put_nowait(protocol)
        return protocol

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        if self.path is not None:
            self.server = await loop.create_unix_server(self._make, self.path)
        else:
            self.server = await loop.create_server(self._make, self.host, 0)
        return self

    async def __aexit__(self, *exc_info):
        self.server.close()

    def connected(self):
        """A socket that is connected to it."""
        listening = self.server.sockets[0]
        client = socket.socket(listening.family)
        client.connect(listening.getsockname())
        client.setblocking(False)
        return client

    async def connection(self):
        """The protocol of a connection that was made, and the socket at its other end."""
        client = self.connected()
        protocol = await self.accepted.get()
        await protocol.until(lambda: protocol.told)
        return protocol, client


def descriptors():
    """The sockets that are open, by inode: descriptors are given anew, and other threads read files."""
    gc.collect()
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed in the meantime
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return {name for name in found if name.startswith("socket:")}


# What the loop knows of its transports.


def test_the_loop_tells_which_transport_uses_a_descriptor_as_long_as_it_lives(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with Server() as server:
            protocol, client = await server.connection()
            with client:
                transport = protocol.transport
                fd = transport._sock_fd
                transports = loop._transports
                assert transports[fd] is transports.get(fd) is transport
                assert fd in transports and fd in list(transports)
                assert transport in list(transports.values())
                assert dict(transports.items())[fd] is transport
                assert len(transports) == len(list(transports.keys())) == len(list(transports))
                client.shutdown(socket.SHUT_WR)
                await protocol.until(protocol.is_lost)
            del transport, protocol.transport, protocol
            gc.collect()
            assert fd not in transports and transports.get(fd) is None
            assert transports.get(fd, "nobody") == "nobody"
            with pytest.raises(KeyError):
                transports[fd]
            with pytest.raises(KeyError):
                del transports[fd]

    run(main())


def test_a_transport_may_be_taken_from_the_loops_list_and_put_back(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with Server() as server:
            protocol, client = await server.connection()
            with client:
                fd = protocol.transport._sock_fd
                del loop._transports[fd]
                assert fd not in loop._transports
                loop._transports[fd] = protocol.transport
                assert loop._transports[fd] is protocol.transport
                protocol.transport.close()
                await protocol.until(protocol.is_lost)

    run(main())


def test_an_accepted_connections_descriptor_is_not_for_others_until_it_closes(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with Server() as server:
            protocol, client = await server.connection()
            with client:
                transport = protocol.transport
                fd = transport._sock_fd
                for watch in (loop.add_reader, loop.add_writer):
                    with pytest.raises(RuntimeError, match=f"File descriptor {fd} is used by transport"):
                        watch(fd, print)
                for unwatch in (loop.remove_reader, loop.remove_writer):
                    with pytest.raises(RuntimeError, match="is used by transport"):
                        unwatch(fd)
                with socket.socket(fileno=os.dup(fd)) as other:
                    other.setblocking(False)
                    waiting = asyncio.ensure_future(loop.sock_recv(other, 1))
                    client.send(b"x")
                    assert await waiting == b"x" or protocol.told
                    waiting.cancel()
                transport.close()
                loop.add_reader(fd, print)
                assert loop.remove_reader(fd)
                await protocol.until(protocol.is_lost)

    run(main())


# What a server knows of its connections.


@KNOWS_CLIENTS
@pytest.mark.parametrize("end", ["close_clients", "abort_clients"])
def test_a_server_closes_its_clients_and_then_has_none(run, end):
    async def main():
        async with Server() as server:
            connections = [await server.connection() for _ in range(5)]
            clients = server.server._clients
            assert len(clients) == 5
            assert {protocol.transport for protocol, _ in connections} == set(clients)
            assert all(protocol.transport in clients for protocol, _ in connections)
            for protocol, _ in connections:
                protocol.transport.write(b"bye")
            getattr(server.server, end)()
            for protocol, client in connections:
                await protocol.until(protocol.is_lost)
                assert protocol.told[-1] == ("lost", None)
                with client:
                    assert client.recv(10) == b"bye"
            assert len(server.server._clients) == 0
            assert not any(protocol.transport in clients for protocol, _ in connections)
            server.server.close_clients()
            server.server.abort_clients()

    run(main())


@KNOWS_CLIENTS
def test_clients_of_any_kind_are_closed(run):
    class Foreign(asyncio.Transport):
        closed = False

        def close(self):
            self.closed = True

    async def main():
        foreign = [Foreign() for _ in range(3)]
        async with Server() as server:
            server.server._attach(foreign[0])
            protocol, client = await server.connection()
            server.server._attach(foreign[1])
            server.server._attach(foreign[2])
            server.server._detach(foreign[2])
            with client:
                server.server.close_clients()
                await protocol.until(protocol.is_lost)
            assert [each.closed for each in foreign] == [True, True, False]
            server.server._detach(foreign[0])
            server.server.close()
            waiting = asyncio.ensure_future(server.server.wait_closed())
            await asyncio.sleep(0)
            assert not waiting.done()
            server.server._detach(foreign[1])
            await waiting

    run(main())


@pytest.mark.parametrize("count", [1, 3])
def test_waiting_for_a_server_to_close_is_waiting_for_its_last_connection(run, count):
    async def main():
        async with Server() as server:
            connections = [await server.connection() for _ in range(count)]
            first = server.server
            waiting = asyncio.ensure_future(first.wait_closed())
            await asyncio.sleep(0)
            first.close()
            for protocol, client in connections:
                await asyncio.sleep(0)
                assert not waiting.done()
                protocol.transport.close()
                await protocol.until(protocol.is_lost)
                client.close()
            await waiting
            await first.wait_closed()

    run(main())


@KNOWS_CLIENTS
@SOCKET_FIRST
def test_a_server_does_not_hold_its_clients(run):
    async def main():
        async with Server() as server:
            protocol, client = await server.connection()
            protocol.transport.pause_reading()
            await asyncio.sleep(0.01)  # nothing that was scheduled holds it any more
            transport = weakref.ref(protocol.transport)
            with pytest.warns(ResourceWarning, match="unclosed transport"):
                protocol.transport = None
                gc.collect()
            assert transport() is None
            assert len(server.server._clients) == 0
            assert list(server.server._clients) == []
            with client:
                assert client.recv(1) == b""  # closed after all
            server.server.close()
            await server.server.wait_closed()

    run(main())


@pytest.mark.parametrize("name", ["_attach", "_detach"])
def test_a_server_of_another_class_is_asked_itself(name):
    called = []

    class Own(asyncio.base_events.Server):
        def _attach(self, *transport):
            called.append("_attach")
            super()._attach(*transport)

        def _detach(self, *transport):
            called.append("_detach")
            super()._detach(*transport)

    async def main():
        loop = asyncio.get_running_loop()
        recorders = []

        def make():
            recorders.append(Recorder())
            return recorders[-1]

        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        server = Own(loop, [listening], make, None, 5, None, None)
        await server.start_serving()
        with socket.create_connection(listening.getsockname()) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, b"x")
            client.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(client, 1) == b""
        server.close()
        await server.wait_closed()

    on(EventLoop)(main())
    assert called.count(name) == 1


# Accepting.


def test_a_factory_that_raises_costs_its_own_connection_only(run):
    async def main():
        class Sometimes(Recorder):
            count = 0

            def __init__(self):
                super().__init__()
                Sometimes.count += 1
                if Sometimes.count % 2:
                    raise LookupError("no protocol")

        before = descriptors()
        loop = asyncio.get_running_loop()
        async with Server(protocol=Sometimes) as server:
            clients = [server.connected() for _ in range(4)]
            made = [await server.accepted.get() for _ in range(2)]
            refused = [clients[0], clients[2]]
            gc.collect()
            for client in refused:
                assert await loop.sock_recv(client, 1) == b""
            for protocol in made:
                await protocol.until(lambda protocol=protocol: protocol.told)
                protocol.transport.close()
                await protocol.until(protocol.is_lost)
            for client in clients:
                client.close()
        await asyncio.sleep(0)
        assert descriptors() <= before

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the standard loop
        run(main())


def test_a_protocol_of_which_nothing_is_known_costs_its_own_connection_only():
    """The standard loop leaves it open."""

    class Odd:
        @property
        def __class__(self):
            raise LookupError("nobody knows")

    made = []

    def make():
        made.append(Odd() if len(made) == 0 else Recorder())
        return made[-1]

    async def main():
        before = descriptors()
        loop = asyncio.get_running_loop()
        async with Server(protocol=make) as server:
            with server.connected() as refused, server.connected() as client:
                await server.accepted.get()
                protocol = await server.accepted.get()
                gc.collect()
                assert await loop.sock_recv(refused, 1) == b""
                client.send(b"hello")
                await protocol.until(lambda: len(protocol.told) == 2)
                protocol.transport.close()
                await protocol.until(protocol.is_lost)
        await asyncio.sleep(0)
        assert descriptors() <= before

    on(EventLoop)(main())


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_factory_that_ends_the_program_strands_no_other_connection(error):
    made = []

    class Ending(Recorder):
        def __init__(self):
            super().__init__()
            made.append(self)
            if len(made) == 1:
                raise error

    async def start():
        return await asyncio.get_running_loop().create_server(Ending, "127.0.0.1", 0)

    async def see(clients):
        loop = asyncio.get_running_loop()
        for client in clients[1:]:
            await loop.sock_sendall(client, b"x")
            client.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(client, 1) == b""

    loop = EventLoop()
    server = loop.run_until_complete(start())
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(3)]
    with pytest.raises(error):
        loop.run_forever()
    for client in clients:
        client.setblocking(False)
    loop.run_until_complete(asyncio.wait_for(see(clients), 20))
    assert len(made) == 3
    for client in clients:
        client.close()
    server.close()
    loop.run_until_complete(server.wait_closed())
    loop.close()


def test_a_factory_may_close_its_server():
    """The standard loop leaves such connections to the collector."""

    async def main():
        class Last(Recorder):
            def __init__(self):
                super().__init__()
                server.server.close()

        before = descriptors()
        async with Server(protocol=Last) as server:
            clients = [server.connected() for _ in range(3)]
            loop = asyncio.get_running_loop()
            for client in clients:
                assert await loop.sock_recv(client, 1) == b""
                client.close()
            await server.server.wait_closed()
        await asyncio.sleep(0)
        assert descriptors() <= before

    on(EventLoop)(main())


def test_connections_are_found_whether_they_come_one_by_one_or_at_once(run):
    async def main():
        async with Server() as server:
            for count in [1] * 20 + [30, 1, 30] + [2] * 10:
                clients = [server.connected() for _ in range(count)]
                for _ in clients:
                    protocol = await server.accepted.get()
                    await protocol.until(lambda protocol=protocol: protocol.told)
                    protocol.transport.abort()
                for client in clients:
                    client.close()
            assert server.accepted.empty()

    run(main())


def test_no_more_connections_than_the_backlog_are_accepted_in_a_turn(run):
    """A flood of them leaves others their turn."""

    async def main():
        turns, made = 0, []
        loop = asyncio.get_running_loop()

        def turn():
            nonlocal turns
            turns += 1
            if len(made) < 10:
                loop.call_soon(turn)

        def make():
            made.append(turns)
            return Recorder()

        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        clients = [socket.create_connection(listening.getsockname()) for _ in range(10)]
        server = await loop.create_server(make, sock=listening, backlog=2)
        turn()
        while len(made) < 10:
            await asyncio.sleep(0)
        assert max(made.count(each) for each in made) == 2
        for client in clients:
            client.setblocking(False)
            client.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(client, 1) == b""
            client.close()
        server.close()
        await server.wait_closed()

    run(main())


def test_each_protocol_is_made_in_a_context_of_its_own(run):
    variable = contextvars.ContextVar("variable", default="nobody's")
    found = []

    class Changing(Recorder):
        def __init__(self):
            super().__init__()
            found.append(variable.get())
            variable.set("the last one's")

        def connection_made(self, transport):
            found.append(variable.get())
            super().connection_made(transport)

    async def main():
        variable.set("the server's")
        async with Server(protocol=Changing) as server:
            clients = [server.connected() for _ in range(3)]
            for client in clients:
                protocol = await server.accepted.get()
                await protocol.until(lambda protocol=protocol: protocol.told)
                protocol.transport.abort()
                client.close()

    run(main())
    assert sorted(found) == ["the last one's"] * 3 + ["the server's"] * 3


@pytest.mark.parametrize("run", [on(EventLoop), in_a_caller], ids=["EventLoop", "caller_runs"])
def test_a_number_that_a_transport_still_has_is_no_new_connections(run):
    """Its socket was closed behind its back, and the system gives its number to a new connection.

    The standard loop, too, refuses it, since CPython 3.12, and leaves it to the collector.
    """

    async def main():
        loop = asyncio.get_running_loop()
        async with Server() as server:
            first, client = await server.connection()
            taken = first.transport.get_extra_info("socket")._sock
            with client, socket.socket() as refused, no_lower_descriptor(taken.fileno()):
                taken.close()
                refused.connect(server.server.sockets[0].getsockname())
                refused.setblocking(False)
                assert await loop.sock_recv(refused, 1) == b""
            first.transport.write(b"x")
            await first.until(first.is_lost)
            assert first.told[-1][1].errno == errno.EBADF
            server.accepted.get_nowait()
            second, other = await server.connection()
            with other:
                other.send(b"hello")
                await second.until(lambda: len(second.told) == 2)
                second.transport.close()
                await second.until(second.is_lost)

    run(main())


@contextlib.contextmanager
def no_lower_descriptor(number):
    """All lower ones are in use."""
    held = [os.dup(0)]
    while held[-1] < number:
        held.append(os.dup(0))
    yield
    for each in held:
        os.close(each)


ACCEPT4 = {"x86_64": 288, "aarch64": 242}.get(platform.machine())
"""The number of the system call."""

KNOWS_ACCEPT4 = pytest.mark.skipif(
    ACCEPT4 is None, reason="the number of the system call to be refused isn't known for this processor"
)


@KNOWS_ACCEPT4
@pytest.mark.parametrize("error", ["ENFILE", "ENOBUFS", "ENOMEM"])
def test_a_system_without_resources_is_told_of_and_left_in_peace(script, error):
    assert script(REFUSING.format(error=error, call=ACCEPT4)) == [
        f"socket.accept() out of system resource {error}",
        "sleeps soundly",
    ]


@KNOWS_ACCEPT4
@pytest.mark.parametrize("error", ["EPERM", "EINVAL"])
def test_a_connection_that_can_not_be_accepted_is_told_of(script, error):
    told = script(REFUSING.format(error=error, call=ACCEPT4))
    assert told[0].startswith("Exception in callback") and told[0].endswith(error)


REFUSING = """
import ctypes, errno, socket


class Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte), ("k", ctypes.c_uint)]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.POINTER(Instruction))]


def refuse_to_accept(number):
    # Loads the number of the system call, compares it, and answers with the error or else lets it pass.
    instructions = (Instruction * 4)(
        (0x20, 0, 0, 0), (0x15, 0, 1, {call}), (0x06, 0, 0, 0x00050000 | number), (0x06, 0, 0, 0x7FFF0000)
    )
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    program = Program(4, instructions)
    assert prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert prctl(22, 2, ctypes.addressof(program), 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP


async def main():
    loop = asyncio.get_running_loop()
    told = loop.create_future()

    def tell(loop, context):
        say(context["message"], errno.errorcode[context["exception"].errno])
        if not told.done():
            told.set_result(None)

    loop.set_exception_handler(tell)
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()):
        refuse_to_accept(errno.{error})
        await told
        before = loop._polls
        await asyncio.sleep(0.05)
        if loop._polls - before <= 4:
            say("sleeps soundly")
    server.close()

with asyncio.Runner(loop_factory=EventLoop) as runner:
    runner.run(main())
"""


def test_a_peer_that_is_gone_before_it_is_accepted_harms_nobody(run):
    async def main():
        before = descriptors()
        async with Server() as server:
            for _ in range(10):
                client = server.connected()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                protocol = await server.accepted.get()
                await protocol.until(protocol.is_lost)
                assert isinstance(protocol.told[-1][1], ConnectionResetError)
        await asyncio.sleep(0)
        assert descriptors() <= before

    run(main())


def test_a_connection_that_lingers_lets_other_threads_go_on(run):
    """Closing it waits until the peer has received everything, and here that is a thread of this process."""
    order = []
    told = threading.Event()

    class Telling(Recorder):
        def connection_lost(self, exc):
            super().connection_lost(exc)
            told.set()
            asyncio.get_running_loop().call_soon(order.append, "closed")

    def receive(client):
        assert told.wait(WAIT)
        client.settimeout(WAIT)
        assert client.recv(65536)
        order.append("received")
        while client.recv(65536):
            pass

    async def main():
        loop = asyncio.get_running_loop()
        made = []
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        # Of every connection that it accepts. Who holds up the thread waits no longer than that.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 2))
        server = await loop.create_server(lambda: made.append(Telling()) or made[0], sock=listening)
        with socket.create_connection(listening.getsockname()) as client:
            while not (made and made[0].told):
                await asyncio.sleep(0)
            made[0].transport.write(b"x" * 8 * 1024 * 1024)
            assert made[0].transport.get_write_buffer_size() > 0
            receiving = asyncio.ensure_future(asyncio.to_thread(receive, client))
            await asyncio.sleep(0)
            made[0].transport.abort()
            await receiving
            while len(order) < 2:
                await asyncio.sleep(0)
        server.close()
        await server.wait_closed()

    run(main())
    assert order == ["received", "closed"]


# The socket of an accepted connection.


@pytest.mark.parametrize("kind", ["TCP", "TCP 6", "Unix"])
@pytest.mark.parametrize("when", ["open", "lost"])
def test_an_accepted_connection_tells_of_its_socket_whenever_it_is_asked(run, tmp_path, kind, when):
    options = {"TCP": {}, "TCP 6": {"host": "::1"}, "Unix": {"path": str(tmp_path / "socket")}}[kind]

    async def main():
        async with Server(**options) as server:
            protocol, client = await server.connection()
            transport = protocol.transport
            own, peer = client.getpeername(), client.getsockname()
            fd = transport._sock_fd
            if when == "lost":
                transport.abort()
                await protocol.until(protocol.is_lost)
            assert transport.get_extra_info("sockname") == own
            assert transport.get_extra_info("peername") == peer
            sock = transport.get_extra_info("socket")
            assert isinstance(sock, asyncio.trsock.TransportSocket)
            assert sock is transport.get_extra_info("socket")
            assert (sock.family, sock.type) == (client.family, socket.SOCK_STREAM)
            if when == "lost":
                assert sock.fileno() == -1 and transport._sock is None
            else:
                assert sock.fileno() == fd and sock.gettimeout() == 0
                assert type(transport._sock) is socket.socket and transport._sock.fileno() == fd
                assert transport._sock.getpeername() == peer and transport._sock.getsockname() == own
                if client.family != socket.AF_UNIX:
                    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                transport.close()
                await protocol.until(protocol.is_lost)
                assert sock.fileno() == -1
            client.close()

    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        if kind == "TCP 6":
            pytest.skip(f"no server can listen on ::1 here: {error}")
    run(main())


def test_asking_for_the_socket_changes_nothing_about_the_connection(run):
    async def main():
        before = descriptors()
        async with Server() as server:
            protocol, client = await server.connection()
            with client:
                for number in range(3):
                    client.send(b"x")
                    await protocol.until(lambda number=number: len(protocol.told) == 2 + number)
                    assert protocol.transport.get_extra_info("socket").fileno() >= 0
                    protocol.transport.write(b"y")
                    assert await asyncio.get_running_loop().sock_recv(client, 10) == b"y"
                duplicate = protocol.transport.get_extra_info("socket").dup()
                protocol.transport.close()
                await protocol.until(protocol.is_lost)
                duplicate.close()
        await asyncio.sleep(0)
        assert descriptors() <= before

    run(main())


@pytest.mark.parametrize("run", [on(EventLoop), in_a_caller], ids=["EventLoop", "caller_runs"])
@pytest.mark.parametrize("looks", [True, False])
def test_a_descriptor_closed_behind_the_connections_back_is_an_error_where_it_is_used(run, looks):
    """The standard loop, too, tells of both errors, and leaves the transport to the collector."""

    async def main():
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        async with Server() as server:
            protocol, client = await server.connection()
            with client:
                if looks:
                    assert protocol.transport.get_extra_info("socket") is not None
                os.close(protocol.transport._sock_fd)
                protocol.transport.write(b"x")
                await protocol.until(protocol.is_lost)
                [(_, error)] = [what for what in protocol.told if what[0] == "lost"]
                assert isinstance(error, OSError)
                # Closing it is another one.
                while not reports:
                    await asyncio.sleep(0)
                assert all(isinstance(report["exception"], OSError) for report in reports)

    run(main())


def test_a_descriptor_that_is_used_again_belongs_to_its_next_connection(run):
    async def main():
        async with Server() as server:
            numbers = set()
            for _ in range(20):
                protocol, client = await server.connection()
                with client:
                    numbers.add(protocol.transport._sock_fd)
                    client.send(b"hello")
                    await protocol.until(lambda p=protocol: len(p.told) == 2)
                    assert protocol.told == [("made",), ("received", b"hello")]
                    protocol.transport.close()
                    await protocol.until(protocol.is_lost)
            assert len(numbers) < 20

    run(main())


@SOCKET_FIRST
def test_a_connection_that_nobody_closes_is_warned_of_and_leaves_no_descriptor(run):
    async def main():
        before = descriptors()
        async with Server() as server:
            protocol, client = await server.connection()
            protocol.transport.pause_reading()
            await asyncio.sleep(0.01)  # nothing that was scheduled holds it any more
            with pytest.warns(ResourceWarning, match="unclosed transport <_SelectorSocketTransport"):
                del protocol.transport
                gc.collect()
            client.close()
        await asyncio.sleep(0)
        assert descriptors() <= before

    run(main())


def test_a_warning_that_is_an_error_is_no_trouble_for_who_drops_a_connection():
    """As asyncio's transports do it: what can't be raised is told of, and the exception on its way goes on."""

    async def main():
        async with Server() as server:
            protocol, client = await server.connection()
            protocol.transport.pause_reading()
            with client, pytest.raises(LookupError, match="on its way"):
                holder = [protocol.transport]
                del protocol.transport

                def fail():
                    nonlocal holder
                    try:
                        raise LookupError("on its way")
                    finally:
                        holder = None

                fail()

    told = []
    hook = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: told.append(unraisable.exc_type)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            on(EventLoop)(main())
            gc.collect()
    finally:
        sys.unraisablehook = hook
    assert ResourceWarning in told
