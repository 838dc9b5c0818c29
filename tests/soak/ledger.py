"""The ledger: every call gets a number, and at the end somebody looks whether each came to its one proper end.

A `Call` is what a thread asked for. A `Work` is one coroutine of it: it says itself when it began and how it ended,
and that has to agree with what its caller was told.
"""

import asyncio
import collections
import concurrent.futures
import inspect
import itertools
import random
import sys
import threading
import time
import traceback
import weakref

from asyncio_thread_loop import ForkedError, LoopClosedError

from .hostile import Value

#: Seconds after which a call counts as hanging.
HANG = 20.0


class Work:
    """One coroutine, what it says of itself, and what its caller was told."""

    def __init__(self, call, body, seed):
        self.call = call
        self.body = body
        self.dice = random.Random(seed)
        self.value = Value() if self.dice.random() < 0.2 else object()
        self.began = 0
        self.ends = []
        self.error = None
        #: It cancelled itself in its last step, so its result may be lost.
        self.cancelled_itself = False
        self._coroutine = None
        self.future = None
        self.followed = False
        self._called_back = []

    def __repr__(self):
        return f"{self.body.__name__} of call {self.call.number}"

    @property
    def subject(self):
        return self.call.subject

    def note(self, what):
        self.call.note(f"{self.body.__name__}: {what}")

    async def run(self):
        self.began += 1
        self.note("began")
        try:
            await self.body(self)
        except BaseException as error:
            self.error = error
            self._ended(
                {asyncio.CancelledError: "cancelled", GeneratorExit: "closed"}.get(type(error), "raised")
            )
            raise
        self._ended("returned")
        return self.value

    def _ended(self, how):
        self.ends.append(how)
        self.note(how if self.error is None else f"{how} ({type(self.error).__name__})")

    def coroutine(self):
        """Its coroutine, which has to have ended when its loop has."""
        coroutine = self.run()
        self._coroutine = weakref.ref(coroutine)
        return coroutine

    def another(self, body):
        """More work of the same call."""
        return self.call.work(body, self.dice.random())

    def accepted(self, future, keep=True):
        """Follows the future. One that isn't kept may be dropped before it ends."""
        self.followed = True
        self.future = future if keep else None
        future.add_done_callback(self._done)

    def _done(self, future):
        self.note("its future is done")
        self._called_back.append(_outcome(future) if self.future is not None else None)

    def returned(self, result):
        """The caller was given this result."""
        if result is not self.value or self.ends != ["returned"]:
            self.call.violated(f"{self!r} gave its caller something else than it returned")

    # The audit, when the loop has ended.

    def problems(self):
        if self.began > 1:
            yield "it was run twice"
        if len(self.ends) != self.began:
            yield "it began and never ended"
        if "closed" in self.ends:
            yield "it was closed in the middle"
        coroutine = self._coroutine and self._coroutine()
        if coroutine is not None and inspect.getcoroutinestate(coroutine) != inspect.CORO_CLOSED:
            yield f"its coroutine was left behind, {inspect.getcoroutinestate(coroutine)}"
        if self.followed and len(self._called_back) != 1:
            yield f"its future's callback was called {len(self._called_back)} times"
        if self.future is not None:
            yield from self._problems_of_future()

    def _problems_of_future(self):
        if not self.future.done():
            yield "its future never ended"
            return
        kind, what = outcome = _outcome(self.future)
        if self._called_back and (self._called_back[0][0], id(self._called_back[0][1])) != (kind, id(what)):
            yield f"its future ended as {self._called_back[0][0]} and is {kind} now"
        end = self.ends[0] if self.ends else None
        if kind == "returned":
            agrees = end == "returned" and what is self.value
        elif kind == "cancelled":
            agrees = end in (None, "cancelled") or self.cancelled_itself
        else:
            agrees = self.owns(what) or (isinstance(what, LoopClosedError) and self.subject.gave_up)
        if not agrees:
            yield f"its future says {kind} ({type(outcome[1]).__name__}), it says {end}"

    def owns(self, error):
        """Whether this is the error it ended with, or what Python made of it."""
        if self.error is None:
            # An awaitable may fail before there is a coroutine.
            return self.began == 0 and self.call.expects(error)
        return error is self.error or (isinstance(error, RuntimeError) and error.__cause__ is self.error)


def _outcome(future):
    if future.cancelled():
        return "cancelled", None
    error = future.exception(timeout=0)
    return ("returned", future.result(timeout=0)) if error is None else ("raised", error)


class Call:
    """What a thread asked of a loop, and all that happened to it."""

    def __init__(self, ledger, number, action, subject):
        self.ledger = ledger
        self.number = number
        self.action = action
        self.subject = subject
        self.works = []
        #: Work of other calls whose future it waits for.
        self._waited_for = []
        self.history = []
        self.began = time.monotonic()
        self._moment = subject.moment() if subject is not None else None
        self._expected = []
        self._cancelled = False
        self.note(f"call {number}: {action} on {subject}")

    def note(self, what):
        self.history.append((time.monotonic(), threading.current_thread().name, what))

    def work(self, body, seed):
        work = Work(self, body, seed)
        self.works.append(work)
        return work

    def waits_for(self, work):
        self._waited_for.append(work)
        self.note(f"waits for {work!r}")

    def may_raise(self, *errors):
        """Errors that are a clear answer here, as types or as instances."""
        self._expected += errors

    def is_open(self):
        """Whether its loop has been open all the time, so that nothing of it may be refused."""
        return self.subject.was_open_since(self._moment)

    def expects(self, error):
        return any(
            isinstance(error, expected) if isinstance(expected, type) else error is expected
            for expected in self._expected
        )

    def raised(self, error):
        """The call raised. Returns a word for what that was."""
        self.note(f"raised {type(error).__name__}")
        if isinstance(error, concurrent.futures.CancelledError):
            self._cancelled = True
            return "cancelled"
        if self.expects(error):
            return "timed out" if isinstance(error, TimeoutError) else "refused"
        if any(work.owns(error) for work in self.works + self._waited_for):
            return "raised"
        if isinstance(error, LoopClosedError) and (
            not self.is_open() or any(work.subject.gave_up for work in self._waited_for)
        ):
            return "refused"
        if isinstance(error, ForkedError) and self.subject.is_inherited:
            return "refused"
        self.violated("an error that nothing accounts for", error)
        return "violated"

    def violated(self, what, error=None):
        self.ledger.violated(what, self, error)

    def audit(self):
        for work in self.works:
            for problem in work.problems():
                self.violated(f"{work!r}: {problem}")
        if self._cancelled and not any(
            work.cancelled_itself or not work.ends or "cancelled" in work.ends
            for work in self.works + self._waited_for
        ):
            self.violated("it was called cancelled, and none of its work was")

    def __str__(self):
        return "\n".join(
            f"  {when - self.began:9.6f} {thread:<18} {what}" for when, thread, what in self.history
        )


class Ledger:
    """All calls of a round, the number of those before, and everything that wasn't as promised."""

    def __init__(self):
        self.outcomes = collections.defaultdict(collections.Counter)
        self.works = collections.Counter()
        self.violations = []
        self._numbers = itertools.count(1)
        self._calls = []
        self._running = {}

    def begin(self, action, subject):
        call = Call(self, next(self._numbers), action, subject)
        self._calls.append(call)
        self._running[threading.get_ident()] = call
        return call

    def end(self, call, outcome):
        self.outcomes[call.action][outcome] += 1
        call.note(f"ended: {outcome}")
        del self._running[threading.get_ident()]

    def make(self, action, subject, perform):
        """Makes one call: whatever comes of it is judged and counted."""
        call = self.begin(action, subject)
        outcome = "violated"
        try:
            outcome = perform(call) or "returned"
        except BaseException as error:
            outcome = call.raised(error)
        finally:
            self.end(call, outcome)
        return outcome

    def longest_running(self):
        """The call that has been under way for the longest time, and its seconds."""
        call = min(list(self._running.values()), key=lambda call: call.began, default=None)
        return call, 0.0 if call is None else time.monotonic() - call.began

    def violated(self, what, call=None, error=None):
        self.violations.append(Violation(what, call, error))

    def close(self):
        """Audits the calls of a round and forgets them."""
        for call in self._calls:
            call.audit()
            for work in call.works:
                self.works[work.ends[0] if work.ends else "never began"] += 1
        self._calls.clear()

    def print_violations(self, at_most=100):
        counts = collections.Counter(violation.what for violation in self.violations)
        firsts = {violation.what: violation for violation in reversed(self.violations)}
        for violation in list(reversed(firsts.values()))[:at_most]:
            print(f"\nVIOLATION, {counts[violation.what]} times: {violation}", file=sys.stderr)
            if violation.__cause__ is not None:
                # Not `print_exception`: the error may be one that can't be shown.
                error = violation.__cause__
                print(f"{type(error).__name__} {error.args!s:.300}, raised in", file=sys.stderr)
                traceback.print_tb(error.__traceback__, file=sys.stderr)
        sys.stderr.flush()


class Violation(Exception):
    """Something that wasn't as promised, with the history of the call."""

    def __init__(self, what, call=None, error=None):
        super().__init__(what)
        self.what = what
        self.call = call
        self.__cause__ = error

    def __str__(self):
        return self.what if self.call is None else f"{self.what}\n{self.call}"
