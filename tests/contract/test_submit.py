"""What `submit` takes, what it refuses, and that what it refuses leaves no trace."""

import asyncio
import functools
import gc
import inspect
import threading

import anyio
import pytest

from asyncio_thread_loop import Future, LoopClosedError

from .harness import WAIT, Sleeper, answer, echo


async def collect(*args, **kwargs):
    return args, kwargs


class Later:
    """An awaitable that is no coroutine."""

    def __init__(self, value):
        self.value = value

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return self.value


class AsyncCallable:
    async def __call__(self, *args, **kwargs):
        return args, kwargs

    async def method(self, value):
        return self, value

    @staticmethod
    async def static(value):
        return value

    @classmethod
    async def of_class(cls, value):
        return cls, value


def closed(coroutine):
    return inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_a_coroutine_is_run(loop):
    future = loop.submit(answer())
    assert isinstance(future, Future)
    assert future.result(WAIT) == 42


def test_an_awaitable_is_awaited(loop):
    assert loop.submit(Later("value")).result(WAIT) == "value"


def test_a_future_of_the_loop_is_awaited(loop):
    async def make():
        return asyncio.get_running_loop().create_task(answer())

    assert loop.submit(loop.evaluate(make())).result(WAIT) == 42


def test_an_async_function_gets_all_arguments(loop):
    future = loop.submit(collect, 1, 2, timeout=3, fn=4, self=5, coro=6)
    assert future.result(WAIT) == ((1, 2), {"timeout": 3, "fn": 4, "self": 5, "coro": 6})


@pytest.mark.parametrize(
    "fn",
    [
        functools.partial(collect, 1, key="kept"),
        functools.partial(functools.partial(collect, 1), key="kept"),
        functools.partial(AsyncCallable(), 1, key="kept"),
    ],
    ids=["partial", "partial of a partial", "partial of a callable object"],
)
def test_a_partial_is_called(loop, fn):
    assert loop.submit(fn, 2, more=3).result(WAIT) == ((1, 2), {"key": "kept", "more": 3})


def test_an_object_with_an_async_call_is_called(loop):
    assert loop.submit(AsyncCallable(), 1, key=2).result(WAIT) == ((1,), {"key": 2})


def test_async_methods_are_called(loop):
    instance = AsyncCallable()
    assert loop.submit(instance.method, 1).result(WAIT) == (instance, 1)
    assert loop.submit(AsyncCallable.static, 2).result(WAIT) == 2
    assert loop.submit(AsyncCallable.of_class, 3).result(WAIT) == (AsyncCallable, 3)


def test_coroutines_start_in_the_order_they_were_submitted(loop):
    started = []

    async def start(n):
        started.append(n)

    for future in [loop.submit(start, n) for n in range(200)]:
        future.result(WAIT)
    assert started == list(range(200))


def test_calls_go_on_while_somebody_holds_every_object(loop):
    """What serves call after call may have been found by a debugger, which looks at what it was."""
    held = []
    for number in range(5):
        assert loop.submit(echo(number)).result(WAIT) == number
        assert loop.evaluate(echo(number)) == number
        assert loop.evaluate(answer()) == 42
        held.append(gc.get_objects())


def test_a_task_is_known_in_its_first_step_and_gone_after_its_last(loop):
    async def look():
        task = asyncio.current_task()
        return task, task in asyncio.all_tasks(), task.get_coro() is not None

    task, listed, has_coroutine = loop.evaluate(look())
    assert listed
    assert has_coroutine
    assert task.done()
    assert task not in loop.call(asyncio.all_tasks)
    # None of a task that ended while it was made; to ask must not end the process, as it does before CPython 3.12.5.
    assert task.get_coro() is None or inspect.iscoroutine(task.get_coro())


def test_what_a_first_step_submits_begins_after_it(loop):
    async def outer():
        inner = loop.submit(answer())
        began = inner.running() or inner.done()
        return began, await asyncio.wrap_future(inner)

    assert loop.evaluate(outer()) == (False, 42)


def test_submit_returns_before_the_coroutine_ends(loop, gate):
    sleeper = Sleeper(gate)
    future = loop.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    assert not future.done()
    assert future.running()
    future.cancel()


def test_submit_works_on_the_loop_thread(loop):
    async def submit_another():
        return await asyncio.wrap_future(loop.submit(echo, "inner"))

    assert loop.submit(submit_another).result(WAIT) == "inner"


def test_asyncio_and_anyio_work_inside(loop):
    async def use_both():
        async with asyncio.timeout(WAIT), asyncio.TaskGroup() as group:
            tasks = [group.create_task(echo(n)) for n in range(3)]
        with anyio.fail_after(WAIT):
            async with anyio.create_task_group() as anyio_group:
                anyio_group.start_soon(anyio.sleep, 0)
        return [task.result() for task in tasks], await asyncio.to_thread(threading.current_thread)

    results, thread = loop.evaluate(use_both())
    assert results == [0, 1, 2]
    assert thread is not loop.thread


def plain_function():
    raise AssertionError("a refused callable was called")


@pytest.mark.parametrize(
    "fn",
    [
        plain_function,
        lambda: plain_function(),
        functools.partial(plain_function),
        print,
        dict,
        type("Callable", (), {"__call__": lambda self: plain_function()})(),
    ],
    ids=["function", "lambda", "partial", "builtin", "class", "callable object"],
)
def test_a_plain_callable_is_refused_naming_call(loop, fn):
    with pytest.raises(TypeError, match="call"):
        loop.submit(fn)


@pytest.mark.parametrize("rubbish", [None, 42, "text", [], object()])
def test_what_cannot_be_awaited_is_refused(loop, rubbish):
    with pytest.raises(TypeError):
        loop.submit(rubbish)
    with pytest.raises(TypeError):
        loop.evaluate(rubbish)


def test_async_generators_are_refused(loop):
    async def generate():
        yield 1

    with pytest.raises(TypeError):
        loop.submit(generate)
    with pytest.raises(TypeError):
        loop.submit(generate())
    with pytest.raises(TypeError):
        loop.evaluate(generate())


def test_submit_needs_something_to_submit(loop):
    with pytest.raises(TypeError):
        loop.submit()


def test_wrong_arguments_are_the_callers_error(loop):
    with pytest.raises(TypeError, match="answer"):
        loop.submit(answer, "unexpected").result(WAIT)


def test_arguments_after_a_coroutine_are_refused(loop):
    for args, kwargs in [((1,), {}), ((), {"key": 1})]:
        coroutine = answer()
        with pytest.raises(TypeError):
            loop.submit(coroutine, *args, **kwargs)
        assert closed(coroutine)


def test_submit_before_the_start_is_refused(make_loop):
    loop = make_loop()
    coroutine = answer()
    with pytest.raises(LoopClosedError):
        loop.submit(coroutine)
    assert closed(coroutine)
    with pytest.raises(LoopClosedError):
        loop.submit(answer)


def test_submit_after_the_close_is_refused(make_loop):
    loop = make_loop()
    with loop:
        pass
    coroutine = answer()
    with pytest.raises(LoopClosedError):
        loop.submit(coroutine)
    assert closed(coroutine)
    with pytest.raises(LoopClosedError):
        loop.submit(answer)


@pytest.mark.parametrize("when", ["before the start", "after the close"])
def test_every_way_to_call_is_refused_without_an_open_loop(make_loop, when):
    loop = make_loop()
    if when == "after the close":
        loop.start().close()
    coroutines = [answer() for _ in range(4)]
    with pytest.raises(LoopClosedError):
        loop.evaluate(coroutines[0])
    with pytest.raises(LoopClosedError):
        loop.evaluate_many(coroutines[1:3])
    with pytest.raises(LoopClosedError):
        list(loop.as_completed(coroutines[3:]))
    with pytest.raises(LoopClosedError):
        list(loop.map(echo, [1]))
    with pytest.raises(LoopClosedError):
        loop.call(len, "abc")
    with pytest.raises(LoopClosedError):
        loop.start_task(collect)
    for coroutine in coroutines:
        coroutine.close()  # What was never handed over is the caller's.
    assert closed(coroutines[0])


def test_an_awaited_coroutine_is_refused(loop):
    coroutine = answer()
    with pytest.raises(StopIteration):
        coroutine.send(None)
    with pytest.raises(RuntimeError, match="already"):
        loop.submit(coroutine).result(WAIT)
    with pytest.raises(RuntimeError, match="already"):
        loop.evaluate(coroutine)


def test_a_coroutine_that_runs_already_is_refused(loop, gate):
    sleeper = Sleeper()
    coroutine = sleeper()
    first = loop.submit(coroutine)
    assert sleeper.started.wait(WAIT)
    with pytest.raises(RuntimeError, match="already"):
        loop.submit(coroutine).result(WAIT)
    assert not sleeper.cancelled.is_set()
    assert not first.done()
    assert first.cancel_and_wait(WAIT)


def test_a_coroutine_that_is_submitted_already_is_refused(loop, gate):
    blocked = threading.Event()

    async def block():
        blocked.set()
        gate.wait(WAIT)

    loop.submit(block)
    assert blocked.wait(WAIT)
    coroutine = answer()
    first = loop.submit(coroutine)
    second = None
    try:
        second = loop.submit(coroutine)
    except RuntimeError as error:
        assert "already" in str(error)
    gate.set()
    if second is not None:
        with pytest.raises(RuntimeError, match="already"):
            second.result(WAIT)
    assert first.result(WAIT) == 42


def test_a_coroutine_of_another_loop_is_refused(loop, make_loop):
    sleeper = Sleeper()
    coroutine = sleeper()
    with make_loop() as other:
        other.submit(coroutine)
        assert sleeper.started.wait(WAIT)
        with pytest.raises(RuntimeError, match="already"):
            loop.submit(coroutine).result(WAIT)
        assert not sleeper.cancelled.is_set()
