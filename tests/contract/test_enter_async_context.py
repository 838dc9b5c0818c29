"""`enter_async_context`: contexts that last as long as the loop, and are left with it in reverse order."""

import asyncio
import contextlib
import gc
import logging
import threading
from concurrent.futures import CancelledError

import pytest

from asyncio_thread_loop import LoopClosedError

from .harness import WAIT, Caller, Sleeper, answer, eager, needs_eager_tasks


class Left(list):
    """Names of contexts in the order in which they were left, with what they saw."""

    def __init__(self):
        self.seen = {}
        self.tasks = {}

    @contextlib.asynccontextmanager
    async def context(self, name, error=None):
        entered_in = asyncio.current_task()
        try:
            yield name
        except BaseException as seen:
            self.seen[name] = seen
            raise
        finally:
            await asyncio.sleep(0)
            self.append(name)
            self.tasks[name] = (entered_in, asyncio.current_task())
            if error is not None:
                raise error


@pytest.fixture
def left():
    return Left()


def test_it_gives_the_value_and_is_left_with_the_loop(loop, left):
    assert loop.enter_async_context(left.context("one")) == "one"
    assert loop.evaluate(answer()) == 42
    assert left == []
    loop.close()
    assert left == ["one"]
    assert left.seen == {}


def test_the_last_one_entered_is_left_first_each_in_its_own_task(make_loop, left):
    with make_loop(exit_timeout=5) as loop:
        for name in ("first", "second", "third"):
            loop.enter_async_context(left.context(name))
    assert left == ["third", "second", "first"]
    assert all(entered is leaving for entered, leaving in left.tasks.values())
    assert len({entered for entered, _ in left.tasks.values()}) == 3


def test_scopes_last_as_long_as_the_loop(make_loop):
    done = []

    async def child():
        await asyncio.sleep(0)
        done.append("child")

    with make_loop(exit_timeout=5) as loop:
        group = loop.enter_async_context(asyncio.TaskGroup())
        loop.enter_async_context(loop.call(asyncio.timeout, WAIT))
        task = loop.call(group.create_task, child())
    assert done == ["child"]
    assert not task.cancelled()


def test_submitted_calls_are_ended_while_the_context_is_open(make_loop, left):
    sleeper = Sleeper()

    async def use():
        try:
            await sleeper()
        finally:
            left.append("call")

    with make_loop(exit_timeout=5) as loop:
        loop.enter_async_context(left.context("context"))
        loop.submit(use)
        assert sleeper.started.wait(WAIT)
    assert left == ["call", "context"]


def test_iterations_and_bodies_are_ended_while_the_context_is_open(make_loop, left):
    async def numbers():
        try:
            yield 1
        finally:
            left.append("iteration")

    loop = make_loop(exit_timeout=5).start()
    loop.enter_async_context(left.context("context"))
    items = loop.iterate(numbers())
    assert next(items) == 1
    inner = loop.wrap_async_context_manager(left.context("body"))
    with pytest.raises(CancelledError), inner:
        loop.close()
    assert sorted(left[:2]) == ["body", "iteration"]
    assert left[2:] == ["context"]


def test_the_tasks_of_a_context_may_end_gracefully_in_its_exit(make_loop, left):
    @contextlib.asynccontextmanager
    async def server():
        stop = asyncio.Event()

        async def serve():
            try:
                await stop.wait()
                left.append("served")
            except asyncio.CancelledError:
                left.append("cancelled")

        task = asyncio.create_task(serve())
        yield
        stop.set()
        await task

    with make_loop(exit_timeout=5) as loop:
        loop.enter_async_context(server())
    assert left == ["served"]


def test_tasks_that_a_context_leaves_behind_are_ended_after_it(make_loop, left):
    @contextlib.asynccontextmanager
    async def careless():
        task = asyncio.create_task(sleeper())
        yield task
        left.append("context")
        del task
        gc.collect()

    sleeper = Sleeper()
    with make_loop(exit_timeout=5) as loop:
        loop.enter_async_context(careless())
        assert sleeper.started.wait(WAIT)
    assert left == ["context"]
    assert sleeper.cleaned.is_set()


# What it sees and what it raises


def test_contexts_see_what_ends_the_block_and_cannot_suppress_it(make_loop):
    class Suppresses:
        seen = ()

        async def __aenter__(self):
            return self

        async def __aexit__(self, *body):
            self.seen = body
            return True

    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as caught, make_loop(exit_timeout=5) as loop:
        outer = loop.enter_async_context(Suppresses())
        inner = loop.enter_async_context(Suppresses())
        raise error
    assert caught.value is error
    for each in (outer, inner):
        assert each.seen[:2] == (ZeroDivisionError, error)


def test_what_a_block_raised_is_not_seen_by_the_next(make_loop, left):
    loop = make_loop(exit_timeout=5)
    with pytest.raises(ZeroDivisionError), loop:
        loop.enter_async_context(left.context("first"))
        raise ZeroDivisionError
    with loop:
        loop.enter_async_context(left.context("second"))
    assert left == ["first", "second"]
    assert list(left.seen) == ["first"]


@pytest.mark.parametrize("close", [lambda loop: loop.close(), lambda loop: loop.__exit__(None, None, None)])
def test_a_context_that_fails_is_told_and_the_others_are_left_all_the_same(make_loop, left, close):
    loop = make_loop(exit_timeout=5).start()
    loop.enter_async_context(left.context("outer"))
    error = ZeroDivisionError("of the inner one")
    loop.enter_async_context(left.context("inner", error))
    with pytest.raises(ZeroDivisionError) as caught:
        close(loop)
    assert caught.value is error
    assert left == ["inner", "outer"]
    assert left.seen == {"outer": error}
    assert loop.loop is None
    loop.close()  # It is told once.


def test_the_errors_of_several_contexts_and_of_the_block_are_all_shown(make_loop, left):
    first, second, body = ValueError("first"), KeyError("second"), ZeroDivisionError("body")
    with pytest.raises(ValueError) as caught, make_loop(exit_timeout=5) as loop:
        loop.enter_async_context(left.context("first", first))
        loop.enter_async_context(left.context("second", second))
        raise body
    assert caught.value is first
    assert first.__context__ is second
    assert second.__context__ is body
    assert body.__context__ is None


def test_errors_that_know_of_others_are_chained_without_a_circle(make_loop):
    class Raises:
        def __init__(self, error):
            self.error = error

        async def __aenter__(self):
            pass

        async def __aexit__(self, *body):
            raise self.error

    body, own = ZeroDivisionError("body"), LookupError("own")
    outer, middle, inner = ValueError("outer"), KeyError("middle"), OSError("inner")
    outer.__context__, middle.__context__ = own, body
    with pytest.raises(ValueError) as caught, make_loop(exit_timeout=5) as loop:
        for error in (outer, middle, inner):
            loop.enter_async_context(Raises(error))
        raise body
    chain, at = [], caught.value
    while at is not None and len(chain) < 10:
        chain.append(at)
        at = at.__context__
    assert chain == [outer, own, middle, inner, body]


def test_a_context_whose_own_timeout_has_passed_is_told_at_the_exit(make_loop):
    over = threading.Event()

    @contextlib.asynccontextmanager
    async def short():
        try:
            async with asyncio.timeout(0.01):
                yield
        finally:
            over.set()

    with pytest.raises(TimeoutError), make_loop(exit_timeout=5) as loop:
        loop.enter_async_context(short())
        assert over.wait(WAIT)
        assert loop.evaluate(answer()) == 42


def test_without_waiting_what_a_context_raises_is_logged(make_loop, left, caplog):
    loop = make_loop(exit_timeout=5).start()
    thread = loop.thread
    loop.enter_async_context(left.context("fails", ZeroDivisionError("nobody waits")))
    with caplog.at_level(logging.ERROR, "asyncio_thread_loop"):
        loop.shutdown(wait=False)
        thread.join(WAIT)
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "a context" in record.message
    assert str(record.exc_info[1]) == "nobody waits"


# At the exit


def test_a_stuck_context_is_given_up_and_named(make_loop, gate):
    @contextlib.asynccontextmanager
    async def stuck():
        yield
        while not gate.is_set():
            await asyncio.sleep(0.001)

    loop = make_loop(exit_timeout=0.1).start()
    thread = loop.thread
    loop.enter_async_context(stuck())
    with pytest.warns(RuntimeWarning, match=r"context of .*stuck"):
        loop.close()
    gate.set()
    thread.join(WAIT)
    assert not thread.is_alive()


def test_submitted_work_may_finish_with_the_context_open(make_loop, left):
    begun = threading.Event()

    async def work():
        begun.set()
        await asyncio.sleep(0.01)
        return list(left)

    loop = make_loop(exit_timeout=WAIT).start()
    loop.enter_async_context(left.context("context"))
    future = loop.submit(work)
    assert begun.wait(WAIT)
    loop.shutdown(cancel_futures=False)
    assert future.result() == []
    assert left == ["context"]


def test_closing_from_another_thread_leaves_them(make_loop, left):
    loop = make_loop(exit_timeout=5).start()
    loop.enter_async_context(left.context("context"))
    Caller(loop.close).outcome()
    assert left == ["context"]


def test_entering_while_the_loop_closes_ends_one_way_or_the_other(make_loop):
    for _ in range(20):
        loop, inside = make_loop(exit_timeout=WAIT).start(), []

        @contextlib.asynccontextmanager
        async def counted(inside=inside):
            inside.append(1)
            try:
                await asyncio.sleep(0)
                yield
            finally:
                await asyncio.sleep(0)
                inside.pop()

        barrier = threading.Barrier(4)

        def enter(loop=loop, barrier=barrier, counted=counted):
            barrier.wait(WAIT)
            while True:
                loop.enter_async_context(counted())

        callers = [Caller(enter) for _ in range(3)]
        barrier.wait(WAIT)
        loop.close()
        for caller in callers:
            assert isinstance(caller.error(), CancelledError | LoopClosedError)
        assert inside == []


def test_an_entry_that_is_cut_off_by_the_exit_is_no_error_of_it(make_loop, left):
    sleeper = Sleeper()

    class Slow:
        async def __aenter__(self):
            with contextlib.suppress(asyncio.CancelledError):
                await sleeper()

        async def __aexit__(self, *body):
            for _ in range(20):
                await asyncio.sleep(0)
            self.left = body

    loop, slow = make_loop(exit_timeout=5).start(), Slow()
    loop.enter_async_context(left.context("other"))
    user = Caller(loop.enter_async_context, slow)
    assert sleeper.started.wait(WAIT)
    loop.close()
    assert isinstance(user.error(), CancelledError)
    assert slow.left[0] is asyncio.CancelledError
    assert left == ["other"]
    assert left.seen == {}


def test_one_that_fails_to_enter_is_not_left(make_loop):
    class Fails:
        async def __aenter__(self):
            raise ZeroDivisionError

        async def __aexit__(self, *body):
            raise AssertionError("it was never entered")

    with make_loop(exit_timeout=5) as loop, pytest.raises(ZeroDivisionError):
        loop.enter_async_context(Fails())


def test_a_fresh_loop_has_none_of_them(make_loop, left):
    loop = make_loop(exit_timeout=5)
    for name in ("first", "second"):
        with loop:
            loop.enter_async_context(left.context(name))
    assert left == ["first", "second"]


@needs_eager_tasks
def test_with_eager_tasks(make_loop, left):
    with make_loop(exit_timeout=5) as loop:
        loop.loop.set_task_factory(eager)
        for name in ("first", "second"):
            loop.enter_async_context(left.context(name))
    assert left == ["second", "first"]
