"""A future of a loop is a true `concurrent.futures.Future`; one made by the user behaves as a plain one."""

import asyncio
import concurrent.futures
import gc
import logging
import pickle
import re
import sys
import threading
import weakref
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, InvalidStateError

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from asyncio_thread_loop import Future

from .harness import WAIT, Caller, Sleeper, answer, echo


async def fail():
    raise ZeroDivisionError


async def wait_for(gate):
    while not gate.is_set():
        await asyncio.sleep(0.005)
    return "released"


def test_a_submitted_future_is_a_concurrent_future(loop):
    future = loop.submit(answer)
    assert isinstance(future, Future)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(WAIT) == 42


def test_result_and_exception_agree(loop):
    good, bad = loop.submit(answer), loop.submit(fail)
    assert good.exception(WAIT) is None
    assert good.result() == 42
    error = bad.exception(WAIT)
    assert isinstance(error, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError) as caught:
        bad.result()
    assert caught.value is error


def test_a_result_is_left_alone_by_whoever_still_takes_it_for_work(loop):
    class Result:
        def __init__(self):
            self.touched = []

        def cancel(self):
            self.touched.append("cancelled")

        def close(self):
            self.touched.append("closed")

    async def work():
        return Result()

    future = loop.submit(work)
    result = future.result(WAIT)
    assert not future.cancel()
    assert not future.cancel_and_wait(WAIT)
    assert future.result() is result
    assert result.touched == []


def test_where_work_came_from_is_known_whatever_was_asked_of_its_future(loop, gate):
    async def fail_late():
        await wait_for(gate)
        raise ZeroDivisionError

    future = loop.submit(fail_late)
    line = sys._getframe().f_lineno - 1
    future.add_done_callback(lambda future: None)
    assert concurrent.futures.wait([future], timeout=0).not_done == {future}
    gate.set()
    notes = future.exception(WAIT).__notes__
    assert [note for note in notes if f'"{__file__}", line {line}, in' in note]


def test_a_future_is_small():
    # Before CPython 3.12 the reference to its weak references lies in the object and isn't shared with its attributes.
    assert sys.getsizeof(Future()) <= (96 if sys.version_info >= (3, 12) else 104)


def test_many_threads_may_wait_for_one_future(loop, gate):
    future = loop.submit(wait_for, gate)
    callers = [Caller(future.result) for _ in range(8)]
    gate.set()
    assert [caller.outcome() for caller in callers] == ["released"] * 8


def test_states_follow_the_work(loop, gate):
    sleeper = Sleeper()
    future = loop.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    assert (future.running(), future.done(), future.cancelled()) == (True, False, False)
    assert "running" in repr(future)
    future.cancel_and_wait(WAIT)
    assert (future.running(), future.done(), future.cancelled()) == (False, True, True)
    assert "cancelled" in repr(future)
    future = loop.submit(answer)
    future.result(WAIT)
    assert (future.running(), future.done(), future.cancelled()) == (False, True, False)
    assert "finished returned int" in repr(future)


def test_wait_for_the_first_completed(loop, gate):
    waiting = loop.submit(wait_for, gate)
    quick = loop.submit(answer)
    done, pending = concurrent.futures.wait([waiting, quick], WAIT, FIRST_COMPLETED)
    assert (done, pending) == ({quick}, {waiting})


def test_wait_for_the_first_exception(loop, gate):
    waiting = loop.submit(wait_for, gate)
    failing = loop.submit(fail)
    done, pending = concurrent.futures.wait([waiting, failing], WAIT, FIRST_EXCEPTION)
    assert failing in done
    assert waiting in pending
    assert failing.exception() is not None


def test_wait_for_all(loop, gate):
    futures = {loop.submit(echo, n) for n in range(10)} | {loop.submit(wait_for, gate)}
    waiting = Caller(concurrent.futures.wait, futures, WAIT, ALL_COMPLETED)
    gate.set()
    done, pending = waiting.outcome()
    assert (done, pending) == (futures, set())


def test_wait_times_out(loop, gate):
    future = loop.submit(wait_for, gate)
    assert concurrent.futures.wait([future], 0.02).not_done == {future}


def test_wait_sees_cancelled_work(loop):
    sleeper = Sleeper()
    running = loop.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    waiting = Caller(concurrent.futures.wait, [running], WAIT)
    running.cancel()
    assert waiting.outcome().done == {running}


def test_wait_mixes_with_futures_of_other_executors(loop):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        futures = {loop.submit(answer), pool.submit(int, "42")}
        assert concurrent.futures.wait(futures, WAIT).done == futures
        assert {future.result() for future in futures} == {42}


def test_as_completed_yields_futures_as_they_end(loop, gate):
    waiting = loop.submit(wait_for, gate)
    quick = loop.submit(answer)
    completed = concurrent.futures.as_completed([waiting, quick], WAIT)
    assert next(completed) is quick
    gate.set()
    assert next(completed) is waiting


def test_as_completed_of_finished_work(loop):
    futures = [loop.submit(echo, n) for n in range(5)]
    concurrent.futures.wait(futures, WAIT)
    assert {future.result() for future in concurrent.futures.as_completed(futures, WAIT)} == set(range(5))


@pytest.fixture(params=["ours", "standard"])
def condition(request):
    """The condition of a future, of either kind: they behave the same."""
    return (Future() if request.param == "ours" else concurrent.futures.Future())._condition


def test_the_condition_of_a_future_excludes_other_threads(condition):
    def try_to_acquire():
        return condition.acquire(blocking=False), condition.acquire(timeout=0.01)

    with condition:
        assert Caller(try_to_acquire).outcome() == (False, False)
        with condition:
            assert condition.acquire(blocking=False)
            condition.release()
        assert Caller(try_to_acquire).outcome() == (False, False)
        waits = Caller(condition.acquire)
        assert waits.is_alive()
    assert waits.outcome()


@pytest.mark.parametrize("tell", ["notify", "notify_all"])
def test_the_condition_of_a_future_wakes_those_who_wait(condition, tell):
    told, waiting = [], threading.Event()

    def wait():
        with condition, condition:
            waiting.set()
            return condition.wait_for(lambda: told)

    waiter = Caller(wait)
    assert waiting.wait(WAIT)
    with condition:
        told.append("told")
        getattr(condition, tell)()
    assert waiter.outcome() == ["told"]


def test_a_wait_for_the_condition_of_a_future_ends_in_time(condition):
    with condition:
        assert condition.wait(0.001) is False
        assert condition.wait_for(bool, 0.001) is False


@pytest.mark.parametrize(
    "use",
    [
        lambda condition: condition.release(),
        lambda condition: condition.notify(),
        lambda condition: condition.notify_all(),
        lambda condition: condition.wait(0),
        lambda condition: condition.wait_for(bool, 0),
    ],
)
def test_the_condition_of_a_future_must_be_held(condition, use):
    with pytest.raises(RuntimeError, match="un-acquired"):
        use(condition)
    with condition, pytest.raises(RuntimeError, match="un-acquired"):
        Caller(use, condition).outcome()


@pytest.mark.parametrize("timeout", [{"timeout": -2}, {"blocking": False, "timeout": 1}])
def test_the_condition_of_a_future_refuses_odd_timeouts(condition, timeout):
    with pytest.raises(ValueError, match="timeout"):
        condition.acquire(**timeout)
    assert condition.acquire(timeout=threading.TIMEOUT_MAX)
    condition.release()


def test_wrap_future_in_another_loop(loop):
    async def use():
        values = await asyncio.gather(*[asyncio.wrap_future(loop.submit(echo, n)) for n in range(10)])
        with pytest.raises(ZeroDivisionError):
            await asyncio.wrap_future(loop.submit(fail))
        return values

    assert asyncio.run(use()) == list(range(10))


def test_cancelling_a_wrapped_future_cancels_the_work(loop):
    sleeper = Sleeper()

    async def use():
        wrapped = asyncio.wrap_future(loop.submit(sleeper))
        await asyncio.to_thread(sleeper.started.wait, WAIT)
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped

    asyncio.run(use())
    assert sleeper.cleaned.wait(WAIT)


def test_cancelled_work_cancels_the_wrapped_future(loop):
    sleeper = Sleeper()

    async def use():
        future = loop.submit(sleeper)
        wrapped = asyncio.wrap_future(future)
        await asyncio.to_thread(sleeper.started.wait, WAIT)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped

    asyncio.run(use())


def test_wrap_future_on_the_same_loop(loop):
    async def use():
        with pytest.raises(ZeroDivisionError):
            await asyncio.wrap_future(loop.submit(fail))
        return await asyncio.gather(*[asyncio.wrap_future(loop.submit(echo, n)) for n in range(10)])

    assert loop.evaluate(use(), timeout=WAIT) == list(range(10))


def test_cancelling_a_wrapped_future_on_the_same_loop_cancels_the_work(loop):
    sleeper = Sleeper()

    async def use():
        wrapped = asyncio.wrap_future(loop.submit(sleeper))
        while not sleeper.started.is_set():
            await asyncio.sleep(0)
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped

    loop.evaluate(use(), timeout=WAIT)
    assert sleeper.cleaned.wait(WAIT)


def test_callbacks_are_called_once_in_order_with_the_future(loop, gate):
    future = loop.submit(wait_for, gate)
    called, last = [], threading.Event()
    for n in range(5):
        future.add_done_callback(lambda done, n=n: called.append((n, done)))
    future.add_done_callback(lambda _: last.set())
    gate.set()
    assert last.wait(WAIT)
    assert called == [(n, future) for n in range(5)]


def test_a_callback_added_late_is_called_at_once_in_the_adding_thread(loop):
    future = loop.submit(answer)
    future.result(WAIT)
    called = []
    future.add_done_callback(lambda _: called.append(threading.current_thread()))
    assert called == [threading.current_thread()]


def test_a_callback_sees_the_result(loop):
    seen, called = [], threading.Event()

    def look(future):
        seen.append((future.done(), future.result()))
        called.set()

    loop.submit(answer).add_done_callback(look)
    assert called.wait(WAIT)
    assert seen == [(True, 42)]


def test_no_callback_is_lost_or_doubled_in_a_race_with_the_end(loop):
    for _ in range(30):
        called, lock = [], threading.Lock()
        barrier = threading.Barrier(4)
        future = loop.submit(answer)

        def add(thread, future=future, called=called, lock=lock, barrier=barrier):
            def callback(n):
                def call(_):
                    with lock:
                        called.append((thread, n))

                return call

            barrier.wait(WAIT)
            for n in range(10):
                future.add_done_callback(callback(n))

        for caller in [Caller(add, thread) for thread in range(4)]:
            caller.outcome()
        future.result(WAIT)
        # Callbacks are called on the loop thread: it is past them when it takes the next call.
        loop.evaluate(answer())
        assert sorted(called) == [(thread, n) for thread in range(4) for n in range(10)]


def test_a_callback_that_raises_is_logged_and_the_others_are_called(loop, gate, caplog):
    called = threading.Event()

    def explode(_):
        raise ZeroDivisionError("of a callback")

    future = loop.submit(wait_for, gate)
    future.add_done_callback(explode)
    future.add_done_callback(lambda _: called.set())
    with caplog.at_level(logging.ERROR):
        gate.set()
        assert called.wait(WAIT)
    assert future.result(WAIT) == "released"
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


def test_a_late_callback_that_raises_is_logged(loop, caplog):
    def explode(_):
        raise ZeroDivisionError("of a late callback")

    future = loop.submit(answer)
    future.result(WAIT)
    future.add_done_callback(explode)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


def test_a_callback_may_submit_more_work(loop):
    futures, called = [], threading.Event()

    def submit_more(_):
        futures.append(loop.submit(answer))
        called.set()

    loop.submit(answer).add_done_callback(submit_more)
    assert called.wait(WAIT)
    assert futures[0].result(WAIT) == 42


def test_futures_are_not_pickled(loop):
    for future in loop.submit(answer), Future():
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(future)


def test_futures_carry_attributes_and_weak_references(loop):
    for future in loop.submit(answer), Future():
        future.tag = "of the user"
        assert future.tag == "of the user"
        reference = weakref.ref(future)
        assert reference() is future
        assert {future: 1}[future] == 1


def test_a_finished_future_keeps_nothing_else_alive(loop):
    class Argument:
        pass

    async def work(argument):
        return 42

    argument = Argument()
    reference = weakref.ref(argument)
    future = loop.submit(work, argument)
    del argument
    assert future.result(WAIT) == 42
    loop.evaluate(answer())
    gc.collect()
    assert reference() is None


# Futures made by the user


def test_a_users_future_is_pending_at_first():
    future = Future()
    assert (future.running(), future.done(), future.cancelled()) == (False, False, False)
    assert re.fullmatch(r"<Future at 0x[0-9a-f]+ state=pending>", repr(future))
    with pytest.raises(TimeoutError):
        future.result(timeout=0)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0.01)


def test_a_users_future_takes_a_result_from_another_thread():
    future = Future()
    waiting = Caller(future.result)
    future.set_result(42)
    assert waiting.outcome() == 42


def test_a_users_future_takes_an_exception_from_another_thread():
    future = Future()
    waiting = Caller(future.result)
    future.set_exception(ZeroDivisionError())
    assert isinstance(waiting.error(), ZeroDivisionError)


def test_a_users_future_is_set_once():
    future = Future()
    future.set_result(1)
    with pytest.raises(InvalidStateError):
        future.set_result(2)
    with pytest.raises(InvalidStateError):
        future.set_exception(ZeroDivisionError())
    assert future.result() == 1


def test_a_users_future_can_be_cancelled_until_it_runs():
    cancelled, running = Future(), Future()
    assert cancelled.cancel()
    assert not cancelled.set_running_or_notify_cancel()
    assert running.set_running_or_notify_cancel()
    assert not running.cancel()
    running.set_result(1)
    with pytest.raises(concurrent.futures.CancelledError):
        cancelled.result()


def test_cancel_wakes_the_waiters_of_a_users_future():
    future = Future()
    waiting = Caller(future.result)
    assert future.cancel()
    assert isinstance(waiting.error(), concurrent.futures.CancelledError)


def test_wait_and_as_completed_take_users_futures():
    first, second = Future(), Future()
    waiting = Caller(concurrent.futures.wait, [first, second], WAIT, FIRST_COMPLETED)
    first.set_result(1)
    assert first in waiting.outcome().done
    completed = concurrent.futures.as_completed([first, second], WAIT)
    assert next(completed) is first
    second.cancel()
    second.set_running_or_notify_cancel()
    assert next(completed) is second


def test_wrap_future_takes_users_futures():
    async def use():
        future = Future()
        wrapped = asyncio.wrap_future(future)
        await asyncio.to_thread(future.set_result, 42)
        return await wrapped

    assert asyncio.run(use()) == 42


def test_a_users_future_can_be_awaited_on_a_loop(loop):
    future = Future()

    async def use():
        return await asyncio.wrap_future(future)

    waiting = Caller(loop.evaluate, use())
    future.set_result("of the user")
    assert waiting.outcome() == "of the user"


class Mirror(RuleBasedStateMachine):
    """Does the same to our future and to a plain one, and compares what comes of each step."""

    @initialize()
    def make(self):
        self.futures = Future(), concurrent.futures.Future()
        self.called = [], []

    def both(self, step):
        outcomes = []
        for future, called in zip(self.futures, self.called, strict=True):
            try:
                outcomes.append(("returned", step(future, called)))
            except BaseException as error:
                outcomes.append((type(error), getattr(error, "args", ())))
        ours, theirs = outcomes
        if ours[0] != "returned":
            # The words of an error may differ; those of the user's own errors may not.
            assert ours[0] is theirs[0]
            if ours[0] is ValueError:
                assert ours == theirs
        else:
            assert ours == theirs

    @rule(value=st.one_of(st.none(), st.integers(), st.text()))
    def set_result(self, value):
        self.both(lambda future, called: future.set_result(value))

    @rule(text=st.text())
    def set_exception(self, text):
        error = ValueError(text)
        self.both(lambda future, called: future.set_exception(error))

    @rule()
    def cancel(self):
        self.both(lambda future, called: future.cancel())

    @rule()
    def set_running_or_notify_cancel(self):
        self.both(lambda future, called: future.set_running_or_notify_cancel())

    @rule()
    def result(self):
        self.both(lambda future, called: future.result(timeout=0))

    @rule()
    def exception(self):
        self.both(lambda future, called: future.exception(timeout=0))

    @rule(n=st.integers())
    def add_done_callback(self, n):
        self.both(
            lambda future, called: future.add_done_callback(lambda done: called.append((n, done.done())))
        )

    @rule()
    def concurrent_wait(self):
        def wait(future, called):
            done, pending = concurrent.futures.wait([future], timeout=0)
            return len(done), len(pending)

        self.both(wait)

    @rule()
    def as_completed(self):
        def collect(future, called):
            return len(list(concurrent.futures.as_completed([future], timeout=0)))

        self.both(collect)

    @invariant()
    def the_two_agree(self):
        if hasattr(self, "futures"):
            states = [(future.running(), future.done(), future.cancelled()) for future in self.futures]
            assert states[0] == states[1]
            assert self.called[0] == self.called[1]
            shown = [re.sub("0x[0-9a-f]+", "0x", repr(future)) for future in self.futures]
            assert shown[0] == shown[1]
            assert self.futures[0]._state == self.futures[1]._state


@pytest.fixture
def without_the_log_of_futures():
    """`concurrent.futures` logs every unexpected state as critical before it raises."""
    logger = logging.getLogger("concurrent.futures")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures("without_the_log_of_futures")
def test_a_users_future_mirrors_a_plain_one_step_by_step():
    run_state_machine_as_test(Mirror, settings=settings(stateful_step_count=20))
