"""What a thread does to a loop: one random call after the other."""

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import threading

from asyncio_thread_loop import LoopClosedError

from . import coroutines, forks, hostile
from .hostile import Awaitable, Planted
from .subjects import fail_to_start

ACTIONS = {}
"""Every action and its weight."""

SHORT = [0, 0.0001, 0.01]
TIMEOUTS = [None, None, None, *SHORT, 5]


def action(weight):
    def register(function):
        ACTIONS[function.__name__] = function, weight
        return function

    return register


class Caller(threading.Thread):
    """Makes random calls until the round is over, or dies before."""

    def __init__(self, name, rng, subjects, shared):
        super().__init__(name=name, daemon=True)
        self.rng = rng
        self.subjects = subjects
        self.shared = shared

    def run(self):
        weights = [weight for _, weight in ACTIONS.values()]
        while not self.shared.over.is_set():
            perform, _ = self.rng.choices(list(ACTIONS.values()), weights)[0]
            subject = self.rng.choice(self.subjects)
            outcome = self.shared.ledger.make(perform.__name__, subject, functools.partial(perform, self))
            if outcome == "refused":
                self.shared.over.wait(0.002)  # mostly it's closed: leave the processor to who opens it again
            if self.rng.random() < 0.0005:
                raise Planted("this thread dies")

    def work(self, call):
        return call.work(coroutines.choose(self.rng, call.subject), self.rng.random())

    def submitted(self, work):
        """Submits in one of the ways there are. Returns the future."""
        loop = work.subject.loop
        way = self.rng.choice(
            ["coroutine", "coroutine", "function", "partial", "awaitable", "failing awaitable"]
        )
        if way == "coroutine":
            return loop.submit(work.coroutine())
        if way == "function":
            return loop.submit(work.run)
        if way == "partial":
            return loop.submit(functools.partial(work.run))
        if way == "failing awaitable":
            work.call.may_raise(Planted)
        return loop.submit(Awaitable(work.coroutine, fails=way == "failing awaitable"))

    def timeout(self, call, *works):
        """A timeout, or None, but never None for what waits for ever."""
        endless = {coroutines.waits_for_ever, coroutines.fails_in_finally, coroutines.refuses_to_end}
        timeouts = SHORT if any(work.body in endless for work in works) else TIMEOUTS
        timeout = self.rng.choice(timeouts)
        if timeout is not None:
            call.may_raise(TimeoutError)
        return timeout

    def take_some(self, call, iterator, look):
        """Iterates to the end, breaks off, or lets go of the iterator."""
        stop = self.rng.choice([0, 1, None, None])
        for taken, item in enumerate(iterator):
            look(item)
            if taken == stop:
                break


# One coroutine


@action(10)
def submit(self, call):
    work = self.work(call)
    future = self.submitted(work)
    keep = self.rng.random() < 0.7
    work.accepted(future, keep)
    if keep:
        self.shared.futures.append((future, work))
    return "accepted"


@action(2)
def submit_and_drop(self, call):
    self.submitted(self.work(call))
    return "accepted"


@action(10)
def evaluate(self, call):
    work = self.work(call)
    timeout = self.timeout(call, work)
    work.returned(call.subject.loop.evaluate(work.coroutine(), timeout))


@action(2)
def evaluate_an_awaitable(self, call):
    work = call.work(self.rng.choice([coroutines.sleeps, coroutines.raises]), self.rng.random())
    call.may_raise(Planted)
    work.returned(call.subject.loop.evaluate(Awaitable(work.coroutine, self.rng.random() < 0.3)))


@action(2)
def submit_nonsense(self, call):
    # A value that can't be shown has its own error, while ours is being worded.
    clear = TypeError, ValueError, Planted
    call.may_raise(*clear)
    loop = call.subject.loop
    nonsense = self.rng.choice(
        [
            lambda: loop.submit(hostile.Value()),
            lambda: loop.submit(int),
            lambda: loop.submit(asyncio.sleep, wrong=1),
            lambda: loop.evaluate(None),
            lambda: loop.evaluate(asyncio.sleep(0), timeout=-1),
            lambda: loop.evaluate(asyncio.sleep(0), timeout="soon"),
            lambda: loop.call(asyncio.sleep),
            lambda: loop.evaluate_many([asyncio.sleep(0)], limit=0),
            lambda: list(loop.map(int, [1])),
        ]
    )
    try:
        nonsense()
    except clear:
        return "refused"
    call.violated("nonsense was accepted")
    return "violated"


@action(2)
def submit_what_runs_already(self, call):
    work = call.work(coroutines.sleeps, self.rng.random())
    coroutine = work.coroutine()
    work.accepted(call.subject.loop.submit(coroutine))
    if not work.began:
        return "accepted"
    call.may_raise(RuntimeError)
    call.subject.loop.submit(coroutine)
    call.violated("a coroutine was accepted twice")
    return "violated"


# What is done to futures


@action(6)
def cancel(self, call):
    future, work = self.shared.one_of_the_futures(self.rng)
    if future is not None:
        work.note("cancel()")
        call.may_raise(SystemExit)  # out of a callback, if this is what ends the future
        future.cancel()


@action(3)
def cancel_and_wait(self, call):
    future, _ = self.shared.one_of_the_futures(self.rng)
    if future is None:
        return
    call.may_raise(TimeoutError, SystemExit)  # the latter out of a callback
    cancelled = future.cancel_and_wait(self.rng.choice([0, 0.001, 0.05]))
    if not future.done() or future.cancelled() != cancelled:
        call.violated(f"cancel_and_wait() says {cancelled} of {future}")


@action(5)
def wait_for_result(self, call):
    future, work = self.shared.one_of_the_futures(self.rng)
    if future is None:
        return "returned"
    call.waits_for(work)
    call.may_raise(TimeoutError)
    return work.returned(future.result(self.rng.choice([0, 0.001, 0.05])))


@action(3)
def wait_for_several(self, call):
    """`concurrent.futures` waits for ours, for those of several loops, and for those of a thread pool."""
    futures = {self.shared.one_of_the_futures(self.rng)[0] for _ in range(self.rng.randint(1, 6))} - {None}
    futures.add(self.shared.pool.submit(int))
    timeout = self.rng.choice([0, 0.001, 0.02])
    if self.rng.random() < 0.5:
        condition = self.rng.choice(["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"])
        done, not_done = concurrent.futures.wait(futures, timeout, condition)
        if done | not_done != futures or not all(future.done() for future in done):
            call.violated("concurrent.futures.wait() is wrong")
        return
    call.may_raise(TimeoutError)
    seen = [future for future in concurrent.futures.as_completed(futures, timeout) if future.done()]
    if len(seen) != len(futures) or set(seen) != futures:
        call.violated("concurrent.futures.as_completed() is wrong")


@action(3)
def add_a_failing_callback(self, call):
    future, _ = self.shared.one_of_the_futures(self.rng)
    if future is not None:
        call.may_raise(SystemExit)  # from a future that is done already, as with `concurrent.futures`
        future.add_done_callback(self.rng.choice([hostile.raises_planted, _exits]))


def _exits(_):
    raise SystemExit("planted")


# Many coroutines


@action(3)
def evaluate_many(self, call):
    works = [self.work(call) for _ in range(self.rng.randint(0, 6))]
    timeout = self.timeout(call, *works)
    options = {"limit": self.rng.choice([None, 1, 3]), "return_exceptions": self.rng.random() < 0.5}
    if self.rng.random() < 0.1:
        options["progress"] = hostile.raises_planted
        call.may_raise(Planted)
    coros = _lazily(works) if self.rng.random() < 0.5 else [work.coroutine() for work in works]
    results = call.subject.loop.evaluate_many(coros, timeout, **options)
    if len(results) != len(works):
        call.violated(f"{len(results)} results of {len(works)} coroutines")
    for work, result in zip(works, results, strict=True):
        if isinstance(result, BaseException):
            call.raised(result)
        else:
            work.returned(result)


def _lazily(works):
    for work in works:
        yield work.coroutine()


@action(2)
def map_(self, call):
    works = [self.work(call) for _ in range(self.rng.randint(0, 6))]
    timeout = self.timeout(call, *works)
    results = call.subject.loop.map(_run, works, timeout=timeout, buffersize=self.rng.choice([None, 1, 3]))
    self.take_some(call, zip(results, works, strict=False), lambda pair: pair[1].returned(pair[0]))


async def _run(work):
    return await work.run()


@action(2)
def as_completed(self, call):
    works = [self.work(call) for _ in range(self.rng.randint(0, 6))]
    timeout = self.timeout(call, *works)
    futures = call.subject.loop.as_completed(
        _lazily(works), limit=self.rng.choice([None, 1, 3]), timeout=timeout
    )
    self.take_some(call, futures, lambda future: future.done() or call.violated("it isn't done"))


# Other calls


@action(3)
def call(self, call):
    if self.rng.random() < 0.5:
        if call.subject.loop.call(int, "42") != 42:
            call.violated("call() returned something else")
        return
    call.may_raise(Planted)
    call.subject.loop.call(hostile.raises_planted)
    call.violated("call() raised nothing")


@action(2)
def start_task(self, call):
    work = self.work(call)
    tells = self.rng.choice(["before", "twice", "never"])
    value = object()

    async def starts(*, task_status):
        if tells != "never":
            task_status.started(value)
        if tells == "twice":
            with contextlib.suppress(RuntimeError):
                task_status.started(value)
                call.violated("started() could be called twice")
        return await work.run()

    if tells == "never":
        work.body = self.rng.choice([coroutines.sleeps, coroutines.raises])
        call.may_raise(RuntimeError)
    future, told = call.subject.loop.start_task(starts)
    work.accepted(future)
    if told is not value:
        call.violated("start_task() returned another value")


@action(1)
def be_in_another_loop(self, call):
    """A caller whose own thread runs a loop, as a notebook's does."""
    work = call.work(coroutines.sleeps, self.rng.random())

    async def main():
        return call.subject.loop.evaluate(work.coroutine())

    work.returned(asyncio.run(main()))


@action(0.3)
def fail_to_start_(self, call):
    return fail_to_start(call, call.subject.flavour, self.rng)


@action(0.2)
def collect_garbage(self, call):
    gc.collect()


@action(0.1)
def fork(self, call):
    return forks.fork(call, self.subjects, self.shared.some_futures(self.rng), self.rng)


@action(0.05)
def fork_on_the_loop(self, call):
    """The child has only the loop's thread, in the middle of a coroutine."""
    arguments = call, self.subjects, self.shared.some_futures(self.rng), self.rng
    call.subject.loop.call(forks.fork, *arguments)
    return "accepted"


@action(0.05)
def leave_from_a_coroutine(self, call):
    async def leaves():
        call.subject.close(call, wait=False)

    future = call.subject.loop.submit(leaves)
    # It has begun to leave, or somebody else was faster.
    concurrent.futures.wait([future])
    if not future.cancelled() and not isinstance(future.exception(), LoopClosedError | None):
        call.violated("shutdown(wait=False) failed on the loop", future.exception())


# Those who close


class Closer(Caller):
    """Closes loops in random ways at random moments, and may open them again."""

    def run(self):
        while not self.shared.over.wait(self.rng.uniform(0.02, 1.5)):
            subject = self.rng.choice(self.subjects)
            self.shared.ledger.make("close", subject, functools.partial(self._close, subject))
            if self.rng.random() < 0.9:
                self._reopen(subject)

    def _reopen(self, subject):
        """One that was left in the background is open until it has ended, or was given up."""
        patience = functools.partial(subject.close, wait=True, timeout=0.05)
        while not self.shared.over.wait(0.001):
            if self.shared.ledger.make("reopen", subject, subject.reopen) == "returned":
                return
            self.shared.ledger.make("close", subject, patience)

    def _close(self, subject, call):
        options = {
            "wait": self.rng.random() < 0.7,
            "cancel_futures": self.rng.random() < 0.8,
            "timeout": self.rng.choice([None, None, 0, 0.02, 1]),
        }
        # Work that isn't cancelled may take for ever.
        if not options["cancel_futures"] and options["wait"]:
            options["timeout"] = 0.05
        for _ in range(self.rng.randint(1, 2)):
            subject.close(call, **options)
