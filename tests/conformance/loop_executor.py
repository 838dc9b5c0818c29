"""What CPython's tests of `concurrent.futures` want to see: a thread pool and a `Future` that they can set up.

Everything they look at goes through this library: the futures are those of `AsyncioThreadLoop.submit`, `shutdown` is
its `shutdown`. Only the threads that plain functions run in are a real pool's, as under `asyncio.to_thread`.
"""

import asyncio
import concurrent.futures
import concurrent.futures._base
import itertools
import os
import threading
import unittest.mock
import weakref
from concurrent.futures.thread import ThreadPoolExecutor as RealThreadPool

import asyncio_thread_loop

__all__ = ["LoopExecutor", "install", "plain_futures_are_ours"]


class Future(asyncio_thread_loop.Future):
    """Ours, brought by public methods into the states that the tests assign to private attributes."""

    @property
    def _state(self):
        return super()._state

    @_state.setter
    def _state(self, state):
        if state in ("RUNNING", "CANCELLED_AND_NOTIFIED"):
            if state != "RUNNING":
                self.cancel()
            self.set_running_or_notify_cancel()
        elif state == "CANCELLED":
            self.cancel()
        # "FINISHED" follows from the exception or the result, which the tests assign next.
        self._finishing = state == "FINISHED"

    def _set_exception(self, exception):
        if exception is not None:
            self.set_exception(exception)

    def _set_result(self, result):
        if self._finishing and not self.done():
            self.set_result(result)

    _exception = property(fset=_set_exception)
    _result = property(fset=_set_result)


class LoopExecutor(concurrent.futures.Executor):
    """Runs plain functions in worker threads, each from a coroutine on an `AsyncioThreadLoop`."""

    _loop_factory = None
    _numbers = itertools.count()

    def __init__(self, max_workers=None, thread_name_prefix="", initializer=None, initargs=()):
        self._workers = RealThreadPool(max_workers)
        self._max_workers = self._workers._max_workers
        self._slots = asyncio.Semaphore(self._max_workers)
        prefix = thread_name_prefix or f"ThreadPoolExecutor-{next(self._numbers)}"
        self._loop = asyncio_thread_loop.AsyncioThreadLoop(
            loop_factory=self._loop_factory, name=f"{prefix}_0", initializer=initializer, initargs=initargs
        ).start()
        # What the tests join after `shutdown`, or after dropping the executor.
        self._threads = {self._loop.thread}
        _executors.add(self)

    def submit(self, fn, /, *args, **kwargs):
        future = self._loop.submit(self._work, fn, args, kwargs)
        # A pool starts its threads where work is submitted. CPython 3.12.0 and 3.12.1 start none any more once the
        # main thread has ended.
        self._workers.submit(bool)
        return future

    async def _work(self, fn, args, kwargs):
        outcome = []

        def work():
            # What a worker thread returns it still holds for a moment.
            outcome.append(fn(*args, **kwargs))

        async with self._slots:
            working = asyncio.get_running_loop().run_in_executor(self._workers, work)
            # As in a thread pool, what has begun can't be cancelled: it refuses.
            while not working.done():
                try:
                    await asyncio.wait([working])
                except asyncio.CancelledError:
                    continue
            working.result()
        return outcome.pop()

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._loop.shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            self._workers.shutdown()

    def __del__(self):
        if "_loop" in vars(self):
            self._loop.shutdown(wait=False, cancel_futures=False)


LoopExecutor.__name__ = "ThreadPoolExecutor"  # as the tests write it into the scripts they run

_executors = weakref.WeakSet()


def _finish_all():
    for executor in list(_executors):
        executor.shutdown()


# A thread pool waits for what was submitted when the interpreter exits, an `AsyncioThreadLoop` cancels it.
threading._register_atexit(_finish_all)

# A forked child has nothing to wait for. A pool's own exit takes none of its locks there, but its `shutdown` does, and
# for ever if a thread was in the middle of `submit`: it holds one while it waits for the fork to be over.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_executors.clear)


def install(loop):
    """From now on `concurrent.futures.ThreadPoolExecutor` is ours, on this kind of event loop."""
    if loop == "standard":
        LoopExecutor._loop_factory = asyncio.SelectorEventLoop
    elif loop == "uvloop":
        import uvloop

        LoopExecutor._loop_factory = staticmethod(uvloop.new_event_loop)
    concurrent.futures.ThreadPoolExecutor = LoopExecutor


def plain_futures_are_ours():
    """A context in which modules are imported that make futures and set them up."""
    return unittest.mock.patch.object(concurrent.futures._base, "Future", Future)
