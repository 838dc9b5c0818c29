"""A traceback shows the caller and the coroutine, nothing of the library, and leaves no garbage."""

import asyncio
import concurrent.futures
import contextlib
import gc
import os
import threading
import traceback

import pytest

import asyncio_thread_loop
from asyncio_thread_loop import AsyncioThreadLoop

from .harness import WAIT, answer, forever

PACKAGE = os.path.dirname(asyncio_thread_loop.__file__)


async def inner():
    await asyncio.sleep(0)
    raise ZeroDivisionError("of a coroutine")


async def outer():
    await inner()


async def outer_with(value):
    await inner()


def plain():
    raise ZeroDivisionError("of a callable")


def frames(error):
    summary = traceback.extract_tb(error.__traceback__)
    assert not [frame for frame in summary if frame.filename.startswith(PACKAGE)]
    return [frame.name for frame in summary]


def submitted_at(error):
    return [note for note in getattr(error, "__notes__", []) if note.startswith("submitted at ")]


WAYS = {
    "evaluate": lambda loop: loop.evaluate(outer()),
    "evaluate with a timeout": lambda loop: loop.evaluate(outer(), timeout=WAIT),
    "evaluate_many": lambda loop: loop.evaluate_many([answer(), outer()]),
    "map": lambda loop: list(loop.map(outer_with, [1])),
    "as_completed": lambda loop: [future.result() for future in loop.as_completed([outer()])],
    "submit": lambda loop: loop.submit(outer).result(),
    "result with a timeout": lambda loop: loop.submit(outer).result(WAIT),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_only_frames_of_the_caller_and_the_coroutine_are_shown(loop, way):
    try:
        way(loop)
    except ZeroDivisionError as error:
        shown = frames(error)
    assert shown[0] == "test_only_frames_of_the_caller_and_the_coroutine_are_shown"
    assert set(shown[1:-2]) <= {"<lambda>", "<listcomp>"}
    assert shown[-1] == "inner"
    assert shown[-2] in ("outer", "outer_with")


def test_evaluate_reads_like_a_plain_call(loop):
    try:
        loop.evaluate(outer())
    except ZeroDivisionError as error:
        shown = frames(error)
    assert shown == ["test_evaluate_reads_like_a_plain_call", "outer", "inner"]


def test_call_reads_like_a_plain_call(loop):
    try:
        loop.call(plain)
    except ZeroDivisionError as error:
        shown = frames(error)
    assert shown == ["test_call_reads_like_a_plain_call", "plain"]


def test_a_note_says_where_it_was_submitted(loop):
    line = test_a_note_says_where_it_was_submitted.__code__.co_firstlineno + 2
    future = loop.submit(outer)
    error = future.exception(WAIT)
    assert submitted_at(error) == [
        f'submitted at File "{__file__}", line {line}, in test_a_note_says_where_it_was_submitted'
    ]


def test_evaluate_notes_where_it_was_submitted(loop):
    with pytest.raises(ZeroDivisionError) as caught:
        loop.evaluate(outer())
    [note] = submitted_at(caught.value)
    assert __file__ in note
    assert note.endswith("in test_evaluate_notes_where_it_was_submitted")


def test_asking_again_adds_nothing(loop):
    future = loop.submit(outer)
    shown = []
    for _ in range(3):
        try:
            future.result(WAIT)
        except ZeroDivisionError as error:
            shown.append((frames(error), submitted_at(error)))
    assert shown[0] == shown[1] == shown[2]
    assert len(shown[0][1]) == 1


def test_many_waiters_share_one_note(loop):
    future = loop.submit(outer)
    errors = [future.exception(WAIT) for _ in range(3)]
    assert errors[0] is errors[1] is errors[2]
    assert len(submitted_at(errors[0])) == 1


def test_a_frozen_exception_is_raised_all_the_same(loop):
    class Frozen(Exception):
        def add_note(self, note):
            raise AttributeError("frozen")

        def __setattr__(self, name, value):
            raise AttributeError("frozen")

    async def fail():
        raise Frozen

    with pytest.raises(Frozen):
        loop.evaluate(fail())
    with pytest.raises(Frozen):
        loop.submit(fail).result(WAIT)


def fail_in_evaluate(loop):
    with contextlib.suppress(ZeroDivisionError):
        loop.evaluate(outer())


def fail_in_result(loop):
    with contextlib.suppress(ZeroDivisionError):
        loop.submit(outer).result(WAIT)


def fail_in_evaluate_many(loop):
    with contextlib.suppress(ZeroDivisionError):
        loop.evaluate_many([answer(), outer()])


def fail_in_call(loop):
    with contextlib.suppress(ZeroDivisionError):
        loop.call(plain)


def time_out(loop):
    with contextlib.suppress(TimeoutError):
        loop.evaluate(forever(), timeout=0.001)


def cancel(loop):
    future = loop.submit(forever)
    future.cancel_and_wait(WAIT)
    with contextlib.suppress(concurrent.futures.CancelledError):
        future.result()


def succeed(loop):
    assert loop.evaluate(answer()) == 42
    assert loop.submit(answer).result(WAIT) == 42
    assert loop.evaluate_many([answer()]) == [42]
    assert loop.call(int, 42) == 42


@pytest.mark.parametrize(
    "call",
    [fail_in_evaluate, fail_in_result, fail_in_evaluate_many, fail_in_call, time_out, cancel, succeed],
)
def test_a_call_leaves_no_garbage(loop, call):
    call(loop)
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            call(loop)
        loop.evaluate(asyncio.sleep(0))
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        garbage = list(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert [repr(each)[:200] for each in garbage] == []


async def start_and_fail(*, task_status):
    await inner()


MORE_WAYS = {
    "start_task": lambda loop: loop.start_task(start_and_fail),
    "call": lambda loop: loop.call(plain),
    "map with a buffer": lambda loop: list(loop.map(outer_with, [1], buffersize=1)),
    "evaluate_many with a limit": lambda loop: loop.evaluate_many(iter([outer()]), limit=1),
    "evaluate_many with a timeout": lambda loop: loop.evaluate_many([outer()], WAIT),
    "as_completed with a limit": lambda loop: next(loop.as_completed([outer()], limit=1)).result(),
    "start_task, then result": lambda loop: loop.start_task(fail_when_started)[0].result(WAIT),
}


async def fail_when_started(*, task_status):
    task_status.started()
    await inner()


@pytest.mark.parametrize("way", MORE_WAYS.values(), ids=MORE_WAYS.keys())
def test_every_way_to_raise_shows_no_frame_of_the_library_and_one_note(loop, way):
    try:
        way(loop)
    except ZeroDivisionError as error:
        shown, notes = frames(error), submitted_at(error)
    assert shown[0] == "test_every_way_to_raise_shows_no_frame_of_the_library_and_one_note"
    assert shown[-1] in ("inner", "plain")
    [note] = notes
    assert f'"{__file__}"' in note


def test_errors_that_are_returned_show_only_the_coroutine(loop):
    first, second = loop.evaluate_many([outer(), outer()], return_exceptions=True)
    [third] = [future.exception() for future in loop.as_completed([outer()])]
    for error in first, second, third, loop.submit(outer).exception(WAIT):
        assert frames(error) == ["outer", "inner"]
        assert len(submitted_at(error)) == 1


REFUSALS = {
    "evaluate": lambda loop: loop.evaluate(42),
    "submit": lambda loop: loop.submit(len),
    "evaluate_many": lambda loop: loop.evaluate_many([42]),
    "map": lambda loop: list(loop.map(len, [1])),
    "as_completed": lambda loop: list(loop.as_completed([42])),
    "call": lambda loop: loop.call(answer),
    "start_task": lambda loop: loop.start_task(len),
    "shutdown": lambda loop: loop.shutdown(timeout="1"),
    "start": lambda loop: loop.start(),
}


@pytest.mark.parametrize("refused", REFUSALS.values(), ids=REFUSALS.keys())
def test_errors_of_the_library_itself_end_where_it_was_called(loop, refused):
    try:
        refused(loop)
    except (TypeError, RuntimeError) as error:
        shown = frames(error)
    assert shown == ["test_errors_of_the_library_itself_end_where_it_was_called", "<lambda>"]


def every_error(error):
    """An error, what it came from, and the errors in it."""
    found = [error]
    for each in found:
        found += [other for other in (each.__cause__, each.__context__) if other is not None]
        found += getattr(each, "exceptions", ())
    return found


def test_causes_and_groups_show_no_frame_of_the_library_either(loop):
    async def fail_in_a_group():
        async with asyncio.TaskGroup() as group:
            group.create_task(outer())
            group.create_task(asyncio.to_thread(plain))

    async def fail_from():
        try:
            await fail_in_a_group()
        except ExceptionGroup as group:
            raise ValueError("from a group") from group

    try:
        loop.evaluate(fail_from())
    except ValueError as error:
        errors = every_error(error)
    assert {type(error) for error in errors} == {ValueError, ExceptionGroup, ZeroDivisionError}
    for error in errors:
        frames(error)
    assert [len(submitted_at(error)) for error in errors] == [1] + [0] * (len(errors) - 1)


def test_an_exception_that_two_coroutines_raise_has_a_note_of_each(loop):
    shared = ZeroDivisionError("shared")

    async def fail_shared():
        await asyncio.sleep(0)
        raise shared

    first, second = loop.submit(fail_shared), loop.submit(fail_shared)
    assert first.exception(WAIT) is second.exception(WAIT) is shared
    assert len(submitted_at(shared)) == 1  # Both were submitted in the same line.
    with pytest.raises(ZeroDivisionError):
        loop.evaluate(fail_shared())
    assert len(submitted_at(shared)) == 2
    frames(shared)


def fail_in_start_task(loop):
    with contextlib.suppress(ZeroDivisionError):
        loop.start_task(start_and_fail)


def fail_in_map(loop):
    with contextlib.suppress(ZeroDivisionError):
        list(loop.map(outer_with, [1, 2]))


def fail_in_as_completed(loop):
    for future in loop.as_completed([outer(), outer()]):
        future.exception()


def return_exceptions(loop):
    loop.evaluate_many([outer(), answer()], return_exceptions=True)


def time_out_in_evaluate_many(loop):
    with contextlib.suppress(TimeoutError):
        loop.evaluate_many([forever(), forever()], timeout=0.001)


def time_out_in_map(loop):
    with contextlib.suppress(TimeoutError):
        list(loop.map(asyncio.sleep, [3600], timeout=0.001))


def exit_in_evaluate(loop):
    async def leave():
        raise SystemExit

    with contextlib.suppress(SystemExit):
        loop.evaluate(leave())


def be_refused(loop):
    for refused in REFUSALS.values():
        with contextlib.suppress(TypeError, RuntimeError):
            refused(loop)


def be_refused_on_the_loop(loop):
    async def call():
        with contextlib.suppress(RuntimeError):
            loop.evaluate(answer())
        with contextlib.suppress(RuntimeError):
            loop.evaluate_many([answer()])

    loop.evaluate(call())


@pytest.mark.parametrize(
    "call",
    [
        fail_in_start_task,
        fail_in_map,
        fail_in_as_completed,
        return_exceptions,
        time_out_in_evaluate_many,
        time_out_in_map,
        be_refused,
        be_refused_on_the_loop,
    ],
)
def test_no_other_call_leaves_garbage_either(loop, call):
    test_a_call_leaves_no_garbage(loop, call)


def test_an_exit_in_a_coroutine_leaves_no_garbage():
    # On the native loop: a handle of asyncio's own is in the traceback of what broke out of it.
    with AsyncioThreadLoop() as loop:
        test_a_call_leaves_no_garbage(loop, exit_in_evaluate)


async def items_of(number):
    for n in range(number):
        yield n
    await inner()


@contextlib.asynccontextmanager
async def failing(where):
    if where == "entering":
        await inner()
    yield
    await inner()


def enter(loop, where):
    with loop.wrap_async_context_manager(failing(where)):
        pass


def close_early(loop, prefetch):
    async def fail_at_the_end():
        try:
            while True:
                yield 1
        finally:
            await inner()

    items = loop.iterate(fail_at_the_end(), prefetch=prefetch)
    next(items)
    items.close()


def throw_in(loop):
    async def pass_on():
        yield 1

    items = loop.iterate(pass_on())
    next(items)
    items.throw(ZeroDivisionError())


def pass_timeout_between(loop):
    async def hold():
        try:
            async with asyncio.timeout(0.001):
                yield 1
                await forever()
        except TimeoutError as error:
            left.set()
            raise ZeroDivisionError from error

    left = threading.Event()
    items = loop.iterate(hold())
    next(items)
    assert left.wait(WAIT)
    next(items)


def end_context(loop):
    loop = AsyncioThreadLoop(exit_timeout=5, loop_factory=loop._loop_factory)
    with loop:
        loop.enter_async_context(failing("leaving"))


ITERATE_WAYS = {
    "next": lambda loop: list(loop.iterate(items_of(3))),
    "next, ahead": lambda loop: list(loop.iterate(items_of(3), prefetch=2)),
    "next, at once": lambda loop: next(loop.iterate(items_of(0))),
    "next, at once, ahead": lambda loop: next(loop.iterate(items_of(0), prefetch=2)),
    "send": lambda loop: loop.iterate(items_of(0)).send(None),
    "throw": throw_in,
    "close": lambda loop: close_early(loop, 0),
    "close, ahead": lambda loop: close_early(loop, 2),
    "a timeout between two items": pass_timeout_between,
    "entering": lambda loop: enter(loop, "entering"),
    "leaving": lambda loop: enter(loop, "leaving"),
    "enter_async_context": lambda loop: loop.enter_async_context(failing("entering")),
    "the exit of the loop": end_context,
}


@pytest.mark.parametrize("way", ITERATE_WAYS.values(), ids=ITERATE_WAYS.keys())
def test_iterations_and_contexts_raise_without_frames_of_the_library(loop, way):
    try:
        way(loop)
    except ZeroDivisionError as error:
        errors = every_error(error)
    for error in errors:
        shown = frames(error)
        assert shown[-1] in ("inner", "pass_on", "hold", "__aexit__", "fail_at_the_end"), shown
        if error is errors[0]:
            assert shown[0] == "test_iterations_and_contexts_raise_without_frames_of_the_library"
            assert way is end_context or [f'"{__file__}"' in note for note in submitted_at(error)] == [True]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_errors_that_are_reported_show_no_frame_of_the_library_either(loop, prefetch):
    async def fail_at_the_end():
        try:
            yield 1
        finally:
            await inner()

    told, reported = [], threading.Event()

    def keep(_, context):
        told.append(context["exception"])
        reported.set()

    loop.loop.set_exception_handler(keep)
    next(loop.iterate(fail_at_the_end(), prefetch=prefetch))
    assert reported.wait(WAIT)
    [error] = told
    assert frames(error) == ["fail_at_the_end", "inner"]


def test_a_for_loop_reads_as_in_asynchronous_code(loop):
    for prefetch in (0, 2):
        try:
            for _ in loop.iterate(items_of(2), prefetch=prefetch):
                pass
        except ZeroDivisionError as error:
            shown = frames(error)
        assert shown == ["test_a_for_loop_reads_as_in_asynchronous_code", "items_of", "inner"]


def test_an_error_in_the_midst_of_handling_another_does_not_get_mixed_up_with_it(loop):
    for prefetch in (0, 2):
        try:
            raise ValueError("being handled")
        except ValueError:
            try:
                list(loop.iterate(items_of(2), prefetch=prefetch))
            except ZeroDivisionError as error:
                assert error.__context__ is None


def iterate_to_the_end(loop):
    for prefetch in (0, 2):
        list(loop.iterate(at_once(5), prefetch=prefetch))


def iterate_and_leave(loop):
    for prefetch in (0, 2):
        with loop.iterate(at_once(5), prefetch=prefetch) as items:
            next(items)
        next(loop.iterate(at_once(5), prefetch=prefetch))


async def at_once(to):
    for n in range(to):
        yield n


def fail_in_iterations(loop):
    for way in ITERATE_WAYS.values():
        if way not in (end_context, pass_timeout_between):
            with contextlib.suppress(ZeroDivisionError):
                way(loop)


def pass_a_timeout_between(loop):
    with contextlib.suppress(ZeroDivisionError):
        pass_timeout_between(loop)


def use_contexts(loop):
    with loop.wrap_async_context_manager(asyncio.Lock()):
        pass
    with contextlib.suppress(ZeroDivisionError), loop.wrap_async_context_manager(asyncio.Lock()):
        raise ZeroDivisionError


def be_cancelled_between(loop):
    with AsyncioThreadLoop(exit_timeout=5, loop_factory=loop._loop_factory) as other:
        items = other.iterate(at_once(5))
        next(items)
        context = other.wrap_async_context_manager(asyncio.Lock())
        context.__enter__()
    with contextlib.suppress(concurrent.futures.CancelledError):
        next(items)
    with contextlib.suppress(concurrent.futures.CancelledError):
        context.__exit__(None, None, None)


@pytest.mark.parametrize(
    "call",
    [
        iterate_to_the_end,
        iterate_and_leave,
        fail_in_iterations,
        pass_a_timeout_between,
        use_contexts,
    ],
)
def test_iterations_and_contexts_leave_no_garbage(loop, call):
    test_a_call_leaves_no_garbage(loop, call)
