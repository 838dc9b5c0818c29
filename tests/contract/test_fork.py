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


def test_every_way_to_call_raises_in_a_child_that_may_not_restart(script):
    assert run(
        script,
        """
async def echo(value):
    return value

async def start(*, task_status):
    task_status.started("ready")

loop = make_loop(on_fork="raise").start()
loop.evaluate(answer())
calls = {
    "evaluate": lambda: loop.evaluate(answer()),
    "submit": lambda: loop.submit(answer()),
    "call": lambda: loop.call(int, 42),
    "evaluate_many": lambda: loop.evaluate_many([answer(), answer()]),
    "map": lambda: list(loop.map(echo, [42])),
    "as_completed": lambda: list(loop.as_completed([answer()])),
    "start_task": lambda: loop.start_task(start),
}

def work():
    for name, call in calls.items():
        try:
            say(name, call())
        except ForkedError:
            pass
    say("all refused")

say("code", in_child(work, leave=sys.exit))
loop.close()
""",
    ) == ["all refused", "code 0"]


def test_a_child_that_may_not_restart_may_close_and_open_again(script):
    assert run(
        script,
        """
loop = make_loop(on_fork="raise").start()
loop.evaluate(answer())

def work():
    with loop:
        say(loop.evaluate(answer()))

say("code", in_child(work))
loop.close()
""",
    ) == ["42", "code 0"]


@pytest.mark.parametrize("leave", ["falls off the end", "sys.exit(0)", "os._exit(0)", "raise SystemExit"])
@pytest.mark.parametrize("on_fork", ["restart", "raise"])
def test_a_child_that_only_exits_does_so_promptly(script, leave, on_fork):
    # The parent's main thread forks and goes on; the child leaves the script in the middle or at its end.
    assert run(
        script,
        f"""
loop = make_loop(on_fork="{on_fork}").start()
pending = loop.submit(asyncio.sleep, 3600)
loop.evaluate(answer())
pid = os.fork()
if pid == 0:
    {"pass" if leave == "falls off the end" else leave}
else:
    say("code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    say("parent", pending.done(), loop.evaluate(answer()))
    loop.close()
""",
    ) == ["code 0", "parent False 42"]


def test_a_fork_in_a_worker_thread(script):
    assert run(
        script,
        """
loop = make_loop(exit_timeout=5).start()
pending = loop.submit(asyncio.sleep, 3600)
loop.evaluate(answer())

def work():
    say("child", loop.evaluate(answer()))
    try:
        pending.result()
    except ForkedError:
        say("forked")

codes = []
thread = threading.Thread(target=lambda: codes.append(in_child(work)))
thread.start()
thread.join()
say("code", *codes)
say("parent", pending.done(), loop.evaluate(answer()))
loop.close()
""",
    ) == ["child 42", "forked", "code 0", "parent False 42"]


def test_a_fork_in_a_worker_thread_of_the_loop(script):
    assert run(
        script,
        """
def work():
    say("child", loop.evaluate(answer()))

async def fork():
    return await asyncio.to_thread(in_child, work)

with make_loop(exit_timeout=5) as loop:
    say("code", loop.evaluate(fork()))
    say("parent", loop.evaluate(answer()))
""",
    ) == ["child 42", "code 0", "parent 42"]


@pytest.mark.parametrize("leave", ["sys.exit(0)", "return", "raise ZeroDivisionError", "os._exit(0)"])
def test_a_child_forked_by_a_coroutine_ends_with_it(script, leave):
    # In the child the loop's thread is the only one, and what else the loop had to do is the parent's.
    running = script(f"""
async def fork():
    pid = os.fork()
    if pid == 0:
        {leave}
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return "the child ended"
        await asyncio.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "the child goes on"

async def tick():
    while True:
        if os.getpid() != parent:
            ticks_of_the_child.append(True)
            if len(ticks_of_the_child) == 20:
                say("the child does the parent's work")
        await asyncio.sleep(0.001)

parent, ticks_of_the_child = os.getpid(), []
with make_loop(exit_timeout=5) as loop:
    ticking = loop.submit(tick)
    say(loop.evaluate(fork()))
    say("parent", ticking.done(), loop.evaluate(answer()))
""")
    assert running.finish() == 0, running
    assert running.lines == ["the child ended", "parent False 42"]


@pytest.mark.parametrize("call", ["evaluate_many", "as_completed"])
def test_a_fork_inside_the_iterable(script, call):
    # What was pulled before the fork is the parent's: the child is told, and doesn't wait for it.
    collect = {
        "evaluate_many": "loop.evaluate_many(coroutines())",
        "as_completed": "sorted(future.result() for future in loop.as_completed(coroutines()))",
    }[call]
    assert run(
        script,
        f"""
def coroutines():
    global pid
    yield asyncio.sleep(0.05, 1)
    pid = os.fork()
    yield asyncio.sleep(0, 2)

loop = make_loop(exit_timeout=5).start()
try:
    results = {collect}
except ForkedError:
    results = "forked"
if pid:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    say("parent", results)
    loop.close()
else:
    say("child", results)
    say("child", loop.evaluate(answer()))
""",
    ) == ["child forked", "child 42", "parent [1, 2]"]


@pytest.mark.parametrize("call", ["map", "as_completed"])
def test_an_iterator_of_the_parent_raises_in_the_child(script, call):
    iterator = {
        "map": "loop.map(asyncio.sleep, [3600])",
        "as_completed": "loop.as_completed([asyncio.sleep(3600)])",
    }[call]
    assert run(
        script,
        f"""
loop = make_loop(exit_timeout=5).start()
iterator = {iterator}
loop.evaluate(answer())

def work():
    try:
        next(iterator)
    except ForkedError:
        say("forked")
    say(loop.evaluate(answer()))

say("code", in_child(work, leave=sys.exit))
iterator.close()
loop.close()
""",
    ) == ["forked", "42", "code 0"]


def test_a_future_of_the_parent_cannot_be_awaited_in_the_child(script):
    assert run(
        script,
        """
loop = make_loop(exit_timeout=5).start()
pending = loop.submit(asyncio.sleep, 3600)
loop.evaluate(answer())

async def use():
    await asyncio.wait_for(asyncio.wrap_future(pending), 5)

def work():
    try:
        asyncio.run(use())
    except ForkedError:
        say("forked")

say("code", in_child(work))
loop.close()
""",
    ) == ["forked", "code 0"]


def test_cancelling_a_future_of_the_parent_does_not_reach_the_parent(script):
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

def cancel():
    pending.cancel()
    loop.evaluate(answer())
    loop.close()

say("code", in_child(cancel))
say("parent", loop.evaluate(asyncio.sleep(0.02, "goes on")), pending.done())
loop.close()
""",
    ) == ["code 0", "parent goes on False"]


def test_a_failure_nobody_asked_about_is_not_lost_by_a_fork(script):
    assert run(
        script,
        """
async def fail():
    raise ZeroDivisionError

told = []
loop = make_loop(exit_timeout=5).start()
loop.call(loop.loop.set_exception_handler, lambda _, context: told.append(context))
failed = loop.submit(fail)
concurrent.futures.wait([failed])
say("code", in_child(lambda: loop.evaluate(answer())))
del failed
loop.evaluate(answer())
say("parent", [repr(context["exception"]) for context in told])
loop.close()
""",
    ) == ["code 0", "parent ['ZeroDivisionError()']"]


def test_the_default_loop_of_a_child_that_never_used_it(script):
    assert run(
        script,
        """
pending = get_default_loop().submit(asyncio.sleep, 3600)
run(answer())
say("code", in_child(lambda: None, leave=sys.exit))
say("code", in_child(lambda: get_default_loop().close(), leave=sys.exit))
say("parent", pending.done(), run(answer()))
""",
    ) == ["code 0", "code 0", "parent False 42"]


def test_a_fork_while_another_thread_starts_the_loop(script):
    # That thread doesn't exist in the child, and what it holds is nobody's there.
    assert run(
        script,
        """
parent = os.getpid()
entered, release = threading.Event(), threading.Event()

def initialize():
    if os.getpid() == parent:
        entered.set()
        release.wait()

def work():
    with loop:
        say("child", loop.evaluate(answer()))

loop = make_loop(exit_timeout=5, initializer=initialize)
starting = threading.Thread(target=loop.start)
starting.start()
entered.wait()
say("code", in_child(work, leave=sys.exit))
release.set()
starting.join()
say("parent", loop.evaluate(answer()))
loop.close()
""",
    ) == ["child 42", "code 0", "parent 42"]


def test_an_initializer_in_the_child_may_use_another_loop_but_not_its_own(script):
    assert run(
        script,
        """
def initialize():
    say(other.evaluate(answer()))
    try:
        loop.evaluate(answer())
    except LoopClosedError:
        say("not yet")

other = make_loop(exit_timeout=5).start()
loop = make_loop(exit_timeout=5, initializer=initialize)
loop.start()

def use():
    say(loop.evaluate(answer()))

say("code", in_child(use))
loop.close()
other.close()
""",
    ) == ["42", "not yet", "42", "not yet", "42", "code 0"]


def test_threads_of_the_child_that_call_at_once_all_wait_for_the_restart(script):
    assert run(
        script,
        """
loop = make_loop(exit_timeout=5).start()
get_default_loop().evaluate(answer())

def use():
    barrier = threading.Barrier(8)
    def call(number):
        barrier.wait()
        return [loop.evaluate(answer()), run(answer()), get_default_loop().evaluate(answer())]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert list(threads.map(call, range(8))) == [[42] * 3] * 8

say([in_child(use) for _ in range(5)])
loop.close()
""",
    ) == ["[0, 0, 0, 0, 0]"]


@pytest.mark.parametrize(("leave", "code"), [("sys.exit(3)", 3), ("return", 0)])
def test_a_child_forked_by_a_coroutine_keeps_its_exit_code_and_complains_of_nothing(script, leave, code):
    running = script(f"""
async def fork():
    pid = os.fork()
    if pid == 0:
        {leave}
    return pid

with make_loop(exit_timeout=5) as loop:
    say(os.waitstatus_to_exitcode(os.waitpid(loop.evaluate(fork()), 0)[1]))
""")
    assert running.finish() == 0, running
    assert running.lines == [str(code)]
    assert running.stderr == ""


ITERATE = """
async def numbers():
    try:
        for n in range(100):
            yield n
            await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)
        say("cleaned")
"""


@pytest.mark.parametrize("prefetch", [0, 5])
@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
def test_an_iteration_of_the_parent_raises_in_the_child_and_goes_on_in_the_parent(script, prefetch, leave):
    assert run(
        script,
        ITERATE
        + f"""
loop = make_loop(exit_timeout=5).start()
items = loop.iterate(numbers(), prefetch={prefetch})
dropped = [loop.iterate(numbers(), prefetch={prefetch})]
for each in (items, dropped[0]):
    assert next(each) == 0
time.sleep(0.05)  # Some are made ahead.

def work():
    for _ in range(2):
        try:
            next(items)
        except ForkedError:
            say("forked")
    items.close()
    with items:
        pass
    dropped.clear()
    say(list(loop.iterate(answers())))

async def answers():
    yield await answer()

say("code", in_child(work, leave={leave}))
assert [next(items), *items] == list(range(1, 100))
assert list(dropped[0]) == list(range(1, 100))
say("parent")
loop.close()
""",
    ) == ["forked", "forked", "[42]", "code 0", "cleaned", "cleaned", "parent"]


def test_a_next_that_another_thread_of_the_parent_is_in_raises_in_the_child(script):
    assert run(
        script,
        """
async def endless():
    waits.set()
    while not release.is_set():
        await asyncio.sleep(0.001)
    yield "item"

waits, release = threading.Event(), threading.Event()
loop = make_loop(exit_timeout=5).start()
items = loop.iterate(endless())
taker = threading.Thread(target=lambda: say("parent", next(items)))
taker.start()
waits.wait()

def work():
    try:
        next(items)
    except ForkedError:
        say("forked")

say("code", in_child(work))
release.set()
taker.join()
loop.close()
""",
    ) == ["forked", "code 0", "parent item"]


def test_the_loop_of_a_child_that_may_not_restart_refuses_iterations_and_contexts(script):
    assert run(
        script,
        ITERATE
        + """
import contextlib

loop = make_loop(exit_timeout=5, on_fork="raise").start()
wrapped = loop.wrap_async_context_manager(asyncio.Lock())

def work():
    for call in (
        lambda: loop.iterate(numbers()),
        lambda: loop.iterate(numbers(), prefetch=5),
        wrapped.__enter__,
        lambda: loop.enter_async_context(asyncio.Lock()),
    ):
        try:
            call()
        except ForkedError:
            say("forked")

say("code", in_child(work))
loop.close()
""",
    ) == ["forked"] * 4 + ["code 0"]


CONTEXT = """
import contextlib

@contextlib.asynccontextmanager
async def context(name):
    try:
        yield name
    finally:
        await asyncio.sleep(0)
        say("left", name)
"""


def test_a_body_that_forks_is_left_by_the_parent_alone(script):
    assert run(
        script,
        CONTEXT
        + """
loop = make_loop(exit_timeout=5).start()
with loop.wrap_async_context_manager(context("body")):
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
if pid:
    say("parent", loop.evaluate(answer()))
    loop.close()
else:
    say("child", loop.evaluate(answer()))
    with loop.wrap_async_context_manager(context("of the child")):
        pass
""",
    ) == ["child 42", "left of the child", "left body", "parent 42"]


def test_the_error_of_a_body_that_forks_goes_on_in_the_child(script):
    assert run(
        script,
        CONTEXT
        + """
def work():
    raise ZeroDivisionError

loop = make_loop(exit_timeout=5).start()
pid = None
try:
    with loop.wrap_async_context_manager(context("body")):
        pid = os.fork()
        if not pid:
            raise ZeroDivisionError
        os.waitpid(pid, 0)
except ZeroDivisionError:
    say("child")
    os._exit(0)
loop.close()
""",
    ) == ["child", "left body"]


def test_a_restarted_loop_has_none_of_the_contexts_of_the_parent(script):
    assert run(
        script,
        CONTEXT
        + """
loop = make_loop(exit_timeout=5).start()
loop.enter_async_context(context("parent"))

def work():
    loop.enter_async_context(context("child"))
    loop.close()

say("code", in_child(work))
say("code", in_child(loop.close))
loop.close()
""",
    ) == ["left child", "code 0", "code 0", "left parent"]
