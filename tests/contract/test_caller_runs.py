"""`caller_runs=True`: a caller runs the loop itself while it waits. What differs, and that nothing else does.

The other tests of this folder run in this mode, too (`caller_runs`, in `conftest`).
"""

import asyncio
import concurrent.futures
import contextvars
import gc
import logging
import signal
import socket
import sys
import threading

import pytest

from asyncio_thread_loop import AsyncioThreadLoop, DeadlockError, EventLoop, LoopClosedError

from .faces import Emitter, Resource
from .harness import WAIT, Caller, Script, Sleeper, answer, echo, forever, until
from .test_to_sync_threads import WAYS, Watched


@pytest.fixture
def flavour():
    return "caller_runs"


@pytest.fixture
def loop(make_loop):
    """An open loop that rests, so that the next caller will run it."""
    with make_loop(exit_timeout=5) as loop:
        rest(loop)
        yield loop


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        yield left, right


def rest(loop):
    """Wait until the loop is free."""
    assert loop.submit(answer).result(WAIT) == 42
    until(lambda: loop.loop._rests)


async def where():
    return threading.current_thread()


async def where_after_a_while():
    before = threading.current_thread()
    await asyncio.sleep(0.001)
    assert threading.current_thread() is before
    return before


def runs_it(loop):
    """Whether the calling thread runs the loop for its calls."""
    rest(loop)
    return loop.evaluate(where()) is threading.current_thread()


# Who runs what


@pytest.mark.parametrize("coroutine", [where, where_after_a_while])
def test_a_caller_runs_its_coroutine_and_the_loop_s_thread_everything_else(loop, coroutine):
    assert loop.evaluate(coroutine()) is threading.current_thread()
    assert loop.submit(coroutine).result(WAIT) in (threading.current_thread(), loop.thread)
    assert loop.evaluate_many([coroutine()]) == [loop.thread]


def test_call_calls_on_the_calling_thread(loop):
    assert loop.call(threading.current_thread) is threading.current_thread()


def test_any_thread_may_run_the_loop(loop):
    callers = []
    for _ in range(3):
        callers.append(Caller(loop.evaluate, where()))
        assert callers[-1].outcome() is callers[-1]


def test_a_caller_that_finds_the_loop_busy_leaves_it_the_call(loop, gate):
    entered = threading.Event()

    async def block():
        entered.set()
        gate.wait(WAIT)

    blocked = loop.submit(block)
    assert entered.wait(WAIT)
    caller = Caller(loop.evaluate, where())
    until(lambda: "1 call not begun" in loop.dump())
    gate.set()
    assert caller.outcome() is loop.thread
    blocked.result(WAIT)


def test_what_another_thread_submits_meanwhile_is_run_by_the_caller_that_runs_the_loop(loop):
    async def wait_for(event):
        await event.wait()
        return threading.current_thread()

    event = asyncio.Event()
    driver = Caller(loop.evaluate, wait_for(event))
    until(lambda: f"waited for by {driver.name}" in loop.dump())
    assert loop.evaluate(where()) is driver

    async def end():
        event.set()

    loop.evaluate(end())
    assert driver.outcome() is driver


def test_callers_that_come_together_are_all_answered(loop):
    barrier = asyncio.Barrier(8)

    async def meet(n):
        async with barrier:
            return n

    callers = [Caller(loop.evaluate, meet(n)) for n in range(8)]
    assert [caller.outcome() for caller in callers] == list(range(8))


def test_work_of_others_goes_on_when_the_caller_that_ran_it_has_its_result(loop):
    steps = []

    async def tick():
        for _ in range(20):
            await asyncio.sleep(0)
            steps.append(threading.current_thread())

    ticking = loop.submit(tick)
    for n in range(20):
        assert loop.evaluate(echo(n)) == n
    assert ticking.result(WAIT) is None
    assert len(steps) == 20


# Faces


ONE_CALL = [
    "constructor",
    "async method",
    "plain method",
    "property",
    "cached property",
    "static method",
    "class method",
]


@pytest.mark.parametrize("way", [*ONE_CALL, "__getattr__", "__getitem__"])
def test_a_caller_of_a_face_runs_the_code_of_the_original(loop, way):
    face = loop.to_sync(Watched)("name")
    rest(loop)
    assert WAYS[way](face, type(face)) == threading.get_ident()


@pytest.mark.parametrize("way", [way for way in WAYS if way.removeprefix("plain ").startswith("__")])
def test_no_third_thread_runs_the_code_of_an_original(loop, way):
    class Mine(Watched):
        pass

    face = loop.to_sync(Mine)("name")
    Mine.seen = ()
    WAYS[way](face, type(face))
    assert set(Mine.seen) <= {threading.get_ident(), loop.thread.ident}
    assert Mine.seen


def test_getattribute_of_an_original_is_run_by_the_caller(loop):
    seen = []

    class Looked:
        async def get(self):
            return 42

        def __getattribute__(self, name):
            seen.append(threading.get_ident())
            return object.__getattribute__(self, name)

    face = loop.to_sync(Looked)()
    rest(loop)
    assert face.get() == 42
    assert set(seen) == {threading.get_ident()}


def test_properties_of_an_original_are_read_written_and_deleted_by_the_caller(loop):
    face = loop.to_sync(Resource)("name")
    rest(loop)
    face.label = "written"
    rest(loop)
    del face.label
    here = threading.get_ident()
    assert face.events == [("written", here), ("deleted", here)]
    rest(loop)
    assert face.label == ("deleted", here)


def test_the_result_of_a_plain_factory_is_made_by_the_caller_and_gets_a_face(loop):
    make = loop.to_sync(lambda: Resource("name"))
    rest(loop)
    resource = make()
    assert isinstance(resource, loop.to_sync(Resource))
    assert resource.made_on == threading.get_ident()


def test_a_plain_iterator_is_taken_from_by_the_caller(loop):
    numbers = loop.to_sync(Resource)("name").plain_count(2)
    for number in range(2):
        rest(loop)
        assert next(numbers) == (number, threading.get_ident())
    assert next(numbers, "end") == "end"


def test_callbacks_that_the_original_awaits_or_needs_at_once_are_called_on_the_thread_of_the_caller(loop):
    async def where_with(resource):
        return type(resource), threading.current_thread()

    emitter = loop.to_sync(Emitter)()
    emitter.add(where_with)
    face = loop.to_sync(Resource)("name")
    rest(loop)
    assert emitter.emit(face) == [(Resource, threading.current_thread())]
    rest(loop)
    assert (
        emitter.dump(0, lambda value: threading.current_thread().name)
        == f"dumped {threading.current_thread().name}"
    )


def test_faces_are_used_from_many_threads_and_inside_other_loops(loop):
    face = loop.to_sync(Resource)("name")
    callers = [Caller(face.where) for _ in range(8)]
    ran_on = {caller.outcome() for caller in callers}
    assert ran_on <= {*(caller.ident for caller in callers), loop.thread.ident}

    async def elsewhere():
        return face.where()

    assert asyncio.run(elsewhere()) == loop.thread.ident


# Who doesn't run it


def test_a_call_with_a_timeout_is_left_to_the_loop_s_thread(loop, gate):
    assert loop.evaluate(where(), timeout=WAIT) is loop.thread

    async def block():
        gate.wait(WAIT)

    with pytest.raises(TimeoutError):
        loop.evaluate(block(), timeout=0.01)


def test_a_thread_that_runs_another_loop_leaves_it_the_call(loop):
    async def main():
        return loop.evaluate(where())

    assert asyncio.run(main()) is loop.thread
    assert runs_it(loop)


def test_a_step_of_one_loop_leaves_its_call_to_the_thread_of_another(loop, make_loop):
    with make_loop() as other:
        rest(other)

        async def ask():
            return other.evaluate(where())

        assert loop.evaluate(ask()) is other.thread


def test_a_caller_deep_in_recursion_leaves_it_the_call(loop):
    def dive(depth):
        return dive(depth - 1) if depth else loop.evaluate(where())

    assert dive(sys.getrecursionlimit() // 2) is loop.thread
    assert runs_it(loop)


def test_the_recursion_limit_in_force_is_the_one_that_counts(loop):
    def dive(depth):
        return dive(depth - 1) if depth else loop.evaluate(where())

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20 * limit)
    try:
        assert dive(limit // 2) is threading.current_thread()
    finally:
        sys.setrecursionlimit(limit)
    rest(loop)
    assert dive(limit // 2) is loop.thread


def test_a_caller_with_a_small_stack_leaves_it_the_call(loop):
    before = threading.stack_size(256 * 1024)
    try:
        caller = Caller(loop.evaluate, where())
    finally:
        threading.stack_size(before)
    assert caller.outcome() is loop.thread


def test_a_caller_that_handles_an_exception_leaves_it_the_call(loop):
    async def fail():
        raise KeyError

    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        assert loop.evaluate(where()) is loop.thread
        with pytest.raises(KeyError) as caught:
            loop.evaluate(fail())
    assert caught.value.__context__ is None
    assert runs_it(loop)


@pytest.mark.parametrize("kind", ["standard", "uvloop"])
def test_a_loop_that_is_not_native_is_refused_when_it_is_started(kind):
    if kind == "uvloop":
        factory = pytest.importorskip("uvloop", reason="uvloop is not installed").new_event_loop
    else:
        factory = asyncio.SelectorEventLoop
    made = []

    def make():
        made.append(factory())
        return made[-1]

    loop = AsyncioThreadLoop(caller_runs=True, loop_factory=make)
    with pytest.raises(TypeError, match="caller_runs=True needs an EventLoop, loop_factory returned"):
        loop.start()
    assert [each.is_closed() for each in made] == [True]
    assert loop.loop is None


def test_a_factory_may_return_a_native_loop():
    class Mine(EventLoop):
        pass

    with AsyncioThreadLoop(caller_runs=True, loop_factory=Mine) as loop:
        assert type(loop.loop) is Mine
        assert runs_it(loop)


# The thread of a caller is as it was


def test_asyncio_is_told_and_told_again(loop):
    async def look():
        task = asyncio.current_task()
        await asyncio.sleep(0)
        assert asyncio.current_task() is task
        return asyncio.get_running_loop(), task.get_loop(), loop.loop.is_running()

    assert loop.evaluate(look()) == (loop.loop, loop.loop, True)
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
    assert asyncio.current_task(loop.loop) is None


@pytest.mark.parametrize("outcome", ["returns", "fails", "exits"])
def test_the_hooks_of_async_generators_are_put_back(loop, outcome):
    mine = (lambda _: None, lambda _: None)
    before = sys.get_asyncgen_hooks()

    async def look():
        assert sys.get_asyncgen_hooks() != mine
        await asyncio.sleep(0)
        if outcome != "returns":
            raise ValueError if outcome == "fails" else SystemExit

    sys.set_asyncgen_hooks(*mine)
    try:
        if outcome == "returns":
            loop.evaluate(look())
        else:
            with pytest.raises((ValueError, SystemExit)):
                loop.evaluate(look())
        assert sys.get_asyncgen_hooks() == mine
    finally:
        sys.set_asyncgen_hooks(*before)


def test_every_reference_to_the_hooks_of_async_generators_is_given_back(loop):
    mine = (lambda _: None, lambda _: None)
    before = sys.get_asyncgen_hooks()

    async def count_and_replace():
        counts = [sys.getrefcount(hook) for hook in sys.get_asyncgen_hooks()]
        sys.set_asyncgen_hooks(firstiter=lambda _: None, finalizer=None)
        return counts

    loops, mines = [], []
    sys.set_asyncgen_hooks(*mine)
    try:
        for _ in range(3):
            rest(loop)
            loops.append(loop.evaluate(count_and_replace()))
            mines.append([sys.getrefcount(hook) for hook in mine])
    finally:
        sys.set_asyncgen_hooks(*before)
    assert loops == loops[:1] * 3
    assert mines == mines[:1] * 3


def test_an_async_generator_begun_by_a_caller_is_closed_with_the_loop(make_loop):
    closed = []

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append(threading.current_thread())

    async def begin(generator):
        return await anext(generator)

    with make_loop() as loop:
        rest(loop)
        thread, generator = loop.thread, numbers()
        assert loop.evaluate(begin(generator)) == 1
    assert closed == [thread]


def test_an_async_generator_that_a_caller_drops_is_closed_on_the_loop(loop):
    closed = threading.Event()

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.set()

    async def begin(generator):
        return await anext(generator)

    generator = numbers()
    assert loop.evaluate(begin(generator)) == 1
    del generator
    gc.collect()
    assert closed.wait(WAIT)


def test_debug_mode_takes_the_caller_for_the_loop_s_thread(make_loop):
    async def look():
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: None)
        await asyncio.sleep(0)
        return threading.current_thread()

    with make_loop(debug=True) as loop:
        rest(loop)
        assert loop.evaluate(look()) is threading.current_thread()
        with pytest.raises(RuntimeError, match="thread"):
            loop.loop.call_soon(lambda: None)


VARIABLE = contextvars.ContextVar("VARIABLE", default=0)


@pytest.mark.parametrize(("mode", "seen_after"), [("in", 1), ("both", 2)])
def test_context_variables_go_in_and_come_back_as_ever(make_loop, mode, seen_after):
    async def look():
        seen = VARIABLE.get()
        VARIABLE.set(2)
        await asyncio.sleep(0)
        return seen, threading.current_thread()

    def call():
        VARIABLE.set(1)
        return loop.evaluate(look()), VARIABLE.get()

    with make_loop(propagate_context=mode) as loop:
        rest(loop)
        assert contextvars.copy_context().run(call) == ((1, threading.current_thread()), seen_after)


# What waits for the loop, rather than for a caller


def served(loop, left, right):
    """Whether a byte is read by a callback of the loop though nobody calls."""
    read = threading.Event()

    async def watch():
        def take():
            left.recv(1)
            loop.loop.remove_reader(left)
            read.set()

        loop.loop.add_reader(left, take)

    loop.evaluate(watch())
    right.send(b"x")
    return read.wait(WAIT)


def test_a_descriptor_is_served_when_no_caller_comes(loop, pair):
    assert served(loop, *pair)
    rest(loop)
    assert served(loop, *pair)


def test_a_descriptor_is_served_after_many_calls(loop, pair):
    for _ in range(1000):
        loop.evaluate(answer())
    assert served(loop, *pair)


def test_a_descriptor_is_served_while_callers_keep_coming(loop, pair):
    left, right = pair
    read = []

    async def watch():
        loop.loop.add_reader(left, lambda: read.append(left.recv(1)))

    loop.evaluate(watch())
    for n in range(20):
        right.send(b"x")
        while len(read) <= n:
            loop.evaluate(answer())
    loop.call(loop.loop.remove_reader, left)
    assert read == [b"x"] * 20


@pytest.mark.parametrize("turns", [1, 2])
def test_a_reader_is_not_called_again_for_what_it_has_read(loop, pair, turns):
    left, right = pair
    read, failed = [], []
    loop.loop.set_exception_handler(lambda _, context: failed.append(context))

    async def watch():
        loop.loop.add_reader(left, lambda: read.append(left.recv(1)))

    async def send():
        right.send(b"x")
        # In the turn after one of these both are due: the end of this coroutine, and then the reader.
        for _ in range(turns):
            await asyncio.sleep(0)

    loop.evaluate(watch())
    for n in range(100):
        loop.evaluate(send())
        until(lambda n=n: len(read) > n)
    rest(loop)
    loop.call(loop.loop.remove_reader, left)
    assert failed == []


def test_a_timer_is_served_when_no_caller_comes(loop):
    fired = threading.Event()

    async def set_one(delay):
        loop.loop.call_later(delay, fired.set)

    # The second one is earlier than the first: the loop's thread sleeps until then by now.
    loop.evaluate(set_one(3600))
    rest(loop)
    loop.evaluate(set_one(0.001))
    assert fired.wait(WAIT)


def test_a_timer_is_served_while_callers_keep_coming(loop):
    fired = threading.Event()

    async def set_one():
        loop.loop.call_later(0.001, fired.set)

    loop.evaluate(set_one())
    while not fired.is_set():
        loop.evaluate(answer())


def test_what_a_coroutine_leaves_behind_goes_on(loop):
    went_on = threading.Event()

    async def go_on():
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        went_on.set()

    tasks = []

    async def begin():
        tasks.append(asyncio.create_task(go_on()))

    loop.evaluate(begin())
    assert went_on.wait(WAIT)


def test_a_connection_lives_on_from_call_to_call(loop, pair):
    left, right = pair
    right.settimeout(WAIT)
    reader, writer = loop.evaluate(asyncio.open_connection(sock=left))

    async def ask(n):
        writer.write(b"%d\n" % n)
        return await reader.readline(), threading.current_thread()

    def reply():
        for n in range(50):
            assert right.recv(10) == b"%d\n" % n
            right.send(b"re %d\n" % n)

    replier = Caller(reply)
    for n in range(50):
        line, _ = loop.evaluate(ask(n))
        assert line == b"re %d\n" % n
    replier.outcome()
    assert runs_it(loop)

    async def close():
        writer.close()

    loop.evaluate(close())


# Errors


class Stop(BaseException):
    pass


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("waits_first", [False, True])
def test_an_exit_of_another_task_goes_to_its_own_future(loop, kind, waits_first):
    async def leave():
        if waits_first:
            await asyncio.sleep(0)
        raise kind

    async def meanwhile():
        other = loop.submit(leave)
        while not other.done():
            await asyncio.sleep(0)
        return other, threading.current_thread()

    other, thread = loop.evaluate(meanwhile())
    assert thread is threading.current_thread()
    assert isinstance(other.exception(), kind)
    assert runs_it(loop)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, Stop, ValueError])
@pytest.mark.parametrize("waits_first", [False, True])
def test_an_exit_of_the_caller_s_own_coroutine_is_raised_once_and_reported_by_nobody(
    loop, kind, waits_first, caplog
):
    async def leave():
        if waits_first:
            await asyncio.sleep(0)
        raise kind

    with pytest.raises(kind):
        loop.evaluate(leave())
    gc.collect()
    assert runs_it(loop)
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def test_an_exit_of_a_plain_callback_harms_no_caller(loop):
    def leave():
        raise SystemExit

    async def meanwhile():
        asyncio.get_running_loop().call_soon(leave)
        await asyncio.sleep(0.001)
        return "harmless"

    assert loop.evaluate(meanwhile()) == "harmless"


@pytest.mark.parametrize(
    "wait",
    [
        lambda loop: loop.evaluate(answer()),
        lambda loop: loop.submit(answer).result(),
        lambda loop: loop.evaluate_many([answer()]),
        lambda loop: loop.start_task(forever),
        lambda loop: loop.shutdown(),
    ],
    ids=["evaluate", "result", "evaluate_many", "start_task", "shutdown"],
)
def test_waiting_in_a_step_is_a_deadlock_on_whichever_thread(loop, wait):
    async def ask():
        wait(loop)

    with pytest.raises(DeadlockError):
        loop.evaluate(ask())
    assert runs_it(loop)


def test_loops_that_wait_for_each_other_in_a_circle_are_told(loop, make_loop):
    with make_loop(name="the other") as other:
        rest(other)

        async def ask(session, then):
            return session.evaluate(then())

        async def ask_back():
            return loop.evaluate(answer())

        with pytest.raises(DeadlockError):
            loop.evaluate(ask(other, ask_back))


def test_a_signal_handler_of_the_loop_is_refused_on_the_main_thread_too(loop):
    async def handle():
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: None)

    with pytest.raises(RuntimeError, match="signal"):
        loop.evaluate(handle())


def wait_for_the_end_of(items):
    until(lambda: items._source.is_over)


@pytest.mark.parametrize("is_closed", [True, False])
def test_an_error_made_ahead_that_nobody_takes_is_reported_when_its_iterator_is_collected(loop, is_closed):
    async def fail_after_one():
        yield 0
        raise ZeroDivisionError

    reported = []
    loop.loop.set_exception_handler(lambda event_loop, context: reported.append(context["exception"]))
    items = loop.iterate(fail_after_one(), prefetch=5)
    assert next(items) == 0
    wait_for_the_end_of(items)  # Now the error is in the buffer.
    if is_closed:
        items.close()
    del items
    gc.collect()
    until(lambda: reported)
    assert [type(error) for error in reported] == [ZeroDivisionError]


# What is seen from outside


def test_a_dump_names_the_caller_and_shows_what_it_runs(make_loop, gate):
    entered = threading.Event()

    async def block():
        entered.set()
        gate.wait(WAIT)

    with make_loop(watchdog=False) as loop:
        rest(loop)
        caller = Caller(loop.evaluate, block())
        assert entered.wait(WAIT)
        dump = loop.dump()
        gate.set()
        caller.outcome()
    assert f"waited for by {caller.name}" in dump
    assert "gate.wait(WAIT)" in dump.partition("its thread runs:")[2].partition("task Task")[0]


def test_the_watchdog_looks_at_the_thread_that_runs_the_loop(loop, gate, caplog):
    loop.loop.slow_callback_duration = 0.01
    reported = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record):
            reported.set()

    async def block():
        assert reported.wait(WAIT)

    logger, handler = logging.getLogger("asyncio_thread_loop"), Handler()
    logger.addHandler(handler)
    try:
        caller = Caller(loop.evaluate, block())
        caller.outcome()
    finally:
        logger.removeHandler(handler)
    until(lambda: caplog.messages)
    assert "held up" in caplog.messages[0]
    assert f"waited for by {caller.name}" in caplog.messages[0]
    assert "reported.wait(WAIT)" in caplog.messages[0]


# The end


def test_a_caller_that_runs_the_loop_when_it_is_closed_is_cancelled_and_its_cleanup_waited_for(make_loop):
    loop = make_loop(exit_timeout=WAIT).start()
    rest(loop)
    sleeper = Sleeper()
    caller = Caller(loop.evaluate, sleeper())
    assert sleeper.started.wait(WAIT)
    loop.close()
    assert isinstance(caller.error(), concurrent.futures.CancelledError)
    assert sleeper.cleaned.is_set()


def test_closing_against_callers_strands_nobody(make_loop):
    for _ in range(30):
        loop = make_loop(exit_timeout=WAIT).start()

        def call(loop=loop):
            while True:
                try:
                    assert loop.evaluate(echo(1)) == 1
                except (LoopClosedError, concurrent.futures.CancelledError):
                    return

        callers = [Caller(call) for _ in range(4)]
        loop.close()
        for caller in callers:
            caller.outcome()


def test_a_stray_stop_ends_nothing(loop):
    async def stop():
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return "still here"

    assert loop.evaluate(stop()) == "still here"
    assert runs_it(loop)


# Signals, in real processes


@pytest.fixture
def script():
    started = []

    def start(code):
        started.append(Script(REST + code, "caller_runs"))
        return started[-1]

    yield start
    for each in started:
        each.kill()


REST = """
def rest():
    loop.submit(answer).result()
    while not loop.loop._rests:
        time.sleep(0.001)
"""


# The first step, one after a bare `yield`, one after a future.
@pytest.mark.parametrize("first", ["pass", "await asyncio.sleep(0)", "await asyncio.sleep(0.001)"])
def test_ctrl_c_is_raised_in_a_step_that_blocks_if_it_is_the_caller_s_own(script, first):
    running = script(f"""
async def block():
    {first}
    try:
        say("ready")
        while True:  # the interrupt may come just before one of these
            time.sleep(0.1)
    except KeyboardInterrupt:
        say("interrupted inside")
        await asyncio.sleep(0)
        raise

with make_loop(watchdog=False) as loop:
    rest()
    try:
        loop.evaluate(block())
    except KeyboardInterrupt:
        say("interrupted")
    say(loop.evaluate(answer()))
""")
    assert running.interrupted_when_ready() == ["ready", "interrupted inside", "interrupted", "42"]
    assert running.stderr == ""


OTHERS = """
pressed, raised, ended = threading.Event(), threading.Event(), []

async def block():
    try:
        threading.Thread(target=press).start()
        pressed.wait()
        ended.append("unharmed")
    except KeyboardInterrupt:
        raised.set()
        ended.append("interrupted")

async def work():
    other = loop.submit(block)
    try:
        await asyncio.sleep(3600)
    finally:
        say("cleaned", other.done())

def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)

before = signal.getsignal(signal.SIGINT)
with make_loop(watchdog=False) as loop:
    rest()
    try:
        loop.evaluate(work())
    except KeyboardInterrupt:
        say(*ended)
    assert signal.getsignal(signal.SIGINT) is before
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        say("and again")
    say(loop.evaluate(answer()))
"""


def test_ctrl_c_in_a_step_of_others_is_raised_in_the_caller_when_the_step_ends(script):
    running = script(
        """
def press():
    ctrl_c()
    pressed.set()
"""
        + OTHERS
    )
    assert running.finish() == 0, running
    assert running.lines == ["cleaned True", "unharmed", "and again", "42"]
    assert running.stderr == ""


def test_a_second_ctrl_c_gets_through_to_a_step_of_others_that_does_not_end(script):
    running = script(
        """
def press():
    while not raised.wait(0.05):
        ctrl_c()
"""
        + OTHERS
    )
    assert running.finish() == 0, running
    assert running.lines == ["cleaned True", "interrupted", "and again", "42"]
    assert running.stderr == ""


def test_a_signal_handler_may_wait_while_the_main_thread_runs_the_loop_and_sleeps(script):
    running = script("""
async def work():
    await done.wait()
    return "done"

async def end():
    done.set()

def handle(*_):
    say("handled", loop.evaluate(answer()))
    loop.evaluate(end())

def interrupt():
    # The loop rests and the GIL is here: whoever runs the loop sleeps.
    while not ("waited for by MainThread" in loop.dump() and loop.loop._rests):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGUSR1)

done = asyncio.Event()
signal.signal(signal.SIGUSR1, handle)
with make_loop() as loop:
    rest()
    threading.Thread(target=interrupt).start()
    say(loop.evaluate(work()))
""")
    assert running.finish() == 0, running
    assert running.lines == ["handled 42", "done"]


# Forks, in real processes


@pytest.mark.parametrize("leaves", ["os._exit(7)", "sys.exit(7)"])
@pytest.mark.parametrize("waits_first", ["pass", "await asyncio.sleep(0)"])
def test_a_child_forked_by_the_caller_s_own_step_ends_with_it(script, leaves, waits_first):
    running = script(f"""
async def work():
    {waits_first}
    child = os.fork()
    if child == 0:
        say("child")
        {leaves}
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), threading.current_thread().name

with make_loop() as loop:
    rest()
    say(*loop.evaluate(work()))
    say(loop.evaluate(answer()))
""")
    assert running.finish() == 0, running
    assert running.lines == ["child", "7 MainThread", "42"]
    assert running.stderr == ""


def test_a_child_that_only_returns_from_the_step_ends_too(script):
    running = script("""
async def work():
    child = os.fork()
    if child == 0:
        return "child"
    os.waitpid(child, 0)
    return "parent"

with make_loop() as loop:
    rest()
    say(loop.evaluate(work()))
""")
    assert running.finish() == 0, running
    assert running.lines == ["parent"]


def test_a_fork_while_another_thread_runs_the_loop(script):
    running = script("""
event = asyncio.Event()

async def wait():
    say_when_waiting("waiting")
    await event.wait()
    return "parent's"

async def end():
    event.set()

with make_loop() as loop:
    rest()
    def call():
        say(loop.evaluate(wait()))
    caller = threading.Thread(target=call)
    caller.start()
    while "waiting for" not in loop.dump():
        time.sleep(0.001)
    child = os.fork()
    if child == 0:
        say("child", loop.evaluate(answer()))
        rest()
        say("child", loop.evaluate(answer()), loop.call(threading.current_thread).name)
        loop.close()
        os._exit(0)
    say("exit code", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    loop.evaluate(end())
    caller.join()
""")
    assert running.finish() == 0, running
    assert running.lines == [
        "waiting",
        "child 42",
        "child 42 MainThread",
        "exit code 0",
        "parent's",
    ]
    assert running.stderr == ""


def test_an_open_loop_is_closed_gracefully_when_the_interpreter_exits(script):
    running = script("""
async def work():
    try:
        say_when_waiting("ready")
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)
        say("cleaned")

def call():
    try:
        loop.evaluate(work())
    except CancelledError:
        say("cancelled")

loop = make_loop().start()
rest()
threading.Thread(target=call).start()
while "waiting for" not in loop.dump():
    time.sleep(0.001)
""")
    assert running.finish() == 0, running
    assert sorted(running.lines) == ["cancelled", "cleaned", "ready"]
    assert running.stderr == ""
