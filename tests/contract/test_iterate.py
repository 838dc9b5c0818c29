"""`iterate` makes an iterator of an async one, which lives in one task from its first item to its end."""

import asyncio
import contextlib
import contextvars
import gc
import inspect
import itertools
import sys
import threading
import weakref
from concurrent.futures import CancelledError

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncio_thread_loop import DeadlockError, LoopClosedError, SyncGenerator, SyncIterator

from .harness import WAIT, Caller, Sleeper, Stubborn, answer, eager, needs_eager_tasks, until

AHEAD = [1, 2, 100]


@pytest.fixture(params=[0, *AHEAD])
def prefetch(request):
    return request.param


@pytest.fixture(params=AHEAD)
def ahead(request):
    return request.param


@pytest.fixture
def reported(loop):
    """What the loop's exception handler is told."""
    told = []
    loop.loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    return told


class Numbers:
    """An async generator function that counts for ever, and tells how it was ended."""

    def __init__(self, gate=None):
        self.made = 0
        self.ended_by = None
        self.ended = threading.Event()
        self.tasks = []
        self._gate = gate

    async def __call__(self):
        self.tasks.append(asyncio.current_task())
        try:
            while True:
                self.made += 1
                yield self.made - 1
                self.tasks.append(asyncio.current_task())
                await asyncio.sleep(0)
        except BaseException as error:
            self.ended_by = type(error)
            raise
        finally:
            await asyncio.sleep(0)
            while self._gate is not None and not self._gate.is_set():
                await asyncio.sleep(0.005)
            self.tasks.append(asyncio.current_task())
            self.ended.set()


class Blocked:
    """An async generator function that yields some items, then waits for ever."""

    def __init__(self, *items):
        self.items = items
        self.waits = threading.Event()
        self.ended = threading.Event()

    async def __call__(self):
        try:
            for item in self.items:
                yield item
            self.waits.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.ended.set()


async def count(to):
    for number in range(to):
        yield number
        await asyncio.sleep(0)


async def at_once(to):
    for number in range(to):
        yield number


async def fail_after(items, error):
    for item in range(items):
        yield item
    raise error


def is_quiet(loop):
    """Nothing is left on the loop but what asks."""

    async def others():
        return len(asyncio.all_tasks()) == 1

    until(lambda: loop.evaluate(others()))


# Items


@pytest.mark.parametrize("source", [count, at_once])
@pytest.mark.parametrize("to", [0, 1, 2, 99, 100, 101, 1000])
def test_every_item_comes_once_and_in_order(loop, prefetch, source, to):
    assert list(loop.iterate(source(to), prefetch=prefetch)) == list(range(to))
    is_quiet(loop)


def test_when_it_is_over_it_stays_so(loop, prefetch):
    items = loop.iterate(count(2), prefetch=prefetch)
    assert list(items) == [0, 1]
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(items)
        assert list(items) == []
    items.close()


def test_it_is_an_iterator(loop, prefetch):
    with loop.iterate(count(1), prefetch=prefetch) as items:
        assert iter(items) is items
        assert type(items) is SyncGenerator
        assert next(items, None) == 0
        assert next(items, "over") == "over"


def test_any_item_may_come(loop, prefetch):
    error, stop = ValueError("an item"), StopIteration()
    given = [None, error, stop, NotImplemented, (), GeneratorExit, asyncio.CancelledError()]

    async def give():
        for item in given:
            yield item

    assert list(loop.iterate(give(), prefetch=prefetch)) == given


def test_nothing_runs_on_the_calling_thread(loop, prefetch):
    async def threads():
        yield threading.current_thread()
        await asyncio.sleep(0)
        yield threading.current_thread()

    assert list(loop.iterate(threads(), prefetch=prefetch)) == [loop.thread] * 2


# One task for the whole of its life


def test_one_task_from_the_first_item_to_the_cleanup(loop, prefetch):
    numbers = Numbers()
    with loop.iterate(numbers(), prefetch=prefetch) as items:
        assert [next(items) for _ in range(3)] == [0, 1, 2]
    assert numbers.ended.is_set()
    assert len(numbers.tasks) > 3
    assert len(set(numbers.tasks)) == 1


@pytest.mark.parametrize("way", ["anyio", "asyncio"])
def test_a_task_group_held_across_a_yield(loop, prefetch, way):
    done = []

    async def child(n):
        await asyncio.sleep(0)
        done.append(n)

    async def numbers():
        if way == "anyio":
            async with anyio.create_task_group() as group:
                for n in range(3):
                    group.start_soon(child, n)
                    yield n
        else:
            async with asyncio.TaskGroup() as group:
                for n in range(3):
                    group.create_task(child(n))
                    yield n

    assert list(loop.iterate(numbers(), prefetch=prefetch)) == [0, 1, 2]
    assert sorted(done) == [0, 1, 2]


@pytest.mark.parametrize("way", ["anyio", "asyncio"])
def test_a_task_group_is_ended_with_an_iteration_that_is_left(loop, prefetch, way):
    sleeper = Sleeper()

    async def numbers():
        if way == "anyio":
            async with anyio.create_task_group() as group:
                group.start_soon(sleeper)
                while True:
                    yield 1
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(sleeper())
                while True:
                    yield 1

    with loop.iterate(numbers(), prefetch=prefetch) as items:
        next(items)
        assert sleeper.started.wait(WAIT)
    assert sleeper.cancelled.is_set()
    is_quiet(loop)


@pytest.mark.parametrize("way", ["anyio", "asyncio"])
def test_a_child_that_fails_between_two_items_ends_the_iteration_with_its_error(loop, prefetch, way, gate):
    async def child():
        while not gate.is_set():
            await asyncio.sleep(0.001)
        raise ZeroDivisionError

    async def numbers():
        if way == "anyio":
            async with anyio.create_task_group() as group:
                group.start_soon(child)
                yield 1
                await asyncio.Event().wait()
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
                yield 1
                await asyncio.Event().wait()

    items = loop.iterate(numbers(), prefetch=prefetch)
    assert next(items) == 1
    gate.set()
    is_quiet(loop)
    with pytest.raises(ExceptionGroup) as caught:
        next(items)
    assert [type(each) for each in caught.value.exceptions] == [ZeroDivisionError]
    with pytest.raises(StopIteration):
        next(items)


@pytest.mark.parametrize("way", ["anyio", "asyncio"])
def test_a_timeout_that_passes_between_two_items_is_raised_by_the_next(loop, way):
    left = threading.Event()

    async def numbers():
        try:
            with anyio.fail_after(0.01) if way == "anyio" else contextlib.nullcontext():
                async with asyncio.timeout(0.01) if way == "asyncio" else contextlib.nullcontext():
                    yield 1
                    await asyncio.Event().wait()
        finally:
            left.set()

    items = loop.iterate(numbers())
    assert next(items) == 1
    assert left.wait(WAIT)  # where it is suspended, not when it is asked for the next item
    with pytest.raises(TimeoutError):
        next(items)
    assert list(items) == []


def test_a_timeout_within_one_item(loop, prefetch):
    async def numbers():
        for n in range(3):
            with anyio.move_on_after(0.001):
                await asyncio.Event().wait()
            yield n

    assert list(loop.iterate(numbers(), prefetch=prefetch)) == [0, 1, 2]


def test_scopes_that_end_between_two_items_lose_none(loop, prefetch):
    ended = threading.Semaphore(0)

    async def numbers():
        for n in range(3):
            with anyio.move_on_after(0.01):
                yield n
                await asyncio.Event().wait()
            ended.release()
        yield 3

    items = loop.iterate(numbers(), prefetch=prefetch)
    assert next(items) == 0
    for _ in range(3):
        assert ended.acquire(timeout=WAIT)
    assert list(items) == [1, 2, 3]


def test_an_end_that_comes_between_two_items_is_no_error(loop, prefetch):
    left = threading.Event()

    async def numbers():
        with anyio.move_on_after(0.01):
            yield 1
            await asyncio.Event().wait()
        left.set()

    items = loop.iterate(numbers(), prefetch=prefetch)
    assert next(items) == 1
    assert left.wait(WAIT)
    assert list(items) == []


def test_a_scope_that_is_closed_early_leaves_no_cancellation_behind(loop, prefetch):
    cancelling = []

    async def numbers():
        try:
            with anyio.fail_after(WAIT):
                while True:
                    yield 1
        finally:
            await anyio.sleep(0)
            cancelling.append(asyncio.current_task().cancelling())

    with loop.iterate(numbers(), prefetch=prefetch) as items:
        next(items)
    assert cancelling == [0]


# Context variables

variable = contextvars.ContextVar("variable", default="unset")


def test_context_variables_last_from_one_item_to_the_next(loop, prefetch):
    async def values():
        yield variable.get()
        variable.set("of the generator")
        yield None
        await asyncio.sleep(0)
        yield variable.get()

    def call():
        variable.set("of the caller")
        items = loop.iterate(values(), prefetch=prefetch)
        variable.set("changed meanwhile")
        assert list(items) == ["of the caller", None, "of the generator"]
        assert variable.get() == "changed meanwhile"

    contextvars.copy_context().run(call)


def test_with_both_what_it_changes_comes_back_with_each_item(make_loop):
    other = contextvars.ContextVar("other", default=0)

    async def values():
        for n in range(1, 4):
            other.set(n)
            yield n

    def call():
        with make_loop(propagate_context="both", exit_timeout=5) as loop:
            seen = []
            for n in loop.iterate(values()):
                seen.append((n, other.get()))
                variable.set(f"of the caller, {n}")
                assert variable.get() == f"of the caller, {n}"
            assert variable.get() == "of the caller, 3"  # What it didn't change, it doesn't set back.
            return seen

    assert contextvars.copy_context().run(call) == [(1, 1), (2, 2), (3, 3)]


# Leaving early


def leave_by_break(items):
    for _ in items:
        break


def leave_by_an_exception(items):
    with contextlib.suppress(ZeroDivisionError):
        for _ in items:
            raise ZeroDivisionError


def leave_by_closing(items):
    next(items)
    items.close()


def leave_by_the_end_of_a_block(items):
    with items:
        next(items)


def leave_by_an_exception_in_a_block(items):
    with contextlib.suppress(ZeroDivisionError), items:
        next(items)
        raise ZeroDivisionError


def leave_by_dropping(items):
    next(items)


def leave_by_dropping_a_cycle(items):
    next(items)
    cycle = [items]
    cycle.append(cycle)
    del items, cycle
    gc.collect()


LEAVE = {name: each for name, each in list(globals().items()) if name.startswith("leave_by")}


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE.keys())
def test_a_generator_that_is_left_early_cleans_up_on_the_loop_at_once(loop, prefetch, leave):
    # Suspended, as it is in any generator that isn't asked for more than it has made.
    cleaned, ended_by, threads = threading.Event(), [], []

    async def endless():
        try:
            while True:
                yield 1
        except BaseException as error:
            ended_by.append(type(error))
            raise
        finally:
            await asyncio.sleep(0)
            threads.append(threading.current_thread())
            cleaned.set()

    leave(loop.iterate(endless(), prefetch=prefetch))
    assert cleaned.wait(WAIT)
    assert threads == [loop.thread]
    assert ended_by == [GeneratorExit]
    is_quiet(loop)


WAITS = ["close", "block"]


@pytest.mark.parametrize("way", WAITS)
def test_closing_waits_for_the_cleanup(loop, prefetch, way):
    numbers = Numbers()
    items = loop.iterate(numbers(), prefetch=prefetch)
    next(items)
    if way == "close":
        items.close()
    else:
        with items:
            pass
    assert numbers.ended.is_set()
    assert list(items) == []
    items.close()


def test_closing_what_has_not_begun_never_begins_it(loop):
    begun = []

    async def numbers():
        begun.append(1)
        yield 1

    with loop.iterate(numbers()):
        pass
    items = loop.iterate(numbers())
    items.close()
    assert list(items) == []
    loop.iterate(numbers())  # and dropped
    is_quiet(loop)
    assert begun == []


def test_dropped_before_the_loop_has_seen_it(loop, prefetch):
    begun, gate = threading.Event(), threading.Event()

    async def block():
        begun.set()
        gate.wait(WAIT)

    numbers = Numbers()
    loop.submit(block)
    assert begun.wait(WAIT)
    loop.iterate(numbers(), prefetch=prefetch)  # The loop can't have begun with it when it is dropped.
    gate.set()
    is_quiet(loop)
    assert numbers.made == 0


def test_dropped_on_the_loop_thread(loop, prefetch):
    numbers = Numbers()
    kept = [loop.iterate(numbers(), prefetch=prefetch)]
    assert next(kept[0]) == 0

    async def drop():
        kept.clear()

    loop.evaluate(drop())
    assert numbers.ended.wait(WAIT)
    is_quiet(loop)


def test_what_is_dropped_is_freed_with_all_its_items(loop, prefetch):
    class Item:
        pass

    async def items():
        while True:
            item = Item()
            alive.add(item)
            yield item
            del item

    alive = weakref.WeakSet()
    iterator = loop.iterate(items(), prefetch=prefetch)
    next(iterator)
    del iterator
    until(lambda: not alive)


def test_closing_from_another_thread_ends_a_next_that_waits(loop, prefetch):
    blocked = Blocked(1)
    items = loop.iterate(blocked(), prefetch=prefetch)
    assert next(items) == 1
    caller = Caller(next, items, "no more")
    assert blocked.waits.wait(WAIT)
    items.close()
    assert blocked.ended.is_set()
    assert caller.outcome() == "no more"


@pytest.mark.parametrize("rounds", [50])
def test_closing_and_asking_at_once_strands_nobody(loop, prefetch, rounds):
    for _ in range(rounds):
        blocked = Blocked()
        items = loop.iterate(blocked(), prefetch=prefetch)
        barrier = threading.Barrier(4)

        def take(items=items, barrier=barrier):
            barrier.wait(WAIT)
            with contextlib.suppress(ValueError):  # in use by another thread
                return next(items, "no more")
            return "no more"

        def close(items=items, barrier=barrier):
            barrier.wait(WAIT)
            items.close()

        callers = [Caller(take), Caller(take), Caller(close), Caller(close)]
        for caller in callers:
            assert caller.outcome() in (None, "no more")
    is_quiet(loop)


def test_closing_in_the_moment_of_the_ask_does_not_wait_for_the_item(loop, gate):
    """Both reach the loop while it is busy, the ask first: the generator is suspended when it is closed."""
    begun = threading.Event()

    async def block():
        begun.set()
        gate.wait(WAIT)

    blocked = Blocked(1)
    items = loop.iterate(blocked())
    assert next(items) == 1
    loop.submit(block)
    assert begun.wait(WAIT)
    taker = Caller(next, items, "no more")
    until(lambda: "1 call not begun" in loop.dump())
    closer = Caller(items.close)
    until(lambda: "2 calls not begun" in loop.dump())
    gate.set()
    assert taker.outcome() == "no more"
    assert closer.outcome() is None
    assert not blocked.waits.is_set()


@pytest.mark.parametrize("closers", [2, 5])
def test_many_may_close_at_once_and_all_wait(loop, gate, closers):
    numbers = Numbers(gate)
    items = loop.iterate(numbers())
    next(items)
    callers = [Caller(items.close) for _ in range(closers)]
    gate.set()
    for caller in callers:
        assert caller.outcome() is None
    assert numbers.ended.is_set()


def test_closing_during_the_cleanup_of_a_dropped_one_lets_it_end(loop, gate):
    entered, finished = threading.Event(), []

    async def numbers():
        try:
            yield 1
        finally:
            entered.set()
            while not gate.is_set():
                await asyncio.sleep(0.001)
            finished.append(True)

    items = loop.iterate(numbers())
    next(items)
    first = Caller(items.close)
    assert entered.wait(WAIT)
    second = Caller(items.close)
    gate.set()
    assert first.outcome() is second.outcome() is None
    assert finished == [True]


def test_dropping_what_a_cancellation_cleans_up_lets_that_end(make_loop, gate):
    # The exit has cancelled it in the middle of an item; a second cancellation would cut its cleanup short.
    loop = make_loop(exit_timeout=WAIT).start()
    event_loop, sleeper, noticed = loop.loop, Sleeper(gate), threading.Event()

    async def numbers():
        await sleeper()
        yield 1

    items = loop.iterate(numbers(), prefetch=1)
    assert sleeper.started.wait(WAIT)
    leaver = Caller(loop.close)
    assert sleeper.cancelled.wait(WAIT)
    del items
    event_loop.call_soon_threadsafe(noticed.set)
    assert noticed.wait(WAIT)
    gate.set()
    leaver.outcome()
    assert sleeper.cleaned.is_set()


def test_closing_while_the_exit_cleans_up_waits_for_that(make_loop, gate):
    loop = make_loop(exit_timeout=WAIT).start()
    sleeper = Sleeper(gate)

    async def numbers():
        await sleeper()
        yield 1

    items = loop.iterate(numbers())
    taker = Caller(next, items)
    assert sleeper.started.wait(WAIT)
    leaver = Caller(loop.close)
    assert sleeper.cancelled.wait(WAIT)
    closer = Caller(items.close)
    gate.set()
    leaver.outcome()
    assert closer.outcome() is None
    assert isinstance(taker.error(), CancelledError)
    assert sleeper.cleaned.is_set()


# Errors


def test_an_error_comes_after_the_items_before_it(loop, prefetch):
    items = loop.iterate(fail_after(5, ZeroDivisionError("at its end")), prefetch=prefetch)
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ZeroDivisionError, match="at its end"):
        next(items)
    with pytest.raises(StopIteration):
        next(items)
    is_quiet(loop)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException()])
def test_exits_raised_in_a_generator_reach_whoever_takes(loop, prefetch, error):
    items = loop.iterate(fail_after(1, error), prefetch=prefetch)
    assert next(items) == 0
    with pytest.raises(type(error)) as caught:
        next(items)
    assert caught.value is error
    assert loop.evaluate(answer()) == 42


@pytest.mark.parametrize("error", [StopIteration(1), StopAsyncIteration()])
def test_an_end_of_iteration_raised_in_a_generator_is_a_runtime_error(loop, prefetch, error):
    items = loop.iterate(fail_after(1, error), prefetch=prefetch)
    assert next(items) == 0
    with pytest.raises(RuntimeError, match="async generator raised Stop"):
        next(items)


def test_a_cancellation_of_its_own_is_told_as_one(loop, prefetch):
    async def numbers():
        yield 1
        raise asyncio.CancelledError

    items = loop.iterate(numbers(), prefetch=prefetch)
    assert next(items) == 1
    with pytest.raises(CancelledError):
        next(items)
    assert list(items) == []
    is_quiet(loop)


async def fail_when_closed():
    try:
        while True:
            yield 1
    finally:
        await asyncio.sleep(0)
        raise ZeroDivisionError("in its cleanup")


def test_closing_raises_what_the_cleanup_raises_once(loop, prefetch, reported):
    items = loop.iterate(fail_when_closed(), prefetch=prefetch)
    next(items)
    with pytest.raises(ZeroDivisionError, match="in its cleanup"):
        items.close()
    items.close()
    assert list(items) == []
    del items
    is_quiet(loop)
    assert reported == []


def test_what_the_cleanup_raises_is_reported_when_nobody_waits(loop, prefetch, reported):
    items = loop.iterate(fail_when_closed(), prefetch=prefetch)
    next(items)
    del items
    until(lambda: reported)
    is_quiet(loop)
    assert [str(error) for error in reported] == ["in its cleanup"]


def test_what_the_cleanup_raises_at_the_exit_of_the_loop_is_told_or_reported(make_loop):
    told = []
    with make_loop(exit_timeout=5) as loop:
        loop.loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        closed, asked, dropped = [loop.iterate(fail_when_closed()) for _ in range(3)]
        assert [next(closed), next(asked), next(dropped)] == [1, 1, 1]
    with pytest.raises(ZeroDivisionError):
        closed.close()
    with pytest.raises(ZeroDivisionError):
        next(asked)
    assert told == []
    del dropped
    assert [type(error) for error in told] == [ZeroDivisionError]


def test_an_error_made_ahead_that_nobody_takes_is_reported(loop, reported):
    for leave in (lambda items: items.close(), lambda items: None):
        items = loop.iterate(fail_after(1, ZeroDivisionError()), prefetch=5)
        assert next(items) == 0
        is_quiet(loop)  # Now the error is in the buffer.
        leave(items)
        del items
        until(lambda: reported)
        assert [type(error) for error in reported] == [ZeroDivisionError]
        reported.clear()


def test_an_error_of_a_cleanup_in_the_middle_of_an_item_is_raised_by_close(loop, prefetch):
    begun = threading.Event()

    async def numbers():
        try:
            begun.set()
            await asyncio.Event().wait()
            yield 1
        finally:
            raise ZeroDivisionError

    items = loop.iterate(numbers(), prefetch=prefetch)
    taker = Caller(next, items, "no more")
    assert begun.wait(WAIT)
    with pytest.raises(ZeroDivisionError):
        items.close()
    assert taker.outcome() == "no more"


def test_a_generator_that_ignores_its_end_is_an_error_and_leaves_nothing(loop, prefetch, reported):
    async def stubborn():
        try:
            while True:
                yield 1
        finally:
            yield 2

    items = loop.iterate(stubborn(), prefetch=prefetch)
    next(items)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        items.close()
    assert list(items) == []
    is_quiet(loop)
    del items
    gc.collect()
    assert reported == []


def test_an_item_that_swallows_its_cancellation_ends_all_the_same(loop, prefetch):
    blocked, ended_by = threading.Event(), []

    async def numbers():
        try:
            while True:
                try:
                    blocked.set()
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass
                yield "swallowed"
        except BaseException as error:
            ended_by.append((type(error), asyncio.current_task().cancelling()))
            raise

    items = loop.iterate(numbers(), prefetch=prefetch)
    taker = Caller(next, items, "no more")
    assert blocked.wait(WAIT)
    items.close()
    assert taker.outcome() == "no more"
    assert ended_by == [(GeneratorExit, 0)]


# The exit of the loop


def test_closing_the_loop_ends_a_next_that_waits(make_loop, prefetch):
    loop = make_loop(exit_timeout=5).start()
    blocked = Blocked(1)
    items = loop.iterate(blocked(), prefetch=prefetch)
    assert next(items) == 1
    taker = Caller(next, items)
    assert blocked.waits.wait(WAIT)
    loop.close()
    assert isinstance(taker.error(), CancelledError | LoopClosedError)
    assert blocked.ended.is_set()


def test_closing_the_loop_between_two_items(make_loop, prefetch):
    numbers = Numbers()
    with make_loop(exit_timeout=5) as loop:
        items = loop.iterate(numbers(), prefetch=prefetch)
        assert next(items) == 0
    assert numbers.ended.is_set()
    ahead = []
    with pytest.raises(CancelledError):
        ahead += items  # what was made ahead is still there
    items.close()
    assert list(items) == []


def test_a_thread_that_closes_an_iteration_while_the_loop_is_closed_finds_it_ended(make_loop, gate):
    cleaning, cleaned = threading.Event(), threading.Event()

    async def numbers():
        try:
            while True:
                yield 1
        finally:
            cleaning.set()
            while not gate.is_set():
                await asyncio.sleep(0.001)
            cleaned.set()

    loop = make_loop(exit_timeout=WAIT).start()
    items = loop.iterate(numbers())
    next(items)
    closer = Caller(items.close)
    assert cleaning.wait(WAIT)
    leaver = Caller(loop.close)
    until(lambda: not loop.loop or "being closed by" in loop.dump())
    gate.set()
    leaver.outcome()
    assert closer.outcome() is None
    assert cleaned.is_set()


def test_a_block_that_the_loop_was_closed_in_ends_quietly(make_loop, prefetch):
    numbers = Numbers()
    loop = make_loop(exit_timeout=5).start()
    with loop.iterate(numbers(), prefetch=prefetch) as items:
        assert next(items) == 0
        loop.close()
        assert numbers.ended.is_set()


def test_the_loop_of_an_iteration_is_not_another_one_of_the_same_name(make_loop, prefetch):
    loop = make_loop(exit_timeout=5)
    with loop:
        over = loop.iterate(count(1), prefetch=prefetch)
        assert list(over) == [0]
        items = loop.iterate(Numbers()(), prefetch=prefetch)
        assert next(items) == 0
    with loop:
        assert list(over) == []
        assert loop.evaluate(answer()) == 42
        with pytest.raises((CancelledError, LoopClosedError)):
            list(items)
        items.close()


def test_a_loop_that_gives_up_strands_nobody(make_loop, gate, prefetch):
    stubborn = Stubborn(gate)
    loop = make_loop(exit_timeout=0.1).start()
    thread = loop.thread

    async def numbers():
        yield 1
        await stubborn()
        yield 2

    items = loop.iterate(numbers(), prefetch=prefetch)
    assert next(items) == 1
    taker = Caller(next, items)
    assert stubborn.started.wait(WAIT)
    with pytest.warns(RuntimeWarning, match="iteration of .*numbers"):
        loop.close()
    assert isinstance(taker.error(), LoopClosedError)
    Caller(items.close).outcome()
    with loop:  # Another one, which has never heard of it.
        assert isinstance(Caller(next, items).error(), LoopClosedError)
        Caller(items.close).outcome()
    del items
    gate.set()
    thread.join(WAIT)
    assert not thread.is_alive()


def test_letting_submitted_work_finish_does_not_wait_for_an_iteration(make_loop, prefetch):
    loop = make_loop(exit_timeout=WAIT).start()
    numbers = Numbers()
    items = loop.iterate(numbers(), prefetch=prefetch)
    assert next(items) == 0
    future = loop.submit(asyncio.sleep, 0.01, "finished")
    loop.shutdown(cancel_futures=False)
    assert future.result() == "finished"
    assert numbers.ended.is_set()


# Made ahead


def test_so_many_items_are_made_ahead_and_no_more(loop, ahead):
    made, taken = 0, 0
    too_many = []

    async def numbers():
        nonlocal made
        while True:
            made += 1
            if made - taken > ahead + 1:  # One is being taken.
                too_many.append((made, taken))
            yield made

    with loop.iterate(numbers(), prefetch=ahead) as items:
        until(lambda: made == ahead)
        for _ in range(5 * ahead):
            next(items)
            taken += 1
        until(lambda: made >= taken + (ahead + 1) // 2)  # It goes on when half of them are gone.
        assert made <= taken + ahead
    assert too_many == []


def test_without_prefetch_nothing_is_made_before_it_is_asked_for(loop):
    numbers = Numbers()
    items = loop.iterate(numbers())
    for asked in range(3):
        for _ in range(3):
            loop.evaluate(asyncio.sleep(0))
        assert numbers.made == asked
        next(items)


def test_the_source_works_while_the_consumer_is_busy(loop):
    made = threading.Semaphore(0)

    async def numbers():
        for n in range(6):
            await asyncio.sleep(0)
            made.release()
            yield n

    items = loop.iterate(numbers(), prefetch=3)
    for _ in range(3):
        assert made.acquire(timeout=WAIT)  # Nobody has asked for anything.
    assert list(items) == [0, 1, 2, 3, 4, 5]


def test_the_first_item_does_not_wait_for_others(loop):
    blocked = Blocked("first")
    with loop.iterate(blocked(), prefetch=100) as items:
        assert Caller(next, items).outcome() == "first"


def test_an_item_arrives_from_a_source_that_never_suspends(loop):
    async def endless():
        while True:
            yield 1

    # The buffer would take all the memory there is before it is full.
    with loop.iterate(endless(), prefetch=sys.maxsize) as items:
        assert next(items) == 1


def test_the_rest_of_the_loop_has_its_turn_under_a_source_that_never_suspends(loop):
    stop = False

    async def endless():
        while not stop:
            yield 1

    async def stop_it():
        nonlocal stop
        stop = True

    items = loop.iterate(endless(), prefetch=sys.maxsize)
    assert next(items) == 1
    loop.evaluate(stop_it())
    assert set(items) == {1}


def test_threads_that_share_one_iterator_lose_and_duplicate_nothing(loop, ahead):
    items = loop.iterate(count(2000), prefetch=ahead)
    barrier = threading.Barrier(4)

    def take():
        barrier.wait(WAIT)
        return list(items)

    taken = [caller.outcome() for caller in [Caller(take) for _ in range(4)]]
    for each in taken:
        assert each == sorted(each)
    assert sorted(itertools.chain(*taken)) == list(range(2000))


def test_only_one_thread_at_a_time_takes_what_is_made_on_demand(loop):
    blocked = Blocked(1)
    items = loop.iterate(blocked())
    assert next(items) == 1
    taker = Caller(next, items, "no more")
    assert blocked.waits.wait(WAIT)
    with pytest.raises(ValueError, match="in use by another thread"):
        next(items)
    items.close()
    assert taker.outcome() == "no more"


def test_memory_is_bounded_by_what_may_be_made_ahead(loop, ahead):
    alive, most = 0, 0

    class Item:
        def __init__(self):
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self):
            nonlocal alive
            alive -= 1

    async def make():
        for _ in range(20 * ahead):
            yield Item()

    for _ in loop.iterate(make(), prefetch=ahead):
        pass
    # Those ahead, the one that is being used, and the one before it until the name is bound anew.
    assert most <= ahead + 2
    del _
    assert alive == 0


@pytest.mark.parametrize("moment", ["full", "empty", "in the middle of an item"])
def test_closing_at_any_fill_of_the_buffer(loop, moment, ahead):
    numbers, blocked = Numbers(), Blocked(*range(ahead))
    if moment == "full":
        items, ended = loop.iterate(numbers(), prefetch=ahead), numbers.ended
        until(lambda: numbers.made == ahead)
    else:
        items, ended = loop.iterate(blocked(), prefetch=ahead + 1), blocked.ended
        if moment == "empty":
            assert [next(items) for _ in range(ahead)] == list(range(ahead))
        assert blocked.waits.wait(WAIT)
    items.close()
    assert ended.is_set()
    assert list(items) == []
    is_quiet(loop)


# Sources


class Countdown:
    """A class that is its own async iterator."""

    def __init__(self, left):
        self.left = left
        self.closed = threading.Event()

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return self.left

    async def aclose(self):
        self.closed.set()


class Shelf:
    """A collection: each iteration has an async iterator of its own."""

    def __init__(self, left):
        self.left = left
        self.given = []

    def __aiter__(self):
        self.given.append(Countdown(self.left))
        return self.given[-1]


def test_a_class_of_async_iterators(loop, prefetch):
    items = loop.iterate(Countdown(3), prefetch=prefetch)
    assert type(items) is SyncIterator
    assert not hasattr(items, "send")
    assert list(items) == [2, 1, 0]


def test_a_collection_can_be_iterated_over_again(loop, prefetch):
    shelf = Shelf(3)
    for _ in range(2):
        assert list(loop.iterate(shelf, prefetch=prefetch)) == [2, 1, 0]


@pytest.mark.parametrize("way", ["close", "drop", "the exit of the loop"])
def test_a_fresh_iterator_is_closed_when_it_is_left(make_loop, prefetch, way):
    shelf = Shelf(1000)
    with make_loop(exit_timeout=5) as loop:
        items = loop.iterate(shelf, prefetch=prefetch)
        assert next(items) == 999
        if way == "close":
            items.close()
        elif way == "drop":
            del items
            assert shelf.given[0].closed.wait(WAIT)
    assert shelf.given[0].closed.is_set()


def test_an_iterator_that_was_open_before_stays_open(loop, prefetch):
    countdown = Countdown(1000)
    with loop.iterate(countdown, prefetch=prefetch) as items:
        assert next(items) == 999
    assert not countdown.closed.is_set()
    assert next(loop.iterate(countdown, prefetch=prefetch)) < 999


def test_a_stream_of_anyio_stays_open(loop):
    async def open_stream():
        send, receive = anyio.create_memory_object_stream(10)
        for n in range(10):
            send.send_nowait(n)
        return send, receive

    send, receive = loop.evaluate(open_stream())
    with loop.iterate(receive) as items:
        assert next(items) == 0
    with loop.iterate(receive) as items:
        assert next(items) == 1

    async def close():
        send.close()
        receive.close()

    loop.evaluate(close())


def test_closing_cancels_a_receive_and_loses_nothing(loop):
    async def open_stream():
        return anyio.create_memory_object_stream(10)

    async def send_one():
        await send.send(1)
        received = receive.receive_nowait()
        send.close()
        receive.close()
        return received

    send, receive = loop.evaluate(open_stream())
    items = loop.iterate(receive)
    taker = Caller(next, items, "no more")
    until(lambda: receive.statistics().tasks_waiting_receive == 1)
    items.close()
    assert taker.outcome() == "no more"
    assert loop.evaluate(send_one()) == 1


def test_an_iterator_may_fail_and_go_on(loop, prefetch):
    class Flaky(Countdown):
        async def __anext__(self):
            left = await super().__anext__()
            if left % 2:
                raise ValueError(left)
            return left

    items = loop.iterate(Flaky(4), prefetch=prefetch)
    came = []
    for _ in range(4):
        try:
            came.append(next(items))
        except ValueError as error:
            came.append(error.args[0])
    assert came == [3, 2, 1, 0]
    assert list(items) == []


def test_a_generator_that_has_begun_is_gone_on_with(loop, prefetch):
    async def begin():
        generator = count(3)
        await anext(generator)
        return generator

    assert list(loop.iterate(loop.evaluate(begin()), prefetch=prefetch)) == [1, 2]


def test_a_generator_that_is_over_has_no_items(loop, prefetch):
    async def end():
        generator = count(1)
        async for _ in generator:
            pass
        return generator

    assert list(loop.iterate(loop.evaluate(end()), prefetch=prefetch)) == []


def test_a_generator_that_somebody_else_runs_is_an_error_and_goes_on_there(loop, prefetch, gate):
    started = threading.Event()

    async def numbers():
        started.set()
        while not gate.is_set():
            await asyncio.sleep(0.001)
        yield 1
        yield 2

    async def run(generator):
        return [item async for item in generator]

    generator = numbers()
    future = loop.submit(run(generator))
    assert started.wait(WAIT)
    items = loop.iterate(generator, prefetch=prefetch)
    with pytest.raises(RuntimeError, match="already running"):
        next(items)
    with pytest.raises(RuntimeError, match="already running"):
        items.close()
    gate.set()
    assert future.result(WAIT) == [1, 2]
    del items
    is_quiet(loop)


def test_an_aiter_that_raises_is_raised_by_the_first_next(loop, prefetch, reported):
    class Broken:
        def __aiter__(self):
            raise ZeroDivisionError

    items = loop.iterate(Broken(), prefetch=prefetch)
    with pytest.raises(ZeroDivisionError):
        next(items)
    assert list(items) == []
    items = loop.iterate(Broken(), prefetch=prefetch)
    del items
    until(lambda: reported)
    assert [type(error) for error in reported] == [ZeroDivisionError]


def test_an_aiter_that_returns_rubbish(loop, prefetch):
    class Broken:
        def __aiter__(self):
            return 42

    with pytest.raises(TypeError, match="not an async iterator"):
        next(loop.iterate(Broken(), prefetch=prefetch))


def test_an_anext_that_returns_rubbish(loop, prefetch):
    class Broken(Countdown):
        def __anext__(self):
            return 42

    with loop.iterate(Broken(1), prefetch=prefetch) as items, pytest.raises(TypeError, match="await"):
        next(items)


def test_an_aclose_that_raises_at_once(loop, prefetch):
    class Broken(Countdown):
        def aclose(self):
            raise ZeroDivisionError

    class BrokenShelf(Shelf):
        def __aiter__(self):
            return Broken(1000)

    items = loop.iterate(BrokenShelf(1000), prefetch=prefetch)
    next(items)
    with pytest.raises(ZeroDivisionError):
        items.close()


# Sending and throwing


async def echo():
    received = None
    while True:
        try:
            received = yield received
        except ValueError as error:
            received = error


def test_values_are_sent_and_exceptions_thrown(loop):
    with loop.iterate(echo()) as generator:
        assert next(generator) is None
        assert generator.send("sent") == "sent"
        error = ValueError("thrown")
        assert generator.throw(error) is error
        assert isinstance(generator.throw(ValueError), ValueError)
        assert generator.send(None) is None
        with pytest.raises(ZeroDivisionError):
            generator.throw(ZeroDivisionError)
        assert list(generator) == []
        with pytest.raises(StopIteration):
            generator.send(1)
        with pytest.raises(ZeroDivisionError):
            generator.throw(ZeroDivisionError)


async def async_adder(ends_with):
    total = 0
    try:
        while total < 5:
            try:
                total += (yield total) or 0
            except ValueError:
                total = -total
    finally:
        await asyncio.sleep(0)
        if ends_with is not None:
            raise ends_with


def adder(ends_with):
    total = 0
    try:
        while total < 5:
            try:
                total += (yield total) or 0
            except ValueError:
                total = -total
    finally:
        if ends_with is not None:
            raise ends_with


STEPS = {
    "next": next,
    "send 0": lambda generator: generator.send(0),
    "send 3": lambda generator: generator.send(3),
    "throw what is handled": lambda generator: generator.throw(ValueError()),
    "throw a type": lambda generator: generator.throw(ValueError),
    "throw what is not": lambda generator: generator.throw(KeyError("thrown")),
    "throw no exception": lambda generator: generator.throw(42),
    "close": lambda generator: generator.close(),
}


def outcome_of(step, generator):
    try:
        return step(generator)
    except BaseException as error:
        return type(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(list(STEPS)), max_size=8), fails=st.booleans())
def test_whatever_is_done_to_it_it_is_a_generator(loop, steps, fails):
    ends_with = ZeroDivisionError() if fails else None
    plain, ours = adder(ends_with), loop.iterate(async_adder(ends_with))
    for name in steps:
        expected, came = outcome_of(STEPS[name], plain), outcome_of(STEPS[name], ours)
        assert came == expected, name
    assert outcome_of(STEPS["close"], ours) == outcome_of(STEPS["close"], plain)


def test_a_send_or_throw_that_is_refused_ends_nothing(loop):
    with loop.iterate(echo()) as generator:
        with pytest.raises(TypeError, match="just-started"):
            generator.send("too early")
        assert next(generator) is None
        with pytest.raises(TypeError):
            generator.throw("no exception")
        assert generator.send("sent") == "sent"


def test_a_generator_may_end_when_something_is_thrown(loop):
    async def numbers():
        with contextlib.suppress(ValueError):
            yield 1

    generator = loop.iterate(numbers())
    assert next(generator) == 1
    with pytest.raises(StopIteration):
        generator.throw(ValueError)


def test_nothing_can_be_sent_to_what_is_made_ahead(loop, ahead):
    with loop.iterate(echo(), prefetch=ahead) as generator:
        assert generator.send(None) is None
        with pytest.raises(RuntimeError, match="prefetch=0"):
            generator.send(1)
        with pytest.raises(RuntimeError, match="prefetch=0"):
            generator.throw(ValueError)
        assert next(generator) is None


# Bad input


@pytest.mark.parametrize("given", [42, None, "text", [1, 2], iter([1]), range(3), object()])
def test_what_is_no_async_iterable_is_refused(loop, given):
    with pytest.raises(TypeError, match="async iterable"):
        loop.iterate(given)


def test_hints_for_what_was_meant(loop):
    coroutine = answer()
    with pytest.raises(TypeError, match="evaluate"):
        loop.iterate(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    with pytest.raises(TypeError, match="call the async generator function"):
        loop.iterate(count)


@pytest.mark.parametrize(
    "prefetch, error", [(-1, ValueError), (1.5, TypeError), ("1", TypeError), (None, TypeError)]
)
def test_a_bad_prefetch_is_refused_and_nothing_is_begun(loop, prefetch, error):
    numbers = Numbers()
    with pytest.raises(error, match=r"prefetch|integer"):
        loop.iterate(numbers(), prefetch=prefetch)
    is_quiet(loop)
    assert numbers.made == 0


def test_a_loop_that_is_not_open_is_refused(make_loop, prefetch):
    loop = make_loop()
    for _ in range(2):
        with pytest.raises(LoopClosedError):
            loop.iterate(count(1), prefetch=prefetch)
        with loop:
            pass


# Where it may be used


@pytest.mark.parametrize(
    "call", [next, lambda items: items.close(), lambda items: items.__exit__(None, None, None), list]
)
def test_the_own_thread_is_refused_by_the_name_of_the_call(loop, prefetch, call):
    blocked = Blocked()
    items = loop.iterate(blocked(), prefetch=prefetch)

    async def use():
        name = "next" if call in (next, list) else "close"
        with pytest.raises(DeadlockError, match=rf"^{name}\(\) was called on the loop's own thread"):
            call(items)

    loop.evaluate(use())
    assert not prefetch or blocked.waits.wait(WAIT)  # It is as it was.
    items.close()


def test_iterate_itself_is_refused_on_the_own_thread(loop, prefetch):
    async def use():
        with pytest.raises(DeadlockError, match=r"^iterate\(\)"):
            loop.iterate(count(1), prefetch=prefetch)

    loop.evaluate(use())


def test_a_deadlock_within_the_generator_is_its_own(loop, prefetch):
    async def numbers():
        yield loop.evaluate(answer())

    with pytest.raises(DeadlockError, match=r"^evaluate\(\)"):
        next(loop.iterate(numbers(), prefetch=prefetch))


def test_a_thread_of_the_loop_may_iterate(loop, prefetch):
    async def use():
        return await asyncio.to_thread(list, loop.iterate(count(5), prefetch=prefetch))

    async def use_in_a_thread():
        return await asyncio.to_thread(lambda: list(loop.iterate(count(5), prefetch=prefetch)))

    assert loop.evaluate(use_in_a_thread()) == [0, 1, 2, 3, 4]
    with pytest.raises(DeadlockError):
        loop.evaluate(use())


def test_within_another_running_loop(loop, prefetch):
    async def use():
        return list(loop.iterate(count(5), prefetch=prefetch))

    assert asyncio.run(use()) == [0, 1, 2, 3, 4]


def test_one_iteration_within_another(loop, prefetch):
    async def doubled(numbers):
        while (number := await asyncio.to_thread(next, numbers, None)) is not None:
            yield 2 * number

    numbers = loop.iterate(count(5), prefetch=prefetch)
    assert list(loop.iterate(doubled(numbers), prefetch=prefetch)) == [0, 2, 4, 6, 8]


# Task factories


@needs_eager_tasks
def test_with_eager_tasks(loop, prefetch):
    loop.loop.set_task_factory(eager)
    test_one_task_from_the_first_item_to_the_cleanup(loop, prefetch)
    test_every_item_comes_once_and_in_order(loop, prefetch, at_once, 1000)
    test_an_error_comes_after_the_items_before_it(loop, prefetch)
    test_closing_from_another_thread_ends_a_next_that_waits(loop, prefetch)


def test_with_a_task_factory_of_the_users(loop, prefetch):
    made = []

    class MyTask(asyncio.Task):
        pass

    def factory(event_loop, coroutine, **options):
        made.append(MyTask(coroutine, loop=event_loop, **options))
        return made[-1]

    loop.loop.set_task_factory(factory)
    test_one_task_from_the_first_item_to_the_cleanup(loop, prefetch)
    assert made
