"""`SystemExit` and `KeyboardInterrupt` of a coroutine reach its caller, not the loop."""

import asyncio
import gc
import threading

import pytest

from .harness import WAIT, Caller, answer


class Unusual(BaseException):
    pass


ENDS = [SystemExit, KeyboardInterrupt, Unusual]


async def raise_it(error):
    await asyncio.sleep(0)
    raise error


async def raise_it_at_once(error):
    raise error


@pytest.mark.parametrize("work", [raise_it, raise_it_at_once])
@pytest.mark.parametrize("end", ENDS)
def test_it_is_raised_by_evaluate_and_the_loop_lives_on(loop, end, work):
    error = end("of a coroutine")
    with pytest.raises(end) as caught:
        loop.evaluate(work(error))
    assert caught.value is error
    assert loop.evaluate(answer()) == 42
    assert loop.thread.is_alive()


@pytest.mark.parametrize("end", ENDS)
def test_it_is_raised_by_result(loop, end):
    future = loop.submit(raise_it, end("of a coroutine"))
    assert isinstance(future.exception(WAIT), end)
    with pytest.raises(end):
        future.result()
    assert loop.evaluate(answer()) == 42


@pytest.mark.parametrize("end", ENDS)
def test_it_is_raised_by_evaluate_many(loop, end):
    with pytest.raises(end):
        loop.evaluate_many([answer(), raise_it(end("of a coroutine"))])
    assert loop.evaluate(answer()) == 42


@pytest.mark.parametrize("end", ENDS)
def test_it_is_raised_by_call(loop, end):
    def raise_now():
        raise end("of a callable")

    with pytest.raises(end):
        loop.call(raise_now)
    assert loop.evaluate(answer()) == 42


@pytest.mark.parametrize("end", ENDS)
def test_other_calls_are_not_disturbed(loop, gate, end):
    async def wait_for_gate():
        while not gate.is_set():
            await asyncio.sleep(0.005)
        return "right"

    callers = [Caller(loop.evaluate, wait_for_gate()) for _ in range(4)]
    for _ in range(5):
        with pytest.raises(end):
            loop.evaluate(raise_it(end()))
    gate.set()
    assert [caller.outcome() for caller in callers] == ["right"] * 4


@pytest.mark.parametrize("end", ENDS)
def test_it_passes_from_a_spawned_task_to_whoever_awaits_it(loop, end):
    async def spawn_and_await():
        await asyncio.create_task(raise_it(end("of a task")))

    with pytest.raises(end, match="of a task"):
        loop.evaluate(spawn_and_await(), timeout=WAIT)
    assert loop.evaluate(answer()) == 42


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
def test_a_callback_that_raises_it_does_not_end_the_loop(loop, end):
    raised = threading.Event()

    def raise_now():
        raised.set()
        raise end("of a callback")

    loop.call(loop.loop.set_exception_handler, lambda *_: None)
    loop.loop.call_soon_threadsafe(raise_now)
    assert raised.wait(WAIT)
    assert loop.evaluate(answer(), timeout=WAIT) == 42
    assert loop.thread.is_alive()


@pytest.mark.parametrize("end", ENDS)
def test_the_loop_closes_gracefully_afterwards(make_loop, end):
    with make_loop(exit_timeout=5) as loop:
        thread = loop.thread
        with pytest.raises(end):
            loop.evaluate(raise_it(end()))
    assert not thread.is_alive()


def test_it_may_be_raised_by_the_cleanup_while_leaving(make_loop):
    started = threading.Event()

    async def exit_when_cancelled():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise SystemExit("of a cleanup")

    with make_loop(exit_timeout=5) as loop:
        thread = loop.thread
        future = loop.submit(exit_when_cancelled)
        assert started.wait(WAIT)
    assert isinstance(future.exception(timeout=0), SystemExit)
    assert not thread.is_alive()


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
def test_callbacks_of_the_same_turn_are_all_called(loop, end):
    called, last = [], threading.Event()

    def raise_now(n):
        called.append(n)
        raise end

    def schedule():
        for n in range(5):
            asyncio.get_running_loop().call_soon(raise_now, n)
        asyncio.get_running_loop().call_later(0, raise_now, 5)
        asyncio.get_running_loop().call_later(0.01, last.set)

    loop.call(schedule)
    assert last.wait(WAIT)
    assert sorted(called) == [0, 1, 2, 3, 4, 5]
    assert loop.evaluate(answer(), timeout=WAIT) == 42


@pytest.mark.parametrize("end", ENDS)
def test_a_spawned_task_that_nobody_awaits_does_not_disturb(make_loop, caplog, end):
    async def spawn():
        task = asyncio.create_task(raise_it(end("of a task nobody awaits")))
        while not task.done():
            await asyncio.sleep(0)
        return "fine", type(task.exception())

    with make_loop(exit_timeout=5) as loop:
        assert loop.evaluate(spawn(), timeout=WAIT) == ("fine", end)
        assert loop.evaluate(answer(), timeout=WAIT) == 42


@pytest.mark.parametrize("end", ENDS)
def test_a_done_callback_that_raises_it_does_not_disturb(loop, gate, caplog, end):
    async def wait_for_gate():
        while not gate.is_set():
            await asyncio.sleep(0.005)

    def raise_now(_):
        raise end("of a done-callback")

    called = threading.Event()
    future = loop.submit(wait_for_gate)
    future.add_done_callback(raise_now)
    future.add_done_callback(lambda _: called.set())
    gate.set()
    assert called.wait(WAIT)
    assert loop.evaluate(answer(), timeout=WAIT) == 42
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [end]


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
def test_async_generators_that_raise_it_when_they_are_closed_do_not_stop_the_exit(make_loop, end):
    closed, kept = [], []

    async def generate(n):
        try:
            yield n
        finally:
            await asyncio.sleep(0)
            closed.append(n)
            raise end("of an async generator")

    async def leave_them_open():
        for n in range(3):
            kept.append(generate(n))
            await anext(kept[-1])

    session = make_loop(exit_timeout=5).start()
    thread, event_loop = session.thread, session.loop
    session.call(event_loop.set_exception_handler, lambda *_: None)
    session.evaluate(leave_them_open())
    others = [session.submit(asyncio.sleep, 3600) for _ in range(3)]
    Caller(session.close).outcome()
    assert sorted(closed) == [0, 1, 2]
    assert all(other.cancelled() for other in others)
    assert event_loop.is_closed()
    assert not thread.is_alive()
    # asyncio reports such a failure when it drops the task, which nobody but the collector sees.
    gc.collect()


def test_several_that_raise_it_while_leaving_do_not_stop_the_exit(make_loop):
    left = threading.Semaphore(0)

    async def exit_when_cancelled():
        left.release()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            raise SystemExit("of a cleanup")

    with make_loop(exit_timeout=5) as loop:
        thread = loop.thread
        futures = [loop.submit(exit_when_cancelled) for _ in range(5)]
        for _ in futures:
            assert left.acquire(timeout=WAIT)
    assert {type(future.exception(timeout=0)) for future in futures} == {SystemExit}
    assert not thread.is_alive()
