"""Context variables of the caller are seen by the coroutine; with "both" its changes come back."""

import asyncio
import contextvars

import pytest

from .harness import WAIT, Caller

variable = contextvars.ContextVar("variable", default="unset")


async def read(*_):
    await asyncio.sleep(0)
    return variable.get()


async def write(value):
    variable.set(value)
    await asyncio.sleep(0)
    return variable.get()


def in_a_context(fn):
    """Run the test in a context of its own, so that it leaves none of its values behind."""
    return contextvars.copy_context().run(fn)


def test_the_context_of_the_caller_is_seen_by_every_way_to_call(loop):
    def call():
        variable.set("of the caller")
        assert loop.evaluate(read()) == "of the caller"
        assert loop.submit(read()).result(WAIT) == "of the caller"
        assert loop.submit(read).result(WAIT) == "of the caller"
        assert loop.evaluate_many([read(), read()]) == ["of the caller"] * 2
        assert list(loop.map(read, [1, 2])) == ["of the caller"] * 2
        assert [future.result() for future in loop.as_completed([read()])] == ["of the caller"]
        assert loop.call(variable.get) == "of the caller"

        async def start(*, task_status):
            task_status.started(variable.get())

        assert loop.start_task(start)[1] == "of the caller"

    in_a_context(call)


def test_each_thread_has_its_own_context(loop):
    def call(n):
        variable.set(n)
        return [loop.evaluate(read()) for _ in range(20)]

    callers = [Caller(call, n) for n in range(4)]
    assert [caller.outcome() for caller in callers] == [[n] * 20 for n in range(4)]


def test_tasks_and_threads_of_the_coroutine_see_it_too(loop):
    async def spread():
        return await asyncio.create_task(read()), await asyncio.to_thread(variable.get)

    def call():
        variable.set("of the caller")
        assert loop.evaluate(spread()) == ("of the caller", "of the caller")

    in_a_context(call)


def test_the_context_is_taken_when_the_work_is_submitted(loop, gate):
    async def read_late():
        while not gate.is_set():
            await asyncio.sleep(0.005)
        return variable.get()

    def call():
        variable.set("then")
        future = loop.submit(read_late)
        variable.set("now")
        gate.set()
        assert future.result(WAIT) == "then"

    in_a_context(call)


def test_changes_stay_in_the_coroutine(loop):
    def call():
        variable.set("of the caller")
        assert loop.evaluate(write("of the coroutine")) == "of the coroutine"
        assert variable.get() == "of the caller"
        assert loop.evaluate(read()) == "of the caller"
        assert loop.evaluate_many([write("one"), write("two")]) == ["one", "two"]
        assert variable.get() == "of the caller"

    in_a_context(call)


def test_nothing_leaks_into_the_loop(loop):
    loop.evaluate(write("of a coroutine"))
    assert contextvars.Context().run(loop.evaluate, read()) == "unset"


def test_with_both_evaluate_carries_changes_back(make_loop):
    def call():
        with make_loop(propagate_context="both") as loop:
            variable.set("of the caller")
            assert loop.evaluate(read()) == "of the caller"
            assert loop.evaluate(write("of the coroutine")) == "of the coroutine"
            assert variable.get() == "of the coroutine"
            assert loop.evaluate(read()) == "of the coroutine"

    in_a_context(call)


def test_with_both_a_variable_new_to_the_caller_is_carried_back(make_loop):
    fresh = contextvars.ContextVar("fresh")

    async def write_fresh():
        fresh.set("new")

    def call():
        with make_loop(propagate_context="both") as loop:
            loop.evaluate(write_fresh())
            assert fresh.get() == "new"

    in_a_context(call)


def test_with_both_only_what_the_coroutine_changed_is_carried_back(make_loop):
    other = contextvars.ContextVar("other")

    def call():
        with make_loop(propagate_context="both") as loop:
            other.set("kept")
            loop.evaluate(write("of the coroutine"))
            assert other.get() == "kept"

    in_a_context(call)
    assert variable.get() == "unset"


def test_a_wrong_word_for_the_direction_is_refused(make_loop):
    with pytest.raises(ValueError, match="propagate_context"):
        make_loop(propagate_context="sideways")
