"""A failure nobody asks about is reported once, when its future is dropped."""

import asyncio
import concurrent.futures
import gc
import logging

import pytest

from .harness import WAIT, Stubborn, answer


@pytest.fixture
def reports(loop):
    """What the exception handler of the loop is told."""
    told = []
    loop.call(loop.loop.set_exception_handler, lambda _, context: told.append(context))
    return told


async def fail(error):
    await asyncio.sleep(0)
    raise error


def failed(loop, error):
    """Return a future that failed, of which nobody has asked."""
    future = loop.submit(fail, error)
    concurrent.futures.wait([future], WAIT)
    return future


def settle(loop):
    """Let everything that was dropped be collected and reported."""
    for _ in range(3):
        gc.collect()
        loop.evaluate(asyncio.sleep(0))


def test_a_dropped_failure_is_reported_once(loop, reports):
    error = ZeroDivisionError("nobody asked")
    future = failed(loop, error)
    settle(loop)
    assert reports == []
    del future
    settle(loop)
    assert [context["exception"] for context in reports] == [error]
    assert "never" in reports[0]["message"]


def test_fire_and_forget_is_reported(loop, reports):
    error = ZeroDivisionError("nobody asked")
    loop.submit(fail, error)
    loop.evaluate(asyncio.sleep(0.02))
    settle(loop)
    assert [context["exception"] for context in reports] == [error]


def expect_the_error(future):
    with pytest.raises(ZeroDivisionError):
        future.result()


@pytest.mark.parametrize(
    "ask",
    [
        lambda future: future.exception(),
        expect_the_error,
        lambda future: future.add_done_callback(lambda done: done.exception()),
    ],
    ids=["exception", "result", "callback"],
)
def test_a_failure_somebody_asked_about_is_not_reported(loop, reports, ask):
    future = failed(loop, ZeroDivisionError())
    ask(future)
    del future
    settle(loop)
    assert reports == []


def test_a_failure_that_evaluate_raised_is_not_reported(loop, reports):
    with pytest.raises(ZeroDivisionError):
        loop.evaluate(fail(ZeroDivisionError()))
    settle(loop)
    assert reports == []


def test_a_failure_that_was_awaited_through_asyncio_is_not_reported(loop, reports):
    async def use():
        with pytest.raises(ZeroDivisionError):
            await asyncio.wrap_future(loop.submit(fail, ZeroDivisionError()))

    asyncio.run(use())
    settle(loop)
    assert reports == []


def test_success_and_cancellation_are_not_reported(loop, reports):
    loop.submit(answer).result(WAIT)
    loop.submit(asyncio.Event().wait).cancel_and_wait(WAIT)
    settle(loop)
    assert reports == []


def test_a_failure_dropped_after_the_close_is_still_reported(make_loop):
    told = []
    with make_loop() as loop:
        loop.call(loop.loop.set_exception_handler, lambda _, context: told.append(context))
        error = ZeroDivisionError("nobody asked")
        future = failed(loop, error)
    del future
    gc.collect()
    assert [context["exception"] for context in told] == [error]


def test_without_a_handler_the_failure_is_logged(loop, caplog):
    with caplog.at_level(logging.ERROR, "asyncio"):
        future = failed(loop, ZeroDivisionError("nobody asked"))
        del future
        settle(loop)
    records = [record for record in caplog.records if record.name == "asyncio"]
    assert len(records) == 1
    assert records[0].exc_info[0] is ZeroDivisionError


def test_a_failure_is_not_asked_for_by_waiting_alone(loop, reports):
    error = ZeroDivisionError("nobody asked")
    future = loop.submit(fail, error)
    assert list(concurrent.futures.as_completed([future], WAIT)) == [future]
    assert future.done()
    assert not future.cancelled()
    assert "ZeroDivisionError" in repr(future)
    del future
    settle(loop)
    assert [context["exception"] for context in reports] == [error]


def test_the_others_that_failed_in_evaluate_many_are_reported_once_each(loop, reports):
    together = asyncio.Barrier(3)

    async def fail_together(error):
        async with together:
            raise error

    errors = [ValueError("first"), ValueError("second"), ValueError("third")]
    with pytest.raises(ValueError, match="first"):
        loop.evaluate_many([fail_together(error) for error in errors])
    settle(loop)
    assert sorted(str(context["exception"]) for context in reports) == ["second", "third"]


def test_errors_that_evaluate_many_returned_are_not_reported(loop, reports):
    assert len(loop.evaluate_many([fail(ValueError()), fail(ValueError())], return_exceptions=True)) == 2
    settle(loop)
    assert reports == []


@pytest.mark.parametrize("ask", [False, True], ids=["dropped", "asked"])
def test_failures_of_as_completed_are_reported_like_any_other(loop, reports, ask):
    for future in loop.as_completed([fail(ValueError()), fail(ValueError())]):
        if ask:
            future.exception()
    del future
    settle(loop)
    assert len(reports) == (0 if ask else 2)


def test_work_that_the_exit_gave_up_is_not_reported(make_loop, gate):
    told = []
    loop = make_loop(exit_timeout=0.05).start()
    loop.call(loop.loop.set_exception_handler, lambda _, context: told.append(context))
    stubborn = Stubborn(gate)
    future = loop.submit(stubborn)
    assert stubborn.started.wait(WAIT)
    with pytest.warns(RuntimeWarning):
        loop.close()
    assert future.done()
    del future
    gc.collect()
    assert told == []


# In processes of their own: what is reported out of a cycle is an object that the collector was about to destroy.
CYCLE = """
import gc

class Job:
    pass

def fail_in_a_cycle():
    "The traceback of the failure leads to the future of that failure."
    job = Job()

    async def work():
        me = job
        raise ZeroDivisionError("nobody asked")

    job.future = loop.submit(work)
    concurrent.futures.wait([job.future])

told = []
loop = make_loop(exit_timeout=5).start()
loop.call(loop.loop.set_exception_handler, lambda _, context: told.append(context))
"""


def test_a_failure_in_a_reference_cycle_is_reported_once_and_whole(script):
    running = script(
        CYCLE
        + """
fail_in_a_cycle()
gc.collect()
loop.evaluate(asyncio.sleep(0))
gc.collect()
loop.close()
say([(context["exception"].args, repr(context["exception"])) for context in told])
error = told[0]["exception"]
say(error.__traceback__.tb_frame.f_code.co_name)
"""
    )
    assert running.finish() == 0, running
    assert running.lines == [
        "[(('nobody asked',), \"ZeroDivisionError('nobody asked')\")]",
        "work",
    ]


def test_a_failure_in_a_reference_cycle_is_reported_after_the_close_too(script):
    running = script(
        CYCLE
        + """
gc.disable()
fail_in_a_cycle()
loop.close()
gc.collect()
say([context["exception"].args for context in told])
"""
    )
    assert running.finish() == 0, running
    assert running.lines == ["[('nobody asked',)]"]
    assert running.stderr == ""
