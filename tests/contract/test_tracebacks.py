"""A traceback shows the caller and the coroutine, nothing of the library, and leaves no garbage."""

import asyncio
import concurrent.futures
import contextlib
import gc
import os
import traceback

import pytest

import asyncio_thread_loop

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
