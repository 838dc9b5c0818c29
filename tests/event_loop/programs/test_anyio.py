"""anyio, whose structured concurrency is Trio's, on this loop through `loop_factory`."""

import asyncio
import signal
import socket
import sys

import anyio
import anyio.to_process
import pytest
from anyio.abc import SocketAttribute
from anyio.from_thread import start_blocking_portal
from anyio.streams.tls import TLSStream

from asyncio_thread_loop import EventLoop

from ..conftest import WAIT
from .conftest import digest

OPTIONS = {"loop_factory": EventLoop}


@pytest.fixture
def run_anyio():
    """`anyio.run` on this loop; a hang is an error."""

    def run_anyio(function):
        async def bounded():
            assert isinstance(asyncio.get_running_loop(), EventLoop)
            with anyio.fail_after(WAIT):
                return await function()

        return anyio.run(bounded, backend_options=OPTIONS)

    return run_anyio


async def hold(cleaned, name, *, task_status=anyio.TASK_STATUS_IGNORED):
    """Run until cancelled, then clean up with an await."""
    try:
        task_status.started(name)
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0)
            cleaned.append(name)


def test_a_failing_task_cancels_its_siblings_and_what_they_have_started(run_anyio):
    cleaned = []

    async def parent(name):
        async with anyio.create_task_group() as group:
            await group.start(hold, cleaned, f"{name}'s child")
            await hold(cleaned, name)

    async def fail():
        raise ZeroDivisionError

    async def main():
        with pytest.raises(ExceptionGroup) as raised:
            async with anyio.create_task_group() as group:
                for name in ("one", "two"):
                    group.start_soon(parent, name)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(fail)
        return [type(error) for error in raised.value.exceptions]

    assert run_anyio(main) == [ZeroDivisionError]
    assert sorted(cleaned) == ["one", "one's child", "two", "two's child"]


def test_start_waits_until_the_task_says_so(run_anyio):
    cleaned = []

    async def never_ready(*, task_status):
        raise ZeroDivisionError

    async def main():
        async with anyio.create_task_group() as group:
            started = [await group.start(hold, cleaned, number) for number in range(5)]
            with pytest.raises(ZeroDivisionError):
                await group.start(never_ready)
            assert cleaned == []
            group.cancel_scope.cancel()
        return started

    assert run_anyio(main) == list(range(5))
    assert sorted(cleaned) == list(range(5))


def test_scopes_cancel_what_is_in_them_and_nothing_else(run_anyio):
    async def main():
        steps = []
        with anyio.move_on_after(WAIT) as outer:
            with anyio.move_on_after(0.01) as inner:
                await anyio.sleep_forever()
            steps.append(("inner", inner.cancelled_caught, outer.cancel_called))
            with anyio.CancelScope() as scope:
                scope.cancel()
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0)
                    steps.append("shielded")
                for _ in range(3):
                    # Unlike asyncio's, such a cancellation comes again and again.
                    with pytest.raises(asyncio.CancelledError):
                        await anyio.sleep(0)
                await anyio.sleep(0)
                steps.append("not reached")
            steps.append(("scope", scope.cancelled_caught))
            with pytest.raises(TimeoutError), anyio.fail_after(0.01):
                await anyio.Event().wait()
        steps.append(("outer", outer.cancelled_caught))
        return steps

    assert run_anyio(main) == [
        ("inner", True, False),
        "shielded",
        ("scope", True),
        ("outer", False),
    ]


def test_memory_streams_hold_producers_up_and_lose_nothing(run_anyio):
    async def main():
        send, receive = anyio.create_memory_object_stream(3)
        received, most = [], 0

        async def produce(stream, start):
            async with stream:
                for number in range(start, start + 100):
                    await stream.send(number)

        async def consume(stream):
            nonlocal most
            async with stream:
                async for number in stream:
                    most = max(most, stream.statistics().current_buffer_used)
                    received.append(number)
                    await anyio.sleep(0)

        async with anyio.create_task_group() as group, send, receive:
            for start in range(0, 1000, 100):
                group.start_soon(produce, send.clone(), start)
            for _ in range(3):
                group.start_soon(consume, receive.clone())
        with pytest.raises(anyio.ClosedResourceError):
            receive.receive_nowait()
        return sorted(received), most <= 3

    assert run_anyio(main) == (list(range(1000)), True)


def test_locks_and_limits_are_kept_and_given_up_when_cancelled(run_anyio):
    async def main():
        limiter, lock = anyio.CapacityLimiter(3), anyio.Lock()
        most = inside = 0

        async def enter():
            nonlocal most, inside
            async with limiter:
                inside += 1
                most = max(most, inside)
                await anyio.sleep(0)
                inside -= 1

        async def wait_for_lock():
            async with lock:
                pytest.fail("it is held")

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(enter)
        async with lock, anyio.create_task_group() as group:
            group.start_soon(wait_for_lock)
            await anyio.wait_all_tasks_blocked()
            assert lock.statistics().tasks_waiting == 1
            group.cancel_scope.cancel()
        return most, limiter.borrowed_tokens, lock.statistics().tasks_waiting

    assert run_anyio(main) == (3, 0, 0)


def test_threads_call_back_and_are_waited_for(run_anyio):
    async def main():
        async def double(number):
            await anyio.sleep(0)
            return 2 * number

        def work(number):
            anyio.from_thread.check_cancelled()
            return anyio.from_thread.run(double, number) + anyio.from_thread.run_sync(abs, -1)

        results = [0] * 40
        limiter = anyio.CapacityLimiter(5)

        async def call(number):
            results[number] = await anyio.to_thread.run_sync(work, number, limiter=limiter)

        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(call, number)
        return results

    assert run_anyio(main) == [2 * number + 1 for number in range(40)]


def test_a_portal_lets_threads_in():
    async def double(number):
        await anyio.sleep(0)
        return type(asyncio.get_running_loop()), 2 * number

    with start_blocking_portal("asyncio", OPTIONS) as portal:
        futures = [portal.start_task_soon(double, number) for number in range(100)]
        assert [future.result(WAIT) for future in futures] == [
            (EventLoop, 2 * number) for number in range(100)
        ]


def test_work_is_done_by_other_processes(run_anyio, caplog):
    # anyio kills them at the end and doesn't wait: on any loop asyncio may warn that it came too late for their status.
    caplog.set_level("ERROR", logger="asyncio")

    async def main():
        return await anyio.to_process.run_sync(pow, 3, 1000)

    assert run_anyio(main) == 3**1000


def test_processes_run_and_are_ended_by_their_scope(run_anyio):
    async def main():
        done = await anyio.run_process(["sort"], input=b"b\na\n")
        failed = await anyio.run_process(["sh", "-c", "echo why >&2; exit 3"], check=False)
        async with await anyio.open_process(["cat"]) as process:
            await process.stdin.send(b"hello")
            echoed = await process.stdout.receive()
        with anyio.move_on_after(0.05) as scope:
            await anyio.run_process(["sleep", "600"])
        return (
            done.stdout,
            (failed.returncode, failed.stderr),
            echoed,
            process.returncode,
            scope.cancelled_caught,
        )

    assert run_anyio(main) == (b"a\nb\n", (3, b"why\n"), b"hello", 0, True)


async def round_trip(client, data):
    """Send it all, say that this was all, and return what comes back."""
    received = bytearray()

    async def send():
        await client.send(data)
        await client.send_eof()

    async with client, anyio.create_task_group() as group:
        group.start_soon(send)
        async for piece in client:
            received += piece
    return digest(received)


async def echo(client):
    async with client:
        async for piece in client:
            await client.send(piece)


def test_tcp_and_unix_streams_end_half_by_half(run_anyio, noise, tmp_path):
    data = noise(5_000_000)

    async def main():
        tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")
        unix = await anyio.create_unix_listener(tmp_path / "socket")
        port = tcp.extra(SocketAttribute.local_port)
        async with tcp, unix, anyio.create_task_group() as group:
            group.start_soon(tcp.serve, echo)
            group.start_soon(unix.serve, echo)
            digests = [
                await round_trip(await anyio.connect_tcp("127.0.0.1", port), data),
                await round_trip(await anyio.connect_unix(tmp_path / "socket"), data),
            ]
            group.cancel_scope.cancel()
        return digests

    assert run_anyio(main) == [digest(data)] * 2


def test_many_connections_at_once_are_kept_apart(run_anyio):
    async def main():
        results = {}

        async def ask(number):
            async with await anyio.connect_tcp("127.0.0.1", port) as client:
                await client.send(b"%d" % number)
                results[number] = int(await client.receive())

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=300)
        port = listener.extra(SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as serving:
            serving.start_soon(listener.serve, echo)
            async with anyio.create_task_group() as group:
                for number in range(200):
                    group.start_soon(ask, number)
            serving.cancel_scope.cancel()
        return results

    assert run_anyio(main) == {number: number for number in range(200)}


def test_a_connection_that_the_other_side_resets_is_an_error(run_anyio):
    async def main():
        async def reset(client):
            await client.receive()
            at_once = (1).to_bytes(4, sys.byteorder) + bytes(4)
            client.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            await anyio.aclose_forcefully(client)

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, reset)
            async with await anyio.connect_tcp("127.0.0.1", port) as client:
                await client.send(b"now")
                with pytest.raises(anyio.BrokenResourceError):
                    await client.receive()
            group.cancel_scope.cancel()
        with pytest.raises(OSError, match=r"All connection attempts failed|refused"):
            await anyio.connect_tcp("127.0.0.1", port)

    run_anyio(main)


def test_tls_is_spoken_over_a_stream(run_anyio, tls, noise):
    data = noise(3_000_000)

    async def main():
        async def serve(client):
            await echo(await TLSStream.wrap(client, ssl_context=tls[0]))

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            client = await anyio.connect_tcp("127.0.0.1", port, ssl_context=tls[1], tls_hostname="localhost")
            received = bytearray()
            async with client, anyio.create_task_group() as sending:
                sending.start_soon(client.send, data)
                while len(received) < len(data):
                    received += await client.receive()
            group.cancel_scope.cancel()
        return digest(received)

    assert run_anyio(main) == digest(data)


def test_datagrams_go_there_and_back(run_anyio):
    async def main():
        async def serve(server):
            async for data, (host, port) in server:
                await server.sendto(data[::-1], host, port)

        server = await anyio.create_udp_socket(family=socket.AF_INET, local_host="127.0.0.1")
        port = server.extra(SocketAttribute.local_port)
        async with server, anyio.create_task_group() as group:
            group.start_soon(serve, server)
            answers = []
            async with await anyio.create_connected_udp_socket("127.0.0.1", port) as client:
                for number in range(100):
                    await client.send(b"%d" % number)
                    answers.append(await client.receive())
            group.cancel_scope.cancel()
        return answers

    assert run_anyio(main) == [str(number)[::-1].encode() for number in range(100)]


def test_signals_are_received_as_a_stream(run_anyio):
    async def main():
        with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
            received = []
            signal.raise_signal(signal.SIGUSR1)
            async for number in signals:
                received.append(number)
                if number == signal.SIGUSR2:
                    return received
                signal.raise_signal(signal.SIGUSR2)

    assert run_anyio(main) == [signal.SIGUSR1, signal.SIGUSR2]
