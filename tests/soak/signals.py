"""Signals for the main thread while it waits. A coroutine sends them, so that the main thread does wait."""

import asyncio
import concurrent.futures
import os
import signal
import threading
import time

from . import forks
from .hostile import Planted
from .ledger import HANG


class Interrupted(Planted):
    """What the handler of SIGUSR1 raises."""


class MainThread:
    """Waits in every way there is and is interrupted."""

    def __init__(self, rng, subjects, shared):
        self._rng = rng
        self._subjects = subjects
        self._shared = shared

    def run(self, seconds):
        """Makes calls for so many seconds."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            subject = self._rng.choice(self._subjects)
            make = self._rng.choices([self._interrupted, self._pauses, self._program], [60, 30, 1])[0]
            self._shared.ledger.make(make.__name__.strip("_"), subject, make)

    def _pauses(self, call):
        time.sleep(self._rng.uniform(0.0, 0.05))

    def _program(self, call):
        return forks.run_program(call, call.subject.flavour, self._rng.randrange(1000))

    def _interrupted(self, call):
        number, error = self._rng.choice([(signal.SIGINT, KeyboardInterrupt), (signal.SIGUSR1, Interrupted)])
        way = self._rng.choice(["evaluate", "result", "wait", "cancel_and_wait", "evaluate_many"])
        call.note(f"{number.name} in {way}")
        sent, over, deciding = threading.Event(), threading.Event(), threading.Lock()
        to_all = self._rng.random() < 0.7

        async def sends_and_waits(work):
            with deciding:
                if over.is_set():
                    return
                sent.set()
            if to_all:
                os.kill(os.getpid(), number)
            else:
                signal.pthread_kill(threading.main_thread().ident, number)
            await asyncio.Event().wait()

        work = call.work(sends_and_waits, self._rng.random())
        with _Handled(number, error) as handled:
            try:
                try:
                    self._wait(call.subject.loop, work, way)
                finally:
                    # The work may have been cancelled before the signal was noticed, or given up before it was sent.
                    with deciding:
                        over.set()
                    handled.wait(sent)
            except error:
                self._look_after(work, way)
                return "interrupted"
        if not sent.is_set():
            return "returned"  # it was cancelled before it began
        call.violated("nothing ended the wait")
        return "violated"

    def _wait(self, loop, work, way):
        if way == "evaluate":
            return loop.evaluate(work.coroutine())
        if way == "evaluate_many":
            return loop.evaluate_many([work.coroutine()])
        future = loop.submit(work.coroutine())
        work.accepted(future)
        if way == "wait":
            concurrent.futures.wait([future])
        if way == "cancel_and_wait":
            while not work.began and not future.done():
                time.sleep(0)
            return future.cancel_and_wait()
        return future.result()

    def _look_after(self, work, way):
        """After Ctrl-C the coroutine of `evaluate` has been cancelled; that of a future goes on."""
        if not way.startswith("evaluate"):
            if work.future is not None:  # it was interrupted before it had one, otherwise
                work.future.cancel()
        elif not work.subject.gave_up and work.began and work.ends != ["cancelled"]:
            # The grace may be too short on a busy machine, but it will be cancelled.
            ends = time.monotonic() + HANG
            while not work.ends and time.monotonic() < ends:
                time.sleep(0.001)
            if work.ends != ["cancelled"]:
                work.call.violated(f"{work!r}: it was interrupted and not cancelled")


class _Handled:
    """Has a signal raise an error, within a `with` block."""

    def __init__(self, number, error):
        self._number = number
        self._error = error
        self._seen = False

    def _handle(self, *_):
        self._seen = True
        raise self._error("planted")

    def __enter__(self):
        self._before = signal.signal(self._number, self._handle)
        return self

    def wait(self, sent):
        """If the signal was sent, it has been handled when this returns."""
        ends = time.monotonic() + HANG
        while sent.is_set() and not self._seen and time.monotonic() < ends:
            time.sleep(0.001)

    def __exit__(self, *_):
        signal.signal(self._number, self._before)
