"""`call_soon`, turns, `stop`, `run_until_complete`."""

import asyncio
import contextvars
import itertools
import sys

import pytest

from asyncio_thread_loop import EventLoop

variable = contextvars.ContextVar("variable", default="unset")


def test_callbacks_run_in_the_order_they_were_scheduled(loop):
    ran = []
    for number in range(1000):
        loop.call_soon(ran.append, number)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == list(range(1000))


def test_what_a_callback_schedules_runs_in_the_next_turn(loop):
    ran = []

    def first():
        loop.call_soon(ran.append, "later")
        ran.append("first")

    loop.call_soon(first)
    loop.call_soon(ran.append, "second")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["first", "second"]
    loop.stop()
    loop.run_forever()
    assert ran == ["first", "second", "later"]


def test_a_callback_runs_in_the_context_it_was_scheduled_in(loop):
    seen = []
    variable.set("before")
    loop.call_soon(lambda: seen.append(variable.get()))
    variable.set("after")
    loop.call_soon(lambda: seen.append(variable.get()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["before", "after"]


def test_a_callback_runs_in_the_context_it_was_given(loop):
    context = contextvars.copy_context()
    context.run(variable.set, "given")
    seen = []

    def look():
        seen.append(variable.get())
        variable.set("changed")

    handles = [
        loop.call_soon(look, context=context),
        loop.call_soon_threadsafe(look, context=context),
        loop.call_later(0, look, context=context),
    ]
    loop.call_later(0, loop.stop)
    loop.run_forever()
    assert seen == ["given", "changed", "changed"]
    assert context[variable] == "changed"
    assert all(handle._context is context for handle in handles)
    if sys.version_info >= (3, 12):
        assert all(handle.get_context() is context for handle in handles)


def test_a_cancelled_callback_does_not_run(loop):
    ran = []
    handle = loop.call_soon(ran.append, "cancelled")
    loop.call_soon(ran.append, "kept")
    handle.cancel()
    assert handle.cancelled()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["kept"]


def test_a_callback_can_cancel_another_one_of_its_turn(loop):
    ran = []
    handles = []
    loop.call_soon(lambda: handles[0].cancel())
    handles.append(loop.call_soon(ran.append, "cancelled"))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == []


def test_stop_ends_the_current_turn_and_not_more(loop):
    ran = []
    loop.call_soon(loop.stop)
    loop.call_soon(ran.append, "same turn")
    loop.call_soon(lambda: loop.call_soon(ran.append, "next turn"))
    loop.run_forever()
    assert ran == ["same turn"]


def test_stop_before_the_run_makes_it_one_turn(loop):
    ran = []
    loop.call_soon(ran.append, "one")
    loop.stop()
    loop.run_forever()
    assert ran == ["one"]


def test_run_until_complete_can_be_called_again(loop):
    async def answer(number):
        await asyncio.sleep(0)
        return number

    assert [loop.run_until_complete(answer(number)) for number in range(3)] == [0, 1, 2]


def test_run_until_complete_raises_what_the_coroutine_raised(loop):
    async def fail():
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        loop.run_until_complete(fail())


def test_run_until_complete_says_so_if_the_loop_is_stopped_first(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match=r"stopped before Future completed"):
        loop.run_until_complete(future)


def test_a_running_loop_cannot_be_run_again(loop):
    async def again():
        assert loop.is_running()
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()

    loop.run_until_complete(again())
    assert not loop.is_running()


def test_a_loop_cannot_run_inside_another(loop):
    other = EventLoop()

    async def inside():
        with pytest.raises(RuntimeError, match="another loop is running"):
            other.run_forever()

    loop.run_until_complete(inside())
    other.close()


@pytest.mark.parametrize("exit_type", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("debug", [False, True])
def test_an_exit_leaves_run_forever_and_the_rest_of_the_turn_runs_in_the_next_run(loop, exit_type, debug):
    loop.set_debug(debug)
    loop.slow_callback_duration = 60
    ran = []

    def leave():
        raise exit_type("leaving")

    loop.call_soon(ran.append, 1)
    loop.call_soon(leave)
    loop.call_soon(ran.append, 2)
    loop.call_soon(loop.stop)
    with pytest.raises(exit_type, match="leaving"):
        loop.run_forever()
    assert ran == [1]
    assert not loop.is_running()
    loop.run_forever()
    assert ran == [1, 2]


def test_a_failing_callback_is_reported_and_the_others_run(loop):
    reports = []
    ran = []
    loop.set_exception_handler(lambda _, context: reports.append(context))

    def fail(number):
        raise ValueError(number)

    handle = loop.call_soon(fail, 7)
    loop.call_soon(ran.append, "next")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["next"]
    (report,) = reports
    assert str(report["exception"]) == "7"
    assert report["handle"] is handle
    assert report["message"].startswith("Exception in callback ")
    assert ".fail(" in report["message"]
    assert "test_scheduling.py:" in report["message"]


def test_without_a_handler_a_failing_callback_is_logged(loop, caplog):
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(loop.stop)
    loop.run_forever()
    (record,) = caplog.records
    assert record.name == "asyncio"
    assert record.exc_info[0] is ZeroDivisionError
    assert "Exception in callback" in record.message


def test_an_exception_handler_that_fails_is_logged(loop, caplog):
    def handler(loop, context):
        raise KeyError("handler")

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert "Unhandled error in exception handler" in caplog.text


def test_callbacks_may_come_back_to_the_loop_while_they_are_dropped(loop):
    """A destructor that schedules something must find the loop in order, not in the middle of a change."""
    ran = []

    class Last:
        def __init__(self, number):
            self.number = number

        def __call__(self):
            pass

        def __del__(self):
            loop.call_soon(ran.append, self.number)
            loop.call_later(0, ran.append, self.number)

    loop.call_soon(Last(1))
    loop.call_soon(Last(2)).cancel()
    loop.call_later(0, Last(3))
    timers = [loop.call_later(60, Last(4)) for _ in range(300)]
    while timers:
        timers.pop().cancel()
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert sorted(ran) == [1, 1, 2, 2, 3, 3, *itertools.repeat(4, 600)]


def test_async_generators_left_behind_are_finalized_by_the_loop(loop):
    cleaned = []

    async def numbers(name):
        try:
            for number in itertools.count():
                yield number
        finally:
            await asyncio.sleep(0)
            cleaned.append(name)

    async def leave_one():
        async for _ in numbers("dropped"):
            break
        while not cleaned:
            await asyncio.sleep(0)

    loop.run_until_complete(leave_one())
    assert cleaned == ["dropped"]

    open_one = numbers("open")

    async def start_one():
        return await anext(open_one)

    assert loop.run_until_complete(start_one()) == 0
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert cleaned == ["dropped", "open"]


def test_the_ready_queue_can_be_looked_at(loop):
    handle = loop.call_soon(print)
    assert loop._ready == [handle]
    handle.cancel()
    loop.stop()
    loop.run_forever()
    assert not loop._ready
