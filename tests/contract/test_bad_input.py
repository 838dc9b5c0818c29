"""Bad input: a clear exception in the caller, the coroutine closed, nothing left running."""

import asyncio
import inspect
import threading

import pytest

from asyncio_thread_loop import AsyncioThreadLoop, get_default_loop, run

from .harness import WAIT, Sleeper, answer, echo, forever

BAD_TIMEOUTS = [
    pytest.param(-1, ValueError, id="negative"),
    pytest.param(-0.001, ValueError, id="slightly negative"),
    pytest.param(float("-inf"), ValueError, id="minus infinity"),
    pytest.param(float("nan"), ValueError, id="nan"),
    pytest.param("1", TypeError, id="text"),
    pytest.param(object(), TypeError, id="object"),
    pytest.param(1j, TypeError, id="complex"),
]


@pytest.mark.parametrize(("timeout", "error"), BAD_TIMEOUTS)
def test_evaluate_refuses_a_bad_timeout_before_anything_is_submitted(loop, timeout, error):
    sleeper = Sleeper()
    coroutine = sleeper()
    with pytest.raises(error, match="timeout"):
        loop.evaluate(coroutine, timeout)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    assert loop.evaluate(answer()) == 42
    assert not sleeper.started.is_set()


@pytest.mark.parametrize(("timeout", "error"), BAD_TIMEOUTS)
def test_the_others_refuse_a_bad_timeout_before_anything_is_pulled(loop, timeout, error):
    pulled = []

    def coroutines():
        pulled.append(True)
        yield answer()

    def numbers():
        pulled.append(True)
        yield 1

    with pytest.raises(error, match="timeout"):
        loop.evaluate_many(coroutines(), timeout)
    with pytest.raises(error, match="timeout"):
        list(loop.as_completed(coroutines(), timeout=timeout))
    with pytest.raises(error, match="timeout"):
        list(loop.map(echo, numbers(), timeout=timeout))
    assert pulled == []


@pytest.mark.parametrize(("timeout", "error"), BAD_TIMEOUTS)
def test_futures_refuse_a_bad_timeout(loop, timeout, error):
    future = loop.submit(forever)
    # `deadline - now` may be negative: these two are called like that everywhere, and time out as in the plain class.
    compatible = TimeoutError if error is ValueError and timeout < 0 else error
    for wait in future.result, future.exception:
        with pytest.raises(compatible):
            wait(timeout)
    with pytest.raises(error, match="timeout"):
        future.cancel_and_wait(timeout)
    assert not future.done()
    future.cancel()


@pytest.mark.parametrize(("timeout", "error"), BAD_TIMEOUTS)
def test_shutdown_refuses_a_bad_timeout_and_the_loop_stays_open(loop, timeout, error):
    with pytest.raises(error, match="timeout"):
        loop.shutdown(timeout=timeout)
    assert loop.evaluate(answer()) == 42


@pytest.mark.parametrize(("timeout", "error"), BAD_TIMEOUTS)
def test_the_exit_timeout_is_checked_at_once(timeout, error):
    with pytest.raises(error, match="timeout"):
        AsyncioThreadLoop(exit_timeout=timeout)
    coroutine = answer()
    with pytest.raises(error, match="timeout"):
        AsyncioThreadLoop.submit_in_new_loop(coroutine, exit_timeout=timeout)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_run_refuses_a_bad_timeout():
    coroutine = answer()
    with pytest.raises(ValueError, match="timeout"):
        run(coroutine, -1)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    get_default_loop().close()


def threads():
    return set(threading.enumerate())


def refuse_to_start(loop, error):
    """Check that the loop does not start and leaves nothing behind; return the exception."""
    before = threads()
    with pytest.raises(error) as caught:
        loop.start()
    with pytest.raises(error), loop:
        raise AssertionError("a loop that could not start was entered")
    assert threads() == before
    assert loop.loop is None
    assert loop.thread is None
    return caught.value


def test_a_loop_factory_that_raises():
    error = ZeroDivisionError("of the factory")

    def factory():
        raise error

    assert refuse_to_start(AsyncioThreadLoop(loop_factory=factory), ZeroDivisionError) is error


def test_a_loop_factory_that_exits():
    def factory():
        raise SystemExit(3)

    assert refuse_to_start(AsyncioThreadLoop(loop_factory=factory), SystemExit).code == 3


@pytest.mark.parametrize("rubbish", [None, 42, "loop", object(), asyncio.SelectorEventLoop])
def test_a_loop_factory_that_returns_rubbish(rubbish):
    error = refuse_to_start(AsyncioThreadLoop(loop_factory=lambda: rubbish), TypeError)
    assert "loop_factory" in str(error)


def test_a_loop_factory_that_returns_a_coroutine():
    made = []

    async def factory():
        raise AssertionError("a coroutine is no loop")

    def make():
        made.append(factory())
        return made[-1]

    refuse_to_start(AsyncioThreadLoop(loop_factory=make), TypeError)
    for coroutine in made:
        coroutine.close()


def test_a_loop_factory_that_returns_a_closed_loop():
    def factory():
        loop = asyncio.SelectorEventLoop()
        loop.close()
        return loop

    refuse_to_start(AsyncioThreadLoop(loop_factory=factory), RuntimeError)


def test_a_loop_factory_that_returns_a_running_loop():
    async def use():
        loop = asyncio.get_running_loop()
        refuse_to_start(AsyncioThreadLoop(loop_factory=lambda: loop), RuntimeError)
        assert loop.is_running()
        await asyncio.sleep(0)

    asyncio.run(use())


@pytest.mark.parametrize("rubbish", [42, "loop"])
def test_what_has_to_be_callable_is_checked_at_once(rubbish):
    with pytest.raises(TypeError, match="loop_factory"):
        AsyncioThreadLoop(loop_factory=rubbish)
    with pytest.raises(TypeError, match="initializer"):
        AsyncioThreadLoop(initializer=rubbish)


def test_an_initializer_that_raises(make_loop):
    error = ZeroDivisionError("of the initializer")

    def initialize():
        raise error

    assert refuse_to_start(make_loop(initializer=initialize), ZeroDivisionError) is error


def test_the_loop_of_an_initializer_that_raises_is_closed(loop_factory):
    made = []

    def factory():
        made.append((loop_factory or asyncio.SelectorEventLoop)())
        return made[-1]

    def initialize():
        raise ZeroDivisionError

    refuse_to_start(AsyncioThreadLoop(loop_factory=factory, initializer=initialize), ZeroDivisionError)
    assert all(loop.is_closed() for loop in made)


def test_a_loop_that_failed_to_start_may_be_started_again(make_loop):
    attempts = []

    def initialize():
        attempts.append(True)
        if len(attempts) == 1:
            raise ZeroDivisionError

    loop = make_loop(initializer=initialize)
    with pytest.raises(ZeroDivisionError):
        loop.start()
    with loop:
        assert loop.evaluate(answer()) == 42


def test_submit_in_new_loop_refuses_what_cannot_be_awaited():
    before = threads()
    with pytest.raises(TypeError):
        AsyncioThreadLoop.submit_in_new_loop(42)
    assert threads() == before


@pytest.mark.parametrize("fn", [forever, len, 42])
def test_a_refusal_leaves_the_loop_in_order(loop, fn):
    with pytest.raises(TypeError):
        loop.evaluate(fn)
    assert loop.submit(answer).result(WAIT) == 42
