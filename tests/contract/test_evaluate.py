"""`evaluate` is a call: it returns the value or raises the coroutine's own exception."""

import asyncio
import concurrent.futures
import threading

import pytest

from asyncio_thread_loop import AsyncioThreadLoop

from .harness import WAIT, Caller, Sleeper, answer, echo, until


def test_the_result_is_returned(loop):
    assert loop.evaluate(answer()) == 42
    assert loop.evaluate(echo(None)) is None


def test_an_exception_that_is_returned_is_not_raised(loop):
    error = ValueError("a value")
    assert loop.evaluate(echo(error)) is error


def test_any_awaitable_is_taken(loop):
    class Later:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return "later"

    assert loop.evaluate(Later()) == "later"


def test_the_very_exception_of_the_coroutine_is_raised(loop):
    class Odd(Exception):
        pass

    error = Odd("with", "arguments")

    async def fail():
        await asyncio.sleep(0)
        raise error

    with pytest.raises(Odd) as caught:
        loop.evaluate(fail())
    assert caught.value is error
    assert caught.value.args == ("with", "arguments")


def test_causes_and_contexts_are_kept(loop):
    async def fail():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    with pytest.raises(ValueError, match="second") as caught:
        loop.evaluate(fail())
    assert isinstance(caught.value.__cause__, KeyError)


def test_exception_groups_pass(loop):
    async def fail():
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(int, "x"))

    with pytest.raises(ExceptionGroup) as caught:
        loop.evaluate(fail())
    assert isinstance(caught.value.exceptions[0], ValueError)


def test_a_coroutine_that_cancels_itself_raises_the_synchronous_cancelled_error(loop):
    async def cancel_myself():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    async def raise_cancelled():
        raise asyncio.CancelledError

    for coroutine in cancel_myself(), raise_cancelled():
        with pytest.raises(concurrent.futures.CancelledError):
            loop.evaluate(coroutine)


def test_a_function_is_not_called(loop):
    with pytest.raises(TypeError):
        loop.evaluate(answer)


def test_many_threads_get_their_own_results(loop):
    def call(thread):
        return [loop.evaluate(echo((thread, n))) for n in range(50)]

    callers = [Caller(call, thread) for thread in range(8)]
    for thread, caller in enumerate(callers):
        assert caller.outcome() == [(thread, n) for n in range(50)]


def test_coroutines_of_several_callers_run_side_by_side(loop):
    barrier = asyncio.Barrier(4)

    async def meet():
        async with barrier:
            return threading.current_thread()

    callers = [Caller(loop.evaluate, meet()) for _ in range(4)]
    assert {caller.outcome() for caller in callers} == {loop.thread}


def test_a_result_that_is_there_does_not_wait_for_another_coroutine_that_blocks():
    # On the native loop: the others call done-callbacks in their next turn, after whatever blocks.
    held, go, told = threading.Event(), threading.Event(), threading.Event()

    def hold():
        held.set()
        assert go.wait(WAIT)

    async def block():
        return told.wait(WAIT)

    with AsyncioThreadLoop() as loop:

        def evaluate():
            loop.evaluate(answer())
            told.set()

        # While the loop is held up both arrive, so that they run right after each other.
        holder = Caller(loop.call, hold)
        assert held.wait(WAIT)
        caller = Caller(evaluate)
        until(lambda: len(loop._portal.unfinished()) == 2)
        blocking = loop.submit(block)
        go.set()
        assert blocking.result(WAIT), "the caller was woken only when the loop had nothing else to do"
        caller.outcome()
        holder.outcome()


def test_the_loop_lives_on_between_calls(loop):
    state = {}

    async def make():
        state["queue"] = asyncio.Queue()

    async def put(item):
        await state["queue"].put(item)

    async def get():
        return await state["queue"].get()

    loop.evaluate(make())
    getting = Caller(loop.evaluate, get())
    loop.evaluate(put("item"))
    assert getting.outcome() == "item"


def test_background_tasks_go_on_between_calls(loop):
    ticked = threading.Event()

    async def tick():
        await asyncio.sleep(0.01)
        ticked.set()

    async def spawn():
        return asyncio.create_task(tick())

    task = loop.evaluate(spawn())
    assert ticked.wait(WAIT)
    assert loop.evaluate(asyncio.wait_for(task, WAIT)) is None


def test_streams_work(loop):
    async def talk():
        async def serve(reader, writer):
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
        return line

    assert loop.evaluate(talk(), timeout=WAIT) == b"HELLO\n"


def test_subprocesses_work(loop):
    async def run_a_program():
        process = await asyncio.create_subprocess_exec("echo", "hello", stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        return process.returncode, output

    assert loop.evaluate(run_a_program(), timeout=WAIT) == (0, b"hello\n")


def test_works_inside_another_running_loop(loop):
    async def call_synchronous_code():
        return loop.evaluate(echo("inner")), loop.submit(echo, "other").result(WAIT)

    assert asyncio.run(call_synchronous_code()) == ("inner", "other")


def test_works_inside_a_coroutine_of_another_thread_loop(loop, make_loop):
    async def call_the_other():
        return loop.evaluate(echo("from the other loop"))

    with make_loop() as outer:
        assert outer.evaluate(call_the_other(), timeout=WAIT) == "from the other loop"


def test_opens_and_closes_inside_another_running_loop(make_loop):
    async def use():
        with make_loop() as session:
            session.submit(Sleeper())
            return session.evaluate(answer())

    assert asyncio.run(use()) == 42


def test_every_way_to_call_works_inside_another_running_loop(loop):
    async def start(*, task_status):
        task_status.started("ready")

    async def call_synchronous_code():
        return [
            loop.evaluate_many([echo("evaluate_many")]),
            list(loop.map(echo, ["map"])),
            [future.result() for future in loop.as_completed([echo("as_completed")])],
            loop.call(str, "call"),
            loop.start_task(start)[1],
            loop.evaluate(echo("with a timeout"), timeout=WAIT),
            loop.submit(echo, "exception").exception(WAIT),
        ]

    assert asyncio.run(call_synchronous_code()) == [
        ["evaluate_many"],
        ["map"],
        ["as_completed"],
        "call",
        "ready",
        "with a timeout",
        None,
    ]
