"""One round: fresh loops, threads that call and close them, and the audit when all is over."""

import asyncio
import concurrent.futures
import gc
import os
import random
import sys
import threading
import time
from collections import deque

from asyncio_thread_loop import AsyncioThreadLoop

from .actions import Caller, Closer
from .hooks import HangWatch, Hooks, fail_hanging
from .ledger import HANG, Ledger
from .signals import MainThread
from .subjects import Subject, factory


class Shared:
    """What the threads of a round have in common."""

    def __init__(self, ledger, pool):
        self.ledger = ledger
        self.pool = pool
        self.over = threading.Event()
        #: Futures that were accepted lately, with their work, for anybody to wait for or cancel.
        self.futures = deque(maxlen=64)

    def one_of_the_futures(self, rng):
        pairs = list(self.futures)
        return pairs[int(rng.random() * len(pairs))] if pairs else (None, None)

    def some_futures(self, rng):
        return [future for future, _ in list(self.futures) if rng.random() < 0.2]


class Soak:
    """Round after round, with one ledger."""

    def __init__(self, seed, flavours, threads=None):
        self.seed = seed
        self.rounds = 0
        self.ledger = Ledger()
        self._flavours = flavours
        self._threads = threads
        self._hooks = Hooks(self.ledger)
        self._describe = lambda: f"seed {seed}, round {self.rounds}"
        self._watch = HangWatch(self.ledger, self._describe)
        self._watch.start()
        for flavour in flavours:
            _warm_up(flavour)
        self._before = _left_behind()

    def run(self, seconds, first_round=0):
        """Runs rounds for so many seconds, or until something isn't as promised. Returns whether all was."""
        self.rounds = first_round
        ends = time.monotonic() + seconds
        try:
            while not self.ledger.violations and time.monotonic() < ends:
                self._round(ends - time.monotonic())
                self.rounds += 1
        finally:
            self._watch.stop()
        return not self.ledger.violations

    def _round(self, seconds_left):
        # A new generator for each: a round can be repeated without those before it.
        rng = random.Random(f"{self.seed} {self.rounds}")
        pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="pool")
        shared = Shared(self.ledger, pool)
        flavour = self._flavours[self.rounds % len(self._flavours)]
        subjects = [
            Subject(f"round {self.rounds} loop {number}", flavour, rng, self._hooks)
            for number in range(rng.choice([1, 1, 2]))
        ]
        for subject in subjects:
            subject.open()
        count = self._threads or rng.randint(8, 16)
        threads = [
            (Closer if number < 2 else Caller)(
                f"caller {number}", random.Random(rng.random()), subjects, shared
            )
            for number in range(count)
        ]
        length = min(rng.uniform(0.3, 2.0), max(0.3, seconds_left))
        main = MainThread(random.Random(rng.random()), subjects, shared)
        for thread in threads:
            thread.start()
        main.run(length)
        shared.over.set()
        for subject in subjects:
            self.ledger.make("close at the end", subject, subject.close_for_good)
        self._join(threads)
        for subject in subjects:
            # A caller may have opened it again in the last moment.
            self.ledger.make("close at the end", subject, subject.close_for_good)
        pool.shutdown()
        self._audit(subjects, shared)

    def _join(self, threads):
        ends = time.monotonic() + HANG + 5
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))
            if thread.is_alive():
                fail_hanging(f"{self._describe()}: {thread.name} doesn't end", self.ledger)

    def _audit(self, subjects, shared):
        for subject in subjects:
            for problem in subject.problems():
                self.ledger.violated(problem)
        shared.futures.clear()
        self.ledger.close()
        for subject in subjects:
            subject.kept.clear()
        subjects.clear()
        gc.collect()
        after = _left_behind()
        if any(now > before for now, before in zip(after, self._before, strict=True)):
            self.ledger.violated(f"threads and descriptors: {self._before} before, {after} after")


def _warm_up(flavour):
    """Some libraries open descriptors once and keep them."""
    with AsyncioThreadLoop(loop_factory=factory(flavour)) as loop:
        loop.evaluate(asyncio.to_thread(int))


def _left_behind():
    """Threads and descriptors of this process."""
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    return threading.active_count(), descriptors
