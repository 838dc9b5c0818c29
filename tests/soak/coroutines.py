"""What coroutines do: end well, badly, late or never, and leave things behind.

Each takes its `Work` and draws what is random from the work's dice, so that a seed tells all of it.
"""

import asyncio
import contextlib
import contextvars
import time
import types

from asyncio_thread_loop import DeadlockError, LoopClosedError

from . import hostile
from .hostile import Bystander, LastWords, Planted, PlantedBase

BODIES = {}
"""Every behaviour and its weight."""

ODD = contextvars.ContextVar("ODD", default=None)


def body(weight):
    def register(function):
        BODIES[function] = weight
        return function

    return register


def choose(rng, subject):
    """One of the behaviours. Those that never give in are for loops whose exit is bounded."""
    chosen = rng.choices(list(BODIES), list(BODIES.values()))[0]
    return waits_for_ever if chosen is refuses_to_end and not subject.exit_is_bounded else chosen


@body(8)
async def returns_at_once(work):
    pass


@body(8)
async def sleeps(work):
    await asyncio.sleep(work.dice.choice([0, 0, 0.0005, 0.005]))


@body(4)
async def waits_for_ever(work):
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(work.dice.choice([0, 0.001]))


@body(2)
async def raises(work):
    await asyncio.sleep(work.dice.choice([0, 0.001]))
    raise work.dice.choice([Planted, PlantedBase, hostile.WithoutNotes])("planted")


@body(1)
async def stops_an_iteration(work):
    raise work.dice.choice([StopIteration, StopAsyncIteration])("planted")


@body(2)
async def exits(work):
    if work.dice.random() < 0.5:
        await asyncio.sleep(0)
    raise work.dice.choice([SystemExit, KeyboardInterrupt])("planted")


@body(3)
async def raises_an_odd_error(work):
    if work.dice.random() < 0.5:
        await asyncio.sleep(0)
    odd = work.dice.choice(hostile.ODD_ERRORS)
    if odd is hostile.WithoutRepr and not work.subject.can_show_anything:
        odd = Planted
    raise odd


@body(1)
async def recurses_too_deep(work):
    async def deeper():
        await deeper()

    await deeper()


@body(2)
async def says_it_is_cancelled(work):
    raise asyncio.CancelledError("by itself")


@body(1)
async def cancels_itself(work):
    work.cancelled_itself = True
    asyncio.current_task().cancel()
    if work.dice.random() < 0.5:
        await asyncio.sleep(0)


@body(3)
async def swallows_cancellation(work):
    for _ in range(work.dice.randint(1, 4)):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.005)


@body(1)
async def refuses_to_end(work):
    while not work.subject.gate.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.005)


@body(1)
async def blocks_the_loop(work):
    time.sleep(work.dice.choice([0.001, 0.005, 0.03]))
    if work.dice.random() < 0.5:
        raise Planted


@body(2)
async def spawns_tasks_nobody_awaits(work):
    for _ in range(work.dice.randint(1, 3)):
        spawned = work.another(
            work.dice.choice([sleeps, waits_for_ever, raises, exits, swallows_cancellation])
        )
        # asyncio itself keeps no task alive.
        work.subject.kept.append(asyncio.create_task(spawned.coroutine()))


@body(2)
async def leaves_a_generator_unfinished(work):
    generator = _ticks(work.subject)
    await anext(generator)
    if work.dice.random() < 0.5:
        work.subject.kept.append(generator)


async def _ticks(subject):
    subject.generators_begun += 1
    try:
        while True:
            yield
    finally:
        try:
            await asyncio.sleep(0)
        finally:
            subject.generators_ended += 1


@body(2)
async def uses_a_failing_context(work):
    async with Bystander(work.dice.choice(["enter", "exit", "never"])):
        if work.dice.random() < 0.5:
            raise Planted("in the body of a context")


@body(2)
async def fails_in_finally(work):
    try:
        await asyncio.sleep(work.dice.choice([0, 0.002, 1000]))
    finally:
        await asyncio.sleep(0)
        raise Planted("in finally")


@body(1)
async def drops_what_fails_in_del(work):
    LastWords()


@body(1)
async def adds_a_failing_callback(work):
    asyncio.current_task().add_done_callback(hostile.raises_planted)
    asyncio.get_running_loop().call_soon(hostile.raises_planted)


@body(1)
async def installs_a_failing_handler(work):
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(work.dice.choice([hostile.raises_planted, None]))
    loop.call_exception_handler({"message": "planted", "exception": Planted("told to the handler")})


@body(1)
async def stops_the_loop(work):
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)


@body(2)
async def changes_its_context(work):
    before = ODD.get()
    ODD.set(hostile.Value())
    await asyncio.sleep(0)
    if ODD.get() is before:
        work.call.violated(f"{work!r}: a context variable was lost")


@types.coroutine
def _bare_yield():
    yield


@body(2)
async def yields(work):
    for _ in range(work.dice.randint(1, 5)):
        await _bare_yield()


@body(1)
async def yields_rubbish(work):
    @types.coroutine
    def rubbish():
        yield hostile.raises_planted

    try:
        await rubbish()
    except RuntimeError as error:
        raise Planted("the task refused it") from error


@body(2)
async def waits_on_its_own_thread(work):
    """Every way to wait for the loop on the loop itself has to be refused at once."""
    loop = work.subject.loop
    pending = asyncio.get_running_loop().create_future()
    more = work.another(returns_at_once)
    ways = {
        "evaluate": lambda: loop.evaluate(more.coroutine()),
        "evaluate_many": lambda: loop.evaluate_many([more.coroutine()]),
        "call": lambda: loop.call(int),
        "map": lambda: loop.map(asyncio.sleep, [0]),
        "as_completed": lambda: loop.as_completed([more.coroutine()]),
        "start_task": lambda: loop.start_task(asyncio.sleep),
        "result": lambda: loop.submit(asyncio.wait_for, pending, 0.01).result(),
        "shutdown": lambda: loop.shutdown(wait=True),
    }
    name = work.dice.choice(list(ways))
    try:
        ways[name]()
    except DeadlockError:
        work.note(f"{name} was refused")
    except LoopClosedError as error:
        if work.call.is_open():
            work.call.violated(f"{name} on the loop's thread", error)
    else:
        # A loop that has been left behind is no longer its object's.
        if asyncio.get_running_loop() is loop.loop:
            work.call.violated(f"{name} on the loop's own thread was not refused")


@body(2)
async def calls_back_from_a_thread(work):
    """The loop waits for a thread that waits for the loop."""
    inner = work.another(work.dice.choice([returns_at_once, sleeps, raises]))
    try:
        result = await asyncio.to_thread(lambda: work.subject.loop.evaluate(inner.coroutine()))
    except (LoopClosedError, RuntimeError) as error:
        raise Planted("it was refused in the thread") from error
    inner.returned(result)


@body(1)
async def submits_more(work):
    inner = work.another(work.dice.choice([returns_at_once, sleeps, waits_for_ever]))
    try:
        future = work.subject.loop.submit(inner.coroutine())
    except LoopClosedError as error:
        if work.call.is_open():
            work.call.violated("submit from a coroutine", error)
        return
    inner.accepted(future, keep=work.dice.random() < 0.5)
    with contextlib.suppress(asyncio.CancelledError, Planted):
        await asyncio.wait_for(asyncio.wrap_future(future), 0.01)
