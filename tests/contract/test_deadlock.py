"""Waiting on the loop thread for that loop is refused at once; waiting anywhere else works."""

import asyncio
import concurrent.futures
import inspect
import threading

import pytest

from asyncio_thread_loop import DeadlockError

from .harness import WAIT, Sleeper, answer, echo, forever


async def ready(*, task_status):
    task_status.started()


async def numbers():
    yield 42


LOCK = asyncio.Lock()

WAITS = {
    "evaluate": lambda loop, future: loop.evaluate(answer()),
    "evaluate with a timeout": lambda loop, future: loop.evaluate(answer(), timeout=WAIT),
    "evaluate_many": lambda loop, future: loop.evaluate_many([]),
    "evaluate_many of one": lambda loop, future: loop.evaluate_many(answer() for _ in range(1)),
    "map": lambda loop, future: list(loop.map(echo, [1])),
    "as_completed": lambda loop, future: list(loop.as_completed(answer() for _ in range(1))),
    "call": lambda loop, future: loop.call(len, "abc"),
    "start_task": lambda loop, future: loop.start_task(ready),
    "result": lambda loop, future: future.result(),
    "result with a timeout": lambda loop, future: future.result(WAIT),
    "exception": lambda loop, future: future.exception(),
    "cancel_and_wait": lambda loop, future: future.cancel_and_wait(),
    "iterate": lambda loop, future: loop.iterate(numbers()),
    "iterate ahead": lambda loop, future: loop.iterate(numbers(), prefetch=1),
    "wrap_async_context_manager": lambda loop, future: loop.wrap_async_context_manager(LOCK).__enter__(),
    "enter_async_context": lambda loop, future: loop.enter_async_context(LOCK),
    "shutdown": lambda loop, future: loop.shutdown(wait=True),
    "close": lambda loop, future: loop.close(),
    "leaving": lambda loop, future: loop.__exit__(None, None, None),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_waiting_in_a_coroutine_is_refused_at_once(loop, wait):
    sleeper = Sleeper()
    future = loop.submit(sleeper)

    async def wait_on_the_loop():
        with pytest.raises(DeadlockError) as caught:
            wait(loop, future)
        return str(caught.value)

    assert sleeper.started.wait(WAIT)
    assert len(loop.submit(wait_on_the_loop).result(WAIT).split()) > 5  # it says what to do
    assert loop.evaluate(answer()) == 42
    assert loop.loop is not None
    future.cancel()


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_waiting_in_a_plain_callback_is_refused_at_once(loop, wait):
    future = loop.submit(forever)
    refused = threading.Event()

    def wait_on_the_loop():
        with pytest.raises(DeadlockError):
            wait(loop, future)
        refused.set()

    loop.loop.call_soon_threadsafe(wait_on_the_loop)
    assert refused.wait(WAIT)
    future.cancel()


def test_the_error_of_evaluate_says_to_await(loop):
    async def wait_on_the_loop():
        loop.evaluate(answer())

    with pytest.raises(DeadlockError, match="await"):
        loop.submit(wait_on_the_loop).result(WAIT)


def test_what_is_done_can_be_read_on_the_loop_thread(loop):
    future = loop.submit(answer)
    future.result(WAIT)

    async def read():
        return future.result(), future.exception(), future.cancel_and_wait()

    assert loop.submit(read).result(WAIT) == (42, None, False)


def test_evaluate_works_in_a_thread_of_the_loop(loop):
    async def use_a_thread():
        return await asyncio.to_thread(loop.evaluate, echo("from a thread"))

    assert loop.submit(use_a_thread).result(WAIT) == "from a thread"


def test_threads_of_the_loop_may_wait_for_one_another(loop):
    def call(depth):
        async def use_a_thread():
            return await asyncio.to_thread(call, depth - 1)

        return loop.evaluate(use_a_thread(), timeout=WAIT) + 1 if depth else 0

    assert call(3) == 3


def test_two_loops_may_wait_for_each_other(make_loop):
    with make_loop(exit_timeout=5) as first, make_loop(exit_timeout=5) as second:

        async def call_the_second():
            return second.evaluate(echo("from the second"))

        assert first.submit(call_the_second).result(WAIT) == "from the second"


LATER = {
    "map": lambda loop, gate: loop.map(wait_for, [gate]),
    "as_completed": lambda loop, gate: loop.as_completed([wait_for(gate)]),
}


async def wait_for(gate):
    while not gate.is_set():
        await asyncio.sleep(0.005)
    return "released"


@pytest.mark.parametrize("make", LATER.values(), ids=LATER.keys())
def test_an_iterator_made_elsewhere_is_refused_on_the_loop_thread(loop, gate, make):
    iterator = make(loop, gate)

    async def read():
        with pytest.raises(DeadlockError):
            next(iterator)

    loop.submit(read).result(WAIT)
    gate.set()
    assert loop.evaluate(answer()) == 42


@pytest.mark.parametrize(
    "wait", [concurrent.futures.wait, concurrent.futures.as_completed], ids=["wait", "as_completed"]
)
def test_waiting_with_concurrent_futures_is_refused_on_the_loop_thread(loop, gate, wait):
    future = loop.submit(wait_for, gate)

    async def wait_on_the_loop():
        with pytest.raises(DeadlockError):
            list(wait([future], WAIT))

    loop.submit(wait_on_the_loop).result(2 * WAIT)
    gate.set()
    assert future.result(WAIT) == "released"


def test_a_destructor_on_the_loop_thread_is_refused(loop):
    told = []

    class Evaluates:
        def __del__(self):
            try:
                loop.evaluate(answer())
            except DeadlockError:
                told.append("refused")

    async def drop_one():
        Evaluates()

    loop.evaluate(drop_one())
    assert told == ["refused"]


def test_a_done_callback_on_the_loop_thread_is_refused(loop, gate):
    told, called = [], threading.Event()

    def wait_in_a_callback(future):
        try:
            told.append(future.result())  # This one is done.
            loop.evaluate(answer())
        except DeadlockError:
            told.append("refused")
        called.set()

    loop.submit(wait_for, gate).add_done_callback(wait_in_a_callback)
    gate.set()
    assert called.wait(WAIT)
    assert told == ["released", "refused"]


def test_the_refused_coroutine_is_closed(loop):
    coroutines = [answer() for _ in range(4)]

    async def call():
        with pytest.raises(DeadlockError):
            loop.evaluate(coroutines[0])
        with pytest.raises(DeadlockError):
            loop.evaluate_many(coroutines[1:3])
        with pytest.raises(DeadlockError):
            loop.as_completed(coroutines[3:])

    loop.submit(call).result(WAIT)
    assert [inspect.getcoroutinestate(coroutine) for coroutine in coroutines] == [inspect.CORO_CLOSED] * 4


def test_every_way_to_call_works_in_a_thread_of_the_loop(loop):
    def call():
        return [
            loop.evaluate(echo("evaluate"), timeout=WAIT),
            loop.evaluate_many([echo("evaluate_many")]),
            list(loop.map(echo, ["map"])),
            [future.result() for future in loop.as_completed([echo("as_completed")])],
            loop.call(str, "call"),
            loop.start_task(ready)[1],
            loop.submit(echo, "result").result(WAIT),
        ]

    async def use_a_thread():
        return await asyncio.to_thread(call)

    assert loop.submit(use_a_thread).result(WAIT) == [
        "evaluate",
        ["evaluate_many"],
        ["map"],
        ["as_completed"],
        "call",
        None,
        "result",
    ]
