"""Ctrl-C, pressed for real: in processes of their own, with SIGINT."""

import signal

import pytest

# Each script prints "ready" from the loop thread a moment after its main thread began to wait.


def test_ctrl_c_in_evaluate_cancels_waits_for_the_cleanup_and_raises(script):
    running = script("""
async def work():
    await asyncio.sleep(0.2)
    say_when_waiting("ready")
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.1)
        say("cleaned")

with make_loop() as loop:
    try:
        loop.evaluate(work())
    except KeyboardInterrupt:
        say("interrupted")
    say(loop.evaluate(answer()))
""")
    assert running.interrupted_when_ready() == ["ready", "cleaned", "interrupted", "42"]
    assert running.stderr == ""


def test_an_uncaught_ctrl_c_ends_the_process_after_the_cleanup(script):
    running = script("""
async def work():
    await asyncio.sleep(0.2)
    say_when_waiting("ready")
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.1)
        say("cleaned")

with make_loop() as loop:
    loop.evaluate(work())
""")
    running.expect("ready")
    running.interrupt()
    assert running.finish() == -signal.SIGINT, running
    assert running.lines == ["ready", "cleaned"]
    assert running.stderr.strip().endswith("KeyboardInterrupt")


def test_ctrl_c_before_the_wait_began_is_not_lost(script):
    running = script("""
async def work():
    os.kill(os.getpid(), signal.SIGINT)
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)
        say("cleaned")

for _ in range(20):
    with make_loop() as loop:
        try:
            loop.evaluate(work())
        except KeyboardInterrupt:
            say("interrupted")
""")
    assert running.finish() == 0, running
    assert sorted(running.lines) == ["cleaned"] * 20 + ["interrupted"] * 20


def test_ctrl_c_between_the_submission_and_the_wait_does_not_leave_the_loop_asleep(script):
    # The first wait asks which thread is the main one, in Python code, where a signal handler may raise.
    running = script("""
ask, here = threading.main_thread, threading.get_ident()
interrupts = [KeyboardInterrupt()]

def interrupted():
    if interrupts and threading.get_ident() == here:
        raise interrupts.pop()
    return ask()

threading.main_thread = interrupted
with make_loop() as loop:
    try:
        loop.evaluate(answer())
    except KeyboardInterrupt:
        say("interrupted")
    say(loop.submit(answer).result(10))
""")
    assert running.finish() == 0, running
    assert running.lines == ["interrupted", "42"]


def test_a_second_ctrl_c_abandons_the_cleanup(script):
    running = script("""
import asyncio_thread_loop._loop

release = threading.Event()

async def work():
    await asyncio.sleep(0.2)
    say_when_waiting("ready")
    try:
        await asyncio.sleep(3600)
    finally:
        say("cleaning")
        while not release.is_set():
            await asyncio.sleep(0.01)
        say("cleaned")

# Nothing but the second one ends the wait.
asyncio_thread_loop._loop.GRACE = 3600
loop = make_loop().start()
try:
    loop.evaluate(work())
except KeyboardInterrupt:
    say("abandoned")
release.set()
say(loop.evaluate(answer()))
loop.close()
""")
    running.expect("ready")
    running.interrupt()
    running.expect("cleaning")
    running.interrupt()
    assert running.finish() == 0, running
    assert [line for line in running.lines if line != "cleaned"] == ["ready", "cleaning", "abandoned", "42"]


def test_a_cleanup_longer_than_the_grace_goes_on_and_a_note_says_so(script):
    running = script("""
release = threading.Event()

async def work():
    await asyncio.sleep(0.2)
    say_when_waiting("ready")
    try:
        await asyncio.sleep(3600)
    finally:
        while not release.is_set():
            await asyncio.sleep(0.01)
        say("cleaned")
        cleaned.set()

cleaned = threading.Event()
with make_loop(exit_timeout=0.2) as loop:
    try:
        loop.evaluate(work())
    except KeyboardInterrupt as error:
        say("note" if "cleanup" in str(getattr(error, "__notes__", "")) else "no note")
    release.set()
    cleaned.wait()
""")
    assert running.interrupted_when_ready() == ["ready", "note", "cleaned"]


def test_ctrl_c_is_raised_while_the_loop_thread_is_blocked(script):
    running = script("""
release = threading.Event()

async def block():
    await asyncio.sleep(0.2)
    say("ready")
    release.wait()
    say("released")

with make_loop() as loop:
    try:
        loop.evaluate(block())
    except KeyboardInterrupt:
        say("interrupted")
    release.set()
""")
    running.expect("ready")
    running.interrupt()
    running.expect("interrupted")
    assert running.finish() == 0, running
    assert running.lines == ["ready", "interrupted", "released"]


def test_ctrl_c_is_raised_while_another_coroutine_blocks_the_loop_thread(script):
    running = script("""
release = threading.Event()

async def block():
    await asyncio.sleep(0.2)
    say("ready")
    release.wait()

with make_loop() as loop:
    loop.submit(block)
    try:
        loop.evaluate(asyncio.sleep(3600))
    except KeyboardInterrupt:
        say("interrupted")
    release.set()
""")
    assert running.interrupted_when_ready() == ["ready", "interrupted"]


def test_ctrl_c_in_result_is_immediate_and_the_work_goes_on(script):
    running = script("""
async def work():
    await asyncio.sleep(0.2)
    say("ready")
    try:
        while True:
            await asyncio.sleep(0.01)
            ticks.append(1)
    finally:
        await asyncio.sleep(0.01)
        say("cleaned")

ticks = []
with make_loop() as loop:
    future = loop.submit(work)
    try:
        future.result()
    except KeyboardInterrupt:
        say("interrupted")
    before = len(ticks)
    loop.evaluate(asyncio.sleep(0.2))
    say("ticking" if len(ticks) > before and not future.done() else "stopped")
say(future.cancelled())
""")
    assert running.interrupted_when_ready() == ["ready", "interrupted", "ticking", "cleaned", "True"]


def test_ctrl_c_in_evaluate_many_cancels_all(script):
    running = script("""
async def work(n):
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)
        cleaned.append(n)

async def tell():
    await asyncio.sleep(0.2)
    say_when_waiting("ready")
    await asyncio.sleep(3600)

cleaned = []
with make_loop() as loop:
    try:
        loop.evaluate_many([*map(work, range(5)), tell()])
    except KeyboardInterrupt:
        say("interrupted", *sorted(cleaned))
    say(loop.evaluate(answer()))
""")
    assert running.interrupted_when_ready() == ["ready", "interrupted 0 1 2 3 4", "42"]


def test_ctrl_c_while_starting_leaves_no_thread_behind(script):
    running = script("""
release, threads = threading.Event(), []

def initialize():
    threads.append(threading.current_thread())
    say("ready")
    release.wait()

try:
    make_loop(initializer=initialize).start()
except KeyboardInterrupt:
    say("interrupted")
release.set()
threads[0].join(10)
say(threads[0].is_alive())
""")
    assert running.interrupted_when_ready() == ["ready", "interrupted", "False"]


def test_ctrl_c_while_leaving_does_not_hang(script):
    running = script("""
async def work():
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.1)
        say("ready")
        await asyncio.sleep(3600)

loop = make_loop(exit_timeout=0.5).start()
loop.submit(work)
loop.evaluate(answer())
try:
    loop.close()
except KeyboardInterrupt:
    say("interrupted")
""")
    assert running.interrupted_when_ready() == ["ready", "interrupted"]


def test_ctrl_c_does_not_disturb_waits_of_other_threads(script):
    running = script("""
async def slow():
    await gate_opens()
    return "right"

async def gate_opens():
    while not gate.is_set():
        await asyncio.sleep(0.01)

async def work():
    await asyncio.sleep(0.2)
    say_when_waiting("ready")
    await asyncio.sleep(3600)

gate = threading.Event()
with make_loop() as loop:
    other = threading.Thread(target=lambda: say(loop.evaluate(slow())))
    other.start()
    try:
        loop.evaluate(work())
    except KeyboardInterrupt:
        say("interrupted")
    gate.set()
    other.join()
""")
    assert running.interrupted_when_ready() == ["ready", "interrupted", "right"]


WAITS = {
    "evaluate": "loop.evaluate(work())",
    "evaluate with a timeout": "loop.evaluate(work(), timeout=3600)",
    "evaluate_many": "loop.evaluate_many([work()])",
    "map": "list(loop.map(mapped, [1]))",
    "as_completed": "list(loop.as_completed([work()]))",
    "start_task": "loop.start_task(never_ready)",
    "call": "loop.call(block)",
}

WORK = """
release = threading.Event()

async def work():
    await asyncio.sleep(0.2)
    say_when_waiting("ready")
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)
        say("cleaned")

async def mapped(_):
    await work()

async def never_ready(*, task_status):
    await work()

def block():
    time.sleep(0.2)
    say("ready")
    while not release.is_set():  # Event.wait() that is interrupted may keep the event's lock
        time.sleep(0.01)
"""


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_ctrl_c_gets_through_every_wait_and_the_work_is_ended(script, wait):
    running = script(
        WORK
        + f"""
with make_loop(watchdog=False) as loop:
    try:
        {wait}
    except KeyboardInterrupt:
        say("interrupted")
    release.set()
    say(loop.evaluate(answer()))
"""
    )
    running.expect("ready")
    running.interrupt()
    assert running.finish() == 0, running
    assert [line for line in running.lines if line != "cleaned"] == ["ready", "interrupted", "42"]
    if "call" not in wait:
        assert "cleaned" in running.lines
    assert running.stderr == ""


@pytest.mark.parametrize(
    "wait",
    ["loop.evaluate(work())", "loop.evaluate_many([work(), work()])"],
    ids=["evaluate", "evaluate_many"],
)
def test_a_second_ctrl_c_abandons_the_cleanup_of_one_or_many(script, wait):
    running = script(f"""
import asyncio_thread_loop._loop

release = threading.Event()

async def work():
    await asyncio.sleep(0.2)
    say_when_waiting("ready")
    try:
        await asyncio.sleep(3600)
    finally:
        say("cleaning")
        while not release.is_set():
            await asyncio.sleep(0.01)

# Nothing but the second one ends the wait.
asyncio_thread_loop._loop.GRACE = 3600
loop = make_loop().start()
try:
    {wait}
except KeyboardInterrupt:
    say("abandoned")
release.set()
say(loop.evaluate(answer()))
loop.close()
""")
    running.expect("ready")
    running.interrupt()
    running.expect("cleaning")
    running.interrupt()
    assert running.finish() == 0, running
    assert [line for line in running.lines if line not in ("ready", "cleaning")] == ["abandoned", "42"]


def test_a_note_says_so_when_the_cleanup_of_many_goes_on(script):
    running = script("""
release, cleaned = threading.Event(), threading.Event()

async def work():
    await asyncio.sleep(0.2)
    say_when_waiting("ready")
    try:
        await asyncio.sleep(3600)
    finally:
        while not release.is_set():
            await asyncio.sleep(0.01)
        say("cleaned")
        cleaned.set()

with make_loop(exit_timeout=0.2) as loop:
    try:
        loop.evaluate_many([work()])
    except KeyboardInterrupt as error:
        say("note" if "cleanup" in str(getattr(error, "__notes__", "")) else "no note")
    release.set()
    cleaned.wait()
""")
    assert running.interrupted_when_ready() == ["ready", "note", "cleaned"]


def test_ctrl_c_in_result_leaves_the_end_of_the_work_to_the_with_block(script):
    running = script("""
async def work():
    await asyncio.sleep(0.2)
    say_when_waiting("ready")
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.1)
        say("cleaned")

with make_loop() as loop:
    loop.submit(work).result()
""")
    running.expect("ready")
    running.interrupt()
    assert running.finish() == -signal.SIGINT, running
    assert running.lines == ["ready", "cleaned"]
    assert running.stderr.strip().endswith("KeyboardInterrupt")


def test_every_ctrl_c_while_leaving_is_heard_and_the_process_ends(script):
    # The first leaves the `with` block, the second the exit of the interpreter, which waits for the same cleanup.
    running = script("""
async def work():
    started.set()
    try:
        await asyncio.sleep(3600)
    finally:
        say("cleaning")
        await asyncio.sleep(3600)

started = threading.Event()
threading._register_atexit(say, "exiting")
try:
    with make_loop() as loop:
        loop.submit(work)
        started.wait()
except KeyboardInterrupt:
    say("interrupted")
""")
    running.expect("cleaning")
    running.interrupt()
    running.expect("exiting")
    running.interrupt()
    running.finish()
    assert running.lines == ["cleaning", "interrupted", "exiting"]
    assert "Fatal" not in running.stderr


def test_a_third_ctrl_c_finds_everything_in_order(script):
    running = script("""
async def work():
    await asyncio.sleep(0.1)
    say_when_waiting("ready", len(cleaned))
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)
        cleaned.append(True)

cleaned = []
with make_loop() as loop:
    for n in range(1, 4):
        try:
            loop.evaluate(work())
        except KeyboardInterrupt:
            say("interrupted", n, len(cleaned), loop.evaluate(answer()))
""")
    for n in range(1, 4):
        running.expect(f"ready {n - 1}")
        running.interrupt()
        running.expect(f"interrupted {n} {n} 42")
    assert running.finish() == 0, running
    assert running.stderr == ""


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_a_signal_that_comes_just_before_the_wait_gets_through_too(script, wait):
    # Another thread takes it, so it doesn't end the main thread's wait: like one that comes before the wait begins.
    running = script(
        WORK
        + f"""
def interrupt():
    while not waits():
        time.sleep(0.001)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)

def waits():
    return "waited for by MainThread" in loop.dump()

with make_loop(watchdog=False) as loop:
    try:
        threading.Thread(target=interrupt).start()
        {wait}
    except KeyboardInterrupt:
        say("interrupted")
    release.set()
"""
    )
    running.expect("interrupted")
    assert running.finish() == 0, running


ITERATE = """
import contextlib

async def numbers():
    try:
        yield 1
        await asyncio.sleep(0.2)
        say("ready")
        await asyncio.sleep(3600)
    finally:
        say("cleaning")
        await clean()

async def clean():
    await asyncio.sleep(0.1)
    say("cleaned")

class Context:
    async def __aenter__(self):
        if slow == "enter":
            await self.be_slow()

    async def __aexit__(self, *body):
        say("leaving", getattr(body[0], "__name__", None))
        if slow == "leave":
            await self.be_slow()

    async def be_slow(self):
        try:
            await asyncio.sleep(0.2)
            say("ready")
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.1)
            say("cleaned")
"""


@pytest.mark.parametrize("prefetch", [0, 1, 10])
def test_ctrl_c_in_next_ends_the_iteration_and_waits_for_its_cleanup(script, prefetch):
    running = script(
        ITERATE
        + f"""
with make_loop() as loop:
    items = loop.iterate(numbers(), prefetch={prefetch})
    say(next(items))
    try:
        next(items)
    except KeyboardInterrupt:
        say("interrupted")
    try:
        list(items)
    except CancelledError:
        say("was cancelled")
    say(list(items), loop.evaluate(answer()))
"""
    )
    assert running.interrupted_when_ready() == [
        "1",
        "ready",
        "cleaning",
        "cleaned",
        "interrupted",
        "was cancelled",
        "[] 42",
    ]
    assert running.stderr == ""


def test_a_second_ctrl_c_abandons_the_cleanup_of_an_iteration(script):
    running = script(
        ITERATE
        + """
release = threading.Event()

async def clean():
    while not release.is_set():
        await asyncio.sleep(0.01)
    say("cleaned")

loop = make_loop().start()
items = loop.iterate(numbers())
next(items)
try:
    next(items)
except KeyboardInterrupt:
    say("abandoned")
release.set()
items.close()
loop.close()
"""
    )
    running.expect("ready")
    running.interrupt()
    running.expect("cleaning")
    running.interrupt()
    assert running.finish() == 0, running
    assert running.lines == ["ready", "cleaning", "abandoned", "cleaned"]


def test_ctrl_c_in_close_stops_waiting_for_the_cleanup(script):
    running = script(
        ITERATE
        + """
release = threading.Event()

async def clean():
    await asyncio.sleep(0.2)
    say("ready")
    while not release.is_set():
        await asyncio.sleep(0.001)
    say("cleaned")

with make_loop() as loop:
    items = loop.iterate(numbers())
    next(items)
    try:
        items.close()
    except KeyboardInterrupt:
        say("interrupted")
    release.set()
    items.close()
    say(loop.evaluate(answer()))
"""
    )
    assert running.interrupted_when_ready() == ["cleaning", "ready", "interrupted", "cleaned", "42"]


def test_ctrl_c_in_the_body_of_a_for_loop_ends_the_iteration(script):
    running = script(
        ITERATE
        + """
with make_loop() as loop:
    try:
        for item in loop.iterate(numbers()):
            say("ready")
            while True:  # the interrupt may come just before one of these
                time.sleep(0.1)
    except KeyboardInterrupt:
        say("interrupted")
"""
    )
    running.expect("ready")
    running.interrupt()
    assert running.finish() == 0, running
    assert sorted(running.lines) == ["cleaned", "cleaning", "interrupted", "ready"]


@pytest.mark.parametrize("enter", ["wrap_async_context_manager", "enter_async_context"])
def test_ctrl_c_while_entering_cancels_that_and_nothing_is_left(script, enter):
    call = {
        "wrap_async_context_manager": "loop.wrap_async_context_manager(Context()).__enter__()",
        "enter_async_context": "loop.enter_async_context(Context())",
    }[enter]
    running = script(
        ITERATE
        + f"""
slow = "enter"
with make_loop() as loop:
    try:
        {call}
    except KeyboardInterrupt:
        say("interrupted")
    say(loop.evaluate(answer()), len(loop.call(asyncio.all_tasks)))
"""
    )
    assert running.interrupted_when_ready() == ["ready", "cleaned", "interrupted", "42 1"]


def test_ctrl_c_while_leaving_a_context_cancels_that(script):
    running = script(
        ITERATE
        + """
slow = "leave"
with make_loop() as loop:
    try:
        with loop.wrap_async_context_manager(Context()):
            pass
    except KeyboardInterrupt:
        say("interrupted")
    say(loop.evaluate(answer()), len(loop.call(asyncio.all_tasks)))
"""
    )
    assert running.interrupted_when_ready() == ["leaving None", "ready", "cleaned", "interrupted", "42 1"]


@pytest.mark.parametrize("enter", ["wrap_async_context_manager", "enter_async_context"])
def test_an_interrupt_just_after_the_entry_leaves_the_context_again(script, enter):
    # It was entered, and nobody will get to know of it.
    call = {
        "wrap_async_context_manager": "loop.wrap_async_context_manager(Context()).__enter__()",
        "enter_async_context": "loop.enter_async_context(Context())",
    }[enter]
    running = script(
        ITERATE
        + f"""
from asyncio_thread_loop import _context_managers

def interrupted(self, call, enter=_context_managers.Held.enter):
    enter(self, call)
    raise KeyboardInterrupt

slow = None
with make_loop() as loop:
    _context_managers.Held.enter = interrupted
    try:
        {call}
    except KeyboardInterrupt:
        say("interrupted")
    while len(loop.call(asyncio.all_tasks)) > 1:
        time.sleep(0.001)
    say("left")
"""
    )
    assert running.finish() == 0, running
    assert sorted(running.lines) == ["interrupted", "leaving CancelledError", "left"]
    assert running.stderr == ""
