"""A failure nobody asks about is reported once, when its future is dropped."""

import asyncio
import concurrent.futures
import gc
import logging

import pytest

from .harness import WAIT, answer


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
