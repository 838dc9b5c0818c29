"""Datagram transports, and that they do what the standard loop's do."""

import asyncio
import errno
import gc
import socket
import sys
import warnings
import weakref
from contextlib import suppress
from itertools import pairwise

import pytest

from asyncio_thread_loop import EventLoop

from .conftest import Records, on


@pytest.fixture
def run(run_everywhere):
    """Run a coroutine; what is promised holds on the standard loop, too."""
    return run_everywhere


class Recorder(Records, asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
        self.record("made")

    def datagram_received(self, data, addr):
        self.record("received", data, addr)

    def error_received(self, exc):
        self.record("error", type(exc), exc.errno)

    def connection_lost(self, exc):
        self.record("lost", exc)

    async def got(self, what, times=1):
        await self.until(lambda: sum(each[0] == what for each in self.told) >= times)
        return [each[1:] for each in self.told if each[0] == what]


async def endpoint(protocol=Recorder, **options):
    options = options or {"local_addr": ("127.0.0.1", 0)}
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(protocol, **options)
    return transport, protocol


def address(transport):
    return transport.get_extra_info("sockname")


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_datagrams_go_there_and_back(run, host, kind):
    async def main():
        server, serving = await endpoint(local_addr=(host, 0))
        client, receiving = await endpoint(remote_addr=address(server)[:2])
        client.sendto(kind(b"to the peer"))
        ((data, there),) = await serving.got("received")
        assert (data, there) == (b"to the peer", address(client))
        assert type(data) is bytes
        server.sendto(kind(b"back"), there)
        assert await receiving.got("received") == [(b"back", address(server))]
        assert client.get_extra_info("peername") == address(server)
        assert server.get_extra_info("peername") is None
        # Before 3.12 asyncio's own is only a `Transport`.
        assert isinstance(
            client, asyncio.DatagramTransport if sys.version_info >= (3, 12) else asyncio.Transport
        )
        assert isinstance(client.get_extra_info("socket"), asyncio.trsock.TransportSocket)
        client.close()
        server.close()
        assert await receiving.got("lost") == [(None,)]

    run(main())


def test_many_at_once_come_in_order(run):
    async def main():
        server, serving = await endpoint()
        client, _ = await endpoint(remote_addr=address(server))
        for number in range(100):
            client.sendto(b"%d" % number)
        received = await serving.got("received", 100)
        client.close()
        server.close()
        return [data for data, _ in received]

    assert run(main()) == [b"%d" % number for number in range(100)]


def test_others_have_their_turn_between_many_datagrams():
    """At most 32 are received before."""

    async def main():
        server, serving = await endpoint()
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            for number in range(100):
                sock.sendto(b"%d" % number, address(server))
        turns = []

        def turn():
            turns.append(len(serving.told))
            if turns[-1] <= 100:
                asyncio.get_running_loop().call_soon(turn)

        turn()
        await serving.got("received", 100)
        server.close()
        return [after - before for before, after in pairwise(turns)]

    assert max(on(EventLoop)(main())) <= 32


@pytest.mark.parametrize("method", ["close", "abort", "pause_reading"])
def test_a_protocol_that_has_had_enough_is_told_no_more(run, method):
    class Enough(Recorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"2":
                getattr(self.transport, method)()

    async def main():
        server, serving = await endpoint(Enough)
        client, _ = await endpoint(remote_addr=address(server))
        for number in range(5):
            client.sendto(b"%d" % number)
        await serving.got("received", 3)
        if method == "pause_reading":
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(await serving.got("received")) == 3
            server.resume_reading()
            await serving.got("received", 5)
            server.close()
        await serving.got("lost")
        client.close()
        return [data for data, _ in await serving.got("received")]

    assert run(main()) == [b"%d" % number for number in range(5 if method == "pause_reading" else 3)]


def test_a_refused_datagram_is_told_as_an_error_and_ends_nothing(run):
    async def main():
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            nowhere = sock.getsockname()
        client, receiving = await endpoint(remote_addr=nowhere)
        client.sendto(b"to nobody")
        await receiving.until(lambda: any(each[0] == "error" for each in receiving.told))
        server, serving = await endpoint(local_addr=nowhere)
        while not any(each[0] == "received" for each in serving.told):
            client.sendto(b"to somebody")
            await asyncio.sleep(0)
        server.close()
        assert not client.is_closing()
        client.close()
        return set(await receiving.got("error"))

    assert run(main()) == {(ConnectionRefusedError, errno.ECONNREFUSED)}


def test_an_error_of_sending_is_told_at_once(run):
    async def main():
        transport, protocol = await endpoint(local_addr=("127.0.0.1", 0))
        transport.sendto(b"x" * 70_000, ("127.0.0.1", 9))
        told = protocol.told[-1]
        transport.close()
        return told

    assert run(main()) == ("error", OSError, errno.EMSGSIZE)


def test_wrong_arguments_are_refused(run):
    async def main():
        server, _ = await endpoint()
        client, _ = await endpoint(remote_addr=address(server))
        with pytest.raises(TypeError, match="data argument must be a bytes-like object"):
            client.sendto("text")
        with pytest.raises(ValueError, match="Invalid address: must be None or"):
            client.sendto(b"x", ("127.0.0.1", 1))
        client.sendto(b"x", address(server))
        client.close()
        server.close()

    run(main())


def test_sizes_may_change_from_one_datagram_to_the_next(run):
    sizes = [1, 10_000, 10_000, 9_999, 60_000, 5, 10_001, 20_000, 0x1000, 60_000]

    async def main():
        server, serving = await endpoint()
        client, _ = await endpoint(remote_addr=address(server))
        for count, size in enumerate(sizes, 1):
            client.sendto(bytes([size % 251]) * size)
            await serving.got("received", count)
        client.close()
        server.close()
        return [data for data, _ in await serving.got("received")]

    assert run(main()) == [bytes([size % 251]) * size for size in sizes]


def test_each_of_many_peers_gets_its_own_answer(run):
    """More than are remembered, twice."""

    class Echo(Recorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.transport.sendto(data, addr)

    async def main():
        server, _ = await endpoint(Echo)
        clients = [await endpoint(remote_addr=address(server)) for _ in range(150)]
        for times in (1, 2):
            for number, (client, _) in enumerate(clients):
                client.sendto(b"%d" % number)
            for _, receiving in clients:
                await receiving.got("received", times)
        for client, _ in clients:
            client.close()
        server.close()
        return [[data for data, _ in await receiving.got("received")] for _, receiving in clients]

    assert run(main()) == [[b"%d" % number] * 2 for number in range(150)]


def test_who_has_just_sent_need_not_be_who_is_sent_to(run):
    async def main():
        server, serving = await endpoint()
        client, _ = await endpoint(remote_addr=address(server))
        other, receiving = await endpoint()
        client.sendto(b"x")
        await serving.got("received")
        server.sendto(b"for another", address(other))
        ((data, _),) = await receiving.got("received")
        for each in (client, other, server):
            each.close()
        return data

    assert run(main()) == b"for another"


def test_datagrams_of_one_peer_share_its_address():
    async def main():
        server, serving = await endpoint()
        client, _ = await endpoint(remote_addr=address(server))
        client.sendto(b"1")
        client.sendto(b"2")
        (_, first), (_, second) = await serving.got("received", 2)
        client.close()
        server.close()
        return first is second, first == address(client)

    assert on(EventLoop)(main()) == (True, True)


def test_an_empty_datagram_is_sent_where_this_cpython_sends_it(run):
    async def main():
        server, serving = await endpoint()
        client, _ = await endpoint(remote_addr=address(server))
        client.sendto(b"")
        client.sendto(memoryview(b""))
        client.sendto(b"last")
        await serving.until(lambda: any(each[1:2] == (b"last",) for each in serving.told))
        client.close()
        server.close()
        return [data for data, _ in await serving.got("received")]

    empty = [b"", b""] if sys.version_info >= (3, 13) else []
    assert run(main()) == [*empty, b"last"]


def test_a_host_may_be_a_name(run):
    async def main():
        server, serving = await endpoint()
        client, _ = await endpoint(family=socket.AF_INET)
        client.sendto(b"x", ("localhost", address(server)[1]))
        ((data, _),) = await serving.got("received")
        client.close()
        server.close()
        return data

    assert run(main()) == b"x"


def test_a_socket_that_may_broadcast_sends_to_its_address_without_being_connected(run):
    async def main():
        server, serving = await endpoint()
        client, _ = await endpoint(remote_addr=address(server), allow_broadcast=True)
        assert client.get_extra_info("peername") is None
        client.sendto(b"1")
        client.sendto(b"2", address(server))
        with pytest.raises(ValueError, match="Invalid address"):
            client.sendto(b"x", ("127.0.0.1", 1))
        received = await serving.got("received", 2)
        client.close()
        await turns()
        client.sendto(b"for nobody")
        server.close()
        return [data for data, _ in received]

    assert run(main()) == [b"1", b"2"]


def test_what_is_no_address_ends_the_transport_and_is_reported(run):
    async def main():
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        transport, protocol = await endpoint()
        transport.sendto(b"x")
        assert transport.is_closing()
        ((reason,),) = await protocol.got("lost")
        (report,) = reports
        return type(reason), report["message"], report["exception"] is reason

    assert run(main()) == (TypeError, "Fatal write error on datagram transport", True)


def test_what_is_sent_after_the_end_is_dropped():
    """The standard loop raises an `AttributeError` if the socket isn't connected."""

    async def main():
        server, serving = await endpoint()
        server.close()
        await serving.got("lost")
        for _ in range(10):
            server.sendto(b"x", ("127.0.0.1", 9))
        assert server._sock is None
        return [each[0] for each in serving.told]

    assert on(EventLoop)(main()) == ["made", "lost"]


def test_many_endpoints_may_share_a_port(run):
    async def main():
        first, _ = await endpoint(local_addr=("127.0.0.1", 0), reuse_port=True)
        second, _ = await endpoint(local_addr=address(first), reuse_port=True)
        same = address(first) == address(second)
        first.close()
        second.close()
        return same

    assert run(main())


def test_a_new_protocol_is_told_from_now_on(run):
    async def main():
        server, serving = await endpoint()
        client, _ = await endpoint(remote_addr=address(server))
        client.sendto(b"1")
        await serving.got("received")
        other = Recorder()
        server.set_protocol(other)
        assert server.get_protocol() is other
        client.sendto(b"2")
        ((data, _),) = await other.got("received")
        client.close()
        server.close()
        await other.got("lost")
        return data, len(await serving.got("received"))

    assert run(main()) == (b"2", 1)


def test_a_protocol_and_its_closed_transport_are_garbage_together(run):
    async def main():
        server, serving = await endpoint()
        client, _ = await endpoint(remote_addr=address(server))
        client.sendto(b"x")
        await serving.got("received")
        client.close()
        server.close()
        await serving.got("lost")
        gone = weakref.ref(serving)
        del server, serving
        gc.collect()
        return gone()

    assert run(main()) is None


def full_pair():
    """Two Unix datagram sockets, the first of which can't send any more, and how much it sent."""
    ours, theirs = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    theirs.bind("")  # the system names it
    ours.connect(theirs.getsockname())
    for each in (ours, theirs):
        each.setblocking(False)
    sent = 0
    while True:
        try:
            ours.send(b"%d" % sent)
        except BlockingIOError:
            return ours, theirs, sent
        sent += 1


def test_what_cannot_be_sent_yet_waits_and_the_protocol_is_paused(run):
    async def main():
        ours, theirs, sent = full_pair()
        transport, protocol = await endpoint(sock=ours)
        transport.set_write_buffer_limits(high=100)
        data = bytearray(b"x" * 90)
        transport.sendto(data)
        data[:] = b"y" * 90  # it has been copied
        header = transport.get_write_buffer_size() - 90
        assert header in (0, 8)
        assert ("paused",) not in protocol.told
        transport.sendto(b"z" * 90)
        assert transport.get_write_buffer_size() == 2 * (90 + header)
        assert ("paused",) in protocol.told
        for number in range(sent):
            assert theirs.recv(100) == b"%d" % number
        await protocol.got("resumed")
        assert (theirs.recv(100), theirs.recv(100)) == (b"x" * 90, b"z" * 90)
        transport.close()
        theirs.close()
        await protocol.got("lost")

    run(main())


def test_what_waits_is_sent_in_order_though_there_is_never_room_for_all(run):
    async def main():
        ours, theirs, sent = full_pair()
        transport, protocol = await endpoint(sock=ours)
        for number in range(sent, 4 * sent):
            transport.sendto(b"%d" % number)
        received = []
        while len(received) < 4 * sent:
            with suppress(BlockingIOError):
                received.append(theirs.recv(100))
            await asyncio.sleep(0)
        transport.close()
        theirs.close()
        await protocol.got("lost")
        return received == [b"%d" % number for number in range(4 * sent)]

    assert run(main())


def test_an_error_of_one_that_waited_is_told_and_the_others_are_tried(run):
    async def main():
        ours, theirs, _ = full_pair()
        transport, protocol = await endpoint(sock=ours)
        for _ in range(3):
            transport.sendto(b"x")
        theirs.close()
        errors = await protocol.got("error", 3)
        assert transport.get_write_buffer_size() < 3 * 9  # CPython 3.13.0 forgets to take the headers off
        transport.close()
        await protocol.got("lost")
        return [code for _, code in errors]

    # The first one notices that there is nobody, and has the socket forget its peer.
    assert run(main()) == [errno.ECONNREFUSED, errno.ENOTCONN, errno.ENOTCONN]


@pytest.mark.parametrize("method", ["close", "abort"])
def test_closing_sends_what_waits_and_aborting_does_not(run, method):
    async def main():
        ours, theirs, sent = full_pair()
        transport, protocol = await endpoint(sock=ours)
        transport.sendto(b"last")
        getattr(transport, method)()
        assert transport.is_closing()
        for _ in range(sent):
            theirs.recv(100)
        await protocol.got("lost")
        assert ours.fileno() == -1
        left = []
        with theirs, suppress(BlockingIOError, ConnectionResetError):
            left.append(theirs.recv(100))
        return left

    assert run(main()) == ([b"last"] if method == "close" else [])


def test_what_a_protocol_raises_goes_to_the_exception_handler_and_others_are_still_received(run):
    class Raising(Recorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"bad":
                raise LookupError("raised on purpose")

    async def main():
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        server, serving = await endpoint(Raising)
        client, _ = await endpoint(remote_addr=address(server))
        for data in (b"good", b"bad", b"good"):
            client.sendto(data)
        await serving.got("received", 3)
        client.close()
        server.close()
        (report,) = reports
        return type(report["exception"]), "_read_ready" in report["message"]

    assert run(main()) == (LookupError, True)


def test_one_that_is_not_closed_is_warned_of(run):
    async def main():
        transport, protocol = await endpoint()
        asyncio.get_running_loop()._remove_reader(transport.get_extra_info("socket").fileno())
        del protocol.transport
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport, protocol
            gc.collect()
        return [str(each.message) for each in caught]

    assert any(message.startswith("unclosed transport <") for message in run(main()))


class Counted(socket.socket):
    sent = 0

    def send(self, *args):
        self.sent += 1
        return super().send(*args)


def test_a_socket_with_methods_of_its_own_is_served_by_them(run):
    async def main():
        server, serving = await endpoint()
        sock = Counted(type=socket.SOCK_DGRAM)
        sock.connect(address(server))
        sock.setblocking(False)
        client, _ = await endpoint(sock=sock)
        client.sendto(b"x")
        await serving.got("received")
        client.close()
        server.close()
        return sock.sent

    assert run(main()) == 1
