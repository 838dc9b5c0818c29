"""`cancel` before and after the first step, and `cancel_and_wait`."""

import asyncio
import concurrent.futures
import inspect
import threading

import pytest

from .harness import WAIT, Caller, Sleeper, Stubborn, answer


@pytest.fixture
def blocked(loop, gate):
    """Keep the loop thread busy until the gate opens, so that what is submitted does not start."""
    entered = threading.Event()

    async def block():
        entered.set()
        gate.wait(WAIT)

    future = loop.submit(block)
    assert entered.wait(WAIT)
    yield gate
    gate.set()
    future.result(WAIT)


def test_cancel_before_the_first_step_is_immediate_and_the_coroutine_never_runs(loop, blocked):
    sleeper = Sleeper()
    coroutine = sleeper()
    future = loop.submit(coroutine)
    assert not future.running()
    assert future.cancel()
    assert future.done()
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(timeout=0)
    blocked.set()
    assert loop.evaluate(answer()) == 42
    assert not sleeper.started.is_set()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_a_function_cancelled_before_the_first_step_is_never_called(loop, blocked):
    sleeper = Sleeper()
    future = loop.submit(sleeper)
    assert future.cancel()
    assert future.cancelled()
    blocked.set()
    assert loop.evaluate(answer()) == 42
    assert not sleeper.started.is_set()


def test_an_awaitable_cancelled_before_the_first_step_is_never_awaited(loop, blocked):
    awaited = []

    class Later:
        def __await__(self):
            awaited.append(self)
            yield from asyncio.sleep(0).__await__()

    future = loop.submit(Later())
    assert future.cancel()
    assert future.cancelled()
    blocked.set()
    assert loop.evaluate(answer()) == 42
    assert awaited == []


def test_cancel_before_the_first_step_wakes_waiters_and_calls_callbacks(loop, blocked):
    future = loop.submit(answer)
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    waiting = Caller(future.result)
    assert future.cancel()
    assert called.wait(WAIT)
    assert isinstance(waiting.error(), concurrent.futures.CancelledError)


def test_cancel_of_running_work_asks_and_the_future_waits_for_the_cleanup(loop, gate):
    sleeper = Sleeper(gate)
    future = loop.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    assert future.running()
    assert future.cancel()
    assert sleeper.cancelled.wait(WAIT)
    assert not future.done()
    assert not future.cancelled()
    gate.set()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(WAIT)
    assert sleeper.cleaned.is_set()
    assert future.cancelled()
    assert not future.running()


def test_work_that_refuses_cancellation_delivers_its_result(loop, gate):
    stubborn = Stubborn(gate)
    future = loop.submit(stubborn)
    assert stubborn.started.wait(WAIT)
    assert future.cancel()
    assert stubborn.refused.wait(WAIT)
    gate.set()
    assert future.result(WAIT) == "refused"
    assert not future.cancelled()


def test_work_that_fails_when_cancelled_delivers_its_error(loop):
    sleeper = Sleeper()

    async def fail():
        try:
            await sleeper()
        finally:
            raise ZeroDivisionError

    future = loop.submit(fail)
    assert sleeper.started.wait(WAIT)
    assert future.cancel()
    with pytest.raises(ZeroDivisionError):
        future.result(WAIT)
    assert not future.cancelled()


def test_cancel_in_the_middle_of_the_first_step_reaches_the_first_await(loop):
    entered, release = threading.Event(), threading.Event()

    async def block_then_sleep():
        entered.set()
        assert release.wait(WAIT)
        await asyncio.sleep(60)

    future = loop.submit(block_then_sleep())
    assert entered.wait(WAIT)
    assert future.cancel()
    assert not future.done()
    release.set()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(WAIT)


def test_cancel_of_finished_work_does_nothing(loop):
    future = loop.submit(answer)
    future.result(WAIT)
    assert not future.cancel()
    assert not future.cancelled()
    assert future.result() == 42


def test_cancel_of_cancelled_work_says_so_again(loop):
    future = loop.submit(Sleeper())
    assert future.cancel()
    concurrent.futures.wait([future], WAIT)
    assert future.cancelled()
    assert future.cancel()


def test_many_threads_may_cancel_the_same_work(loop):
    for _ in range(20):
        sleeper = Sleeper()
        future = loop.submit(sleeper)
        barrier = threading.Barrier(4)

        def cancel(future=future, barrier=barrier):
            barrier.wait(WAIT)
            return future.cancel()

        callers = [Caller(cancel) for _ in range(4)]
        assert all(caller.outcome() for caller in callers)
        assert concurrent.futures.wait([future], WAIT).done == {future}
        assert future.cancelled()


def test_cancel_works_on_the_loop_thread(loop):
    sleeper = Sleeper()
    future = loop.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    assert loop.call(future.cancel)
    assert concurrent.futures.wait([future], WAIT).done == {future}
    assert future.cancelled()


def test_cancelling_one_leaves_the_others_alone(loop):
    one, other = Sleeper(), Sleeper()
    futures = [loop.submit(one), loop.submit(other)]
    assert one.started.wait(WAIT)
    assert other.started.wait(WAIT)
    assert futures[0].cancel_and_wait(WAIT)
    assert not other.cancelled.is_set()
    assert futures[1].running()
    futures[1].cancel()


def test_cancel_and_wait_is_true_when_the_work_ended_cancelled(loop):
    sleeper = Sleeper()
    future = loop.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    assert future.cancel_and_wait() is True
    assert sleeper.cleaned.is_set()
    assert future.cancelled()
    assert future.cancel_and_wait() is True


def test_cancel_and_wait_is_true_before_the_first_step(loop, blocked):
    assert loop.submit(answer).cancel_and_wait(WAIT) is True


def test_cancel_and_wait_is_false_when_the_work_refused(loop, gate):
    stubborn = Stubborn(gate)
    future = loop.submit(stubborn)
    assert stubborn.started.wait(WAIT)
    gate.set()
    assert future.cancel_and_wait(WAIT) is False
    assert future.result(timeout=0) == "refused"


def test_cancel_and_wait_is_false_when_the_work_had_ended(loop):
    future = loop.submit(answer)
    future.result(WAIT)
    assert future.cancel_and_wait(WAIT) is False


def test_cancel_and_wait_times_out_while_the_cleanup_goes_on(loop, gate):
    sleeper = Sleeper(gate)
    future = loop.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    with pytest.raises(TimeoutError):
        future.cancel_and_wait(0.05)
    assert not future.done()
    gate.set()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(WAIT)
    assert sleeper.cleaned.is_set()
