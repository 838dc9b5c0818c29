"""`dump()` says what goes on on a loop, from any thread and whatever the loop does."""

import asyncio
import concurrent.futures
import contextlib
import functools
import threading

import pytest

from asyncio_thread_loop import AsyncioThreadLoop

from .harness import WAIT, Caller, Stubborn, answer, until


class Here:
    """A place for coroutines to wait in, known by name."""

    def __init__(self):
        self.begun = threading.Semaphore(0)

    async def wait(self):
        self.begun.release()
        await asyncio.Event().wait()

    def has_begun(self, times=1):
        for _ in range(times):
            assert self.begun.acquire(timeout=WAIT)


@pytest.fixture
def here():
    return Here()


def entry(dump, start):
    """The part of a dump about one task or call."""
    (found,) = (part for part in dump.split("\n\n") if part.startswith(start))
    return found


def test_a_loop_without_tasks(loop):
    idle = [f"{loop.thread.name}: 0 tasks, 0 calls not begun", "  its thread has nothing to run"]
    # Its thread may still be about to sleep: no event tells when it does.
    until(lambda: loop.dump().splitlines() == idle)


def test_a_loop_that_is_closed():
    loop = AsyncioThreadLoop(name="my loop")
    assert loop.dump() == "my loop: closed"
    with loop:
        assert loop.dump() != "my loop: closed"
    assert loop.dump() == "my loop: closed"


def test_a_task_with_its_state_age_origin_and_stack(loop, here):
    async def outer():
        asyncio.current_task().set_name("outer")
        await here.wait()

    loop.submit(outer)
    here.has_begun()
    lines = entry(loop.dump(), "task outer").splitlines()
    assert lines[0].startswith(
        "task outer, test_a_task_with_its_state_age_origin_and_stack.<locals>.outer: waiting for Future, 0."
    )
    assert lines[0].endswith(" s old")
    assert lines[1].startswith(f'  submitted at File "{__file__}", line ')
    assert lines[1].endswith(", in test_a_task_with_its_state_age_origin_and_stack")
    frames = [line for line in lines[2:] if line.startswith("  File")]
    assert [frame.rpartition(" in ")[2] for frame in frames] == ["outer", "wait", "wait"]


def test_the_age_grows_and_the_oldest_comes_first(loop, here):
    async def called(name):
        asyncio.current_task().set_name(name)
        await here.wait()

    loop.submit(called, "older")
    here.has_begun()
    loop.evaluate(asyncio.sleep(0.05))
    loop.submit(called, "younger")
    here.has_begun()

    def age(name):
        first = entry(loop.dump(), f"task {name}").splitlines()[0]
        return float(first.rpartition(", ")[2].removesuffix(" s old"))

    assert age("older") > age("younger")
    assert loop.dump().index("task older") < loop.dump().index("task younger")
    was = age("younger")
    until(lambda: age("younger") > was)


def waits_of_threads(loop, here, held):
    """Ways in which a thread waits for a task named held."""
    return {
        "result": lambda: held.result(),
        "exception": lambda: held.exception(),
        "cancel_and_wait": lambda: held.cancel_and_wait(),
        "evaluate": lambda: loop.evaluate(wait_named(here)),
        "evaluate_many": lambda: loop.evaluate_many([wait_named(here)]),
        "map": lambda: next(loop.map(wait_named, [here])),
        "as_completed": lambda: next(loop.as_completed([wait_named(here)])),
        "start_task": lambda: loop.start_task(functools.partial(start_named, here)),
    }


async def wait_named(here):
    asyncio.current_task().set_name("held")
    try:
        await here.wait()
    except asyncio.CancelledError:
        await asyncio.Event().wait()  # Still there, to be looked at.


@pytest.mark.parametrize("way", waits_of_threads(None, None, None))
def test_the_threads_that_wait_for_a_task(loop, here, way):
    held = None
    if way in ("result", "exception", "cancel_and_wait"):
        held = loop.submit(wait_named, here)
        here.has_begun()
    waiting = waits_of_threads(loop, here, held)[way]

    def call_it():
        return waiting()

    caller = Caller(call_it)
    if held is None:
        here.has_begun()
    until(
        lambda: f'  waited for by caller of call_it, in File "{__file__}"' in entry(loop.dump(), "task held")
    )
    for future in loop._portal.unfinished():
        future.cancel()
        future.cancel()
    loop.shutdown()
    error = caller.error()
    assert error is None or isinstance(error, concurrent.futures.CancelledError)


async def start_named(here, *, task_status):
    await wait_named(here)


WAITS_OF_TASKS = {
    "await": lambda task: task,
    "shield": asyncio.shield,
    "gather": lambda task: asyncio.gather(task, task),
    "wait": lambda task: asyncio.wait([task]),
    "wait_for": lambda task: asyncio.wait_for(task, WAIT),
}


@pytest.mark.parametrize("wait", WAITS_OF_TASKS.values(), ids=WAITS_OF_TASKS.keys())
def test_the_tasks_that_wait_for_a_task(loop, here, wait):
    async def parent():
        asyncio.current_task().set_name("parent")
        await wait(asyncio.create_task(here.wait(), name="child"))

    loop.submit(parent)
    here.has_begun()
    until(lambda: "  waited for by task parent" in entry(loop.dump(), "task child"))
    assert "made by a coroutine" in entry(loop.dump(), "task child")


def test_the_task_group_that_waits_for_its_tasks(loop, here):
    async def parent():
        asyncio.current_task().set_name("parent")
        async with asyncio.TaskGroup() as group:
            group.create_task(here.wait(), name="child")

    loop.submit(parent)
    here.has_begun()
    assert "  waited for by task parent" in entry(loop.dump(), "task child")


def test_a_blocked_loop_shows_what_it_does_and_the_calls_that_have_not_begun(loop):
    began, release = threading.Event(), threading.Event()

    async def block():
        asyncio.current_task().set_name("blocks")
        began.set()
        assert release.wait(WAIT)

    loop.submit(block)
    assert began.wait(WAIT)
    future = loop.submit(answer)
    caller = Caller(future.result)
    until(lambda: "waited for by caller of result" in entry(loop.dump(), "call not begun"))
    dump = loop.dump()
    release.set()
    assert caller.outcome() == 42
    summary = dump.split("\n\n")[0]
    assert summary.startswith(f"{loop.thread.name}: 1 task, 1 call not begun\n  its thread runs:\n")
    assert "in block" in summary
    assert ": running" in entry(dump, "task blocks")
    assert "in block" in entry(dump, "task blocks")
    assert f'  submitted at File "{__file__}"' in entry(dump, "call not begun")


def test_a_task_that_is_being_cancelled(loop, here, gate):
    future = loop.submit(Stubborn(gate, "slow"))
    loop.evaluate(asyncio.sleep(0))
    future.cancel()
    until(lambda: ", cancelled, " in entry(loop.dump(), "task slow").splitlines()[0])
    future.cancel()
    until(lambda: ", cancelled 2 times, " in entry(loop.dump(), "task slow").splitlines()[0])


def test_who_closes_the_loop(make_loop, gate):
    loop = make_loop().start()

    loop.submit(Stubborn(gate))
    loop.evaluate(asyncio.sleep(0))
    closer = Caller(loop.close)
    until(lambda: "  being closed by caller of close" in loop.dump())
    gate.set()
    closer.outcome()


def test_a_coroutine_may_look_at_its_own_loop(loop):
    async def look():
        return loop.dump()

    dump = loop.submit(look).result(WAIT)
    assert "look: running" in dump
    assert dump.startswith(f"{loop.thread.name}: 1 task, 0 calls not begun\n  its thread runs:")


@pytest.mark.parametrize("kind", ["coroutine", "generator", "async generator"])
def test_looking_at_what_runs_is_safe_whatever_its_bytecode_looks_like(script, kind):
    """CPython before 3.13 asks the next instruction of what awaits whether it does, and a running one's may be any."""
    running = script(
        f"kind = {kind!r}"
        + """
import functools, types
# A partial function: the interpreter counts how often it has tried to make such a call a faster one. It keeps the count
# in the bytecode, where after a while it looks like an instruction.
@types.coroutine
def generator():
    for _ in range(1000):
        look()
    yield

async def async_generator():
    for _ in range(1000):
        look()
        yield

async def looks():
    if kind == "coroutine":
        for _ in range(1000):
            look()
    elif kind == "generator":
        await generator()
    else:
        async for _ in async_generator():
            pass

with make_loop() as loop:
    look = functools.partial(loop.dump)
    loop.evaluate(looks())
    say("fine")
"""
    )
    assert running.finish() == 0, running
    assert running.lines == ["fine"]


def test_looking_while_everything_changes(loop):
    """From several threads, while tasks come and go by the thousand."""
    over = threading.Event()

    def look():
        looks = 0
        while not over.is_set():
            assert loop.dump().startswith(loop.thread.name)
            looks += 1
        return looks

    lookers = [Caller(look) for _ in range(3)]

    async def spawn():
        await asyncio.gather(*(asyncio.create_task(answer()) for _ in range(10)))

    for _ in range(20):
        futures = [loop.submit(spawn) for _ in range(50)]
        assert concurrent.futures.wait(futures, WAIT).not_done == set()
    over.set()
    assert sum(looker.outcome() for looker in lookers) > 0


def test_in_debug_mode_the_place_where_a_task_was_made(make_loop, here):
    async def parent():
        asyncio.get_running_loop().slow_callback_duration = 10
        async with asyncio.TaskGroup() as group:
            group.create_task(here.wait(), name="child")

    with make_loop(exit_timeout=5, debug=True) as loop:
        loop.submit(parent)
        here.has_begun()
        assert f'  made at File "{__file__}", line ' in entry(loop.dump(), "task child")


def entry_of(dump, words):
    """The part of a dump whose first line has these words."""
    (found,) = (part for part in dump.split("\n\n") if words in part.splitlines()[0])
    return found


async def numbers(here):
    yield 1
    await here.wait()


@pytest.mark.parametrize("prefetch", [0, 1])
def test_an_iteration_shows_where_its_generator_is(loop, here, prefetch):
    items = loop.iterate(numbers(here), prefetch=prefetch)
    if not prefetch:
        assert next(items) == 1
    until(lambda: "waiting for next()" in loop.dump())
    [first, submitted, place, _] = entry(loop.dump(), "task").splitlines()
    assert "iteration of numbers: waiting for next()" in first
    assert submitted.endswith("in test_an_iteration_shows_where_its_generator_is")
    assert place.endswith("in numbers")
    taker = Caller(list, items)
    here.has_begun()
    lines = entry_of(loop.dump(), ", iteration of numbers: waiting for Future").splitlines()
    frames = [line.rpartition(" in ")[2] for line in lines[2:] if line.startswith("  File")]
    assert frames == ["numbers", "wait", "wait"]
    until(lambda: "next() of the iteration of numbers: waiting for Future" in loop.dump())
    until(lambda: "  waited for by caller of" in entry_of(loop.dump(), "next() of the iteration of numbers"))
    items.close()
    taker.outcome()


def test_contexts_show_where_they_are(loop):
    @contextlib.asynccontextmanager
    async def open_pool():
        yield

    loop.enter_async_context(open_pool())
    with loop.wrap_async_context_manager(asyncio.Lock()):
        dump = loop.dump()
    pool = entry_of(dump, "open_pool: waiting for the end of the loop")
    assert pool.splitlines()[2].endswith("in open_pool")
    lock = entry_of(dump, "context of Lock: waiting for the end of its block")
    assert len(lock.splitlines()) == 2
