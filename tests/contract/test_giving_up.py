"""Giving up on a loop while calls end by themselves, or while Ctrl-C comes: nobody is left behind."""

import asyncio
import threading
import time
import warnings

import pytest

from asyncio_thread_loop import AsyncioThreadLoop, LoopClosedError

from .harness import WAIT


def test_calls_may_end_by_themselves_while_others_are_given_up():
    # A done-callback of one call lets the loop's thread have a turn, in which another one ends.
    blocked, giving_up, unblocked = threading.Event(), threading.Event(), threading.Event()

    async def block():
        blocked.set()
        giving_up.wait(WAIT)
        unblocked.set()

    def callback(_):
        giving_up.set()
        unblocked.wait(WAIT)
        time.sleep(0.1)  # The rest of the way to the end of `block`: without it the test would see less.

    loop = AsyncioThreadLoop(exit_timeout=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with loop:
            first = loop.submit(asyncio.sleep(3600))
            first.add_done_callback(callback)
            others = [loop.submit(asyncio.sleep(3600)) for _ in range(3)]
            last = loop.submit(block())
            assert blocked.wait(WAIT)
            thread = loop.thread
    thread.join(WAIT)
    assert not thread.is_alive()
    for future in [first, *others]:
        with pytest.raises(LoopClosedError):
            future.result(WAIT)
    assert last.done()


def test_ctrl_c_while_giving_up_leaves_no_caller_behind(script):
    running = script("""
import warnings
warnings.simplefilter("ignore")
blocked, gate = threading.Event(), threading.Event()

async def block():
    blocked.set()
    gate.wait(20)

try:
    with make_loop(exit_timeout=0.1) as loop:
        futures = [loop.submit(asyncio.sleep(3600)) for _ in range(3)]
        condition = futures[0]._condition  # As `concurrent.futures.wait` asks for it.
        notify_all = threading.Condition.notify_all
        waits = threading.Event()

        def wait():
            with condition:
                waits.set()
                condition.wait(20)

        def interrupted(self):
            try:
                if self._lock is condition:
                    threading.Condition.notify_all = notify_all
                    signal.raise_signal(signal.SIGINT)
            finally:
                notify_all(self)

        threading.Thread(target=wait).start()
        waits.wait(20)
        with condition:  # To be had again as soon as the thread waits.
            threading.Condition.notify_all = interrupted
        loop.submit(block())
        blocked.wait(20)
except KeyboardInterrupt:
    say("interrupted")
for future in futures:
    say(type(future.exception(10)).__name__)
gate.set()
""")
    assert running.finish() == 0, running
    assert running.lines == ["interrupted", *3 * ["LoopClosedError"]]
