"""The graceful exit: its order, what it waits for, and when it gives up."""

import asyncio
import logging
import threading
import time
import warnings

import pytest

from asyncio_thread_loop import LoopClosedError, _session

from .harness import WAIT, Caller, Sleeper, Stubborn, answer, forever


def give_up(loop):
    """Close the loop, which has to give up; return what it warned about."""
    with pytest.warns(RuntimeWarning) as caught:
        Caller(loop.close).outcome()
    return "\n".join(str(warning.message) for warning in caught)


def test_what_is_due_runs_before_it_is_cancelled(make_loop, gate):
    session = make_loop().start()
    thread = session.thread
    blocked, started, ran = threading.Event(), threading.Event(), []

    async def print_twice():
        ran.append("first")
        started.set()
        await asyncio.sleep(0.05)
        ran.append("second")
        await forever()

    async def block():
        blocked.set()
        gate.wait(WAIT)

    session.submit(print_twice)
    assert started.wait(WAIT)
    session.submit(block)
    assert blocked.wait(WAIT)
    time.sleep(0.1)  # Now the sleep of the coroutine is over, and the blocked loop can't have noticed.
    session.shutdown(wait=False)
    gate.set()
    thread.join(WAIT)
    assert ran == ["first", "second"]


def test_what_was_submitted_is_started_before_it_is_cancelled(make_loop, gate):
    session = make_loop().start()
    thread = session.thread
    blocked = threading.Event()

    async def block():
        blocked.set()
        gate.wait(WAIT)

    session.submit(block)
    assert blocked.wait(WAIT)
    due = session.submit(answer)
    session.shutdown(wait=False)
    gate.set()
    thread.join(WAIT)
    assert due.result(timeout=0) == 42


def test_new_work_is_refused_while_the_old_cleans_up(make_loop, gate):
    session = make_loop().start()
    sleeper = Sleeper(gate)
    session.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    leaving = Caller(session.close)
    assert sleeper.cancelled.wait(WAIT)
    with pytest.raises(LoopClosedError):
        session.submit(answer())
    with pytest.raises(LoopClosedError):
        session.evaluate(answer())
    with pytest.raises(LoopClosedError):
        session.call(len, "abc")
    assert leaving.is_alive()
    gate.set()
    leaving.outcome()
    assert sleeper.cleaned.is_set()


def test_every_task_is_cancelled_and_its_cleanup_waited_for(make_loop):
    child, grandchild = Sleeper(), Sleeper()
    kept = set()

    async def spawn(*sleepers):
        for sleeper in sleepers:
            kept.add(asyncio.create_task(sleeper()))

    async def spawn_deeper():
        kept.add(asyncio.create_task(spawn(grandchild)))

    with make_loop() as session:
        session.evaluate(spawn(child))
        session.evaluate(spawn_deeper())
        assert child.started.wait(WAIT)
        assert grandchild.started.wait(WAIT)
    assert child.cleaned.is_set()
    assert grandchild.cleaned.is_set()
    assert all(task.done() for task in kept)


def test_a_task_made_by_a_cleanup_is_ended_too(make_loop):
    late, kept = Sleeper(), []

    async def spawn_while_cleaning_up():
        try:
            await forever()
        finally:
            kept.append(asyncio.create_task(late()))
            await asyncio.sleep(0)

    with make_loop() as session:
        session.submit(spawn_while_cleaning_up)
    assert late.cleaned.is_set()
    assert kept[0].done()


def test_leaving_goes_in_order(make_loop, gate):
    order = []
    in_executor = threading.Event()

    async def generate():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            order.append("async generator closed")
            gate.set()

    def work_in_a_thread():
        in_executor.set()
        gate.wait(WAIT)
        order.append("executor joined")

    async def work():
        generator = generate()
        await anext(generator)
        asyncio.get_running_loop().run_in_executor(None, work_in_a_thread)
        try:
            await forever()
        except asyncio.CancelledError:
            order.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0.01)
            order.append("cleaned up")
            kept.append(generator)  # So that only the loop can end it.

    kept = []
    with make_loop() as session:
        loop, thread = session.loop, session.thread
        session.submit(work)
        assert in_executor.wait(WAIT)
    assert order == ["cancelled", "cleaned up", "async generator closed", "executor joined"]
    assert loop.is_closed()
    assert not thread.is_alive()


def test_a_cleanup_may_use_threads(make_loop):
    used = []

    async def work():
        started.set()
        try:
            await forever()
        finally:
            used.append(await asyncio.to_thread(lambda: "a thread"))

    started = threading.Event()
    with make_loop() as session:
        session.submit(work)
        assert started.wait(WAIT)
    assert used == ["a thread"]


def test_futures_end_as_their_tasks_do(make_loop, gate):
    async def fail_when_cancelled():
        try:
            await forever()
        finally:
            raise ZeroDivisionError

    async def return_when_cancelled():
        try:
            await forever()
        except asyncio.CancelledError:
            return "returned"

    with make_loop() as session:
        cancelled = session.submit(forever)
        failed = session.submit(fail_when_cancelled)
        returned = session.submit(return_when_cancelled)
        session.evaluate(answer())
    assert cancelled.cancelled()
    assert isinstance(failed.exception(timeout=0).__context__, asyncio.CancelledError)
    with pytest.raises(ZeroDivisionError):
        failed.result(timeout=0)
    assert returned.result(timeout=0) == "returned"


def test_the_result_of_finished_work_outlives_the_loop(make_loop):
    with make_loop() as session:
        future = session.submit(answer)
        future.result(WAIT)
    assert future.result() == 42


def test_tasks_that_swallow_cancellation_are_given_up_and_named(make_loop, gate):
    session = make_loop(exit_timeout=0.2).start()
    first, second = Stubborn(gate, "the first stubborn task"), Stubborn(gate, "the second stubborn task")
    futures = [session.submit(first), session.submit(second)]
    assert first.started.wait(WAIT)
    assert second.started.wait(WAIT)
    waiting = Caller(futures[0].result)
    warned = give_up(session)
    assert "the first stubborn task" in warned
    assert "the second stubborn task" in warned
    assert "harness.py" in warned  # their stacks
    assert "in __call__" in warned
    for future in futures:
        with pytest.raises(LoopClosedError):
            future.result(timeout=0)
    assert isinstance(waiting.error(), LoopClosedError)
    assert first.refused.is_set()
    assert second.refused.is_set()
    assert session.loop is None


def test_only_the_tasks_in_the_way_are_named(make_loop, gate):
    session = make_loop(exit_timeout=0.2).start()
    stubborn, obedient = Stubborn(gate), Sleeper()
    session.submit(stubborn)
    future = session.submit(obedient)
    assert stubborn.started.wait(WAIT)
    assert obedient.started.wait(WAIT)
    warned = give_up(session)
    assert "stubborn" in warned
    assert "Sleeper" not in warned
    assert obedient.cleaned.is_set()
    assert future.cancelled()


def test_a_loop_that_gave_up_can_be_entered_again(make_loop, gate):
    session = make_loop(exit_timeout=0.1).start()
    stubborn = Stubborn(gate)
    session.submit(stubborn)
    assert stubborn.started.wait(WAIT)
    give_up(session)
    with session:
        assert session.evaluate(answer()) == 42


def test_a_blocked_loop_thread_is_given_up_with_its_stack(make_loop, gate):
    session = make_loop(exit_timeout=0.2).start()
    thread = session.thread
    blocked = threading.Event()

    async def block_the_loop():
        blocked.set()
        gate.wait(WAIT)

    future = session.submit(block_the_loop)
    assert blocked.wait(WAIT)
    waiting = Caller(future.result)
    evaluating = Caller(lambda: session.evaluate(answer()))
    queued = session.submit(answer)
    warned = give_up(session)
    assert "block_the_loop" in warned
    assert "gate.wait(WAIT)" in warned
    assert isinstance(waiting.error(), LoopClosedError)
    assert isinstance(evaluating.error(), LoopClosedError)
    for each in future, queued:
        with pytest.raises(LoopClosedError):
            each.result(timeout=0)
    assert session.loop is None
    gate.set()
    thread.join(WAIT)
    assert not thread.is_alive()


def test_work_stuck_in_the_default_executor_is_given_up(make_loop, gate):
    session = make_loop(exit_timeout=0.2).start()
    started = threading.Event()

    def work_in_a_thread():
        started.set()
        gate.wait(WAIT)

    future = session.submit(asyncio.to_thread, work_in_a_thread)
    assert started.wait(WAIT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        Caller(session.close).outcome()
    assert future.cancelled()
    assert session.loop is None
    assert not gate.is_set()


def test_an_async_generator_that_does_not_end_is_given_up(make_loop, gate):
    session = make_loop(exit_timeout=0.2).start()
    kept = []

    async def generate():
        try:
            yield 1
        finally:
            while not gate.is_set():
                await asyncio.sleep(0.005)

    async def work():
        kept.append(generate())
        await anext(kept[0])

    session.evaluate(work())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        Caller(session.close).outcome()
    assert session.loop is None
    assert not gate.is_set()


def test_an_exit_in_time_does_not_warn(make_loop):
    with make_loop(exit_timeout=5) as session:
        sleeper = Sleeper()
        session.submit(sleeper)
        assert sleeper.started.wait(WAIT)
    assert sleeper.cleaned.is_set()


def test_an_endless_exit_logs_once_who_is_in_the_way(make_loop, gate, monkeypatch):
    monkeypatch.setattr(_session, "STUCK_WARNING_AFTER", 0.05)
    logged, records = threading.Event(), []

    class Handler(logging.Handler):
        def emit(self, record):
            records.append(record)
            logged.set()

    handler = Handler(logging.WARNING)
    logger = logging.getLogger("asyncio_thread_loop")
    logger.addHandler(handler)
    try:
        session = make_loop().start()
        stubborn = Stubborn(gate, "the task in the way")
        future = session.submit(stubborn)
        assert stubborn.started.wait(WAIT)
        leaving = Caller(session.close)
        assert logged.wait(WAIT)
        time.sleep(0.2)  # Time for a second record, which must not come.
        assert leaving.is_alive()
        gate.set()
        leaving.outcome()
    finally:
        logger.removeHandler(handler)
    assert [record.levelname for record in records] == ["WARNING"]
    assert "the task in the way" in records[0].getMessage()
    assert future.result(timeout=0) == "refused"


def test_the_endless_exit_warns_after_ten_seconds():
    assert _session.STUCK_WARNING_AFTER == 10


def test_an_endless_exit_logs_that_the_loop_thread_is_blocked(make_loop, gate, monkeypatch):
    monkeypatch.setattr(_session, "STUCK_WARNING_AFTER", 0.05)
    logged, records = threading.Event(), []

    class Handler(logging.Handler):
        def emit(self, record):
            records.append(record)
            logged.set()

    async def block_the_loop():
        blocked.set()
        gate.wait(WAIT)

    blocked = threading.Event()
    handler = Handler(logging.WARNING)
    logger = logging.getLogger("asyncio_thread_loop")
    logger.addHandler(handler)
    try:
        session = make_loop().start()
        session.submit(block_the_loop)
        assert blocked.wait(WAIT)
        leaving = Caller(session.close)
        assert logged.wait(WAIT)
        gate.set()
        leaving.outcome()
    finally:
        logger.removeHandler(handler)
    assert len(records) == 1
    assert "block_the_loop" in records[0].getMessage()
