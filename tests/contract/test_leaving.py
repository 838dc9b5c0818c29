"""The graceful exit: its order, what it waits for, and when it gives up."""

import asyncio
import concurrent.futures
import inspect
import logging
import selectors
import socket
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


def test_what_follows_from_what_is_due_runs_before_it_is_cancelled(make_loop, gate):
    session = make_loop().start()
    thread = session.thread
    blocked, started = threading.Event(), threading.Event()

    async def chain(length):
        if length:
            return await asyncio.create_task(chain(length - 1)) + 1
        started.set()
        await asyncio.sleep(0.05)
        return 0

    async def block():
        blocked.set()
        gate.wait(WAIT)

    future = session.submit(chain, 3)
    assert started.wait(WAIT)
    session.submit(block)
    assert blocked.wait(WAIT)
    time.sleep(0.1)  # Now the sleep of the innermost task is over, and the blocked loop can't have noticed.
    session.shutdown(wait=False)
    gate.set()
    thread.join(WAIT)
    assert future.result(timeout=0) == 3


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


def test_a_loop_thread_that_waits_in_a_selector_of_its_own_is_not_taken_for_idle(make_loop, gate):
    # `subprocess`, `multiprocessing` and others wait in `selectors`, as an idle loop does.
    session = make_loop(exit_timeout=0.1).start()
    thread = session.thread
    ours, theirs = socket.socketpair()
    with ours, theirs, selectors.DefaultSelector() as selector:
        selector.register(ours, selectors.EVENT_READ)
        blocked = threading.Event()

        def wait_in_a_selector():
            blocked.set()
            selector.select(WAIT)

        async def block_the_loop():
            wait_in_a_selector()

        session.submit(block_the_loop)
        assert blocked.wait(WAIT)
        warned = give_up(session)
        theirs.send(b"x")
        thread.join(WAIT)
    assert "in wait_in_a_selector" in warned


@pytest.mark.parametrize("name", ["select", "run_forever", "_run_once"])
def test_a_function_of_the_user_is_not_taken_for_an_idle_loop(make_loop, gate, name):
    session = make_loop(exit_timeout=0.1).start()
    thread = session.thread
    blocked = threading.Event()

    def block_the_loop():
        blocked.set()
        while not gate.is_set():
            # In C code, so that this function is the innermost one in Python.
            time.sleep(0.001)

    block_the_loop.__code__ = block_the_loop.__code__.replace(co_name=name)
    session.loop.call_soon_threadsafe(block_the_loop)
    assert blocked.wait(WAIT)
    warned = give_up(session)
    gate.set()
    thread.join(WAIT)
    assert "its thread" in warned
    assert "time.sleep(0.001)" in warned


def test_a_destructor_that_blocks_the_loop_thread_is_given_up_with_its_stack(make_loop, gate):
    class Blocks:
        def __del__(self):
            blocked.set()
            gate.wait(WAIT)

    async def drop_one():
        Blocks()

    blocked = threading.Event()
    session = make_loop(exit_timeout=0.1).start()
    thread = session.thread
    future = session.submit(drop_one)
    assert blocked.wait(WAIT)
    warned = give_up(session)
    assert "in __del__" in warned
    assert isinstance(future.exception(timeout=0), LoopClosedError)
    gate.set()
    thread.join(WAIT)
    assert not thread.is_alive()


def test_an_async_generator_in_the_way_is_named_with_its_stack(make_loop, gate):
    kept = []

    async def never_ends_its_cleanup():
        try:
            yield 1
        finally:
            while not gate.is_set():
                await asyncio.sleep(0.005)

    async def work():
        kept.append(never_ends_its_cleanup())
        await anext(kept[0])

    session = make_loop(exit_timeout=0.1).start()
    session.evaluate(work())
    assert "in never_ends_its_cleanup" in give_up(session)


class Hostile:
    """Awaits something, and answers no question about itself."""

    def __init__(self, coroutine):
        self.steps = coroutine.__await__()

    def __getattribute__(self, name):
        if name in ("steps", "throw", "close"):
            return object.__getattribute__(self, name)
        raise RuntimeError(f"nobody asks for {name}")

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.steps)

    def throw(self, *error):
        return self.steps.throw(*error)

    def close(self):
        self.steps.close()


def test_what_cannot_be_described_does_not_keep_callers_waiting(make_loop, gate):
    stubborn = Stubborn(gate)

    async def await_what_is_hostile():
        await Hostile(stubborn())

    session = make_loop(exit_timeout=0.1).start()
    thread = session.thread
    future = session.submit(await_what_is_hostile)
    waiting = Caller(future.result)
    assert stubborn.started.wait(WAIT)
    warned = give_up(session)
    assert isinstance(waiting.error(), LoopClosedError)
    assert future.done()
    assert session.loop is None
    assert "await_what_is_hostile" in warned
    gate.set()
    thread.join(WAIT)


def test_warnings_as_errors_do_not_change_how_giving_up_ends(make_loop, gate):
    session = make_loop(exit_timeout=0.1).start()
    stubborn = Stubborn(gate)
    future = session.submit(stubborn)
    assert stubborn.started.wait(WAIT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="stubborn"):
            session.close()
    assert isinstance(future.exception(timeout=0), LoopClosedError)
    assert session.loop is None
    session.close()  # There is nothing left to give up.
    with session:
        assert session.evaluate(answer()) == 42


def test_the_warning_names_the_line_that_left(make_loop, gate):
    session = make_loop(exit_timeout=0.1).start()
    stubborn = Stubborn(gate)
    session.submit(stubborn)
    assert stubborn.started.wait(WAIT)
    with pytest.warns(RuntimeWarning) as caught:
        session.close()
    assert caught[0].filename == __file__


def test_an_exit_without_any_time_still_ends_the_loop(make_loop, gate):
    session = make_loop(exit_timeout=0).start()
    thread = session.thread
    sleeper = Sleeper(gate)
    future = session.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    give_up(session)
    assert isinstance(future.exception(timeout=0), LoopClosedError)
    assert session.loop is None
    gate.set()
    thread.join(WAIT)
    assert not thread.is_alive()
    assert sleeper.cleaned.is_set()


def test_every_kind_of_wait_ends_when_the_exit_gives_up(make_loop, gate):
    blocked = threading.Event()

    def block():
        blocked.set()
        gate.wait(3 * WAIT)  # Longer than anybody below waits.

    async def not_ready(*, task_status):
        await forever()

    session = make_loop(exit_timeout=0.2).start()
    thread = session.thread
    futures = [session.submit(forever) for _ in range(4)]
    session.evaluate(answer())
    iterator = session.as_completed([forever()])
    waiting = [
        Caller(futures[0].result),
        Caller(futures[1].exception),
        Caller(concurrent.futures.wait, [futures[2]]),
        Caller(session.evaluate, forever()),
        Caller(session.evaluate_many, [forever(), forever()]),
        Caller(list, session.map(asyncio.sleep, [3600])),
        Caller(next, iterator),
        Caller(session.start_task, not_ready),
        Caller(futures[3].cancel_and_wait),
    ]
    assert futures[3] in concurrent.futures.wait(futures, WAIT, concurrent.futures.FIRST_COMPLETED).done
    waiting.append(Caller(session.call, block))
    assert blocked.wait(WAIT)
    give_up(session)
    for caller in waiting:
        assert isinstance(caller.error(), (LoopClosedError, concurrent.futures.CancelledError, type(None))), (
            caller.name
        )
    assert all(future.done() for future in futures)
    gate.set()
    thread.join(WAIT)


def test_what_was_never_started_is_closed_when_the_exit_gives_up(make_loop, gate):
    blocked = threading.Event()

    async def block_the_loop():
        blocked.set()
        gate.wait(WAIT)

    session = make_loop(exit_timeout=0.05).start()
    thread = session.thread
    session.submit(block_the_loop)
    assert blocked.wait(WAIT)
    coroutine = answer()
    future = session.submit(coroutine)
    give_up(session)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    assert isinstance(future.exception(timeout=0), LoopClosedError)
    gate.set()
    thread.join(WAIT)


def test_the_threads_of_the_default_executor_are_joined(make_loop, gate):
    entered, finished, in_the_executor = threading.Event(), [], []

    def work_in_a_thread():
        in_the_executor.append(threading.current_thread())
        entered.set()
        gate.wait(WAIT)
        time.sleep(0.1)  # An exit that doesn't wait is past this by then.
        finished.append(True)

    async def work():
        asyncio.get_running_loop().run_in_executor(None, work_in_a_thread)
        try:
            await forever()
        finally:
            gate.set()

    with make_loop() as session:
        session.submit(work)
        assert entered.wait(WAIT)
    assert finished == [True]
    assert not in_the_executor[0].is_alive()


def test_a_long_cleanup_is_waited_for(make_loop):
    steps = []

    async def clean_up_slowly():
        started.set()
        try:
            await forever()
        finally:
            for n in range(50):
                await asyncio.sleep(0.001)
                steps.append(n)

    started = threading.Event()
    with make_loop() as session:
        session.submit(clean_up_slowly)
        assert started.wait(WAIT)
    assert steps == list(range(50))


def test_a_cleanup_that_a_cancel_began_is_not_cut_short(make_loop):
    cleaned = threading.Event()

    async def clean_up_slowly():
        started.set()
        try:
            await forever()
        finally:
            cleaning.set()
            await asyncio.sleep(0.1)
            cleaned.set()

    started, cleaning = threading.Event(), threading.Event()
    with make_loop() as session:
        future = session.submit(clean_up_slowly)
        assert started.wait(WAIT)
        future.cancel()
        assert cleaning.wait(WAIT)
    assert cleaned.is_set()
    assert future.cancelled()


def test_a_task_that_swallowed_an_earlier_cancellation_is_cancelled_once_more(make_loop):
    swallowed = threading.Event()

    async def swallow_one():
        started.set()
        try:
            await forever()
        except asyncio.CancelledError:
            swallowed.set()
        await forever()

    started = threading.Event()
    with make_loop() as session:
        future = session.submit(swallow_one)
        assert started.wait(WAIT)
        future.cancel()
        assert swallowed.wait(WAIT)
    assert future.cancelled()
