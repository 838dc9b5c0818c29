"""`call_soon`, turns, `stop`, `run_until_complete`."""

import asyncio
import contextvars
import itertools
import sys
import threading
from fractions import Fraction

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


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda loop: loop.call_soon(), TypeError),
        (lambda loop: loop.call_soon_threadsafe(), TypeError),
        (lambda loop: loop.call_later(1), TypeError),
        (lambda loop: loop.call_at(), TypeError),
        (lambda loop: loop.call_soon(print, contest=None), TypeError),
        (lambda loop: loop.call_later(1, print, when=2), TypeError),
        (lambda loop: loop.call_soon(print, context=None, other=None), TypeError),
        (lambda loop: loop.call_later(10**400, print), OverflowError),
        (lambda loop: loop.call_at(10**400, print), OverflowError),
    ],
)
def test_a_call_that_is_wrong_is_refused(loop, call, error):
    with pytest.raises(error):
        call(loop)
    assert (loop._ready, loop._scheduled) == ([], [])


def test_a_time_may_be_any_number(loop):
    class Seconds(float):
        pass

    numbers = [1, True, 1.5, Seconds(1.5), Fraction(3, 2), 2**60]
    for number in numbers:
        timer = loop.call_at(number, print)
        assert timer.when() == float(number)
        timer.cancel()
        timer = loop.call_later(number, print)
        assert timer.when() >= float(number)
        timer.cancel()


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_no_context_is_a_copy_of_the_callers(loop, method):
    variable = contextvars.ContextVar("variable", default="none")
    seen = []
    when = [0] if method in ("call_later", "call_at") else []
    own = contextvars.Context()
    own.run(variable.set, "own")
    variable.set("caller's")
    for options in ({}, {"context": None}, {"context": own}):
        getattr(loop, method)(*when, lambda: seen.append(variable.get()), **options)
    variable.set("changed")
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert seen == ["caller's", "caller's", "own"]


def test_a_subclass_can_intercept_what_is_scheduled():
    class Loop(EventLoop):
        def call_soon(self, callback, *args, context=None):
            intercepted.append(args)
            return super().call_soon(callback, *args, context=context)

    async def main():
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(print)

    intercepted = []
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())
    assert len(intercepted) >= 3


async def nothing():
    pass


def test_a_task_has_the_name_and_the_context_it_was_made_with(run):
    variable = contextvars.ContextVar("variable", default="none")

    async def read():
        return variable.get()

    async def main():
        loop = asyncio.get_running_loop()
        context = contextvars.Context()
        context.run(variable.set, "own")
        plain = loop.create_task(read())
        unnamed = loop.create_task(read(), name=None)
        named = loop.create_task(read(), name="named", context=context)
        assert plain.get_name().startswith("Task-")
        assert unnamed.get_name().startswith("Task-")
        assert named.get_name() == "named"
        assert all(isinstance(task, asyncio.Task) for task in (plain, unnamed, named))
        assert await asyncio.gather(plain, unnamed, named) == ["none", "none", "own"]

    run(main())


def test_a_task_factory_makes_the_tasks(run):
    async def main():
        loop = asyncio.get_running_loop()

        def factory(loop, coro, **options):
            made.append(options.keys())
            return asyncio.Task(coro, loop=loop, **options)

        made = []
        loop.set_task_factory(factory)
        await loop.create_task(nothing(), name="named")
        await loop.create_task(nothing(), context=contextvars.copy_context())
        assert len(made) == 2
        assert "context" in made[1]
        loop.set_task_factory(None)
        await loop.create_task(nothing())
        assert len(made) == 2

    run(main())


@pytest.mark.parametrize("debug", [False, True])
def test_a_task_that_cannot_be_made_is_refused(debug):
    loop = EventLoop()
    loop.set_debug(debug)
    coroutine = nothing()
    for call in (
        lambda: loop.create_task(),
        lambda: loop.create_task(coroutine, coroutine),
        lambda: loop.create_task(coroutine, loop=loop),
        lambda: loop.create_task(coroutine, other=None),
        lambda: loop.create_task(None),
    ):
        with pytest.raises(TypeError):
            call()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.create_task(coroutine)
    coroutine.close()


def test_in_debug_mode_a_task_remembers_where_it_was_made(loop):
    loop.set_debug(True)
    task = loop.create_task(nothing())
    assert task._source_traceback[-1].name == "test_in_debug_mode_a_task_remembers_where_it_was_made"
    loop.run_until_complete(task)


def test_tasks_and_futures_are_of_the_classes_that_asyncio_has_now(loop, monkeypatch):
    class Task(asyncio.Task):
        pass

    class Future(asyncio.Future):
        pass

    monkeypatch.setattr(asyncio.tasks, "Task", Task)
    monkeypatch.setattr(asyncio.futures, "Future", Future)
    task = loop.create_task(nothing())
    assert type(task) is Task
    assert type(loop.create_future()) is Future
    loop.run_until_complete(task)
    monkeypatch.undo()
    future = loop.create_future()
    assert type(future) is asyncio.Future
    assert future.get_loop() is loop


def test_callbacks_of_another_thread_run_in_order_one_by_one_and_many_at_once(loop):
    """The loop is woken in another way for each, and learns which it is."""
    ran = []
    sizes = [1] * 40 + [100] * 3 + [1] * 40 + [2, 1, 30, 1]
    answered = threading.Semaphore(0)

    def answer(number):
        ran.append(number)
        answered.release()

    def call():
        numbers = itertools.count()
        try:
            for size in sizes:
                for number in itertools.islice(numbers, size):
                    loop.call_soon_threadsafe(answer, number)
                for _ in range(size):
                    assert answered.acquire(timeout=10)
        finally:
            loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=call)
    thread.start()
    loop.run_forever()
    thread.join()
    assert ran == list(range(sum(sizes)))
