"""The watchdog says what holds the loop up, while it still does."""

import asyncio
import logging
import math
import os
import signal
import threading
import time

import pytest

from asyncio_thread_loop import AsyncioThreadLoop, EventLoop

from .harness import WAIT, Caller, answer, until


class Log(logging.Handler):
    """What was logged, and an event set by each message."""

    def __init__(self):
        super().__init__()
        self.records = []
        self.told = threading.Event()

    def emit(self, record):
        self.records.append(record)
        self.told.set()

    @property
    def messages(self):
        return [record.getMessage() for record in self.records]


@pytest.fixture
def log():
    log = Log()
    logger = logging.getLogger("asyncio_thread_loop")
    logger.addHandler(log)
    yield log
    logger.removeHandler(log)


def watchdogs():
    """The threads of this process that watch loops, by their numbers."""
    found = []
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/comm") as comm:
                if comm.read() == "loop watchdog\n":
                    found.append(thread)
        except (FileNotFoundError, ProcessLookupError):
            pass  # It has ended since.
    return found


def status_of(watchdog):
    """What the system says of such a thread."""
    with open(f"/proc/self/task/{watchdog}/status") as status:
        return dict(line.split(":", 1) for line in status)


def wait_here(event):
    assert event.wait(WAIT)


async def hold_up(event):
    wait_here(event)


def test_it_tells_of_a_stuck_task_while_it_is_stuck(loop, log):
    future = loop.submit(hold_up, log.told)
    future.result(WAIT)  # Only the message itself lets the coroutine go on.
    (record,) = log.records
    message = record.getMessage()
    assert record.levelno == logging.WARNING
    assert record.threadName == f"{loop.thread.name} watchdog"
    assert message.startswith(f"{loop.thread.name} has been held up for ")
    assert "task Task-" in message
    assert ", hold_up: running" in message
    assert f'submitted at File "{__file__}"' in message
    assert f'waited for by MainThread, in File "{__file__}"' in message
    assert message.index(", in hold_up\n") < message.index(", in wait_here\n")
    assert "asyncio/" not in message


def test_it_names_the_task_that_a_coroutine_made(loop, log):
    async def make():
        await asyncio.create_task(hold_up(log.told), name="the culprit")

    loop.evaluate(make())
    (message,) = log.messages
    assert "task the culprit, hold_up: running, made by a coroutine" in message
    assert "waited for by task Task-" in message


def test_it_tells_of_a_stuck_callback_that_is_no_task(loop, log):
    loop.loop.call_soon_threadsafe(wait_here, log.told)
    assert loop.evaluate(answer()) == 42
    (message,) = log.messages
    assert "by a callback:" in message
    assert "in wait_here" in message


def test_it_tells_once_of_each(loop, log):
    loop.loop.slow_callback_duration = 0.01

    async def hold_up_long():
        wait_here(log.told)
        time.sleep(0.3)  # Time enough to be mentioned many times, by a watchdog that did so.

    for count in (1, 2, 3):
        log.told.clear()
        loop.evaluate(hold_up_long())
        assert len(log.messages) == count


def test_many_short_callbacks_are_not_one_long_one(loop, log):
    loop.loop.slow_callback_duration = 0.5

    async def work():
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            time.sleep(0.001)
            await asyncio.sleep(0)

    loop.evaluate_many(work() for _ in range(20))
    assert log.messages == []


def test_the_limit_is_the_loop_s_and_may_change_at_any_time(loop, log):
    loop.loop.slow_callback_duration = math.inf
    loop.call(time.sleep, 0.3)
    assert log.messages == []
    loop.loop.slow_callback_duration = 0.02
    loop.evaluate(hold_up(log.told))
    assert len(log.messages) == 1


def test_the_native_loop_refuses_a_limit_that_is_no_number():
    loop = EventLoop()
    try:
        assert loop.slow_callback_duration == 0.1
        with pytest.raises(TypeError):
            loop.slow_callback_duration = "long"
        loop.slow_callback_duration = 2
        assert loop.slow_callback_duration == 2.0
    finally:
        loop.close()


def test_it_can_be_turned_off(make_loop, log):
    before = watchdogs()
    with make_loop(exit_timeout=5, watchdog=False) as loop:
        assert watchdogs() == before
        loop.loop.slow_callback_duration = 0.01
        loop.call(time.sleep, 0.2)
    assert log.messages == []


def test_its_thread_ends_with_the_loop(make_loop):
    before = watchdogs()
    for _ in range(20):
        with make_loop(exit_timeout=5) as loop:
            until(lambda: len(watchdogs()) == len(before) + 1)
            loop.evaluate(answer())
        assert watchdogs() == before


def test_its_thread_ends_with_a_loop_that_was_given_up(make_loop, gate, log):
    before = watchdogs()
    loop = make_loop(exit_timeout=0.1).start()
    future = loop.submit(hold_up, gate)
    assert log.told.wait(WAIT)
    with pytest.warns(RuntimeWarning, match="hold_up"):
        loop.close()
    assert watchdogs() == before
    assert future.done()


def test_a_limit_that_never_answers_does_not_hold_up_the_exit(gate):
    asked = threading.Event()
    known = set()

    class NeverSays(asyncio.SelectorEventLoop):
        @property
        def slow_callback_duration(self):
            if threading.get_ident() not in known:
                asked.set()
                gate.wait()
            return 1.0

        @slow_callback_duration.setter
        def slow_callback_duration(self, seconds):
            pass

    with AsyncioThreadLoop(loop_factory=NeverSays) as loop:
        known.update(thread.ident for thread in threading.enumerate())
        assert asked.wait(WAIT)
        assert loop.evaluate(answer()) == 42
    assert watchdogs()
    gate.set()
    until(lambda: not watchdogs())


def test_it_sleeps_while_the_loop_does():
    def wake_ups():
        (watchdog,) = watchdogs()
        return int(status_of(watchdog)["voluntary_ctxt_switches"])

    with AsyncioThreadLoop() as loop:
        until(watchdogs)
        loop.evaluate(answer())
        # It looks once or twice more before it sleeps.
        seen = [wake_ups()]
        until(lambda: seen.append(wake_ups()) or time.sleep(0.2) or wake_ups() == seen[-1])
        # And it wakes up again.
        loop.evaluate(answer())
        until(lambda: wake_ups() > seen[-1])


def test_a_handler_of_its_messages_may_close_the_loop(make_loop, log):
    loop = make_loop(exit_timeout=WAIT).start()
    closed = threading.Event()

    class Close(logging.Handler):
        def emit(self, record):
            loop.close()
            closed.set()

    handler = Close()
    logging.getLogger("asyncio_thread_loop").addHandler(handler)
    try:
        loop.submit(hold_up, log.told)
        assert closed.wait(WAIT)
        assert loop.loop is None
    finally:
        logging.getLogger("asyncio_thread_loop").removeHandler(handler)


def test_its_thread_is_deaf_to_signals_but_not_to_its_own_faults():
    """A fault that a thread blocks ends the process without a word, faulthandler's included."""

    def blocks(blocked, number):
        return bool(blocked >> number - 1 & 1)

    with AsyncioThreadLoop():
        until(watchdogs)
        blocked = int(status_of(watchdogs()[0])["SigBlk"], 16)
    assert all(blocks(blocked, number) for number in [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
    faults = [signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP]
    assert not any(blocks(blocked, number) for number in faults)


def test_its_thread_has_room_to_collect_what_others_leave(script):
    """A deep chain of coroutines is closed level by level, wherever the collector happens to run."""
    running = script("""
import gc
class Chain:
    def __await__(self):
        yield

async def deeper(levels):
    await (deeper(levels - 1) if levels else Chain())

def leave_a_deep_chain():
    sys.setrecursionlimit(4000)
    coro = deeper(3500)
    coro.send(None)
    circle = [coro]
    circle.append(circle)

collecting = []
def collects(phase, info):
    collecting.append(threading.get_native_id())

async def hold_up():
    gc.disable()
    leave_a_deep_chain()
    gc.callbacks.append(collects)
    gc.set_threshold(1)
    gc.enable()
    time.sleep(0.5)

with make_loop() as loop:
    loop.evaluate(hold_up())
    known = {thread.native_id for thread in threading.enumerate()}
say("elsewhere" if collecting[0] in known else "on the watchdog's thread")
""")
    assert running.finish() == 0, running
    assert running.lines == ["on the watchdog's thread"]


def test_a_process_that_was_stopped_was_not_stuck(script):
    running = script("""
logging.getLogger("asyncio_thread_loop").addHandler(logging.StreamHandler())
with make_loop() as loop:
    loop.loop.slow_callback_duration = 1.0
    # Mostly in one callback or another, and stopped in one of them.
    async def work():
        say("works")
        ends = time.monotonic() + 3
        while time.monotonic() < ends:
            time.sleep(0.05)
            await asyncio.sleep(0)
    loop.evaluate(work())
""")
    running.expect("works")
    running.signal(signal.SIGSTOP)
    time.sleep(1.5)  # longer than a callback may take
    running.signal(signal.SIGCONT)
    assert running.finish() == 0, running
    assert running.stderr == ""


def test_a_process_ends_in_the_middle_of_a_report(script):
    for _ in range(5):
        running = script("""
import logging
class Slow(logging.Handler):
    def emit(self, record):
        say("reports")
        release.set()
        time.sleep(0.05)
logging.getLogger("asyncio_thread_loop").addHandler(Slow())
release = threading.Event()
with make_loop() as loop:
    loop.loop.slow_callback_duration = 0.01
    loop.call(release.wait)
""")
        assert running.finish() == 0, running
        assert running.lines == ["reports"]
        assert running.stderr == ""


def test_the_child_of_a_fork_has_a_watchdog_of_its_own(script):
    running = script("""
import logging
class Tell(logging.Handler):
    def emit(self, record):
        say("child" if os.getpid() != parent else "parent", "told")
        told.set()
logging.getLogger("asyncio_thread_loop").addHandler(Tell())
parent, told = os.getpid(), threading.Event()
with make_loop() as loop:
    assert loop.evaluate(answer()) == 42
    child = os.fork()
    loop.call(told.wait)
    if child:
        assert os.waitpid(child, 0)[1] == 0
""")
    assert running.finish() == 0, running
    assert sorted(running.lines) == ["child told", "parent told"]


def test_threads_that_compute_are_not_held_against_the_loop(loop, log):
    """They may keep the interpreter from the loop for a while; the loop isn't stuck for that."""
    loop.loop.slow_callback_duration = 1.0
    over = threading.Event()

    def compute():
        while not over.is_set():
            sum(range(1000))

    callers = [Caller(compute) for _ in range(4)]
    try:
        for _ in range(100):
            assert loop.evaluate(answer()) == 42
    finally:
        over.set()
    for caller in callers:
        caller.outcome()
    assert log.messages == []
