"""The `sock_*` coroutines, and that they do what the standard loop's do."""

import array
import asyncio
import errno
import gc
import inspect
import os
import select
import selectors
import socket
import ssl
import warnings
import weakref
from contextlib import suppress

import pytest

from asyncio_thread_loop import EventLoop

from .conftest import in_a_caller, on

FULL = b"x" * 65536


@pytest.fixture
def run(run_everywhere):
    """Run a coroutine; what is promised holds on the standard loop, too."""
    return run_everywhere


def fill(sock):
    """Send until nothing fits any more; returns how much was sent."""
    sent, size = 0, len(FULL)
    while size:
        try:
            sent += sock.send(FULL[:size])
        except BlockingIOError:
            size //= 2
    return sent


async def begun(coroutine):
    """A task that waits already."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def received(loop, sock, size):
    data = b""
    while len(data) < size:
        data += await loop.sock_recv(sock, size - len(data))
    return data


def test_what_is_there_is_received_without_a_turn_of_the_loop(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        pair[1].send(b"abcdef")
        turns = []
        loop.call_soon(turns.append, "turn")
        buffer = bytearray(2)
        got = [await loop.sock_recv(pair[0], 2), await loop.sock_recv_into(pair[0], buffer), bytes(buffer)]
        got += await loop.sock_recvfrom(pair[0], 1)
        got += await loop.sock_recvfrom_into(pair[0], memoryview(buffer), 1)
        await loop.sock_sendall(pair[0], b"back")
        assert turns == []
        return got, pair[1].recv(10)

    got, back = run(main())
    assert got == [b"ab", 2, b"cd", b"e", None, 1, None]
    assert back == b"back"


def test_what_is_not_there_is_waited_for(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        got = []
        for number in range(5):
            task = await begun(loop.sock_recv(pair[0], 10))
            pair[1].send(b"%d" % number)
            got.append(await task)
            buffer = bytearray(10)
            task = await begun(loop.sock_recv_into(pair[0], buffer))
            pair[1].send(b"into")
            got.append(bytes(buffer[: await task]))
        task = await begun(loop.sock_recv(pair[0], 10))
        pair[1].close()
        return [*got, await task]

    assert run(main()) == [*(x for n in range(5) for x in (b"%d" % n, b"into")), b""]


def test_all_is_sent_however_little_fits(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        data = os.urandom(3_000_000)
        task = await begun(loop.sock_sendall(pair[0], data))
        assert await received(loop, pair[1], len(data)) == data
        assert await task is None
        await loop.sock_sendall(pair[0], b"")
        # What isn't bytes is sent as its bytes; the standard loop takes their number for that of the items.
        await loop.sock_sendall(pair[0], memoryview(b"view"))
        assert await received(loop, pair[1], 4) == b"view"

    run(main())


def test_numbers_of_an_array_are_sent_as_bytes(pair):
    async def main():
        loop = asyncio.get_running_loop()
        numbers = array.array("q", range(300_000))
        task = await begun(loop.sock_sendall(pair[0], numbers))
        assert await received(loop, pair[1], 8 * len(numbers)) == numbers.tobytes()
        await task

    on(EventLoop)(main())


def test_data_that_is_being_sent_keeps_its_size(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        data = bytearray(FULL * 40)
        task = await begun(loop.sock_sendall(pair[0], data))
        with pytest.raises(BufferError):
            data.extend(b"more")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cancelled_receiver_takes_no_data(run, pair, when):
    """Whether it is cancelled before the data comes or after, but before its next step."""

    async def main():
        loop = asyncio.get_running_loop()
        task = await begun(loop.sock_recv(pair[0], 10))
        if when == "before":
            task.cancel()
            pair[1].send(b"data")
        else:
            pair[1].send(b"data")
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loop.remove_reader(pair[0]) is False
        return await loop.sock_recv(pair[0], 10)

    assert run(main()) == b"data"


def test_data_that_came_in_the_turn_of_the_cancel_is_not_lost(pair):
    """The standard loop loses it if the reader's callback ran first."""

    async def main():
        loop = asyncio.get_running_loop()
        first, second = socket.socketpair()
        with first, second:
            first.setblocking(False)
            task = await begun(loop.sock_recv(pair[0], 10))
            # Both are told in one turn, the canceller first or last.
            loop.add_reader(first, lambda: (task.cancel(), loop.remove_reader(first)))
            pair[1].send(b"data")
            second.send(b"x")
            try:
                return await task
            except asyncio.CancelledError:
                return await loop.sock_recv(pair[0], 10)

    assert on(EventLoop)(main()) == b"data"


def test_a_timeout_ends_the_wait_and_the_socket_stays_usable(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.sock_recv(pair[0], 10), 0.001)
            pair[1].send(b"later")
            assert await loop.sock_recv(pair[0], 10) == b"later"
        sent = fill(pair[0])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_sendall(pair[0], b"end"), 0.001)
        assert await received(loop, pair[1], sent) == b"x" * sent
        await loop.sock_sendall(pair[0], b"end")
        return await loop.sock_recv(pair[1], 10)

    assert run(main()) == b"end"


def test_of_two_receivers_the_later_one_goes_on(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        first = await begun(loop.sock_recv(pair[0], 10))
        second = await begun(loop.sock_recv(pair[0], 10))
        pair[1].send(b"one")
        assert await second == b"one"
        assert not first.done()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        third = await begun(loop.sock_recv(pair[0], 10))
        pair[1].send(b"two")
        return await third

    assert run(main()) == b"two"


def test_cancelling_the_first_of_two_leaves_the_second_alone(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        first = await begun(loop.sock_recv(pair[0], 10))
        second = await begun(loop.sock_recv(pair[0], 10))
        first.cancel()
        await asyncio.wait([first])
        pair[1].send(b"one")
        return await second

    assert run(main()) == b"one"


def test_both_directions_of_a_socket_are_waited_for_at_once(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        sent = fill(pair[0])
        receiver = await begun(loop.sock_recv(pair[0], 10))
        sender = await begun(loop.sock_sendall(pair[0], b"end"))
        pair[1].send(b"hello")
        assert await receiver == b"hello"
        assert not sender.done()
        assert await received(loop, pair[1], sent + 3) == b"x" * sent + b"end"
        await sender

    run(main())


def test_a_reader_beside_a_sender_is_called_again_and_again(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        calls = []
        loop.add_reader(pair[0], lambda: calls.append(pair[0].recv(1)))
        sent = fill(pair[0])
        sender = await begun(loop.sock_sendall(pair[0], b"end"))
        pair[1].send(b"abc")
        assert await received(loop, pair[1], sent + 3) == b"x" * sent + b"end"
        await sender
        while len(calls) < 3:
            await asyncio.sleep(0)
        loop.remove_reader(pair[0])
        return calls

    assert run(main()) == [b"a", b"b", b"c"]


def test_a_reader_takes_the_place_of_a_receiver(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        receiver = await begun(loop.sock_recv(pair[0], 10))
        got = loop.create_future()
        loop.add_reader(pair[0], lambda: got.done() or got.set_result(pair[0].recv(10)))
        pair[1].send(b"x")
        assert await got == b"x"
        assert not receiver.done()
        receiver.cancel()
        await asyncio.wait([receiver])
        assert loop.remove_reader(pair[0]) is True

    run(main())


def descriptors_of_pollers():
    found = set()
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(FileNotFoundError):  # the one of the folder
            if "eventpoll" in os.readlink(f"/proc/self/fd/{number}"):
                found.add(number)
    return found


def test_what_nobody_waits_for_is_told_once(pair):
    """Told of data that nobody waits for, the loop looks once, not again and again."""

    before = descriptors_of_pollers()

    def has_something_to_tell():
        return bool(select.select(descriptors_of_pollers() - before, [], [], 0)[0])

    async def main():
        loop = asyncio.get_running_loop()
        task = await begun(loop.sock_recv(pair[0], 1))
        pair[1].send(b"x")
        await task
        pair[1].send(b"y")
        assert has_something_to_tell()
        await asyncio.sleep(0)
        assert not has_something_to_tell()
        assert await loop.sock_recv(pair[0], 1) == b"y"
        # The system goes on telling of a duplicate, and it can't be asked not to any more.
        duplicate = os.dup(pair[0].fileno())
        task = await begun(loop.sock_recv(pair[0], 1))
        pair[1].send(b"z")
        await task
        pair[0].close()
        pair[1].send(b"!")
        await asyncio.sleep(0)
        assert not has_something_to_tell()
        os.close(duplicate)

    on(EventLoop)(main())


def test_a_number_that_is_used_again_is_waited_for_anew(run):
    async def main():
        loop = asyncio.get_running_loop()
        got, numbers = [], set()
        for number in range(5):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            numbers.add(ours.fileno())
            for _ in range(2):
                task = await begun(loop.sock_recv(ours, 10))
                theirs.send(b"%d" % number)
                got.append(await task)
            ours.close()
            theirs.close()
        assert len(numbers) == 1
        return b"".join(got)

    assert run(main()) == b"0011223344"


def test_a_number_closed_behind_the_back_of_a_receiver_can_be_used_again():
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        stuck = await begun(loop.sock_recv(ours, 10))
        number = ours.detach()
        os.close(number)
        again, peer = socket.socketpair()
        again.setblocking(False)
        with theirs, again, peer:
            assert again.fileno() == number
            task = await begun(loop.sock_recv(again, 10))
            peer.send(b"new")
            assert await task == b"new"
            assert not stuck.done()
            stuck.cancel()
            await asyncio.wait([stuck])
            task = await begun(loop.sock_recv(again, 10))
            peer.send(b"newer")
            return await task

    for run in (on(EventLoop), in_a_caller):
        assert run(main()) == b"newer"


def test_a_receiver_that_gave_up_on_a_file_waits_for_the_one_in_its_place(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        ours, _ = pair
        given_up = loop.create_task(loop.sock_recv(ours, 100))
        await asyncio.sleep(0)
        other, theirs = socket.socketpair()
        other.setblocking(False)
        os.dup2(other.fileno(), ours.fileno())
        given_up.cancel()
        await asyncio.wait([given_up])
        again = loop.create_task(loop.sock_recv(ours, 100))
        await asyncio.sleep(0)
        with other, theirs:
            theirs.send(b"x")
            return await again

    assert run(main()) == b"x"


def test_a_wait_does_not_keep_a_socket_alive(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        other = socket.socket(fileno=os.dup(pair[0].fileno()))
        other.setblocking(False)
        task = await begun(loop.sock_recv(other, 10))
        pair[1].send(b"x")
        await task
        reference = weakref.ref(other)
        other.close()
        del other, task
        gc.collect()
        return reference()

    assert run(main()) is None


def test_they_are_coroutines(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        for operation in ("recv", "recv_into", "recvfrom", "recvfrom_into", "sendall", "sendto", "accept"):
            assert inspect.iscoroutinefunction(getattr(loop, f"sock_{operation}"))
        coroutine = loop.sock_recv(pair[0], 10)
        assert asyncio.iscoroutine(coroutine)
        coroutine.close()
        pair[1].send(b"ab")
        gathered = await asyncio.gather(loop.sock_recv(pair[0], 1), loop.sock_recv(pair[0], 1))
        return gathered

    assert [*run(main())] == [b"a", b"b"]


def test_closing_a_coroutine_that_waits_ends_the_wait(pair):
    async def main():
        loop = asyncio.get_running_loop()
        suspended = loop.sock_recv(pair[0], 10)
        suspended.send(None)
        assert loop._selector.get_key(pair[0]).events == selectors.EVENT_READ
        suspended.close()
        with pytest.raises(KeyError):
            loop._selector.get_key(pair[0])

    on(EventLoop)(main())


def test_one_that_is_never_awaited_is_warned_of(pair):
    async def main():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            asyncio.get_running_loop().sock_recv(pair[0], 10)
        return [str(each.message) for each in caught]

    (message,) = on(EventLoop)(main())
    assert message.endswith("sock_recv' was never awaited")


def test_connections_are_made_and_accepted(run):
    async def main(family, address):
        loop = asyncio.get_running_loop()
        with socket.socket(family) as listening, socket.socket(family) as client:
            listening.bind(address)
            listening.listen()
            for each in (listening, client):
                each.setblocking(False)
            task = await begun(loop.sock_accept(listening))
            assert await loop.sock_connect(client, listening.getsockname()) is None
            connection, peer = await task
            with connection:
                assert peer == client.getsockname()
                assert connection.gettimeout() == 0
                assert (connection.family, connection.type) == (family, socket.SOCK_STREAM)
                await loop.sock_sendall(client, b"hello")
                return await loop.sock_recv(connection, 10)

    assert run(main(socket.AF_INET, ("127.0.0.1", 0))) == b"hello"
    assert run(main(socket.AF_INET6, ("::1", 0))) == b"hello"
    assert run(main(socket.AF_UNIX, "\0test_sockets")) == b"hello"


def test_a_host_that_is_a_name_is_looked_up(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("localhost", listening.getsockname()[1]))
            return client.getpeername() == listening.getsockname()

    assert run(main())


def unused_port(kind=socket.SOCK_STREAM):
    with socket.socket(type=kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def failure(of):
    return type(of.value), of.value.errno, str(of.value)


def test_a_refused_connection_is_the_error_that_asyncio_raises(run):
    async def main():
        loop = asyncio.get_running_loop()
        address = ("127.0.0.1", unused_port())
        with socket.socket() as client:
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError) as refused:
                await loop.sock_connect(client, address)
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            with pytest.raises(FileNotFoundError):
                await loop.sock_connect(client, "/nonexistent/socket")
        return failure(refused), address

    (kind, number, text), address = run(main())
    assert (kind, number) == (ConnectionRefusedError, errno.ECONNREFUSED)
    assert text == f"[Errno {number}] Connect call failed {address}"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_datagrams_come_with_the_address_they_are_from(run, family):
    async def main():
        loop = asyncio.get_running_loop()
        where = {
            socket.AF_INET: [("127.0.0.1", 0)] * 2,
            socket.AF_INET6: [("::1", 0)] * 2,
            socket.AF_UNIX: ["\0first", "\0second"],
        }[family]
        first, second = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        with first, second:
            for each, address in zip((first, second), where, strict=True):
                each.bind(address)
                each.setblocking(False)
            there, back = second.getsockname(), first.getsockname()
            assert await loop.sock_sendto(first, b"hello", there) == 5
            assert await loop.sock_recvfrom(second, 100) == (b"hello", back)
            task = await begun(loop.sock_recvfrom(second, 3))
            await loop.sock_sendto(first, b"cut off", there)
            assert await task == (b"cut", back)
            buffer = bytearray(10)
            await loop.sock_sendto(first, b"into", there)
            assert await loop.sock_recvfrom_into(second, buffer) == (4, back)
            task = await begun(loop.sock_recvfrom_into(second, buffer, 2))
            await loop.sock_sendto(first, b"", there)
            assert await task == (0, back)
            assert bytes(buffer[:4]) == b"into"

    run(main())


def test_a_refused_datagram_is_an_error_of_the_next_operation(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(("127.0.0.1", unused_port(socket.SOCK_DGRAM)))
            task = await begun(loop.sock_recv(sock, 10))
            await loop.sock_sendall(sock, b"x")
            with pytest.raises(ConnectionRefusedError) as refused:
                await task
            return failure(refused)

    assert run(main())[2] == f"[Errno {errno.ECONNREFUSED}] Connection refused"


def test_a_connection_reset_is_raised_where_it_is_met(run):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.create_connection(listening.getsockname())
            server, _ = listening.accept()
            with server:
                server.setblocking(False)
                task = await begun(loop.sock_recv(server, 10))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.close()
                with pytest.raises(ConnectionResetError) as reset:
                    await task
                with pytest.raises(BrokenPipeError) as broken:
                    await loop.sock_sendall(server, b"x")
                return failure(reset)[1], failure(broken)[1]

    assert run(main()) == (errno.ECONNRESET, errno.EPIPE)


def test_in_debug_mode_a_socket_must_not_block(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        pair[0].setblocking(True)
        operations = {
            "recv": [10],
            "recv_into": [bytearray(1)],
            "recvfrom": [10],
            "recvfrom_into": [bytearray(1)],
            "sendall": [b"x"],
            "sendto": [b"x", ("127.0.0.1", 1)],
            "accept": [],
            "connect": [("127.0.0.1", 1)],
        }
        for name, args in operations.items():
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                await getattr(loop, f"sock_{name}")(pair[0], *args)

    run(main(), debug=True)


def test_tls_is_refused(run):
    async def main():
        loop = asyncio.get_running_loop()
        context = ssl.create_default_context()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            connection = socket.create_connection(listening.getsockname())
            tls = context.wrap_socket(connection, server_hostname="x", do_handshake_on_connect=False)
            with tls, pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                await loop.sock_recv(tls, 10)

    run(main())


def test_bad_arguments_are_the_errors_of_the_socket(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        closed = socket.socket()
        closed.close()
        for operation, raises in [
            (loop.sock_recv(pair[0], -1), ValueError),
            (loop.sock_recv(pair[0], "1"), TypeError),
            (loop.sock_recv_into(pair[0], b"constant"), (TypeError, BufferError)),
            (loop.sock_recvfrom_into(pair[0], bytearray(1), 2), ValueError),
            (loop.sock_sendall(pair[0], "text"), TypeError),
            (loop.sock_recv(closed, 1), OSError),
            (loop.sock_sendall(closed, b"x"), OSError),
            (loop.sock_accept(closed), OSError),
            (loop.sock_recv(object(), 1), AttributeError),
        ]:
            with pytest.raises(raises):
                await operation

    run(main())


def test_a_descriptor_of_a_transport_is_refused_when_it_would_be_waited_for(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=pair[0])
        try:
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.sock_recv(pair[0], 10)
        finally:
            transport.close()

    run(main())


class Counted(socket.socket):
    """A socket whose methods do more than those of a plain one."""

    calls = 0

    def recv(self, *args):
        self.calls += 1
        return super().recv(*args)

    def send(self, *args):
        self.calls += 1
        return super().send(*args)


def test_a_socket_with_methods_of_its_own_is_served_by_them(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        with Counted(fileno=pair[0].detach()) as ours:
            ours.setblocking(False)
            task = await begun(loop.sock_recv(ours, 10))
            pair[1].send(b"x")
            assert await task == b"x"
            assert ours.calls == 2
            data = FULL * 20
            task = await begun(loop.sock_sendall(ours, data))
            assert await received(loop, pair[1], len(data)) == data
            await task
            assert ours.calls > 4

    run(main())


def test_a_closed_loop_waits_for_nothing(pair):
    loop = EventLoop()
    loop.close()
    coroutine = loop.sock_recv(pair[0], 10)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        coroutine.send(None)


def test_a_loop_that_was_forked_waits_anew(script):
    lines = script("""
import socket
a, b = socket.socketpair()
for each in (a, b):
    each.setblocking(False)
async def exchange(text):
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(loop.sock_recv(a, 10))
    await asyncio.sleep(0)
    await loop.sock_sendall(b, text)
    return await task
loop = EventLoop()
loop.run_until_complete(exchange(b"1"))
child = os.fork()
say("child" if not child else "parent", loop.run_until_complete(exchange(b"2")).decode()) if not child else None
if child:
    os.waitpid(child, 0)
    say("parent", loop.run_until_complete(exchange(b"3")).decode())
for each in (loop, a, b):
    each.close()
""")
    assert lines == ["child 2", "parent 3"]


def test_thousands_of_exchanges_at_once(run):
    async def main():
        loop = asyncio.get_running_loop()
        pairs = [socket.socketpair() for _ in range(100)]
        for each in (each for both in pairs for each in both):
            each.setblocking(False)

        async def echo(sock):
            while data := await loop.sock_recv(sock, 100):
                await loop.sock_sendall(sock, data)

        async def ask(sock, number):
            for turn in range(30):
                question = b"%d %d" % (number, turn)
                await loop.sock_sendall(sock, question)
                assert await loop.sock_recv(sock, 100) == question
            sock.close()

        echoes = [asyncio.ensure_future(echo(theirs)) for _, theirs in pairs]
        await asyncio.gather(*(ask(ours, number) for number, (ours, _) in enumerate(pairs)))
        await asyncio.gather(*echoes)
        for _, theirs in pairs:
            theirs.close()

    run(main())
