"""`call` runs a plain callable on the loop thread, `start_task` waits until a coroutine says it is ready."""

import asyncio
import concurrent.futures
import functools
import inspect
import threading

import anyio
import pytest

from asyncio_thread_loop import Future, LoopClosedError

from .harness import WAIT, Caller, Sleeper, answer, forever


def collect(*args, **kwargs):
    return args, kwargs


# call


def test_call_runs_on_the_loop_thread(loop):
    assert loop.call(threading.current_thread) is loop.thread
    assert loop.call(asyncio.get_running_loop) is loop.loop


def test_call_passes_all_arguments(loop):
    assert loop.call(collect, 1, timeout=2, fn=3, self=4) == ((1,), {"timeout": 2, "fn": 3, "self": 4})


def test_call_takes_any_plain_callable(loop):
    assert loop.call(int, "42") == 42
    assert loop.call([].append, 1) is None
    assert loop.call(functools.partial(collect, 1), 2) == ((1, 2), {})


def test_call_raises_the_very_exception(loop):
    error = ValueError("of the callable")

    def fail():
        raise error

    with pytest.raises(ValueError) as caught:
        loop.call(fail)
    assert caught.value is error


def test_call_may_touch_the_loop(loop):
    done = threading.Event()
    handle = loop.call(loop.loop.call_later, 0.01, done.set)
    assert not handle.cancelled()
    assert done.wait(WAIT)


def test_calls_are_made_in_order(loop):
    called = []
    for n in range(100):
        loop.call(called.append, n)
    assert called == list(range(100))


class AsyncCallable:
    async def __call__(self):
        raise AssertionError("a refused callable was called")


@pytest.mark.parametrize(
    "fn",
    [answer, functools.partial(answer), AsyncCallable(), AsyncCallable().__call__],
    ids=["function", "partial", "callable object", "method"],
)
def test_call_refuses_coroutine_functions_naming_submit(loop, fn):
    with pytest.raises(TypeError, match="submit"):
        loop.call(fn)


@pytest.mark.parametrize("rubbish", [None, 42, "text"])
def test_call_refuses_what_cannot_be_called(loop, rubbish):
    with pytest.raises(TypeError):
        loop.call(rubbish)


def test_call_refuses_a_coroutine(loop):
    coroutine = answer()
    with pytest.raises(TypeError):
        loop.call(coroutine)
    coroutine.close()


def test_call_ends_when_the_loop_closes(make_loop, gate):
    loop = make_loop(exit_timeout=0.1).start()
    entered = threading.Event()

    def block():
        entered.set()
        gate.wait(WAIT)

    caller = Caller(loop.call, block)
    assert entered.wait(WAIT)
    with pytest.warns(RuntimeWarning):
        Caller(loop.close).outcome()
    assert isinstance(caller.error(), LoopClosedError)


# start_task


async def serve(value, *, task_status):
    await asyncio.sleep(0)
    task_status.started(value)
    await forever()


def test_start_task_returns_when_the_task_is_ready(loop):
    future, value = loop.start_task(serve, "ready")
    assert isinstance(future, Future)
    assert value == "ready"
    assert not future.done()
    assert future.cancel_and_wait(WAIT)


def test_a_task_may_be_ready_without_a_value(loop):
    async def work(*, task_status):
        task_status.started()
        return "done"

    future, value = loop.start_task(work)
    assert value is None
    assert future.result(WAIT) == "done"


def test_the_default_task_status_of_anyio_is_replaced(loop):
    async def work(*, task_status=anyio.TASK_STATUS_IGNORED):
        task_status.started("ready")

    assert loop.start_task(work)[1] == "ready"


def test_start_task_waits_until_started_is_called(loop, gate):
    entered = threading.Event()

    async def work(*, task_status):
        entered.set()
        while not gate.is_set():
            await asyncio.sleep(0.005)
        task_status.started("late")

    caller = Caller(loop.start_task, work)
    assert entered.wait(WAIT)
    assert caller.is_alive()
    gate.set()
    assert caller.outcome()[1] == "late"


def test_a_task_that_ends_without_started_is_an_error(loop):
    async def work(*, task_status):
        return 42

    with pytest.raises(RuntimeError, match="started"):
        loop.start_task(work)


def test_a_task_that_fails_before_started_raises_its_error(loop):
    error = ValueError("before it was ready")

    async def work(*, task_status):
        await asyncio.sleep(0)
        raise error

    with pytest.raises(ValueError) as caught:
        loop.start_task(work)
    assert caught.value is error


def test_a_task_that_fails_after_started_fails_in_its_future(loop):
    async def work(*, task_status):
        task_status.started()
        raise ZeroDivisionError

    future, _ = loop.start_task(work)
    with pytest.raises(ZeroDivisionError):
        future.result(WAIT)


def test_started_is_called_once(loop):
    async def work(*, task_status):
        task_status.started(1)
        with pytest.raises(RuntimeError):
            task_status.started(2)
        return "refused"

    future, value = loop.start_task(work)
    assert value == 1
    assert future.result(WAIT) == "refused"


def test_start_task_takes_methods_and_partials(loop):
    future, value = loop.start_task(functools.partial(serve, "partial"))
    assert value == "partial"
    future.cancel()


@pytest.mark.parametrize("rubbish", [None, 42, collect])
def test_start_task_refuses_what_is_no_coroutine_function(loop, rubbish):
    with pytest.raises(TypeError):
        loop.start_task(rubbish)


def test_start_task_refuses_a_coroutine(loop):
    coroutine = answer()
    with pytest.raises(TypeError):
        loop.start_task(coroutine)
    coroutine.close()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_a_started_task_ends_with_the_loop(make_loop):
    sleeper = Sleeper()

    async def work(*, task_status):
        task_status.started()
        await sleeper()

    with make_loop() as loop:
        future, _ = loop.start_task(work)
        assert sleeper.started.wait(WAIT)
    assert sleeper.cleaned.is_set()
    assert future.cancelled()


def test_start_task_does_not_hang_when_the_loop_closes(make_loop):
    loop = make_loop().start()
    sleeper = Sleeper()

    async def work(*, task_status):
        await sleeper()

    caller = Caller(loop.start_task, work)
    assert sleeper.started.wait(WAIT)
    loop.close()
    assert isinstance(caller.error(), (concurrent.futures.CancelledError, LoopClosedError))
