"""Closing while others call: every caller gets its result, `CancelledError` or `LoopClosedError`."""

import asyncio
import concurrent.futures
import itertools
import threading

import pytest

from asyncio_thread_loop import LoopClosedError

from .harness import WAIT, Caller, Stubborn, echo, forever

ROUNDS = 30


def call_until_closed(calls, barrier):
    """Make the call again and again until the loop ends it; return the number of right results."""
    barrier.wait(WAIT)
    for made in itertools.count():
        try:
            assert calls(made) == made
        except (concurrent.futures.CancelledError, LoopClosedError):
            return made


def by_evaluate(loop):
    return lambda n: loop.evaluate(echo(n))


def by_submit(loop):
    return lambda n: loop.submit(echo, n).result()


def by_submit_many(loop):
    return lambda n: [future.result() for future in [loop.submit(echo, n) for _ in range(5)]][-1]


def by_concurrent_wait(loop):
    def call(n):
        future = loop.submit(echo, n)
        concurrent.futures.wait([future])
        return future.result()

    return call


def by_evaluate_many(loop):
    return lambda n: loop.evaluate_many([echo(n), echo(n)])[1]


def by_call(loop):
    return lambda n: loop.call(int, n)


def by_waiting_for_ever(loop):
    return lambda n: loop.evaluate(forever())


def by_callback(loop):
    def call(n):
        called = threading.Event()
        future = loop.submit(echo, n)
        future.add_done_callback(lambda _: called.set())
        assert called.wait(WAIT), "a callback was lost"
        return future.result()

    return call


def by_iterate(loop):
    return lambda n: next(loop.iterate(items(n)))


def by_iterate_ahead(loop):
    return lambda n: next(loop.iterate(items(n), prefetch=3))


def by_a_context(loop):
    def call(n):
        with loop.wrap_async_context_manager(asyncio.Lock()):
            return n

    return call


async def items(n):
    while True:
        yield await echo(n)


WAYS = [
    by_evaluate,
    by_submit,
    by_submit_many,
    by_concurrent_wait,
    by_evaluate_many,
    by_call,
    by_waiting_for_ever,
    by_callback,
    by_iterate,
    by_iterate_ahead,
    by_a_context,
]


def test_closing_never_strands_a_waiting_caller(make_loop):
    for _ in range(ROUNDS):
        loop = make_loop(exit_timeout=WAIT).start()
        barrier = threading.Barrier(len(WAYS) + 1)
        callers = [Caller(call_until_closed, way(loop), barrier) for way in WAYS]
        barrier.wait(WAIT)
        loop.evaluate(asyncio.sleep(0.005))
        Caller(loop.close).outcome()
        assert sum(caller.outcome() for caller in callers) >= 0


@pytest.mark.parametrize("way", WAYS)
def test_eight_callers_of_a_kind_are_never_stranded(make_loop, way):
    for _ in range(3):
        loop = make_loop(exit_timeout=WAIT).start()
        barrier = threading.Barrier(9)
        callers = [Caller(call_until_closed, way(loop), barrier) for _ in range(8)]
        barrier.wait(WAIT)
        Caller(loop.close).outcome()
        assert all(caller.outcome() is not None for caller in callers)


def test_no_submitted_future_is_left_pending(make_loop):
    def submit_until_closed(loop, futures, barrier):
        barrier.wait(WAIT)
        try:
            while True:
                futures.append(loop.submit(forever))
        except LoopClosedError:
            pass

    for _ in range(10):
        loop = make_loop(exit_timeout=WAIT).start()
        barrier = threading.Barrier(5)
        futures = [[] for _ in range(4)]
        callers = [Caller(submit_until_closed, loop, each, barrier) for each in futures]
        barrier.wait(WAIT)
        Caller(loop.close).outcome()
        for caller in callers:
            caller.outcome()
        assert concurrent.futures.wait(list(itertools.chain(*futures)), WAIT).not_done == set()


def test_callers_of_a_loop_that_gives_up_are_not_stranded(make_loop, gate):
    loop = make_loop(exit_timeout=0.2).start()
    stubborn = [Stubborn(gate) for _ in range(8)]
    callers = [Caller(loop.evaluate, each()) for each in stubborn]
    for each in stubborn:
        assert each.started.wait(WAIT)
    with pytest.warns(RuntimeWarning):
        Caller(loop.close).outcome()
    for caller in callers:
        assert isinstance(caller.error(), LoopClosedError)


def test_opening_and_closing_from_several_threads_never_hangs(make_loop):
    loop = make_loop(exit_timeout=WAIT)
    barrier = threading.Barrier(4)

    def open_and_close():
        barrier.wait(WAIT)
        opened = 0
        for n in range(20):
            try:
                with loop:
                    opened += 1
                    assert loop.evaluate(echo(n)) == n
            except (RuntimeError, concurrent.futures.CancelledError):
                pass  # Another thread has it open, or closed it first.
        return opened

    assert sum(caller.outcome() for caller in [Caller(open_and_close) for _ in range(4)]) > 0
    loop.close()
    assert loop.loop is None
