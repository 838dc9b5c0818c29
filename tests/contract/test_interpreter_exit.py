"""A loop that is still open when the interpreter exits is closed gracefully, before Python joins threads."""

import sys

import pytest


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
