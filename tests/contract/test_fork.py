"""`os.fork` with an open loop: the child starts afresh or is told, and the parent never notices."""

import os

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

# A child that hangs keeps the output open, so a script ends only when its children have.
IN_CHILD = """
import traceback

def in_child(work, leave=os._exit):
    "Fork; run the work in the child; return the child's exit code."
    pid = os.fork()
    if pid == 0:
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stderr.flush()
        leave(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def run(script, code):
    running = script(IN_CHILD + code)
    assert running.finish() == 0, running
    assert running.stderr == "", running
    return running.lines


def test_the_loop_restarts_in_the_child_on_first_use(script):
    assert run(
        script,
        """
loop = make_loop(exit_timeout=5).start()
before = loop.loop
assert loop.evaluate(answer()) == 42

def work():
    say("child", loop.evaluate(answer()), loop.submit(answer).result())
    assert loop.thread.is_alive()
    assert loop.loop is not before
    loop.close()

say("code", in_child(work))
assert loop.loop is before
say("parent", loop.evaluate(answer()))
loop.close()
""",
    ) == ["child 42 42", "code 0", "parent 42"]


def test_every_way_to_call_restarts_the_loop(script):
    assert run(
        script,
        """
async def echo(value):
    return value

async def start(*, task_status):
    task_status.started("ready")

calls = [
    lambda: loop.call(int, 42),
    lambda: loop.evaluate_many([answer()]),
    lambda: list(loop.map(echo, [42])),
    lambda: [future.result() for future in loop.as_completed([answer()])],
    lambda: loop.start_task(start)[1],
]
loop = make_loop(exit_timeout=5).start()
for call in calls:
    assert in_child(lambda: say(call())) == 0
loop.close()
""",
    ) == ["42", "[42]", "[42]", "[42]", "ready"]


def test_the_initializer_runs_in_the_child_too(script):
    assert run(
        script,
        """
parent = os.getpid()
def initialize():
    say("initialized in the", "parent" if os.getpid() == parent else "child")

with make_loop(initializer=initialize) as loop:
    assert in_child(lambda: loop.evaluate(answer())) == 0
""",
    ) == ["initialized in the parent", "initialized in the child"]


def test_a_loop_that_raises_in_the_child(script):
    assert run(
        script,
        """
import inspect
loop = make_loop(on_fork="raise").start()
loop.evaluate(answer())

def work():
    coroutine = answer()
    for call in [lambda: loop.evaluate(coroutine), lambda: loop.submit(answer), lambda: loop.call(int, 1)]:
        try:
            call()
        except ForkedError:
            say("refused")
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    loop.close()

say("code", in_child(work))
say("parent", loop.evaluate(answer()))
loop.close()
""",
    ) == ["refused", "refused", "refused", "code 0", "parent 42"]


def test_pending_futures_of_the_parent_raise_in_the_child(script):
    assert run(
        script,
        """
loop = make_loop(exit_timeout=5).start()
started = threading.Event()

async def work():
    started.set()
    await asyncio.sleep(3600)

pending = loop.submit(work)
started.wait()

def look():
    for call in pending.result, pending.exception, lambda: pending.result(5), pending.cancel_and_wait:
        try:
            call()
        except ForkedError:
            say("forked")
    say(loop.evaluate(answer()))
    try:
        pending.result()
    except ForkedError:
        say("still forked")

say("code", in_child(look))
say("parent", pending.done(), pending.cancel_and_wait(5))
loop.close()
""",
    ) == ["forked"] * 4 + ["42", "still forked", "code 0", "parent False True"]


def test_waiting_for_futures_of_the_parent_does_not_hang(script):
    assert run(
        script,
        """
loop = make_loop(exit_timeout=5).start()
pending, read_before = loop.submit(asyncio.sleep, 3600), loop.submit(asyncio.sleep, 3600)
concurrent.futures.wait([read_before], timeout=0)
loop.evaluate(answer())

def look():
    for future in pending, read_before:
        try:
            concurrent.futures.wait([future])
        except ForkedError:
            say("forked")

say("code", in_child(look))
loop.close()
""",
    ) == ["forked", "forked", "code 0"]


def test_finished_futures_keep_their_result_in_the_child(script):
    assert run(
        script,
        """
async def fail():
    raise ZeroDivisionError

loop = make_loop(exit_timeout=5).start()
good, bad, cancelled = loop.submit(answer), loop.submit(fail), loop.submit(asyncio.sleep, 3600)
cancelled.cancel()
concurrent.futures.wait([good, bad, cancelled])

def look():
    say(good.result(), type(bad.exception()).__name__, cancelled.cancelled())

say("code", in_child(look))
bad.exception()  # Asked for in the parent too: a failure nobody asks about is reported.
loop.close()
""",
    ) == ["42 ZeroDivisionError True", "code 0"]


@pytest.mark.parametrize("used", ["used", "unused"])
@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
def test_the_child_exits_promptly(script, used, leave):
    # With sys.exit the child runs the atexit callbacks and joins its threads.
    assert run(
        script,
        f"""
loop = make_loop(exit_timeout=5).start()
loop.submit(asyncio.sleep, 3600)
loop.evaluate(answer())
used = {used == "used"}
say("code", in_child(lambda: used and loop.evaluate(answer()), leave={leave}))
loop.close()
""",
    ) == ["code 0"]


def test_the_child_leaves_an_inherited_with_block_promptly(script):
    assert run(
        script,
        """
parent = os.getpid()
pid = None
with make_loop(exit_timeout=5) as loop:
    loop.submit(asyncio.sleep, 3600)
    loop.evaluate(answer())
    pid = os.fork()
if pid == 0:
    say("child left")
else:
    say("code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""",
    ) == ["child left", "code 0"]


def test_the_child_may_close_and_open_again(script):
    assert run(
        script,
        """
loop = make_loop(exit_timeout=5).start()
loop.evaluate(answer())

def work():
    loop.close()
    loop.close()
    try:
        loop.submit(answer)
    except LoopClosedError:
        say("closed")
    with loop:
        say(loop.evaluate(answer()))

say("code", in_child(work))
say("parent", loop.evaluate(answer()))
loop.close()
""",
    ) == ["closed", "42", "code 0", "parent 42"]


def test_the_sockets_of_the_parent_stay_registered(script):
    # A poller shared with the child would lose what the child unregisters.
    assert run(
        script,
        """
import socket

async def receive():
    reader, writer = await asyncio.open_connection(sock=ours)
    started.set()
    try:
        return await reader.readline()
    finally:
        writer.close()

loop = make_loop(exit_timeout=5).start()
ours, theirs = socket.socketpair()
started = threading.Event()
future = loop.submit(receive)
started.wait()
loop.evaluate(answer())

def work():
    loop.evaluate(answer())
    loop.close()

assert in_child(work) == 0
assert not future.done()
theirs.sendall(b"after the fork\\n")
say(future.result(10).decode().strip())
theirs.close()
loop.close()
""",
    ) == ["after the fork"]


def test_forks_in_the_middle_of_calls_of_other_threads(script):
    assert run(
        script,
        """
async def echo(value):
    await asyncio.sleep(0)
    return value

def call():
    n = 0
    while not stop.is_set():
        assert loop.evaluate(echo(n)) == n
        assert loop.submit(echo, n).result() == n
        n += 1
    calls.append(n)

loop = make_loop(exit_timeout=5).start()
stop, calls = threading.Event(), []
threads = [threading.Thread(target=call) for _ in range(3)]
for thread in threads:
    thread.start()
codes = [in_child(lambda: loop.evaluate(answer())) for _ in range(15)]
stop.set()
for thread in threads:
    thread.join()
say(set(codes), len(calls))
loop.close()
""",
    ) == ["{0} 3"]


def test_multiprocessing_with_fork(script):
    assert run(
        script,
        """
import multiprocessing

def work(n):
    return loop.evaluate(asyncio.sleep(0, n * n))

loop = make_loop(exit_timeout=5).start()
loop.evaluate(answer())
context = multiprocessing.get_context("fork")
process = context.Process(target=work, args=(1,))
process.start()
process.join(15)
say("code", process.exitcode)
with context.Pool(2) as pool:
    say(pool.map(work, range(4)))
    pool.close()
    pool.join()
say("parent", loop.evaluate(answer()))
loop.close()
""",
    ) == ["code 0", "[0, 1, 4, 9]", "parent 42"]


def test_a_grandchild_restarts_too(script):
    assert run(
        script,
        """
loop = make_loop(exit_timeout=5).start()
loop.evaluate(answer())

def work():
    say("child", loop.evaluate(answer()))
    assert in_child(lambda: say("grandchild", loop.evaluate(answer()))) == 0
    say("child", loop.evaluate(answer()))

say("code", in_child(work))
loop.close()
""",
    ) == ["child 42", "grandchild 42", "child 42", "code 0"]


def test_a_loop_that_was_not_open_is_not_started_by_a_fork(script):
    assert run(
        script,
        """
never, closed = make_loop(), make_loop()
with closed:
    closed.evaluate(answer())

def work():
    for loop in never, closed:
        try:
            loop.submit(answer)
        except LoopClosedError:
            say("closed")

say("code", in_child(work))
""",
    ) == ["closed", "closed", "code 0"]


def test_a_fork_on_the_loop_thread_does_not_disturb_the_parent(script):
    assert run(
        script,
        """
async def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

with make_loop(exit_timeout=5) as loop:
    say("code", loop.evaluate(fork()))
    say("parent", loop.evaluate(answer()))
""",
    ) == ["code 0", "parent 42"]


def test_a_wrong_word_for_a_fork_is_refused(make_loop):
    with pytest.raises(ValueError, match="on_fork"):
        make_loop(on_fork="panic")
