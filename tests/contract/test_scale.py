"""Many threads, many calls, many coroutines in flight: right results, nothing lost."""

import asyncio
import concurrent.futures
import threading

from .harness import WAIT, Caller, echo


def test_a_hundred_threads_get_their_own_results(loop):
    barrier = threading.Barrier(100)

    def call(thread):
        barrier.wait(WAIT)
        return [loop.evaluate(echo((thread, n))) for n in range(20)]

    callers = [Caller(call, thread) for thread in range(100)]
    for thread, caller in enumerate(callers):
        assert caller.outcome() == [(thread, n) for n in range(20)]


def test_a_hundred_threads_submit_and_collect(loop):
    barrier = threading.Barrier(100)

    def call(thread):
        barrier.wait(WAIT)
        futures = [loop.submit(echo, (thread, n)) for n in range(20)]
        return [future.result(WAIT) for future in futures]

    callers = [Caller(call, thread) for thread in range(100)]
    for thread, caller in enumerate(callers):
        assert caller.outcome() == [(thread, n) for n in range(20)]


def test_a_hundred_thousand_coroutines_in_flight(loop):
    count = 100_000
    reached, in_flight = threading.Event(), 0

    async def make_event():
        return asyncio.Event()

    async def work(n):
        nonlocal in_flight
        in_flight += 1
        if in_flight == count:
            reached.set()
        await release.wait()
        return n

    release = loop.evaluate(make_event())
    futures = [loop.submit(work, n) for n in range(count)]
    assert reached.wait(3 * WAIT)
    assert not any(future.done() for future in futures)
    loop.call(release.set)
    assert not concurrent.futures.wait(futures, 3 * WAIT).not_done
    assert [future.result(timeout=0) for future in futures] == list(range(count))


def test_many_coroutines_in_flight_are_cancelled_by_the_exit(make_loop):
    with make_loop(exit_timeout=WAIT) as loop:
        futures = [loop.submit(asyncio.sleep, 3600) for _ in range(10_000)]
    assert all(future.cancelled() for future in futures)


def test_many_calls_in_a_row(loop):
    for n in range(5_000):
        assert loop.evaluate(echo(n)) == n


def test_many_submitted_at_once(loop):
    futures = [loop.submit(echo, n) for n in range(20_000)]
    assert [future.result(WAIT) for future in futures] == list(range(20_000))


def test_many_through_a_small_limit(loop):
    assert loop.evaluate_many((echo(n) for n in range(10_000)), limit=50) == list(range(10_000))
