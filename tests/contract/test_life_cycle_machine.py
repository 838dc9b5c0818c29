"""The life of a loop in random sequences of steps, checked against a model of four states.

A loop is fresh, open, leaving or closed. What keeps it leaving is work that waits for a gate, never a clock.
"""

import asyncio
import contextlib
import threading
import warnings
import weakref

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from asyncio_thread_loop import AsyncioThreadLoop, DeadlockError, EventLoop, LoopClosedError, get_default_loop

from .harness import WAIT, Caller, answer, until

FRESH, OPEN, LEAVING, CLOSED = "fresh", "open", "leaving", "closed"


class Hang(BaseException):
    """Not an `Exception`: Hypothesis would look for a shorter example, and wait again each time."""


class Refused(Exception):
    """What an initializer or a factory raises here."""


class Life(RuleBasedStateMachine):
    """One `AsyncioThreadLoop` is started, used, left and given up, from this thread, from others and from its own."""

    factory = None
    caller_runs = False

    @initialize()
    def make(self):
        self.story = []
        self.trouble = None
        self.state = FRESH
        self.gate = None
        self.closers = []
        self.left_behind = []
        self.thread = None
        self.futures = []
        # The loop must not keep the machine alive, nor the other way round.
        machine = weakref.proxy(self)
        self.session = AsyncioThreadLoop(
            loop_factory=lambda: machine.make_event_loop(),
            initializer=lambda: machine.begin(),
            caller_runs=self.caller_runs,
        )

    def start(self):
        return self.session.start()

    # What the session is given.

    def make_event_loop(self):
        if self.trouble == "factory raises":
            raise Refused
        if self.trouble == "factory returns rubbish":
            return object()
        loop = self.factory() if self.factory is not None else asyncio.SelectorEventLoop()
        if self.trouble == "factory returns a closed loop":
            loop.close()
        return loop

    def begin(self):
        if self.trouble == "initializer raises":
            raise Refused
        if self.trouble == "initializer starts":
            self.session.start()

    TROUBLES = {  # noqa: RUF012 -- a constant
        "factory raises": Refused,
        "factory returns rubbish": TypeError,
        "factory returns a closed loop": RuntimeError,
        "initializer raises": Refused,
        "initializer starts": RuntimeError,
    }

    # Waiting with an end.

    def ended(self, caller):
        caller.join(WAIT)
        if caller.is_alive():
            raise Hang(f"{caller.name} hangs, after {self.story}")
        return caller

    def call(self, fn, *args, **kwargs):
        return self.ended(Caller(fn, *args, **kwargs)).outcome()

    # Starting.

    @rule(by_entering=st.booleans(), trouble=st.none() | st.sampled_from(sorted(TROUBLES)))
    def open(self, by_entering, trouble):
        self.open_in_trouble(by_entering, trouble)

    def open_in_trouble(self, by_entering, trouble):
        self.story.append(f"open while {self.state}, {trouble=}")
        start = self.session.__enter__ if by_entering else self.start
        if self.state in (OPEN, LEAVING):
            with pytest.raises(RuntimeError, match="runs already"):
                self.call(start)
            return
        self.trouble = trouble
        if trouble is not None:
            with pytest.raises(self.TROUBLES[trouble]):
                self.call(start)
            return
        assert self.call(start) is self.session
        self.has_opened()

    def has_opened(self):
        self.state = OPEN
        self.thread = self.session.thread
        self.gate = threading.Event()

    # Using.

    @rule(how=st.sampled_from(["submit", "evaluate", "call"]))
    def use(self, how):
        self.story.append(f"{how} while {self.state}")
        if how == "call":
            if self.state == OPEN:
                ran_on = self.call(self.session.call, threading.current_thread)
                assert self.caller_runs or ran_on is self.thread
            else:
                with pytest.raises(LoopClosedError):
                    self.call(self.session.call, threading.current_thread)
            return
        coroutine = answer()
        if self.state != OPEN:
            with pytest.raises(LoopClosedError):
                self.call(getattr(self.session, how), coroutine)
            assert coroutine.cr_frame is None
        elif how == "evaluate":
            assert self.call(self.session.evaluate, coroutine) == 42
        else:
            assert self.call(self.session.submit(coroutine).result) == 42

    is_open = precondition(lambda self: self.state == OPEN)

    @is_open
    @rule()
    def submit_endless_work(self):
        """It ends when it is cancelled."""
        self.story.append("submit endless work")
        self.begin_work(self.endless)

    @is_open
    @precondition(lambda self: not self.closers)
    @rule()
    def submit_lingering_work(self):
        """Its cleanup waits for the gate."""
        self.story.append("submit lingering work")
        self.begin_work(self.linger)

    def begin_work(self, fn):
        started = threading.Event()
        future = self.session.submit(fn, started, self.gate)
        if not started.wait(WAIT):
            raise Hang(f"submitted work doesn't start, after {self.story}")
        self.futures.append((future, fn == self.linger))

    @staticmethod
    async def endless(started, gate):
        started.set()
        await asyncio.Event().wait()

    @staticmethod
    async def linger(started, gate):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            while not gate.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.001)

    @property
    def lingers(self):
        return any(linger for _, linger in self.futures)

    # Leaving.

    def has_left(self):
        """The session has ended, its thread too."""
        self.thread.join(WAIT)
        if self.thread.is_alive():
            raise Hang(f"the loop's thread doesn't end, after {self.story}")
        for caller in self.closers:
            assert self.ended(caller).error() is None
        for future, _ in self.futures:
            assert future.cancelled()
        self.closers.clear()
        self.futures.clear()
        self.state = CLOSED

    @rule(
        timeout=st.sampled_from([None, WAIT, 3600]),
        by=st.sampled_from(["shutdown", "close", "exit"]),
        times=st.integers(1, 2),
    )
    def leave(self, timeout, by, times):
        self.story.append(f"{by} while {self.state}, lingers={self.lingers}")
        for _ in range(times):
            if self.state in (OPEN, LEAVING) and self.lingers:
                self.closers.append(Caller(self.close_by, by, timeout))
                until(lambda: not self.accepts())
                self.state = LEAVING
            elif self.state in (OPEN, LEAVING):
                self.call(self.close_by, by, timeout)
                self.has_left()
            else:
                self.call(self.close_by, by, timeout)

    def close_by(self, by, timeout):
        if by == "shutdown":
            self.session.shutdown(timeout=timeout)
        elif by == "close":
            self.session.close()
        else:
            assert not self.session.__exit__(None, None, None)

    def accepts(self):
        try:
            self.session.submit(answer).cancel()
        except LoopClosedError:
            return False
        return True

    @rule(on_its_thread=st.booleans())
    def leave_without_waiting(self, on_its_thread):
        self.story.append(f"shutdown(wait=False) while {self.state}, {on_its_thread=}")
        if on_its_thread and self.state == OPEN:
            self.call(self.session.call, self.session.shutdown, wait=False)
        else:
            self.call(self.session.shutdown, wait=False)
        if self.state == OPEN and self.lingers:
            self.state = LEAVING
        elif self.state == OPEN:
            self.has_left()

    @is_open
    @precondition(lambda self: self.futures)
    @rule(timeout=st.sampled_from([None, WAIT]))
    def leave_when_work_has_ended(self, timeout):
        """Without `cancel_futures` the endless ones keep it open, until somebody cancels them."""
        self.story.append("shutdown(cancel_futures=False)")
        closer = Caller(self.session.shutdown, cancel_futures=False, timeout=timeout)
        until(lambda: not self.accepts())
        assert not any(future.done() for future, _ in self.futures)
        self.gate.set()
        for future, _ in self.futures:
            assert future.cancel()
        assert self.ended(closer).error() is None
        self.has_left()

    @precondition(lambda self: self.state == LEAVING)
    @rule()
    def let_linger_end(self):
        self.story.append("gate opens")
        self.gate.set()
        self.has_left()

    @precondition(lambda self: self.state in (OPEN, LEAVING) and self.lingers and not self.closers)
    @rule()
    def give_up(self):
        self.story.append(f"shutdown(timeout=0) while {self.state}")
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            self.call(self.session.shutdown, timeout=0)
        assert [each.category for each in warned] == [RuntimeWarning]
        for future, linger in self.futures:
            assert future.done()
            if linger:
                assert isinstance(future.exception(0), LoopClosedError)
        self.left_behind.append((self.gate, self.thread))
        self.futures.clear()
        self.state = CLOSED

    # On the loop's own thread.

    @is_open
    @rule()
    def block_on_its_own_thread(self):
        self.story.append("calls on the loop's thread")
        coroutine = answer()
        for call, error in (
            (self.session.shutdown, DeadlockError),
            (self.session.close, DeadlockError),
            (lambda: self.session.__exit__(None, None, None), DeadlockError),
            (lambda: self.session.evaluate(coroutine), DeadlockError),
            (self.session.start, RuntimeError),
        ):
            with pytest.raises(error):
                self.call(self.session.call, call)
        assert coroutine.cr_frame is None

    @rule()
    def bad_timeouts(self):
        for timeout, error in ((-1, ValueError), (float("nan"), ValueError), ("1", TypeError)):
            with pytest.raises(error):
                self.session.shutdown(timeout=timeout)

    @invariant()
    def it_shows_its_state(self):
        if not hasattr(self, "session"):
            return
        if self.state in (FRESH, CLOSED):
            assert (self.session.loop, self.session.thread) == (None, None)
            assert repr(self.session).endswith(" closed>")
        else:
            assert self.session.loop.is_running()
            assert self.session.thread is self.thread
            assert self.thread.is_alive()
            assert repr(self.session).endswith(" running>")

    def teardown(self):
        if not hasattr(self, "session"):
            return
        for gate, thread in [*self.left_behind, (self.gate, self.thread)]:
            if thread is not None:
                gate.set()
        self.call(self.session.shutdown, timeout=WAIT)
        for _, thread in [*self.left_behind, (None, self.thread)]:
            if thread is not None:
                thread.join(WAIT)
        for caller in self.closers:
            self.ended(caller)


def test_a_loop_goes_through_its_life_at_every_step(loop_options):
    class Machine(Life):
        caller_runs = loop_options["caller_runs"]

    Machine.factory = staticmethod(loop_options["loop_factory"] or EventLoop)
    run_machine(Machine, settings=settings(max_examples=80, stateful_step_count=40))


class DefaultLife(Life):
    """The same for the loop of the process, which is opened by asking for it."""

    @initialize()
    def make(self):
        super().make()
        self.session = get_default_loop()
        self.has_opened()

    @rule(by_entering=st.booleans())
    def open(self, by_entering):
        self.open_in_trouble(by_entering, None)

    @rule()
    def ask_for_it(self):
        self.story.append(f"get_default_loop() while {self.state}")
        if self.state == LEAVING:
            return  # It isn't closed yet, and isn't to be had afresh.
        assert self.call(get_default_loop) is self.session
        if self.state == CLOSED:
            self.has_opened()


def test_the_default_loop_goes_through_its_life_at_every_step():
    run_machine(DefaultLife, settings=settings(max_examples=40, stateful_step_count=40))
