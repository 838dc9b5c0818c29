"""Bad input: a clear exception in the caller, the coroutine closed, nothing left running."""

import asyncio
import inspect
import threading
from decimal import Decimal
from fractions import Fraction

import pytest

from asyncio_thread_loop import AsyncioThreadLoop, LoopClosedError, get_default_loop, run

from .harness import WAIT, Caller, Sleeper, answer, echo, forever, until

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


TOO_LARGE = [
    pytest.param(10**400, id="an int beyond float"),
    pytest.param(-(10**400), id="an int beyond minus float"),
]


def closed(*coroutines):
    return [inspect.getcoroutinestate(coroutine) for coroutine in coroutines] == (
        [inspect.CORO_CLOSED] * len(coroutines)
    )


@pytest.mark.parametrize("timeout", TOO_LARGE)
def test_an_int_that_no_float_holds_is_refused_everywhere(loop, timeout):
    coroutines = [answer() for _ in range(4)]
    calls = [
        lambda: loop.evaluate(coroutines[0], timeout),
        lambda: loop.evaluate_many(coroutines[1:3], timeout),
        lambda: loop.as_completed(coroutines[3:], timeout=timeout),
        lambda: loop.map(echo, [1], timeout=timeout),
        lambda: loop.shutdown(timeout=timeout),
        lambda: AsyncioThreadLoop(exit_timeout=timeout),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError, OverflowError), match="timeout"):
            call()
    assert closed(*coroutines)
    assert loop.evaluate(answer()) == 42


@pytest.mark.parametrize("number", [Decimal("0.05"), Fraction(1, 20)], ids=["Decimal", "Fraction"])
def test_other_numbers_are_seconds_everywhere_or_refused_before_anything_is_submitted(
    request, make_loop, number
):
    loop = make_loop(exit_timeout=5).start()
    sleepers = [Sleeper() for _ in range(5)]
    coroutines = [sleeper() for sleeper in sleepers[:3]]
    request.addfinalizer(lambda: [coroutine.close() for coroutine in coroutines if not coroutine.cr_running])
    calls = [
        lambda: loop.evaluate(coroutines[0], number),
        lambda: loop.evaluate_many(coroutines[1:2], number),
        lambda: list(loop.as_completed(coroutines[2:], timeout=number)),
        lambda: list(loop.map(lambda_of(sleepers[3]), [1], timeout=number)),
    ]
    refused = []
    for call in calls:
        try:
            call()
        except TimeoutError:
            refused.append(False)
        except TypeError as error:
            refused.append(True)
            assert "timeout" in str(error)
    assert len(refused) == len(calls)
    assert len(set(refused)) == 1
    if all(refused):
        assert closed(*coroutines)
        assert not any(sleeper.started.is_set() for sleeper in sleepers)
        with pytest.raises(TypeError, match="timeout"):
            loop.shutdown(timeout=number)
        with pytest.raises(TypeError, match="timeout"):
            AsyncioThreadLoop(exit_timeout=number)
    else:
        loop.shutdown(timeout=100 * number)
        with make_loop(exit_timeout=100 * number) as other:
            assert other.evaluate(answer()) == 42
    loop.close()
    assert not any(sleeper.started.is_set() and not sleeper.cleaned.is_set() for sleeper in sleepers)


def lambda_of(sleeper):
    async def work(_):
        await sleeper()

    return work


@pytest.mark.parametrize(("timeout", "error"), BAD_TIMEOUTS)
def test_coroutines_given_with_a_bad_timeout_are_closed(loop, timeout, error):
    coroutines = [answer() for _ in range(4)]
    with pytest.raises(error, match="timeout"):
        loop.evaluate_many(coroutines[:2], timeout)
    with pytest.raises(error, match="timeout"):
        loop.as_completed(tuple(coroutines[2:]), timeout=timeout)
    assert closed(*coroutines)


@pytest.mark.parametrize("limit", [0, -1, "3", 1.5, float("nan")])
def test_coroutines_given_with_a_bad_limit_are_closed(loop, limit):
    coroutines = [answer() for _ in range(4)]
    with pytest.raises((TypeError, ValueError)):
        loop.evaluate_many(coroutines[:2], limit=limit)
    with pytest.raises((TypeError, ValueError)):
        loop.as_completed(coroutines[2:], limit=limit)
    assert closed(*coroutines)


class Half(asyncio.SelectorEventLoop):
    """Fails in something that every loop has to do at its start."""

    def create_future(self):
        raise NotImplementedError("half a loop")


class Lame(asyncio.SelectorEventLoop):
    """Starts, and can't run."""

    def run_forever(self):
        raise NotImplementedError("lame")


def test_a_loop_factory_that_returns_half_a_loop():
    error = refuse_to_start(AsyncioThreadLoop(loop_factory=Half), NotImplementedError)
    assert "half a loop" in str(error)


def test_a_loop_factory_that_returns_an_abstract_loop():
    refuse_to_start(AsyncioThreadLoop(loop_factory=asyncio.AbstractEventLoop), NotImplementedError)


def test_a_loop_that_cannot_run_strands_nobody(caplog):
    before = threads()
    loop = AsyncioThreadLoop(loop_factory=Lame)
    coroutine = answer()
    try:
        loop.start()
    except NotImplementedError:
        coroutine.close()
    else:
        with pytest.raises(LoopClosedError):
            loop.evaluate(coroutine, WAIT)
        Caller(loop.close).outcome()
    assert closed(coroutine)
    until(lambda: threads() == before)


def test_one_coroutine_given_twice_is_refused_and_the_rest_ended(loop):
    sleeper, twice = Sleeper(), answer()

    def coroutines():
        yield sleeper()
        assert sleeper.started.wait(WAIT)
        yield twice
        until(lambda: closed(twice))
        yield twice

    with pytest.raises(RuntimeError, match="already"):
        loop.evaluate_many(coroutines())
    assert sleeper.cleaned.is_set()


@pytest.mark.parametrize("rubbish", [None, 42])
def test_map_and_as_completed_refuse_what_cannot_be_iterated(loop, rubbish):
    with pytest.raises(TypeError):
        loop.map(echo, rubbish)
    with pytest.raises(TypeError):
        loop.as_completed(rubbish)


def test_an_item_that_cannot_be_awaited_ends_what_as_completed_began(loop):
    sleeper = Sleeper()

    def items():
        yield sleeper()
        assert sleeper.started.wait(WAIT)
        yield 42

    with pytest.raises(TypeError):
        loop.as_completed(items())
    assert sleeper.cleaned.is_set()


def test_a_bad_item_in_a_list_closes_the_rest_of_it(loop):
    coroutines = [answer(), answer()]
    with pytest.raises(TypeError):
        loop.evaluate_many([42, *coroutines])
    assert closed(*coroutines)
