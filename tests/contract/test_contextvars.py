"""Context variables of the caller are seen by the coroutine; with "both" its changes come back."""

import asyncio
import contextvars
import decimal
import weakref

import pytest

from .harness import WAIT, Caller, until

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


@pytest.mark.parametrize("direction", ["in", "both"])
@pytest.mark.parametrize("yields", [False, True])
def test_what_a_coroutine_set_is_let_go_with_it(make_loop, direction, yields):
    class Value:
        pass

    async def work():
        value = Value()
        variable.set(value)
        if yields:
            await asyncio.sleep(0)
        return weakref.ref(value)

    with make_loop(propagate_context=direction) as loop:
        # The callers' own contexts, into which it may have been carried back, end with them.
        freed = [
            in_a_context(lambda: loop.submit(work()).result(WAIT)),
            in_a_context(lambda: loop.evaluate(work())),
        ]
        until(lambda: [each() for each in freed] == [None, None])


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


async def change_the_decimals(digits):
    with_fewer = decimal.Context(prec=digits)
    decimal.setcontext(with_fewer)
    await asyncio.sleep(0)
    return decimal.getcontext().prec


def test_the_decimal_context_goes_in_and_does_not_come_back(loop):
    async def read_the_decimals():
        return decimal.getcontext().prec, str(decimal.Decimal(1) / 3)

    def call():
        decimal.setcontext(decimal.Context(prec=7))
        assert loop.evaluate(read_the_decimals()) == (7, "0.3333333")
        assert loop.evaluate(change_the_decimals(3)) == 3
        assert decimal.getcontext().prec == 7

    in_a_context(call)


def test_with_both_the_decimal_context_comes_back(make_loop):
    def call():
        with make_loop(propagate_context="both") as loop:
            decimal.setcontext(decimal.Context(prec=7))
            assert loop.evaluate(change_the_decimals(3)) == 3
            assert decimal.getcontext().prec == 3
            assert str(decimal.Decimal(1) / 3) == "0.333"

    in_a_context(call)


def test_with_both_only_evaluate_carries_changes_back(make_loop):
    def call():
        with make_loop(propagate_context="both") as loop:
            variable.set("of the caller")
            loop.submit(write("of submit")).result(WAIT)
            loop.evaluate_many([write("of evaluate_many")])
            assert list(loop.map(write, ["of map"])) == ["of map"]
            assert [future.result() for future in loop.as_completed([write("other")])] == ["other"]
            assert variable.get() == "of the caller"

    in_a_context(call)


def test_with_both_a_coroutine_that_fails_or_times_out_carries_changes_back(make_loop):
    async def write_and_fail():
        variable.set("of a failure")
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def write_and_wait():
        variable.set("of a timeout")
        await asyncio.sleep(3600)

    def call():
        with make_loop(propagate_context="both") as loop:
            with pytest.raises(ZeroDivisionError):
                loop.evaluate(write_and_fail())
            assert variable.get() == "of a failure"
            with pytest.raises(TimeoutError):
                loop.evaluate(write_and_wait(), timeout=0.05)
            assert variable.get() == "of a timeout"

    in_a_context(call)


@pytest.mark.parametrize("direction", ["in", "both"])
def test_threads_of_the_loop_pass_their_context_on(make_loop, direction):
    async def call_from_a_thread(loop):
        variable.set("of the coroutine")
        seen = await asyncio.to_thread(call_and_read, loop)
        return seen, variable.get()

    def call_and_read(loop):
        return loop.evaluate(write_over()), variable.get()

    async def write_over():
        seen = variable.get()
        variable.set("of the inner one")
        return seen

    def call():
        with make_loop(propagate_context=direction) as loop:
            variable.set("of the caller")
            after = "of the inner one" if direction == "both" else "of the coroutine"
            # Threads have a copy of the context: what comes back to the thread stays there.
            assert loop.evaluate(call_from_a_thread(loop)) == (
                ("of the coroutine", after),
                "of the coroutine",
            )
            assert variable.get() == ("of the coroutine" if direction == "both" else "of the caller")

    in_a_context(call)
