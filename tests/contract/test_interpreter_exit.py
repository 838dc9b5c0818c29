"""A loop that is still open when the interpreter exits is closed gracefully, before Python joins threads."""

import sys

import pytest

SLOW = """
class Slow:  # to be taken down: others have their turn meanwhile
    def __del__(self):
        ends = time.monotonic() + 0.2
        while time.monotonic() < ends:
            sum(range(1000))
"""


def test_an_open_loop_is_closed_gracefully(script):
    running = script("""
async def work():
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.01)
        say("cleaned")

loop = make_loop().start()
loop.submit(work)
loop.evaluate(answer())
say("end of the script")
""")
    assert running.finish() == 0, running
    assert running.lines == ["end of the script", "cleaned"]
    assert running.stderr == ""


@pytest.mark.skipif(
    (3, 12, 0) <= sys.version_info < (3, 12, 2),
    reason="CPython 3.12.0 and 3.12.1 start no threads once the interpreter exits, whoever asks",
)
def test_the_cleanup_may_still_start_threads(script):
    # Once Python has joined its threads, no new one starts.
    running = script("""
async def work():
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.to_thread(say, "cleaned in a thread")

loop = make_loop().start()
loop.submit(work)
loop.evaluate(answer())
""")
    assert running.finish() == 0, running
    assert running.lines == ["cleaned in a thread"]
    assert running.stderr == ""


def test_several_open_loops_are_closed(script):
    running = script("""
async def work(n):
    try:
        await asyncio.sleep(3600)
    finally:
        say("cleaned", n)

loops = [make_loop().start() for _ in range(3)]
for n, loop in enumerate(loops):
    loop.submit(work, n)
    loop.evaluate(answer())
""")
    assert running.finish() == 0, running
    assert sorted(running.lines) == ["cleaned 0", "cleaned 1", "cleaned 2"]
    assert running.stderr == ""


def test_a_thread_that_waits_does_not_keep_the_process(script):
    running = script("""
def wait():
    try:
        loop.evaluate(work())
    except (CancelledError, LoopClosedError):
        say("ended")

async def work():
    started.set()
    await asyncio.sleep(3600)

started = threading.Event()
loop = make_loop().start()
threading.Thread(target=wait).start()
started.wait()
""")
    assert running.finish() == 0, running
    assert running.lines == ["ended"]
    assert running.stderr == ""


def test_a_thread_that_goes_on_calling_is_refused(script):
    running = script("""
def call():
    try:
        while True:
            loop.evaluate(answer())
            started.set()
    except (CancelledError, LoopClosedError):
        say("ended")

started = threading.Event()
loop = make_loop().start()
threading.Thread(target=call).start()
started.wait()
""")
    assert running.finish() == 0, running
    assert running.lines == ["ended"]


def test_a_task_that_swallows_cancellation_does_not_keep_the_process(script):
    running = script("""
async def stubborn():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            say("refused")

loop = make_loop(exit_timeout=0.3).start()
loop.submit(stubborn)
loop.evaluate(answer())
""")
    assert running.finish() == 0, running
    assert "refused" in running.lines
    assert "RuntimeWarning" in running.stderr
    assert "stubborn" in running.stderr


def test_a_blocked_loop_thread_does_not_keep_the_process(script):
    running = script("""
async def block():
    say("blocked")
    started.set()
    time.sleep(3600)

started = threading.Event()
loop = make_loop(exit_timeout=0.3).start()
loop.submit(block)
started.wait()
""")
    assert running.finish() == 0, running
    assert running.lines == ["blocked"]
    assert "RuntimeWarning" in running.stderr
    assert "in block" in running.stderr


def test_a_blocked_with_block_does_not_keep_the_process(script):
    running = script("""
async def block():
    started.set()
    time.sleep(3600)

started = threading.Event()
with make_loop(exit_timeout=0.3) as loop:
    loop.submit(block)
    started.wait()
say("left")
""")
    assert running.finish() == 0, running
    assert running.lines == ["left"]
    assert "in block" in running.stderr


def test_the_exit_code_is_kept(script):
    running = script("""
loop = make_loop().start()
loop.evaluate(answer())
sys.exit(3)
""")
    assert running.finish() == 3, running
    assert running.stderr == ""


def test_an_uncaught_error_is_shown_and_the_loop_closed(script):
    running = script("""
async def work():
    try:
        await asyncio.sleep(3600)
    finally:
        say("cleaned")

loop = make_loop().start()
loop.submit(work)
loop.evaluate(answer())
raise ZeroDivisionError("of the script")
""")
    assert running.finish() == 1, running
    assert running.lines == ["cleaned"]
    assert running.stderr.strip().endswith("ZeroDivisionError: of the script")


def test_the_default_loop_is_closed_too(script):
    running = script("""
async def work():
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)
        say("cleaned")

get_default_loop().submit(work)
say(run(answer()))
""")
    assert running.finish() == 0, running
    assert running.lines == ["42", "cleaned"]
    assert running.stderr == ""


STUCK = {
    "a task that never sleeps": """
async def stuck():
    say("started")
    while True:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass
""",
    "a coroutine that computes": """
async def stuck():
    say("started")
    while True:
        pass
""",
    "a coroutine that blocks again and again": """
async def stuck():
    say("started")
    while True:
        time.sleep(0.001)
""",
    "a task that sleeps again and again": """
async def stuck():
    say("started")
    while True:
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            pass
""",
    "a destructor": """
class Blocks:
    def __del__(self):
        say("started")
        while True:
            time.sleep(0.001)

async def stuck():
    Blocks()
""",
    "an async generator": """
kept = []

async def never_ends_its_cleanup():
    try:
        yield 1
    finally:
        while True:
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                pass

async def stuck():
    kept.append(never_ends_its_cleanup())
    await anext(kept[0])
    say("started")
""",
}


@pytest.mark.parametrize("stuck", STUCK.values(), ids=STUCK.keys())
def test_whatever_is_stuck_the_process_ends_with_its_own_exit_code(script, stuck):
    # What is left behind still runs while the interpreter takes itself down.
    running = script(
        SLOW
        + stuck
        + """
loop = make_loop(exit_timeout=0.1).start()
future = loop.submit(stuck)
while not (future.done() or future.running()):
    time.sleep(0.001)
time.sleep(0.05)  # So that it is well under way.
sys.slow = Slow()
sys.exit(7)
"""
    )
    assert running.finish() == 7, running
    assert running.lines == ["started"]
    assert "RuntimeWarning" in running.stderr
    assert "Fatal Python error" not in running.stderr
    assert "FATAL" not in running.stderr


@pytest.mark.skipif(
    (3, 12, 0) <= sys.version_info < (3, 12, 2),
    reason="CPython 3.12.0 and 3.12.1 leave the executor to the interpreter, which has nothing to say",
)
def test_a_thread_of_the_default_executor_that_never_ends_keeps_only_what_python_keeps(script):
    # Python itself joins the threads of executors; the loop has given up by then and says so.
    running = script("""
def work():
    started.set()
    release.wait()

def let_go():
    threading.main_thread().join(0.5)
    release.set()

started, release = threading.Event(), threading.Event()
loop = make_loop(exit_timeout=0.1).start()
future = loop.submit(asyncio.to_thread, work)
started.wait()
threading.Thread(target=let_go).start()
sys.exit(7)
""")
    assert running.finish() == 7, running
    assert "executor" in running.stderr
    assert "Fatal" not in running.stderr


def test_what_was_never_started_is_not_reported_as_never_awaited(script):
    running = script("""
async def block():
    started.set()
    while not over:
        time.sleep(0.01)

over, started = [], threading.Event()
loop = make_loop(exit_timeout=0.1).start()
thread = loop.thread
loop.submit(block)
started.wait()
futures = [loop.submit(answer()) for _ in range(3)] + [loop.submit(answer)]
try:
    loop.close()
finally:
    over.append(True)
    thread.join()
say([type(future.exception()).__name__ for future in futures])
""")
    assert running.finish() == 0, running
    assert running.lines == [str(["LoopClosedError"] * 4)]
    assert "never awaited" not in running.stderr


def test_a_shutdown_that_was_not_waited_for_is_completed(script):
    running = script("""
async def work():
    started.set()
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.1)
        say("cleaned")

started = threading.Event()
loop = make_loop().start()
loop.submit(work)
started.wait()
loop.shutdown(wait=False)
say("end of the script")
""")
    assert running.finish() == 0, running
    assert running.lines == ["end of the script", "cleaned"]
    assert running.stderr == ""


def test_with_warnings_as_errors_every_loop_is_still_closed(script):
    running = script("""
import warnings
warnings.simplefilter("error")

async def stubborn():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def work():
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.2)
        say("cleaned")

loops = [make_loop(exit_timeout=timeout).start() for timeout in (0.05, 5, 0.05, 5, 0.05)]
for loop in loops:
    loop.submit(stubborn if loop.exit_timeout < 1 else work)
    loop.evaluate(answer())
""")
    assert running.finish() == 0, running
    assert running.lines == ["cleaned"] * 2
    assert "stubborn" in running.stderr


def test_atexit_functions_find_the_loop_closed(script):
    running = script("""
import atexit

def use():
    coroutine = answer()
    try:
        loop.evaluate(coroutine)
    except LoopClosedError:
        say("closed", loop.loop)
    loop.close()

loop = make_loop().start()
atexit.register(use)
say(loop.evaluate(answer()))
""")
    assert running.finish() == 0, running
    assert running.lines == ["42", "closed None"]
    assert running.stderr == ""


def test_an_atexit_function_opens_a_loop_or_is_told_that_it_is_too_late(script):
    # CPython 3.12 starts no thread any more; others do, and nothing joins it.
    running = script("""
import atexit

def use():
    try:
        with make_loop() as loop:
            say(loop.evaluate(answer()))
        left_open = make_loop().start()
        left_open.submit(asyncio.sleep, 3600)
        say(left_open.evaluate(answer()))
    except RuntimeError as error:
        assert "shutdown" in str(error)
        say(42)
        say(42)

atexit.register(use)
make_loop().start().evaluate(answer())
""")
    assert running.finish() == 0, running
    assert running.lines == ["42", "42"]
    assert running.stderr == ""


@pytest.mark.parametrize("flavour", ["standard"], indirect=True)
@pytest.mark.skipif(
    sys.version_info[:2] == (3, 12), reason="CPython 3.12 starts no thread any more when atexit functions run"
)
@pytest.mark.parametrize("look", ["slow_callback_duration", "call_soon_threadsafe"])
def test_a_watchdog_that_is_looking_when_the_interpreter_ends_does_not_end_the_process(script, look):
    # Nothing ends the watchdog of a loop that is opened this late, and it looks through Python: before 3.14 CPython
    # unwinds the stack of a thread that comes back to it when it has ended.
    running = script(
        SLOW
        + f"""
import atexit

class Watched(asyncio.SelectorEventLoop):
    def __getattribute__(self, name):
        if name == {look!r} and threading.get_ident() not in threading._active:
            looking.set()
            while True:
                time.sleep(0.001)
        return super().__getattribute__(name)

async def block():
    looking.wait()

def use():
    loop = AsyncioThreadLoop(loop_factory=Watched).start()
    loop.submit(block)
    looking.wait()
    say("looking")

looking = threading.Event()
atexit.register(use)
sys.slow = Slow()
sys.exit(7)
"""
    )
    assert running.finish() == 7, running
    assert running.lines == ["looking"]
    assert running.stderr == ""


@pytest.mark.parametrize("flavour", ["standard"], indirect=True)
def test_a_thread_that_is_waking_a_loop_when_the_interpreter_ends_does_not_end_the_process(script):
    running = script(
        SLOW
        + """
class Wakes(asyncio.SelectorEventLoop):
    def call_soon_threadsafe(self, *args, **kwargs):
        if threading.current_thread().name == "caller":
            waking.set()
            while True:
                time.sleep(0.001)
        return super().call_soon_threadsafe(*args, **kwargs)

def submit():
    loop.submit(answer)

waking = threading.Event()
loop = AsyncioThreadLoop(exit_timeout=0.1, loop_factory=Wakes).start()
threading.Thread(target=submit, name="caller", daemon=True).start()
waking.wait()
say("waking")
sys.slow = Slow()
sys.exit(7)
"""
    )
    assert running.finish() == 7, running
    assert running.lines == ["waking"]
    assert "Fatal" not in running.stderr


def test_threads_that_go_on_submitting_are_refused_and_joined(script):
    running = script("""
def submit_until_refused():
    futures = []
    try:
        while True:
            futures.append(loop.submit(asyncio.sleep, 3600))
            futures.append(loop.submit(answer()))
            started.release()
            time.sleep(0.0005)
    except LoopClosedError:
        done, pending = concurrent.futures.wait(futures, 10)
        say("refused", len(pending))

started = threading.Semaphore(0)
loop = make_loop().start()
for _ in range(4):
    threading.Thread(target=submit_until_refused).start()
for _ in range(20):
    started.acquire()
sys.exit(3)
""")
    assert running.finish() == 3, running
    assert running.lines == ["refused 0"] * 4
    assert running.stderr == ""


@pytest.mark.parametrize(
    ("leave", "code", "cleaned"),
    [
        ("threading.Thread(target=sys.exit, args=(5,)).start()", 0, True),
        ("os._exit(6)", 6, False),
        ("raise SystemExit('a message')", 1, True),
        ("raise KeyboardInterrupt", -2, True),
        ("loop.evaluate(leave())", 9, True),
    ],
    ids=["sys.exit in a thread", "os._exit", "a message", "KeyboardInterrupt", "sys.exit in a coroutine"],
)
def test_however_the_script_ends_its_exit_code_is_kept(script, leave, code, cleaned):
    running = script(f"""
async def work():
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)
        say("cleaned")

async def leave():
    sys.exit(9)

loop = make_loop().start()
loop.submit(work)
loop.evaluate(answer())
{leave}
""")
    assert running.finish() == code, running
    assert running.lines == ["cleaned"] * cleaned
    assert "Fatal" not in running.stderr
    assert "never awaited" not in running.stderr
    assert "asyncio_thread_loop" not in running.stderr


def test_iterations_and_contexts_that_are_open_are_left(script):
    running = script("""
import contextlib

async def numbers():
    try:
        while True:
            yield 1
    finally:
        await asyncio.sleep(0.01)
        say("iteration cleaned")

@contextlib.asynccontextmanager
async def context(name):
    try:
        yield
    finally:
        await asyncio.sleep(0.01)
        say(name, "left")

loop = make_loop().start()
loop.enter_async_context(context("outer"))
loop.enter_async_context(context("inner"))
iterations = [loop.iterate(numbers(), prefetch=n) for n in (0, 1, 10)]
for each in iterations:
    next(each)
wrapped = loop.wrap_async_context_manager(context("body"))
wrapped.__enter__()
say("end of the script")
""")
    assert running.finish() == 0, running
    assert sorted(running.lines[:5]) == ["body left", "end of the script", *["iteration cleaned"] * 3]
    assert running.lines[5:] == ["inner left", "outer left"]
    assert running.stderr == ""


def test_a_context_that_fails_is_logged_and_the_others_are_left(script):
    running = script("""
import contextlib

@contextlib.asynccontextmanager
async def context(name):
    yield
    say(name)
    if name == "fails":
        raise ZeroDivisionError("nobody waits")

loop = make_loop().start()
for name in ("first", "fails", "last"):
    loop.enter_async_context(context(name))
""")
    assert running.finish() == 0, running
    assert running.lines == ["last", "fails"] or running.lines == ["last", "fails", "first"]
    assert "a context of AsyncioThreadLoop-0 failed when it was left" in running.stderr
    assert "ZeroDivisionError: nobody waits" in running.stderr
    assert "closed in time" not in running.stderr
