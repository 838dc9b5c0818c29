"""Futures in random sequences of steps, each checked against a model that is simple enough to be believed.

A future made by hand goes step by step with a plain one; a submitted one is driven through every stage of its work by
gates. Nothing here waits for time to pass.
"""

import asyncio
import concurrent.futures
import contextlib
import gc
import logging
import queue
import re
import threading
import warnings
import weakref
from concurrent.futures import CancelledError, InvalidStateError
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from asyncio_thread_loop import AsyncioThreadLoop, Future, LoopClosedError

from .harness import WAIT, Caller, until

PENDING, RUNNING, CANCELLED, NOTIFIED, FINISHED = (
    "PENDING",
    "RUNNING",
    "CANCELLED",
    "CANCELLED_AND_NOTIFIED",
    "FINISHED",
)


class Told(Exception):
    """An error that is told to a future."""


class Model:
    """What a future made by hand does, in a few lines."""

    def __init__(self):
        self._state = PENDING
        self._outcome = None
        self._callbacks = []

    def running(self):
        return self._state == RUNNING

    def cancelled(self):
        return self._state in (CANCELLED, NOTIFIED)

    def done(self):
        return self._state in (CANCELLED, NOTIFIED, FINISHED)

    def exception(self, timeout):
        assert timeout == 0
        if not self.done():
            raise TimeoutError
        if self.cancelled():
            raise CancelledError
        return self._outcome if isinstance(self._outcome, Exception) else None

    def result(self, timeout):
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._outcome

    def set_running_or_notify_cancel(self):
        if self._state == PENDING:
            self._state = RUNNING
            return True
        if self._state == CANCELLED:
            self._state = NOTIFIED
            return False
        raise RuntimeError

    def set_result(self, outcome):
        if self.done():
            raise InvalidStateError
        self._outcome = outcome
        self._end(FINISHED)

    set_exception = set_result

    def cancel(self):
        if self._state == PENDING:
            self._end(CANCELLED)
        return self.cancelled()

    def add_done_callback(self, callback):
        if self.done():
            self._call(callback)
        else:
            self._callbacks.append(callback)

    def _end(self, state):
        self._state = state
        for callback in self._callbacks:
            self._call(callback)

    def _call(self, callback):
        with contextlib.suppress(Told):
            callback(self)

    # What goes by way of others.

    def waits_for(self):
        """Whether `concurrent.futures.wait` would still wait for it."""
        return self._state not in (NOTIFIED, FINISHED)

    def __repr__(self):
        if self._state != FINISHED:
            shown = "cancelled" if self.cancelled() else self._state.lower()
        else:
            verb = "raised" if isinstance(self._outcome, Exception) else "returned"
            shown = f"finished {verb} {type(self._outcome).__name__}"
        return f"<Future at 0x state={shown}>"


def outcome_of(step, *arguments):
    """What a step returned or raised, so that it can be compared."""
    try:
        return "returned", step(*arguments)
    except (Told, CancelledError, asyncio.CancelledError) as error:
        return type(error), error.args
    except Exception as error:
        # The words of these may differ.
        return type(error), ()


def look(future):
    return future.done(), future.running(), future.cancelled(), outcome_of(future.result, 0)


def call_anything(future):
    """A callback may call whatever it likes."""
    nested = []
    future.add_done_callback(lambda same: nested.append(same is future))
    return nested, *(
        outcome_of(step)
        for step in (
            future.cancel,
            lambda: future.set_result("again"),
            lambda: future.set_exception(Told("again")),
            lambda: future.exception(0),
            lambda: shown(future),
        )
    )


def shown(future):
    return re.sub("0x[0-9a-f]+", "0x", repr(future))


class FutureByHand(RuleBasedStateMachine):
    """The same happens to ours, to a plain one and to the model."""

    OURS, PLAIN, MODEL = range(3)

    @initialize(running=st.booleans())
    def make(self, running):
        self.logs = [[], [], []]
        self.make_futures(running)
        self.wrapped = []
        self.waiting = []
        self.loop = asyncio.new_event_loop()
        # That nobody asks for what failed is no failure here.
        self.loop.set_exception_handler(lambda loop, context: None)

    def make_futures(self, running):
        self.futures = [Future(), concurrent.futures.Future(), Model()]
        if running:
            self.all_do(lambda future, log: future.set_running_or_notify_cancel())

    @property
    def real(self):
        return self.futures[: self.MODEL]

    def all_do(self, step):
        """`step` takes the future, and the list that callbacks of this future write to."""
        ours, plain, model = [
            outcome_of(step, future, log) for future, log in zip(self.futures, self.logs, strict=True)
        ]
        assert ours == plain == model

    # Ending it.

    @rule(value=st.none() | st.integers() | st.text())
    def set_result(self, value):
        self.all_do(lambda future, log: future.set_result(value))

    @rule(text=st.text())
    def set_exception(self, text):
        error = Told(text)
        self.all_do(lambda future, log: future.set_exception(error))

    @rule()
    def cancel(self):
        self.all_do(lambda future, log: future.cancel())

    @rule()
    def set_running_or_notify_cancel(self):
        self.all_do(lambda future, log: future.set_running_or_notify_cancel())

    @rule(value=st.integers())
    def set_result_with_the_condition_held(self, value):
        def set_it(future, log):
            if isinstance(future, Model):
                return future.set_result(value)
            with future._condition:
                return future.set_result(value)

        self.all_do(set_it)

    # Asking it.

    @rule()
    def result(self):
        self.all_do(lambda future, log: future.result(0))

    @rule()
    def exception(self):
        self.all_do(lambda future, log: future.exception(0))

    @rule(seconds=st.sampled_from([-1, -0.0, 0.0, False, 1e-9]))
    def result_within_other_times(self, seconds):
        ours, plain = (outcome_of(future.result, seconds) for future in self.real)
        assert ours == plain == outcome_of(self.futures[self.MODEL].result, 0)

    @rule()
    def wait(self):
        still = {self.futures[self.MODEL].waits_for()}
        for future in self.real:
            done, pending = concurrent.futures.wait([future], timeout=0)
            assert (done, pending) == (set(), {future}) if still == {True} else ({future}, set())

    @rule()
    def as_completed(self):
        for future in self.real:
            completed = outcome_of(list, concurrent.futures.as_completed([future], timeout=0))
            expected = (TimeoutError, ()) if self.futures[self.MODEL].waits_for() else ("returned", [future])
            assert completed == expected

    # Callbacks.

    @rule(n=st.integers())
    def add_a_callback_that_looks(self, n):
        self.all_do(lambda future, log: future.add_done_callback(lambda same: log.append((n, look(same)))))

    @rule(n=st.integers())
    def add_a_callback_that_raises(self, n):
        def add(future, log):
            def callback(_):
                log.append(n)
                raise Told(n)

            future.add_done_callback(callback)

        self.all_do(add)

    @rule()
    def add_a_callback_that_calls_back(self):
        self.all_do(
            lambda future, log: future.add_done_callback(lambda same: log.append(call_anything(same)))
        )

    @rule(n=st.integers())
    def add_a_callback_that_adds_another(self, n):
        def add(future, log):
            def callback(same):
                log.append(n)
                same.add_done_callback(lambda _: log.append((n, "another")))

            future.add_done_callback(callback)

        self.all_do(add)

    # Those who wait.

    @precondition(lambda self: len(self.waiting) < 3)
    @rule()
    def wait_in_a_thread(self):
        for future in self.real:
            known = len(future._waiters)
            caller = Caller(concurrent.futures.wait, [future], WAIT)
            self.waiting.append((caller, future, None))
            if self.futures[self.MODEL].waits_for():
                until(lambda: len(future._waiters) > known)  # noqa: B023 -- called at once

    @precondition(lambda self: len(self.waiting) < 3)
    @rule(method=st.sampled_from(["result", "exception"]))
    def ask_in_a_thread(self, method):
        for future in self.real:
            self.waiting.append((Caller(getattr(future, method)), future, method))

    # What `concurrent.futures` and `asyncio` touch.

    @rule()
    def touch_the_condition(self):
        for future in self.real:
            condition = future._condition
            assert isinstance(condition, threading.Condition)
            assert condition is future._condition
            with condition:
                assert condition is future._condition

    @rule()
    def touch_the_waiters(self):
        for future in self.real:
            waiters = future._waiters
            assert isinstance(waiters, list)
            assert waiters is future._waiters

    @precondition(lambda self: len(self.wrapped) < 3)
    @rule()
    def wrap_for_asyncio(self):
        self.wrapped.append([asyncio.wrap_future(future, loop=self.loop) for future in self.real])

    @precondition(lambda self: self.wrapped)
    @rule(data=st.data())
    def cancel_what_was_wrapped(self, data):
        pair = data.draw(st.sampled_from(self.wrapped))
        was_done = pair[self.OURS].done()
        ours, plain = (wrapped.cancel() for wrapped in pair)
        assert ours == plain
        self.run_the_loop()
        if not was_done:
            self.futures[self.MODEL].cancel()

    @rule()
    def run_the_loop(self):
        for _ in range(2):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
        for ours, plain in self.wrapped:
            assert (ours.done(), ours.cancelled()) == (plain.done(), plain.cancelled())
            if ours.done():
                ours, plain = (outcome_of(wrapped.result) for wrapped in (ours, plain))
                assert ours == plain

    # Memory.

    @rule()
    def collect(self):
        gc.collect(1)

    @precondition(lambda self: not self.waiting)
    @rule(running=st.booleans())
    def drop(self, running):
        """A future goes when nobody has it any more; no cycle keeps it."""
        self.run_the_loop()
        self.wrapped.clear()
        reference = weakref.ref(self.futures[self.OURS])
        # An error that was raised has frames with the future in its traceback.
        self.logs[:] = [[], [], []]
        self.make_futures(running)
        if reference() is not None:
            gc.collect()
        assert reference() is None

    @invariant()
    def all_agree(self):
        if not hasattr(self, "futures"):
            return
        assert self.logs[self.OURS] == self.logs[self.PLAIN] == self.logs[self.MODEL]
        ours, plain, model = (
            (future._state, future.done(), future.running(), future.cancelled(), shown(future))
            for future in self.futures
        )
        assert ours == plain == model

    def teardown(self):
        if not hasattr(self, "futures"):
            return
        try:
            if self.futures[self.MODEL]._state == PENDING:
                self.cancel()
            if self.futures[self.MODEL].waits_for():
                self.set_result(None) if not self.futures[
                    self.MODEL
                ].done() else self.set_running_or_notify_cancel()
            for caller, future, method in self.waiting:
                ended = ("returned", ({future}, set()))
                assert outcome_of(caller.outcome) == (
                    outcome_of(getattr(future, method), 0) if method else ended
                )
            self.run_the_loop()
        finally:
            self.loop.close()


@pytest.fixture
def silent_futures():
    """`concurrent.futures` logs callbacks that raise, and states that are unexpected."""
    logger = logging.getLogger("concurrent.futures")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures("silent_futures")
def test_a_future_made_by_hand_is_a_plain_one_at_every_step():
    run_machine(FutureByHand, settings=settings(max_examples=250, stateful_step_count=40))


# Submitted work


class Hang(BaseException):
    """Not an `Exception`: Hypothesis would look for a shorter example, and wait again each time."""


class Work:
    """A coroutine function that does as it is told, and says how far it got."""

    def __init__(self, refusals, slow):
        self.refusals = refusals
        self.slow = slow
        self.words = queue.SimpleQueue()

    async def __call__(self):
        self.loop = asyncio.get_running_loop()
        self._order = asyncio.Event()
        self._may_end = asyncio.Event()
        asyncio.current_task().set_name("work-under-test")
        self.words.put("started")
        try:
            return await self._obey()
        finally:
            try:
                if self.slow:
                    self.words.put("cleaning")
                    await self._may_end.wait()
            finally:
                self.words.put("ended")

    async def _obey(self):
        while True:
            try:
                await self._order.wait()
                break
            except asyncio.CancelledError:
                if self.refusals == 0:
                    raise
                self.refusals -= 1
                self.words.put("refused")
        if isinstance(self._coming, Exception):
            raise self._coming
        return self._coming

    # Orders, from any thread.

    def end_with(self, value_or_error):
        self._coming = value_or_error
        self.loop.call_soon_threadsafe(self._order.set)

    def end_cleanup(self):
        self.loop.call_soon_threadsafe(self._may_end.set)


class Submitted:
    """Work, its future, and what the model expects of both."""

    def __init__(self, work, coroutine, future):
        self.work = work
        self.coroutine = coroutine
        self.future = future
        self.reference = weakref.ref(future)
        self.called = []
        #: The model's: "pending", "running", "cleaning" or "over".
        self.stage = "pending"
        self.refusals = work.refusals
        self.asked_while_held = False
        #: What the work will come to when its cleanup has ended.
        self.coming = None
        #: A value, an error, or a class of error; None while the future isn't done.
        self.outcome = None
        self.retrieved = False

    # The model. Each returns the words that the work will say.

    def start(self):
        self.stage = "running"
        return ["started"]

    def take_cancel(self):
        if self.stage == "running" and self.refusals:
            self.refusals -= 1
            return ["refused"]
        if self.stage == "running":
            return self.end(CancelledError)
        if self.stage == "cleaning":
            self.work.slow = False
            return self.end(CancelledError)
        return []

    def ends_when_cancelled(self):
        return self.stage == "cleaning" or not (self.refusals or self.work.slow)

    def end(self, outcome):
        if self.work.slow and self.stage == "running":
            self.stage, self.coming = "cleaning", outcome
            return ["cleaning"]
        self.stage = "over"
        self.settle(outcome)
        return ["ended"]

    def settle(self, outcome):
        if self.outcome is None:
            self.outcome = outcome


class SubmittedFutures(RuleBasedStateMachine):
    """Work on a loop is started, cancelled, refused, ended, dropped, closed and given up."""

    options: ClassVar[dict[str, object]] = {}

    @initialize()
    def make(self):
        self.loop = AsyncioThreadLoop(**self.options)
        self.works = []
        self.reported = []
        self.expected_reports = []
        self.story = []
        self.held = None
        self.thread = None
        self.open()

    # Waiting with an end.

    def hear(self, submitted, words):
        for word in words:
            try:
                heard = submitted.work.words.get(timeout=WAIT)
            except queue.Empty:
                raise Hang(f"{word!r} is never said, after {self.story}") from None
            assert heard == word
        if submitted.stage == "over" and "ended" in words:
            self.has_ended(submitted)

    def has_ended(self, submitted):
        if submitted.future is None:
            self.goes(submitted)
            if isinstance(submitted.outcome, Told) and not submitted.retrieved:
                self.expected_reports.append(submitted.outcome)
        else:
            self.comes_true(submitted.future.done, "the future is done")

    def goes(self, submitted):
        self.settle()
        if isinstance(submitted.outcome, Told):
            submitted.outcome.__traceback__ = None  # Frames of those who asked have the future.
        if self.held is not None:
            return  # What was cancelled before it began is still on its way to the loop.
        if submitted.reference() is not None:
            gc.collect()
        self.comes_true(lambda: submitted.reference() is None, "the dropped future goes")

    def comes_true(self, condition, what):
        try:
            until(condition)
        except AssertionError:
            raise Hang(f"it never happens that {what}, after {self.story}") from None

    def call(self, fn, *args, **kwargs):
        """A call that may block, in a thread, so that a hang is noticed."""
        caller = Caller(fn, *args, **kwargs)
        caller.join(WAIT)
        if caller.is_alive():
            raise Hang(f"{fn.__name__}() hangs, after {self.story}")
        return caller.outcome()

    def settle(self):
        """Have the loop pass everything that it was asked for before."""
        if self.thread is not None and self.held is None and not self.leaving:
            for _ in range(2):
                self.loop.evaluate(asyncio.sleep(0), timeout=WAIT)

    # Rules.

    def open(self):
        self.call(self.loop.start)
        self.thread = self.loop.thread
        self.leaving = False
        self.asyncio_loop = self.loop.loop
        reported = self.reported
        self.asyncio_loop.set_exception_handler(lambda _, context: reported.append(context.get("exception")))

    @precondition(lambda self: self.thread is None)
    @rule()
    def open_again(self):
        self.story.append("open again")
        self.open()

    @precondition(lambda self: self.thread is not None and self.held is None)
    @rule()
    def hold(self):
        """The loop's thread blocks from here on."""
        self.story.append("hold")
        self.held = threading.Event()
        blocked = threading.Event()

        def block(gate=self.held):
            blocked.set()
            gate.wait(3 * WAIT)

        self.asyncio_loop.call_soon_threadsafe(block)
        if not blocked.wait(WAIT):
            raise Hang(f"the loop takes no call, after {self.story}")

    @precondition(lambda self: self.thread is not None and self.held is not None)
    @rule()
    def let_go(self):
        self.story.append("let go")
        self.unblock()
        self.settle()

    def unblock(self):
        self.held.set()
        self.held = None
        for each in self.works:
            if each.asked_while_held:
                each.asked_while_held = False
                self.hear(each, each.take_cancel())
            if each.stage == "pending":
                self.hear(each, each.start())

    @precondition(lambda self: len(self.works) < 6)
    @rule(refusals=st.integers(0, 2), slow=st.booleans(), as_function=st.booleans())
    def submit(self, refusals, slow, as_function):
        self.story.append(f"submit({refusals=}, {slow=})")
        work = Work(refusals, slow)
        coroutine = None if as_function else work()
        if self.thread is None:
            with pytest.raises(LoopClosedError):
                self.loop.submit(work if as_function else coroutine)
            assert as_function or coroutine.cr_frame is None
            return
        submitted = Submitted(work, coroutine, self.loop.submit(work if as_function else coroutine))
        submitted.future.add_done_callback(lambda future: submitted.called.append(future.done()))
        self.works.append(submitted)
        if self.held is None:
            self.hear(submitted, submitted.start())

    def one_with_future(self, data):
        return data.draw(st.sampled_from([each for each in self.works if each.future is not None]))

    has_futures = precondition(lambda self: any(each.future is not None for each in self.works))

    def cancelled(self, submitted):
        """What the model makes of `cancel()`."""
        if submitted.outcome is not None:
            return submitted.outcome is CancelledError
        if submitted.stage == "pending":
            submitted.stage = "over"
            submitted.settle(CancelledError)
            assert submitted.coroutine is None or submitted.coroutine.cr_frame is None
        elif self.held is not None:
            submitted.asked_while_held = True
        else:
            self.hear(submitted, submitted.take_cancel())
        return True

    @has_futures
    @rule(data=st.data())
    def cancel(self, data):
        submitted = self.one_with_future(data)
        self.story.append(f"cancel of {submitted.stage} work")
        asked = submitted.future.cancel()
        assert asked == self.cancelled(submitted)

    @has_futures
    @rule(data=st.data())
    def cancel_and_wait(self, data):
        submitted = self.one_with_future(data)
        self.story.append(f"cancel_and_wait of {submitted.stage} work")
        ended = outcome_of(submitted.future.cancel_and_wait, 0)
        could_race = submitted.outcome is None and submitted.stage != "pending" and self.held is None
        self.cancelled(submitted)
        known = (
            {("returned", submitted.outcome is CancelledError)} if submitted.outcome is not None else set()
        )
        not_yet = {(TimeoutError, ())} if could_race or submitted.outcome is None else set()
        assert ended in known | not_yet

    def one_at(self, stage, data):
        return data.draw(st.sampled_from([each for each in self.works if each.stage == stage]))

    def some_at(stage):
        return precondition(
            lambda self: self.held is None and any(each.stage == stage for each in self.works)
        )

    @some_at("running")
    @rule(data=st.data(), ending=st.integers() | st.builds(Told, st.text()))
    def end_work(self, data, ending):
        submitted = self.one_at("running", data)
        self.story.append("end of work")
        submitted.work.end_with(ending)
        self.hear(submitted, submitted.end(ending))

    @some_at("cleaning")
    @rule(data=st.data())
    def end_cleanup(self, data):
        self.story.append("end of cleanup")
        self.let_cleanup_end(self.one_at("cleaning", data))

    def let_cleanup_end(self, submitted):
        submitted.work.end_cleanup()
        submitted.work.slow = False
        self.hear(submitted, submitted.end(submitted.coming))

    @has_futures
    @rule(data=st.data(), method=st.sampled_from(["result", "exception"]))
    def ask(self, data, method):
        submitted = self.one_with_future(data)
        asked = outcome_of(getattr(submitted.future, method), 0)
        assert asked == self.expected(submitted, method)
        submitted.retrieved |= submitted.outcome is not None

    def expected(self, submitted, method):
        outcome = submitted.outcome
        if outcome is None:
            return TimeoutError, ()
        if outcome is CancelledError:
            return CancelledError, ()
        if outcome is LoopClosedError and method == "exception":
            error = submitted.future.exception(0)
            assert isinstance(error, LoopClosedError)
            return "returned", error
        if outcome is LoopClosedError:
            return LoopClosedError, ()
        if method == "exception":
            return "returned", outcome if isinstance(outcome, Told) else None
        return (Told, outcome.args) if isinstance(outcome, Told) else ("returned", outcome)

    @has_futures
    @rule(data=st.data())
    def wait(self, data):
        submitted = self.one_with_future(data)
        waited = concurrent.futures.wait([submitted.future], timeout=0)
        assert (waited.done == {submitted.future}) is (submitted.outcome is not None)

    @has_futures
    @rule(data=st.data())
    def drop(self, data):
        submitted = self.one_with_future(data)
        self.story.append(f"drop of {submitted.stage} work")
        submitted.future = None
        if submitted.stage == "over":
            self.has_ended(submitted)
        elif submitted.outcome is not None:
            self.goes(submitted)

    @precondition(lambda self: self.thread is not None)
    @rule(
        cancel_futures=st.booleans(), give_up=st.booleans(), ending=st.integers() | st.builds(Told, st.text())
    )
    def close(self, cancel_futures, give_up, ending):
        self.story.append(f"close({cancel_futures=}, {give_up=}), held={self.held is not None}")
        was_held = self.held is not None
        self.leaving = True
        self.loop.shutdown(wait=False, cancel_futures=cancel_futures)
        with pytest.raises(LoopClosedError):
            self.loop.submit(asyncio.sleep(0))
        if not was_held and cancel_futures:
            self.exit_cancels()
        if give_up:
            self.give_up(cancel_futures)
        if was_held:
            self.unblock()
        if (was_held and cancel_futures) or (give_up and not cancel_futures):
            self.exit_cancels()
        for each in self.works:
            if each.stage == "running":
                each.work.end_with(ending)
                self.hear(each, each.end(ending))
            if each.stage == "cleaning":
                self.let_cleanup_end(each)
        thread, self.thread = self.thread, None
        self.call(self.loop.shutdown, timeout=2 * WAIT)
        self.call(thread.join)
        assert self.loop.loop is None
        assert all(each.outcome is not None for each in self.works)

    def exit_cancels(self):
        for each in self.works:
            self.hear(each, each.take_cancel())

    def give_up(self, cancel_futures):
        """The exit gives up at once what is still in its way."""
        unfinished = [each for each in self.works if each.stage != "over"]
        if not unfinished and self.held is None:
            return
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            self.call(self.loop.shutdown, cancel_futures=cancel_futures, timeout=0)
        [warning] = [each for each in warned if each.category is RuntimeWarning]
        for each in unfinished:
            # The loop hears of it at the same time, and may be faster.
            races = not cancel_futures and self.held is None and each.ends_when_cancelled()
            was_faster = races and each.future is not None and each.future.cancelled()
            each.settle(CancelledError if was_faster else LoopClosedError)
            if each.stage == "pending":
                each.stage = "over"
                assert each.coroutine is None or each.coroutine.cr_frame is None
        tasks = str(warning.message).count("task work-under-test")
        begun = [each for each in unfinished if each.stage != "over"]
        # Those that obey may have ended before the warning is written.
        stays = [each for each in begun if not each.ends_when_cancelled()]
        assert len(stays) <= tasks <= len(begun)
        # A thread that isn't held may just be in a step of the winding down.
        assert self.held is None or "its thread, which runs:" in str(warning.message)

    @rule()
    def collect(self):
        gc.collect(1)

    @invariant()
    def the_futures_are_as_the_model_says(self):
        if not hasattr(self, "works"):
            return
        self.settle()
        for each in self.works:
            if each.future is None:
                continue
            state = each.future.running(), each.future.done(), each.future.cancelled()
            done = each.outcome is not None
            assert state == (
                not done and each.stage in ("running", "cleaning"),
                done,
                each.outcome is CancelledError,
            ), each.stage
            assert each.called == [True] * done
        if self.held is None:
            assert self.reported == self.expected_reports
        self.works[:] = [each for each in self.works if each.stage != "over" or each.future is not None]

    def clear_up(self):
        if self.held is not None:
            self.held.set()
        for each in self.works:
            with contextlib.suppress(AttributeError, RuntimeError):  # Not begun, or the loop is closed.
                each.work.end_with(0)
                each.work.end_cleanup()
        self.call(self.loop.shutdown, timeout=WAIT)
        self.call(self.thread.join)

    def teardown(self):
        if getattr(self, "thread", None) is not None and self.leaving:
            self.clear_up()  # A close has failed half-way.
        elif getattr(self, "thread", None) is not None:
            self.close(cancel_futures=True, give_up=False, ending=0)
        for each in getattr(self, "works", []):
            if each.future is not None:
                outcome_of(each.future.exception, 0)  # Nothing is reported that no machine expects.


def test_submitted_futures_follow_their_work_at_every_step(loop_options, request):
    # Each takes 0.3 s, on each flavour, with each CPython: together they are still hundreds.
    examples = 100 if request.config.getoption("all_flavours") else 40

    class Machine(SubmittedFutures):
        options = loop_options

    run_machine(Machine, settings=settings(max_examples=examples, stateful_step_count=40))


# What the machines found, each as a test of its own.


def test_giving_up_while_work_ends_keeps_the_loop_alive(make_loop, caplog):
    """The exit gives futures up on one thread while the loop ends the same ones on another."""
    for _ in range(50):
        session = make_loop()
        session.start()
        thread = session.thread
        started = threading.Semaphore(0)

        async def work(started=started):
            started.release()
            await asyncio.Event().wait()

        futures = [session.submit(work) for _ in range(20)]
        for _ in futures:
            assert started.acquire(timeout=WAIT)
        session.shutdown(wait=False, cancel_futures=False)
        with pytest.warns(RuntimeWarning):
            session.shutdown(timeout=0, cancel_futures=False)
        thread.join(WAIT)
        assert not thread.is_alive()
        assert all(future.done() for future in futures)
        assert [record.getMessage() for record in caplog.records] == []


def test_collecting_a_failed_future_with_its_loop_and_handler_is_safe(script):
    """All of them are garbage at once: nothing of it may be called when its parts have been cleared."""
    program = script(
        """
import gc
async def fail():
    raise ZeroDivisionError
class Client:
    def __init__(self):
        self.errors = []
        self.loop = make_loop().start()
        self.loop.loop.set_exception_handler(lambda loop, context: self.errors.append(context))
        self.future = self.loop.submit(fail)
        self.loop.close()
for _ in range(20):
    Client()
gc.collect()
say("alive")
"""
    )
    assert program.finish() == 0, program
    assert program.lines == ["alive"]
    assert "Traceback" not in program.stderr


@pytest.mark.parametrize("late", [False, True])
def test_an_interrupt_in_a_callback_reaches_whoever_runs_the_callback(late):
    def interrupt(_):
        raise KeyboardInterrupt

    for future in concurrent.futures.Future(), Future():
        if late:
            future.set_result(1)
        else:
            future.add_done_callback(interrupt)
        with pytest.raises(KeyboardInterrupt):
            future.add_done_callback(interrupt) if late else future.set_result(1)
        assert future.result(0) == 1


def test_the_warning_of_an_exit_given_up_names_no_task_of_the_library(make_loop, gate):
    session = make_loop()
    session.start()
    thread, started = session.thread, threading.Event()

    async def stay():
        asyncio.current_task().set_name("stay")
        started.set()
        while not gate.is_set():
            await asyncio.sleep(0.005)

    session.submit(stay)
    assert started.wait(WAIT)
    asyncio_loop = session.loop
    session.shutdown(wait=False, cancel_futures=False)
    until(lambda: len(asyncio.all_tasks(asyncio_loop)) > 2)  # Its own tasks wait for `stay`.
    with pytest.warns(RuntimeWarning) as warned:
        session.shutdown(timeout=0, cancel_futures=False)
    gate.set()
    thread.join(WAIT)
    assert re.findall(r"^task ([\w-]+)", str(warned[0].message), re.MULTILINE) == ["stay"]
