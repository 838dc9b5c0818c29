"""`set_debug(True)`."""

import asyncio
import threading
import time

import pytest

from .conftest import WAIT


@pytest.fixture
def loop(loop):
    loop.set_debug(True)
    return loop


def test_a_slow_callback_is_named(loop, caplog):
    loop.slow_callback_duration = 0.01

    def slow():
        time.sleep(0.02)

    loop.call_soon(slow)
    loop.call_soon(loop.stop)
    loop.run_forever()
    (record,) = caplog.records
    assert record.message.startswith("Executing <Handle ")
    assert "slow() at " in record.message
    assert " took 0.0" in record.message


def test_a_slow_step_of_a_task_is_named(loop, caplog):
    loop.slow_callback_duration = 0.01

    async def slow_coroutine():
        time.sleep(0.02)

    loop.run_until_complete(slow_coroutine())
    assert "Executing <Task " in caplog.text
    assert "slow_coroutine()" in caplog.text


def test_a_quick_callback_is_not_named(loop, caplog):
    loop.slow_callback_duration = 60
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert caplog.records == []


def test_handles_remember_where_they_were_made(loop):
    soon = loop.call_soon(print)
    later = loop.call_later(60, print)
    threadsafe = loop.call_soon_threadsafe(print)
    for handle in (soon, later, threadsafe):
        assert handle._source_traceback[-1].name == "test_handles_remember_where_they_were_made"
        handle.cancel()
    assert "created at " in repr(soon)


def test_a_failing_callback_tells_where_it_was_made(loop, caplog):
    loop.slow_callback_duration = 60
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert "test_a_failing_callback_tells_where_it_was_made" in caplog.text.partition("created at")[2]


def test_calls_from_the_wrong_thread_are_refused(loop):
    refused = []

    def try_all():
        for call in (loop.call_soon, lambda fn: loop.call_later(0, fn), lambda fn: loop.call_at(0, fn)):
            try:
                call(print)
            except RuntimeError as error:
                refused.append(str(error))
        loop.call_soon_threadsafe(loop.stop)

    def start():
        nonlocal thread
        thread = threading.Thread(target=try_all)
        thread.start()

    thread = None
    loop.call_soon(start)
    loop.run_forever()
    thread.join(WAIT)
    assert len(refused) == 3
    assert all("Non-thread-safe operation" in message for message in refused)


def test_what_cannot_be_called_is_refused(loop):
    async def coroutine():
        pass

    for schedule in (loop.call_soon, loop.call_soon_threadsafe, lambda fn: loop.call_later(0, fn)):
        with pytest.raises(TypeError, match="a callable object was expected"):
            schedule(42)
        with pytest.raises(TypeError, match="coroutines cannot be used"):
            schedule(coroutine)


def test_debug_mode_can_be_switched_while_callbacks_wait(loop):
    ran = []
    loop.slow_callback_duration = 60
    loop.call_soon(ran.append, "made in debug mode")
    loop.call_later(0, ran.append, "a timer made in debug mode")
    loop.set_debug(False)
    loop.call_soon(ran.append, "made without")
    loop.call_later(0, ran.append, "a timer made without")
    loop.set_debug(True)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert ran == ["made in debug mode", "made without", "a timer made in debug mode", "a timer made without"]


def test_a_program_with_streams_and_threads_runs_in_debug_mode(loop):
    loop.slow_callback_duration = 60

    async def serve(reader, writer):
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    async def main():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            line = await asyncio.wait_for(reader.readline(), WAIT)
            writer.close()
            await writer.wait_closed()
        return await asyncio.to_thread(line.decode)

    assert loop.run_until_complete(main()) == "hello\n"
    loop.run_until_complete(loop.shutdown_default_executor())
