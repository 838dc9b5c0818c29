"""Many coroutines at once: in order, lazily, never more in flight than asked for."""

import asyncio
import concurrent.futures
import contextvars
import inspect
import itertools
import queue
import sys
import threading

import pytest

from asyncio_thread_loop import Future, LoopClosedError

from .harness import WAIT, Caller, Sleeper, answer, echo, forever


class Meter:
    """Makes coroutines lazily and counts how many were pulled, started and finished."""

    def __init__(self):
        self.pulled = self.started = self.finished = 0
        self.most_ahead = self.most_in_flight = 0

    def coroutines(self, numbers):
        for n in numbers:
            self.pulled += 1
            self.most_ahead = max(self.most_ahead, self.pulled - self.finished)
            yield self.work(n)

    def numbers(self, numbers):
        for n in numbers:
            self.pulled += 1
            yield n

    async def work(self, n):
        self.started += 1
        self.most_in_flight = max(self.most_in_flight, self.started - self.finished)
        for _ in range(n % 3):
            await asyncio.sleep(0)
        self.finished += 1
        return n


async def fail(error):
    await asyncio.sleep(0)
    raise error


# evaluate_many


def test_results_come_in_the_order_of_the_coroutines(loop):
    async def last_first(n, events):
        if n + 1 < len(events):
            await events[n + 1].wait()
        events[n].set()
        return n

    async def make_events():
        return [asyncio.Event() for _ in range(10)]

    events = loop.evaluate(make_events())
    assert loop.evaluate_many([last_first(n, events) for n in range(10)]) == list(range(10))


def test_nothing_gives_nothing(loop):
    assert loop.evaluate_many([]) == []
    assert loop.evaluate_many(iter([]), limit=2, timeout=1) == []


def test_awaitables_are_taken(loop):
    class Later:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return "later"

    assert loop.evaluate_many([Later(), answer()]) == ["later", 42]


def test_without_limit_all_run_side_by_side(loop):
    barrier = asyncio.Barrier(20)
    results = loop.evaluate_many((barrier.wait() for _ in range(20)), timeout=WAIT)
    assert sorted(results) == list(range(20))


@pytest.mark.parametrize("limit", [1, 3])
def test_the_limit_is_used_up(loop, limit):
    barrier = asyncio.Barrier(limit)
    results = loop.evaluate_many((barrier.wait() for _ in range(4 * limit)), timeout=WAIT, limit=limit)
    assert len(results) == 4 * limit


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_the_limit_bounds_what_is_pulled_and_in_flight(loop, limit):
    meter = Meter()
    assert loop.evaluate_many(meter.coroutines(range(100)), limit=limit) == list(range(100))
    assert meter.finished == 100
    assert 0 < meter.most_ahead <= limit
    assert 0 < meter.most_in_flight <= limit


def test_nothing_more_is_pulled_while_the_limit_is_reached(loop, gate):
    pulled, reached = [], threading.Event()

    async def wait_for_gate(n):
        while not gate.is_set():
            await asyncio.sleep(0.005)
        return n

    def coroutines():
        for n in range(10):
            pulled.append(n)
            if n == 2:
                reached.set()
            yield wait_for_gate(n)

    caller = Caller(loop.evaluate_many, coroutines(), limit=3)
    assert reached.wait(WAIT)
    loop.evaluate(asyncio.sleep(0.05))  # Time for a fourth, which must not come.
    assert pulled == [0, 1, 2]
    gate.set()
    assert caller.outcome() == list(range(10))


def test_an_endless_iterable_ends_with_the_first_failure(loop):
    pulled = []

    async def work(n):
        await asyncio.sleep(0)
        if n == 50:
            raise ZeroDivisionError
        return n

    def endless():
        for n in itertools.count():
            pulled.append(n)
            yield work(n)

    with pytest.raises(ZeroDivisionError):
        loop.evaluate_many(endless(), limit=4)
    assert len(pulled) <= 54


def test_an_endless_iterable_ends_with_the_timeout(loop):
    with pytest.raises(TimeoutError):
        loop.evaluate_many((asyncio.sleep(0.001) for _ in itertools.count()), timeout=0.1, limit=4)
    assert loop.evaluate(answer()) == 42


def test_a_failure_closes_what_was_not_pulled_yet(loop):
    async def fail():
        raise ZeroDivisionError

    given = [fail(), answer(), answer()]
    with pytest.raises(ZeroDivisionError):
        loop.evaluate_many(given, limit=1)
    assert [inspect.getcoroutinestate(coroutine) for coroutine in given] == [inspect.CORO_CLOSED] * 3


def test_a_failure_cancels_the_rest_and_waits_for_their_cleanup(loop):
    sleepers = [Sleeper() for _ in range(5)]

    async def fail_when_all_run():
        while not all(sleeper.started.is_set() for sleeper in sleepers):
            await asyncio.sleep(0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop.evaluate_many([*[sleeper() for sleeper in sleepers], fail_when_all_run()])
    assert all(sleeper.cleaned.is_set() for sleeper in sleepers)


def test_the_first_error_in_the_order_of_the_coroutines_is_raised(loop):
    event = asyncio.Event()

    async def fail_second():
        await event.wait()
        raise ValueError("first in order")

    async def fail_first():
        event.set()
        raise ValueError("first in time")

    # The first coroutine is already on its way when the second fails, so both fail.
    with pytest.raises(ValueError, match="first in order"):
        loop.evaluate_many([fail_second(), fail_first()])


def test_an_error_of_the_cleanup_does_not_hide_the_failure_that_caused_it(loop):
    begun = asyncio.Event()

    async def fail_in_cleanup():
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            raise ValueError("in the cleanup")

    async def fail():
        await begun.wait()
        raise ZeroDivisionError

    reported = queue.SimpleQueue()
    loop.loop.set_exception_handler(lambda _, report: reported.put(report["exception"]))
    with pytest.raises(ZeroDivisionError):
        loop.evaluate_many([fail_in_cleanup(), fail()])
    assert str(reported.get(timeout=WAIT)) == "in the cleanup"  # Nobody asked for it, so it isn't lost.


def test_errors_may_be_returned(loop):
    error = ValueError("an item")
    results = loop.evaluate_many([answer(), fail(error), answer()], return_exceptions=True)
    assert results == [42, error, 42]


def test_cancellations_may_be_returned(loop):
    async def cancel_myself():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    results = loop.evaluate_many([answer(), cancel_myself()], return_exceptions=True, limit=1)
    assert results[0] == 42
    assert isinstance(results[1], concurrent.futures.CancelledError)


def test_a_timeout_cancels_all_and_waits_for_their_cleanup(loop):
    sleepers = [Sleeper() for _ in range(5)]
    with pytest.raises(TimeoutError):
        loop.evaluate_many([answer(), *[sleeper() for sleeper in sleepers]], timeout=0.05)
    assert all(sleeper.cleaned.is_set() for sleeper in sleepers if sleeper.started.is_set())


def test_a_timeout_is_raised_although_exceptions_are_returned(loop):
    with pytest.raises(TimeoutError):
        loop.evaluate_many([forever(), forever()], timeout=0.02, return_exceptions=True)


def test_an_iterable_that_raises_cancels_what_runs(loop):
    sleeper = Sleeper()

    def coroutines():
        yield sleeper()
        assert sleeper.started.wait(WAIT)
        raise KeyError("of the iterable")

    with pytest.raises(KeyError):
        loop.evaluate_many(coroutines())
    assert sleeper.cleaned.is_set()


def test_an_item_that_cannot_be_awaited_cancels_what_runs(loop):
    sleeper = Sleeper()

    def items():
        yield sleeper()
        assert sleeper.started.wait(WAIT)
        yield 42

    with pytest.raises(TypeError):
        loop.evaluate_many(items())
    assert sleeper.cleaned.is_set()


@pytest.mark.parametrize("rubbish", [None, 42])
def test_what_cannot_be_iterated_is_refused(loop, rubbish):
    with pytest.raises(TypeError):
        loop.evaluate_many(rubbish)


@pytest.mark.parametrize(
    ("limit", "error"), [(0, ValueError), (-1, ValueError), ("3", TypeError), (1.5, TypeError)]
)
def test_a_limit_that_is_no_positive_number_is_refused_before_anything_is_pulled(loop, limit, error):
    meter = Meter()
    with pytest.raises(error):
        loop.evaluate_many(meter.coroutines(range(3)), limit=limit)
    with pytest.raises(error):
        list(loop.as_completed(meter.coroutines(range(3)), limit=limit))
    assert meter.pulled == 0


def test_progress_is_told_with_the_total_of_a_list(loop):
    told = []
    loop.evaluate_many([echo(n) for n in range(5)], progress=lambda *args: told.append(args))
    assert told[-1] == (5, 5)
    assert {total for _, total in told} == {5}
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_progress_is_told_without_the_total_of_a_generator(loop):
    told = []
    loop.evaluate_many((echo(n) for n in range(5)), limit=2, progress=lambda *args: told.append(args))
    assert told[-1] == (5, None)
    assert {total for _, total in told} == {None}
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_progress_that_raises_ends_the_call(loop):
    sleeper = Sleeper()

    def explode(done, total):
        if done:
            raise KeyError("of the progress")

    async def finish_when_the_sleeper_runs():
        while not sleeper.started.is_set():
            await asyncio.sleep(0)

    with pytest.raises(KeyError):
        loop.evaluate_many([sleeper(), finish_when_the_sleeper_runs()], progress=explode)
    assert sleeper.cleaned.is_set()


@pytest.mark.parametrize(
    ("coroutines", "shown"),
    [(lambda: [echo(n) for n in range(3)], "3/3"), (lambda: (echo(n) for n in range(3)), "3it")],
    ids=["list", "generator"],
)
def test_progress_draws_a_bar(loop, capsys, monkeypatch, coroutines, shown):
    tqdm = pytest.importorskip("tqdm", reason="tqdm is not installed")
    monkeypatch.setattr(tqdm.tqdm, "monitor_interval", 0)  # No thread of tqdm's own.
    assert loop.evaluate_many(coroutines(), progress=True) == [0, 1, 2]
    drawn = capsys.readouterr()
    assert shown in drawn.err
    assert drawn.out == ""


def test_progress_without_its_library_says_what_to_install(loop, monkeypatch):
    for name in [name for name in sys.modules if name == "tqdm" or name.startswith("tqdm.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    meter = Meter()
    with pytest.raises(ImportError, match=r"asyncio-thread-loop\[progress\]"):
        loop.evaluate_many(meter.coroutines(range(3)), progress=True)
    assert meter.pulled == 0


# map


# Lists, which are handed over in one go


@pytest.mark.parametrize("kind", [list, tuple, set, iter])
def test_a_first_failure_of_many_is_raised_whatever_holds_them(loop, kind):
    sleeper = Sleeper()
    with pytest.raises(ValueError, match="first"):
        loop.evaluate_many(kind([sleeper(), fail(ValueError("first"))]))
    assert sleeper.cancelled.is_set() or not sleeper.started.is_set()


def test_one_of_a_list_that_is_cancelled_by_itself_ends_the_call(loop):
    async def cancel_yourself():
        asyncio.current_task().cancel()
        await asyncio.sleep(60)

    with pytest.raises(concurrent.futures.CancelledError):
        loop.evaluate_many([cancel_yourself(), forever()])


def test_a_caller_of_many_sees_the_end_of_the_loop(make_loop):
    loop = make_loop(exit_timeout=None).start()
    first, second = Sleeper(), Sleeper()
    caller = Caller(loop.evaluate_many, [first(), second()])
    assert first.started.wait(WAIT)
    assert second.started.wait(WAIT)
    loop.shutdown()
    assert isinstance(caller.error(), concurrent.futures.CancelledError)


def test_results_of_a_list_are_there_however_late_each_is(loop):
    async def after(turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert loop.evaluate_many([after(n % 7) for n in range(500)]) == [n % 7 for n in range(500)]


def test_many_are_submitted_and_their_futures_given_in_order(loop):
    futures = loop.submit_many([echo(n) for n in range(100)])
    assert all(type(future) is Future for future in futures)
    assert [future.result(WAIT) for future in futures] == list(range(100))
    assert [future.result(WAIT) for future in loop.submit_many(echo(n) for n in range(3))] == [0, 1, 2]
    assert loop.submit_many([]) == []


def test_many_run_each_in_a_copy_of_the_callers_context(loop):
    variable = contextvars.ContextVar("variable", default="default")

    async def change(value):
        before = variable.get()
        variable.set(value)
        await asyncio.sleep(0)
        return before, variable.get()

    variable.set("of the caller")
    futures = loop.submit_many([change(1), change(2)])
    assert [future.result(WAIT) for future in futures] == [("of the caller", 1), ("of the caller", 2)]
    assert variable.get() == "of the caller"


def test_an_error_of_one_of_many_says_where_they_were_submitted(loop):
    for future in loop.submit_many([fail(ValueError("one")), fail(ValueError("two"))]):
        (note,) = future.exception(WAIT).__notes__
        assert "test_an_error_of_one_of_many" in note
    with pytest.raises(ValueError, match="one") as raised:
        loop.evaluate_many([fail(ValueError("one"))])
    (note,) = raised.value.__notes__
    assert "test_an_error_of_one_of_many" in note


@pytest.mark.parametrize("call", ["submit_many", "evaluate_many"])
def test_if_one_of_many_is_refused_none_is_run(loop, call):
    meter = Meter()
    coroutines = [meter.work(1), meter.work(2)]
    with pytest.raises(TypeError, match="awaitable was expected"):
        getattr(loop, call)([coroutines[0], "rubbish", coroutines[1]])
    assert [inspect.getcoroutinestate(coroutine) for coroutine in coroutines] == 2 * ["CORO_CLOSED"]
    loop.evaluate(answer())
    assert meter.started == 0


def test_an_iterable_that_raises_has_none_of_its_items_submitted(loop):
    meter = Meter()
    made = []

    def items():
        made.append(meter.work(1))
        yield made[0]
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        loop.submit_many(items())
    assert inspect.getcoroutinestate(made[0]) == "CORO_CLOSED"
    with pytest.raises(TypeError):
        loop.submit_many(5)


def test_many_are_refused_by_a_closed_loop_and_closed(make_loop):
    loop = make_loop()
    coroutine = answer()
    with pytest.raises(LoopClosedError):
        loop.submit_many([coroutine])
    assert inspect.getcoroutinestate(coroutine) == "CORO_CLOSED"


def test_many_may_be_submitted_on_the_thread_of_the_loop(loop):
    async def submit():
        futures = loop.submit_many([echo(1), echo(2)])
        return await asyncio.gather(*map(asyncio.wrap_future, futures))

    assert loop.evaluate(submit()) == [1, 2]


def test_each_of_many_can_be_cancelled_alone(loop):
    first, second = Sleeper(), Sleeper()
    futures = loop.submit_many([first(), second()])
    assert first.started.wait(WAIT)
    assert futures[0].cancel_and_wait(WAIT)
    assert not futures[1].done()
    assert futures[1].cancel_and_wait(WAIT)


def test_map_yields_results_in_order(loop):
    assert list(loop.map(echo, range(20))) == list(range(20))


def test_map_takes_several_iterables_and_ends_with_the_shortest(loop):
    async def add(a, b):
        return a + b

    assert list(loop.map(add, [1, 2, 3], itertools.count(10))) == [11, 13, 15]


def test_map_starts_everything_at_once(loop):
    barrier = asyncio.Barrier(10)

    async def meet(_):
        return await barrier.wait()

    assert sorted(loop.map(meet, range(10), timeout=WAIT)) == list(range(10))


def test_map_raises_the_error_of_an_item_in_its_place(loop):
    async def invert(n):
        return 1 / n

    results = loop.map(invert, [1, 2, 0, 4])
    assert next(results) == 1
    assert next(results) == 0.5
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_takes_time_in_all(loop):
    async def wait_for_ever(_):
        await forever()

    results = loop.map(wait_for_ever, [1], timeout=0.05)
    with pytest.raises(TimeoutError):
        next(results)


@pytest.mark.parametrize("buffersize", [1, 3])
def test_the_buffersize_bounds_what_is_pulled_and_in_flight(loop, buffersize):
    meter = Meter()
    results = loop.map(meter.work, meter.numbers(itertools.count()), buffersize=buffersize)
    for n in range(50):
        assert next(results) == n
        assert meter.pulled <= n + 1 + buffersize
    assert 0 < meter.most_in_flight <= buffersize
    results.close()


def test_map_pulls_nothing_beyond_its_buffer_while_nobody_reads(loop):
    meter = Meter()
    results = loop.map(meter.work, meter.numbers(range(10)), buffersize=2)
    loop.evaluate(asyncio.sleep(0.05))  # Time for a third, which must not come.
    assert meter.pulled <= 2
    assert list(results) == list(range(10))


def test_a_map_left_early_cancels_the_rest(loop):
    sleeper = Sleeper()

    async def work(n):
        if n:
            await sleeper()
        return n

    results = loop.map(work, [0, 1])
    assert next(results) == 0
    assert sleeper.started.wait(WAIT)
    results.close()
    assert sleeper.cleaned.wait(WAIT)


@pytest.mark.parametrize(("buffersize", "error"), [(0, ValueError), (-1, ValueError), ("3", TypeError)])
def test_a_buffersize_that_is_no_positive_number_is_refused(loop, buffersize, error):
    meter = Meter()
    with pytest.raises(error):
        list(loop.map(meter.work, meter.numbers([1]), buffersize=buffersize))
    assert meter.pulled == 0


def test_map_refuses_a_plain_function_naming_call(loop):
    with pytest.raises(TypeError, match="call"):
        list(loop.map(len, ["abc"]))


# as_completed


def test_as_completed_yields_futures_in_the_order_they_end(loop, gate):
    async def wait_for_gate():
        while not gate.is_set():
            await asyncio.sleep(0.005)
        return "last"

    completed = loop.as_completed([wait_for_gate(), answer()], timeout=WAIT)
    first = next(completed)
    assert isinstance(first, Future)
    assert first.result(timeout=0) == 42
    gate.set()
    assert next(completed).result(timeout=0) == "last"
    with pytest.raises(StopIteration):
        next(completed)


def test_as_completed_yields_every_future_once(loop):
    completed = list(loop.as_completed([echo(n) for n in range(50)]))
    assert all(future.done() for future in completed)
    assert sorted(future.result() for future in completed) == list(range(50))
    assert list(loop.as_completed([])) == []


@pytest.mark.parametrize("call", ["map", "as_completed"])
def test_an_iterator_dropped_before_its_first_item_cancels_the_rest(loop, call):
    sleeper = Sleeper()

    async def sleep(_):
        await sleeper()

    iterator = loop.map(sleep, [1]) if call == "map" else loop.as_completed([sleep(1)])
    assert sleeper.started.wait(WAIT)
    del iterator
    assert sleeper.cleaned.wait(WAIT)


def test_as_completed_left_early_closes_what_was_not_pulled_yet(loop):
    given = [answer(), answer(), answer()]
    ended = loop.as_completed(given, limit=1)
    next(ended)
    ended.close()
    assert inspect.getcoroutinestate(given[2]) == inspect.CORO_CLOSED


def test_as_completed_yields_failures_too(loop):
    error = ValueError("an item")
    outcomes = {type(future.exception()) for future in loop.as_completed([answer(), fail(error)])}
    assert outcomes == {type(None), ValueError}


@pytest.mark.parametrize("limit", [1, 3])
def test_as_completed_bounds_what_is_pulled_and_in_flight(loop, limit):
    meter = Meter()
    completed = loop.as_completed(meter.coroutines(itertools.count()), limit=limit)
    for n, future in enumerate(itertools.islice(completed, 50)):
        assert future.done()
        assert meter.pulled <= n + 1 + limit
    assert 0 < meter.most_in_flight <= limit
    assert 0 < meter.most_ahead <= limit
    completed.close()
    pulled = meter.pulled
    loop.evaluate(asyncio.sleep(0.02))
    assert meter.pulled == pulled


def test_as_completed_pulls_nothing_while_nobody_reads(loop):
    meter = Meter()
    completed = loop.as_completed(meter.coroutines(range(20)), limit=2)
    next(completed)
    loop.evaluate(asyncio.sleep(0.05))  # Time for more, which must not come.
    assert meter.pulled <= 3
    assert len(list(completed)) == 19


def test_as_completed_takes_time_in_all(loop):
    completed = loop.as_completed([answer(), forever()], timeout=0.3)
    assert next(completed).result() == 42
    with pytest.raises(TimeoutError):
        next(completed)
