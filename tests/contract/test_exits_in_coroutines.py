"""`SystemExit` and `KeyboardInterrupt` of a coroutine reach its caller, not the loop."""

import asyncio
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
