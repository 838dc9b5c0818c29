"""Threads, descriptors and memory stay flat."""

import os
import threading

import pytest

from .harness import WAIT, Sleeper, answer, descriptors

needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")


@needs_proc
def test_opening_and_closing_leaves_no_thread_and_no_descriptor(make_loop):
    loop = make_loop(exit_timeout=5)

    def cycle():
        with loop:
            sleeper = Sleeper()
            loop.submit(sleeper)
            assert sleeper.started.wait(WAIT)
            assert loop.evaluate(answer()) == 42

    cycle()
    before = threading.active_count(), descriptors()
    for _ in range(50):
        cycle()
    assert (threading.active_count(), descriptors()) == before


@needs_proc
def test_giving_up_leaves_no_descriptor_once_the_loop_thread_is_free(make_loop):
    def cycle():
        gate, blocked = threading.Event(), threading.Event()

        async def block():
            blocked.set()
            gate.wait(WAIT)

        loop = make_loop(exit_timeout=0.01).start()
        thread = loop.thread
        loop.submit(block)
        assert blocked.wait(WAIT)
        with pytest.warns(RuntimeWarning):
            loop.close()
        gate.set()
        thread.join(WAIT)
        assert not thread.is_alive()

    cycle()
    before = threading.active_count(), descriptors()
    for _ in range(10):
        cycle()
    assert (threading.active_count(), descriptors()) == before


@needs_proc
def test_a_start_that_fails_leaves_no_thread_and_no_descriptor(make_loop):
    def initialize():
        raise ZeroDivisionError

    loop = make_loop(initializer=initialize)

    def cycle():
        with pytest.raises(ZeroDivisionError):
            loop.start()

    cycle()
    before = threading.active_count(), descriptors()
    for _ in range(50):
        cycle()
    assert (threading.active_count(), descriptors()) == before


RESIDENT = """
import gc

def resident():
    "Resident memory in bytes."
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

async def fail():
    raise ZeroDivisionError

def growth(work, warm_up=6, rounds=4):
    "How much memory the later rounds take more than the first ones, which fill the allocator's arenas."
    for _ in range(warm_up):
        work()
    before = resident()
    for _ in range(rounds):
        work()
    return resident() - before
"""


@needs_proc
@pytest.mark.parametrize(
    "work",
    [
        """
def work():
    for _ in range(3000):
        loop.evaluate(answer())
""",
        """
def work():
    for future in [loop.submit(answer) for _ in range(3000)]:
        future.result()
""",
        """
def work():
    for _ in range(2000):
        try:
            loop.evaluate(fail())
        except ZeroDivisionError:
            pass
""",
        """
def work():
    for future in [loop.submit(asyncio.sleep, 3600) for _ in range(2000)]:
        future.cancel_and_wait()
""",
        """
def work():
    for _ in range(2000):
        loop.call(int, 42)
        loop.evaluate_many([answer(), answer()], limit=1)
""",
        """
def work():
    for _ in range(50):
        with make_loop() as other:
            other.submit(asyncio.sleep, 3600)
            other.evaluate(answer())
""",
        """
async def numbers():
    for n in range(5):
        yield n

def work():
    for _ in range(500):
        list(loop.iterate(numbers()))
        list(loop.iterate(numbers(), prefetch=2))
        next(loop.iterate(numbers()))
        next(loop.iterate(numbers(), prefetch=2))
    loop.evaluate(asyncio.sleep(0.01))
""",
        """
def work():
    lock = loop.wrap_async_context_manager(asyncio.Lock())
    for _ in range(1000):
        with lock:
            pass
    for _ in range(20):
        with make_loop() as other:
            other.enter_async_context(asyncio.Lock())
""",
    ],
    ids=[
        "evaluate",
        "submit",
        "failures",
        "cancellations",
        "call and many",
        "open and close",
        "iterations",
        "contexts",
    ],
)
def test_memory_is_flat(script, work):
    running = script(
        RESIDENT
        + work
        + """
with make_loop() as loop:
    say(growth(work))
"""
    )
    assert running.finish() == 0, running
    assert running.stderr == "", running
    # The work of these rounds is several times this much if it is not given back.
    assert int(running.lines[0]) < 1_500_000
