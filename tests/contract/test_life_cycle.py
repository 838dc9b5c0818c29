"""Opening, closing, opening again, and what is there in between."""

import asyncio
import threading
import time

import pytest

from asyncio_thread_loop import AsyncioThreadLoop, EventLoop, LoopClosedError, SimpleAsyncioThreadLoop

from .harness import WAIT, Caller, Sleeper, Stubborn, answer


def test_a_with_block_opens_and_closes_a_loop(make_loop):
    session = make_loop()
    assert session.loop is None
    assert session.thread is None
    with session as entered:
        assert entered is session
        loop, thread = session.loop, session.thread
        assert isinstance(loop, asyncio.AbstractEventLoop)
        assert loop.is_running()
        assert isinstance(thread, threading.Thread)
        assert thread.is_alive()
    assert session.loop is None
    assert session.thread is None
    assert loop.is_closed()
    assert not thread.is_alive()


def test_the_native_loop_is_the_default():
    with AsyncioThreadLoop() as session:
        assert isinstance(session.loop, EventLoop)


def test_the_loop_factory_decides_which_loop_runs():
    made = []

    def factory():
        made.append(asyncio.SelectorEventLoop())
        return made[-1]

    with AsyncioThreadLoop(loop_factory=factory) as session:
        assert [session.loop] == made


def test_coroutines_run_on_the_loop_and_its_thread(loop):
    async def where():
        return asyncio.get_running_loop(), threading.current_thread(), asyncio.current_task()

    running, thread, task = loop.evaluate(where())
    assert running is loop.loop
    assert thread is loop.thread
    assert isinstance(task, asyncio.Task)


def test_start_and_shutdown_do_what_the_with_block_does(make_loop):
    session = make_loop()
    assert session.start() is session
    thread = session.thread
    assert session.evaluate(answer()) == 42
    session.shutdown()
    assert session.loop is None
    assert not thread.is_alive()


def test_close_ends_the_loop_and_waits_for_it(make_loop):
    session = make_loop().start()
    thread = session.thread
    sleeper = Sleeper()
    session.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    session.close()
    assert sleeper.cleaned.is_set()
    assert not thread.is_alive()


def test_closing_twice_is_harmless(make_loop):
    session = make_loop().start()
    session.close()
    session.close()
    session.shutdown()
    session.shutdown(wait=False)
    assert session.loop is None


def test_closing_what_was_never_opened_is_harmless(make_loop):
    session = make_loop()
    session.close()
    session.shutdown()
    assert session.loop is None


def test_several_threads_may_close_at_once(make_loop):
    for _ in range(10):
        session = make_loop().start()
        thread = session.thread
        sleeper = Sleeper()
        session.submit(sleeper)
        assert sleeper.started.wait(WAIT)
        barrier = threading.Barrier(4)

        def close(session=session, barrier=barrier, sleeper=sleeper):
            barrier.wait(WAIT)
            session.shutdown()
            return sleeper.cleaned.is_set()

        callers = [Caller(close) for _ in range(4)]
        assert all(caller.outcome() for caller in callers)
        assert not thread.is_alive()


def test_shutdown_without_wait_returns_at_once_and_the_exit_goes_on(make_loop, gate):
    session = make_loop().start()
    thread = session.thread
    sleeper = Sleeper(gate)
    future = session.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    session.shutdown(wait=False)
    assert not sleeper.cleaned.is_set()
    with pytest.raises(LoopClosedError):
        session.submit(answer)
    gate.set()
    thread.join(WAIT)
    assert not thread.is_alive()
    assert sleeper.cleaned.is_set()
    assert future.cancelled()


def test_shutdown_without_wait_can_be_waited_for_later(make_loop, gate):
    session = make_loop().start()
    thread = session.thread
    sleeper = Sleeper(gate)
    session.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    session.shutdown(wait=False)
    waiting = Caller(session.shutdown)
    gate.set()
    waiting.outcome()
    assert sleeper.cleaned.is_set()
    assert not thread.is_alive()


def test_shutdown_without_wait_is_allowed_on_the_loop_thread(make_loop):
    session = make_loop().start()
    thread = session.thread
    future = session.submit(Sleeper())
    session.call(session.shutdown, wait=False)
    thread.join(WAIT)
    assert not thread.is_alive()
    assert future.cancelled()


def test_shutdown_may_let_submitted_work_finish(make_loop):
    async def work(seconds):
        await asyncio.sleep(seconds)
        return seconds

    session = make_loop().start()
    futures = [session.submit(work, seconds) for seconds in (0.1, 0.05, 0)]
    session.shutdown(cancel_futures=False)
    assert [future.result(timeout=0) for future in futures] == [0.1, 0.05, 0]


def test_shutdown_that_lets_work_finish_refuses_more(make_loop, gate):
    async def work():
        while not gate.is_set():
            await asyncio.sleep(0.005)
        return "finished"

    session = make_loop().start()
    thread = session.thread
    future = session.submit(work)
    session.shutdown(wait=False, cancel_futures=False)
    with pytest.raises(LoopClosedError):
        session.submit(answer)
    gate.set()
    assert future.result(WAIT) == "finished"
    thread.join(WAIT)
    assert not thread.is_alive()


def test_shutdown_that_lets_work_finish_is_bounded_by_its_timeout(make_loop):
    session = make_loop().start()
    sleeper = Sleeper()
    future = session.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    with pytest.warns(RuntimeWarning):
        session.shutdown(cancel_futures=False, timeout=0.1)
    assert future.done()
    assert session.loop is None


def test_a_second_shutdown_may_cancel_what_the_first_waits_for(make_loop):
    session = make_loop().start()
    thread = session.thread
    sleeper = Sleeper()
    future = session.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    session.shutdown(wait=False, cancel_futures=False)
    Caller(session.shutdown).outcome()
    assert future.cancelled()
    assert sleeper.cleaned.is_set()
    assert not thread.is_alive()


def test_the_timeout_of_shutdown_bounds_the_exit(make_loop, gate):
    session = make_loop().start()
    stubborn = Stubborn(gate)
    future = session.submit(stubborn)
    assert stubborn.started.wait(WAIT)
    with pytest.warns(RuntimeWarning, match="stubborn"):
        session.shutdown(timeout=0.1)
    assert future.done()


def test_entering_again_opens_a_fresh_loop(make_loop):
    session = make_loop()
    seen = []
    for _ in range(3):
        with session:
            seen.append((session.loop, session.thread))
            assert session.evaluate(answer()) == 42
    assert len({loop for loop, _ in seen}) == 3
    assert len({thread for _, thread in seen}) == 3


def test_entering_an_open_loop_is_refused(loop):
    with pytest.raises(RuntimeError), loop:
        pass
    with pytest.raises(RuntimeError):
        loop.start()
    assert loop.evaluate(answer()) == 42


def test_an_error_of_the_body_passes_and_the_loop_still_ends(make_loop):
    session = make_loop()
    sleeper = Sleeper()
    with pytest.raises(ZeroDivisionError), session:
        session.submit(sleeper)
        assert sleeper.started.wait(WAIT)
        raise ZeroDivisionError
    assert sleeper.cleaned.is_set()
    assert session.loop is None


def test_threads_are_named(make_loop):
    with make_loop(name="downloads") as named:
        assert named.thread.name == "downloads"
    with make_loop() as first, make_loop() as second:
        assert first.thread.name.startswith("AsyncioThreadLoop-")
        assert second.thread.name.startswith("AsyncioThreadLoop-")
        assert first.thread.name != second.thread.name


@pytest.mark.parametrize("debug", [True, False])
def test_debug_is_passed_to_the_loop(make_loop, debug):
    with make_loop(debug=debug) as session:
        assert session.loop.get_debug() is debug


def test_the_initializer_runs_on_the_loop_thread_before_anything_else(make_loop):
    events = []

    def initialize(*args):
        events.append((threading.current_thread(), args))

    async def work():
        events.append("work")

    with make_loop(initializer=initialize, initargs=(1, "two")) as session:
        assert events == [(session.thread, (1, "two"))]
        session.evaluate(work())
    assert events[1:] == ["work"]


def test_an_initializer_that_starts_its_own_loop_is_refused(make_loop):
    loop = make_loop(initializer=lambda: loop.start())
    assert isinstance(Caller(loop.start).error(), RuntimeError)
    assert loop.thread is None


def test_the_original_demo_prints_twice(make_loop):
    printed = []

    async def print_endlessly():
        while True:
            printed.append("hello world!")
            await asyncio.sleep(1)

    async def one():
        return 1

    with make_loop() as session:
        session.submit(print_endlessly())
        assert session.evaluate(one()) == 1
        time.sleep(1)
    assert printed == ["hello world!"] * 2


def test_the_original_loop_takes_work_before_and_after_an_endless_coroutine(make_loop):
    with make_loop(exit_timeout=3) as session:
        before = session.submit(answer())
        endless = session.submit(Sleeper()())
        after = session.submit(answer())
        assert before.result(WAIT) == 42
        assert after.result(WAIT) == 42
    assert endless.cancelled()


def test_submit_in_new_loop_runs_the_coroutine_until_the_loop_is_closed():
    sleeper = Sleeper()
    session = AsyncioThreadLoop.submit_in_new_loop(sleeper(), exit_timeout=3)
    assert isinstance(session, AsyncioThreadLoop)
    assert session.exit_timeout == 3
    assert sleeper.started.wait(WAIT)
    assert session.evaluate(answer()) == 42
    session.close()
    assert sleeper.cleaned.is_set()


def test_the_simple_loop_of_the_original_keeps_working():
    with SimpleAsyncioThreadLoop() as session:
        assert session.submit(answer()).result(WAIT) == 42
        assert session.evaluate(answer()) == 42
