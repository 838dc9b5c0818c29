"""Loops whose threads wait for one another: a circle is refused, and what isn't one works."""

import asyncio
import concurrent.futures
import contextlib
import logging
import threading

import pytest

from asyncio_thread_loop import DeadlockError

from .harness import WAIT, Caller, answer, echo, until


async def ready(*, task_status):
    task_status.started("ready")


async def answers():
    yield 42


@contextlib.asynccontextmanager
async def context():
    yield 42


def enter(loop):
    with loop.wrap_async_context_manager(context()) as value:
        return value


# Each waits for work that needs a turn of the loop, and returns what it gave.
WAITS = {
    "evaluate": lambda loop: loop.evaluate(answer()),
    "evaluate_many": lambda loop: loop.evaluate_many([answer()])[0],
    "map": lambda loop: next(loop.map(echo, [42])),
    "as_completed": lambda loop: next(loop.as_completed([answer()])).result(),
    "call": lambda loop: loop.call(int, "42"),
    "start_task": lambda loop: loop.start_task(ready)[1] and 42,
    "result": lambda loop: loop.submit(answer).result(),
    "exception": lambda loop: loop.submit(answer).exception() or 42,
    "cancel_and_wait": lambda loop: loop.held.cancel_and_wait() and 42,
    "shutdown": lambda loop: loop.shutdown() or 42,
    "iterate": lambda loop: next(loop.iterate(answers())),
    "iterate ahead": lambda loop: next(loop.iterate(answers(), prefetch=1)),
    "wrap_async_context_manager": enter,
    "enter_async_context": lambda loop: loop.enter_async_context(context()),
}


@pytest.fixture
def loops(make_loop):
    """Three open loops without a time limit of their own: a circle that isn't refused is for ever."""
    loops = [make_loop(name=name).start() for name in "ABC"]
    for loop in loops:
        loop.held = loop.submit(asyncio.Event().wait)
        loop.evaluate(asyncio.sleep(0))
    return loops


def is_waited_for_by(name, loop):
    """Whether the thread of this name waits for the loop."""
    return f"by {name}, in File" in loop.dump()


def check_that_the_second_is_refused(first, second, loops):
    """A blocks on B by the one wait; then B tries to block on A by the other."""
    a, b, _ = loops
    both = threading.Barrier(2)

    async def block_on_b():
        both.wait(WAIT)
        return first(b)

    async def block_on_a():
        both.wait(WAIT)
        until(lambda: is_waited_for_by("A", b))
        with pytest.raises(DeadlockError) as caught:
            second(a)
        return str(caught.value)

    refused, blocked = b.submit(block_on_a), a.submit(block_on_b)
    message = refused.result(WAIT)
    assert "B would wait for ever for A, which waits for this very loop" in message
    assert blocked.result(WAIT) == 42
    assert a.evaluate(answer()) == 42


@pytest.mark.parametrize("second", WAITS.values(), ids=WAITS.keys())
def test_a_loop_may_not_wait_for_one_that_waits_for_it(loops, second):
    check_that_the_second_is_refused(WAITS["evaluate"], second, loops)


@pytest.mark.parametrize("first", WAITS.values(), ids=WAITS.keys())
def test_whatever_the_first_loop_waits_in_the_second_is_refused(loops, first):
    check_that_the_second_is_refused(first, WAITS["evaluate"], loops)


def test_a_circle_of_three_loops_is_refused(loops):
    a, b, c = loops
    began = threading.Event()

    async def block_on_a():
        began.set()
        until(lambda: is_waited_for_by("A", b) and is_waited_for_by("B", c))
        with pytest.raises(
            DeadlockError, match=r"C would .* A, which waits for B, which waits for this very loop"
        ):
            a.evaluate(answer())
        return "refused"

    async def block_on_c():
        return c.evaluate(block_on_a())

    async def block_on_b():
        return b.evaluate(block_on_c())

    assert a.submit(block_on_b).result(WAIT) == "refused"


def test_of_two_that_close_a_circle_at_once_one_is_refused(loops):
    a, b, _ = loops
    for _ in range(50):
        both = threading.Barrier(2)

        async def block_on(other, both=both):
            both.wait(WAIT)
            return other.evaluate(answer())

        errors = [future.exception(WAIT) for future in [a.submit(block_on, b), b.submit(block_on, a)]]
        refused = [error for error in errors if error is not None]
        assert refused
        assert {type(error) for error in refused} == {DeadlockError}


def test_a_refused_coroutine_is_closed_unrun(loops):
    a, b, _ = loops
    ran = []

    async def run():
        ran.append(True)

    async def block_on_a():
        coroutine = run()
        until(lambda: is_waited_for_by("A", b))
        with pytest.raises(DeadlockError):
            a.evaluate(coroutine)
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await coroutine

    async def block_on_b():
        b.evaluate(block_on_a())

    a.submit(block_on_b).result(WAIT)
    assert ran == []


def test_a_wait_that_ends_by_itself_closes_no_circle(loops, gate):
    a, b, _ = loops
    found = []

    async def call_a():
        until(lambda: is_waited_for_by("A", b))
        found.append(a.evaluate(answer()))

    async def wait_for_a_while():
        future = b.submit(call_a)
        with pytest.raises(TimeoutError):
            future.result(timeout=2)
        return future

    future = a.submit(wait_for_a_while).result(WAIT)
    future.result(WAIT)
    assert found == [42]


def test_a_chain_is_no_circle(loops):
    a, b, c = loops

    async def call_c():
        return c.evaluate(answer())

    async def call_b():
        return b.evaluate(call_c())

    assert a.submit(call_b).result(WAIT) == 42


def test_what_is_done_may_be_read_in_a_circle(loops):
    a, b, _ = loops
    done = a.submit(answer)
    done.result(WAIT)

    async def read():
        until(lambda: is_waited_for_by("A", b))
        return done.result()

    async def call_b():
        return b.evaluate(read())

    assert a.submit(call_b).result(WAIT) == 42


def test_a_thread_of_the_loop_may_call_the_loop_that_waits_for_it(loops):
    a, b, _ = loops

    async def call_a_in_a_thread():
        return await asyncio.to_thread(a.evaluate, answer())

    async def call_b():
        # Awaiting leaves A free to serve the thread.
        return await asyncio.wrap_future(b.submit(call_a_in_a_thread))

    assert a.submit(call_b).result(WAIT) == 42


class Told(logging.Handler):
    def __init__(self):
        super().__init__()
        self.messages = []
        self.event = threading.Event()

    def emit(self, record):
        self.messages.append(record.getMessage())
        self.event.set()


@pytest.fixture
def told():
    handler = Told()
    logger = logging.getLogger("asyncio_thread_loop")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def go_back(loop):
    """Need the loop of a thread that waits for this very coroutine."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answer(), loop))


def test_the_watchdog_tells_of_a_blocked_loop_that_the_callee_needs(make_loop, told):
    with make_loop(exit_timeout=5) as loop:

        async def block_this_loop():
            future = loop.submit(go_back, asyncio.get_running_loop())
            started.set_result(future)
            return future.result()

        started = concurrent.futures.Future()
        caller = Caller(asyncio.run, block_this_loop())
        assert told.event.wait(WAIT)
        assert started.result(WAIT).cancel()
        assert isinstance(caller.error(), concurrent.futures.CancelledError)
        (message,) = told.messages
        assert "caller of run, in File" in message
        assert "block_this_loop runs an event loop and has blocked it" in message
        assert "in go_back" in message


def test_the_watchdog_tells_of_a_loop_of_ours_that_the_callee_needs(make_loop, told):
    with make_loop(exit_timeout=5, name="A", watchdog=False) as a, make_loop(exit_timeout=5, name="B") as b:

        async def call_a():
            return await asyncio.wrap_future(a.submit(answer))

        async def block_a():
            future = b.submit(call_a)
            started.set_result(future)
            return future.result()

        started = concurrent.futures.Future()
        blocked = a.submit(block_a)
        assert told.event.wait(WAIT)
        started.result(WAIT).cancel()
        assert isinstance(blocked.exception(WAIT), concurrent.futures.CancelledError)
        assert "block_a runs an event loop and has blocked it" in told.messages[0]


def test_a_long_wait_in_a_running_loop_is_not_worth_a_word(make_loop, told):
    """A notebook's cell waits as long as it likes."""
    with make_loop(exit_timeout=5) as loop:

        async def wait_long():
            return loop.evaluate(asyncio.sleep(1.3, "slept"))

        assert Caller(asyncio.run, wait_long()).outcome() == "slept"
        assert told.messages == []
