"""Waiting on the loop thread for that loop is refused at once; waiting anywhere else works."""

import asyncio
import threading

import pytest

from asyncio_thread_loop import DeadlockError

from .harness import WAIT, Sleeper, answer, echo, forever


async def ready(*, task_status):
    task_status.started()


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
