"""Timeouts are the caller's: they hold whatever the loop does, and end the work they gave up."""

import asyncio
import threading

import pytest

from .harness import WAIT, Caller, Sleeper, Stubborn, answer, echo, forever, until


def notes(error):
    return "\n".join(getattr(error, "__notes__", ()))


def test_evaluate_in_time_returns_the_result(loop):
    assert loop.evaluate(answer(), timeout=WAIT) == 42
    assert loop.evaluate(answer(), timeout=10**9) == 42
    assert loop.evaluate(answer(), timeout=None) == 42


def test_evaluate_that_times_out_cancels_and_waits_for_the_cleanup(loop):
    sleeper = Sleeper()
    with pytest.raises(TimeoutError) as caught:
        loop.evaluate(sleeper(), timeout=0.05)
    assert sleeper.cancelled.is_set()
    assert sleeper.cleaned.is_set()
    assert "cleanup" not in notes(caught.value)


def test_evaluate_times_out_while_the_loop_is_blocked(make_loop, gate):
    with make_loop(exit_timeout=0.1) as loop:
        blocked, ran = threading.Event(), []

        async def block():
            blocked.set()
            gate.wait(WAIT)

        async def never_started():
            ran.append(True)

        loop.submit(block)
        assert blocked.wait(WAIT)
        assert isinstance(Caller(loop.evaluate, never_started(), timeout=0.05).error(), TimeoutError)
        assert not gate.is_set()
        gate.set()
        assert loop.evaluate(answer()) == 42
        assert ran == []


def test_evaluate_times_out_when_its_own_coroutine_blocks(make_loop, gate):
    async def block():
        gate.wait(WAIT)

    with make_loop(exit_timeout=0.1) as loop:
        error = Caller(loop.evaluate, block(), timeout=0.05).error()
        assert isinstance(error, TimeoutError)
        assert notes(error)
        gate.set()
        assert loop.evaluate(answer()) == 42


def test_a_cleanup_longer_than_the_grace_goes_on(make_loop, gate):
    with make_loop(exit_timeout=0.1) as loop:
        sleeper = Sleeper(gate)
        error = Caller(loop.evaluate, sleeper(), timeout=0.05).error()
        assert isinstance(error, TimeoutError)
        assert "cleanup" in notes(error)
        assert sleeper.cancelled.is_set()
        assert not sleeper.cleaned.is_set()
        gate.set()
        assert sleeper.cleaned.wait(WAIT)


def test_the_grace_without_exit_timeout_is_long_enough_for_a_short_cleanup(make_loop):
    cleaned = []

    async def work():
        try:
            await forever()
        finally:
            await asyncio.sleep(0.2)
            cleaned.append(True)

    with make_loop() as loop:
        with pytest.raises(TimeoutError) as caught:
            loop.evaluate(work(), timeout=0.05)
        assert cleaned == [True]
        assert "cleanup" not in notes(caught.value)


def test_the_grace_without_exit_timeout_ends(make_loop, gate):
    with make_loop() as loop:
        sleeper = Sleeper(gate)
        error = Caller(loop.evaluate, sleeper(), timeout=0.05).error()
        assert isinstance(error, TimeoutError)
        assert "cleanup" in notes(error)
        gate.set()


def test_evaluate_times_out_although_the_coroutine_refuses_to_end(make_loop, gate):
    with make_loop(exit_timeout=0.1) as loop:
        stubborn = Stubborn(gate)
        assert isinstance(Caller(loop.evaluate, stubborn(), timeout=0.05).error(), TimeoutError)
        assert stubborn.refused.is_set()
        gate.set()


def test_evaluate_times_out_although_the_cancelled_coroutine_returns_a_value(loop):
    async def return_when_cancelled():
        try:
            await forever()
        except asyncio.CancelledError:
            return "too late"

    with pytest.raises(TimeoutError):
        loop.evaluate(return_when_cancelled(), timeout=0.05)


def test_evaluate_without_any_time_times_out(loop):
    sleeper = Sleeper()
    with pytest.raises(TimeoutError):
        loop.evaluate(sleeper(), timeout=0)
    assert not sleeper.started.is_set() or sleeper.cleaned.is_set()


def test_the_timeout_error_of_the_coroutine_is_its_own(loop):
    error = TimeoutError("of the coroutine")

    async def fail():
        raise error

    with pytest.raises(TimeoutError) as caught:
        loop.evaluate(fail(), timeout=WAIT)
    assert caught.value is error

    with pytest.raises(TimeoutError):
        loop.evaluate(asyncio.wait_for(forever(), 0.01))


def test_result_that_times_out_lets_the_work_go_on(loop):
    sleeper = Sleeper()
    future = loop.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    for timeout in (0, 0.05):
        with pytest.raises(TimeoutError):
            future.result(timeout)
        with pytest.raises(TimeoutError):
            future.exception(timeout)
    assert loop.evaluate(answer()) == 42
    assert not sleeper.cancelled.is_set()
    assert not future.done()
    future.cancel()


def test_a_result_that_is_there_needs_no_time(loop):
    future = loop.submit(answer)
    assert future.result(timeout=WAIT) == 42
    assert future.result(timeout=0) == 42
    assert future.exception(timeout=0) is None


def test_a_timeout_of_one_call_leaves_the_others_alone(loop):
    sleeper = Sleeper()
    other = loop.submit(sleeper)
    with pytest.raises(TimeoutError):
        loop.evaluate(forever(), timeout=0.05)
    assert not other.done()
    assert not sleeper.cancelled.is_set()
    other.cancel()


@pytest.mark.parametrize("timeout", [1e12, 1e300, float("inf")])
def test_a_timeout_longer_than_any_clock_is_for_ever(make_loop, timeout):
    with make_loop(exit_timeout=timeout) as loop:
        assert loop.evaluate(answer(), timeout) == 42
        assert loop.submit(answer).result(timeout) == 42
        assert loop.evaluate_many([answer(), answer()], timeout) == [42, 42]
        assert list(loop.map(echo, [1, 2], timeout=timeout)) == [1, 2]
        assert [future.result() for future in loop.as_completed([answer()], timeout=timeout)] == [42]
        loop.shutdown(timeout=timeout)


@pytest.mark.parametrize("timeout", [0, 0.0, False, 1e-300, 1e-9, 0.001])
def test_no_time_or_next_to_none_times_out_everywhere_and_ends_the_work(loop, timeout):
    sleepers = [Sleeper() for _ in range(4)]

    async def work(n):
        await sleepers[n]()

    calls = [
        lambda: loop.evaluate(work(0), timeout),
        lambda: loop.evaluate_many([work(1)], timeout),
        lambda: list(loop.map(work, [2], timeout=timeout)),
        lambda: list(loop.as_completed([work(3)], timeout=timeout)),
    ]
    for call in calls:
        with pytest.raises(TimeoutError):
            call()
    until(lambda: not loop._portal.unfinished())
    assert all(sleeper.cleaned.is_set() for sleeper in sleepers if sleeper.started.is_set())


def test_what_is_done_needs_no_time_in_map_and_as_completed(loop):
    mapped = loop.map(echo, [1, 2], timeout=0)
    completed = loop.as_completed([echo(1), echo(2)], timeout=0)
    until(lambda: not loop._portal.unfinished())
    assert list(mapped) == [1, 2]
    assert sorted(future.result() for future in completed) == [1, 2]


def test_true_is_one_second(loop):
    assert loop.evaluate(answer(), True) == 42
    assert loop.submit(answer).result(True) == 42
    assert loop.evaluate_many([answer()], True) == [42]


def test_evaluate_many_map_and_as_completed_time_out_while_the_loop_is_blocked(make_loop, gate):
    with make_loop(exit_timeout=0.1) as loop:
        blocked, ran = threading.Event(), []

        async def block():
            blocked.set()
            gate.wait(WAIT)

        async def never_started(_=None):
            ran.append(True)

        loop.submit(block)
        assert blocked.wait(WAIT)
        callers = [
            Caller(loop.evaluate_many, [never_started()], 0.05),
            Caller(lambda: list(loop.map(never_started, [1], timeout=0.05))),
            Caller(lambda: list(loop.as_completed([never_started()], timeout=0.05))),
            Caller(loop.submit(never_started).result, 0.05),
        ]
        assert [type(caller.error()) for caller in callers] == [TimeoutError] * 4
        assert not gate.is_set()
        gate.set()
        assert loop.evaluate(answer()) == 42
        assert ran == [True]  # The one that was submitted, whose caller only stopped waiting.


def test_evaluate_many_that_times_out_says_that_a_cleanup_goes_on(make_loop, gate):
    with make_loop(exit_timeout=0.1) as loop:
        sleeper = Sleeper(gate)
        error = Caller(loop.evaluate_many, [sleeper()], 0.05).error()
        assert isinstance(error, TimeoutError)
        assert "cleanup" in notes(error)
        gate.set()
        assert sleeper.cleaned.wait(WAIT)


def test_the_error_of_a_cleanup_is_the_cause_of_the_timeout(loop):
    async def fail_when_cancelled():
        try:
            await forever()
        finally:
            raise ZeroDivisionError("of a cleanup")

    with pytest.raises(TimeoutError) as caught:
        loop.evaluate(fail_when_cancelled(), timeout=0.05)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
