"""The ways from synchronous to asynchronous code that are compared, each as its users write it."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

from asyncio_thread_loop import AsyncioThreadLoop

from .measuring import Required, Turns, Way, repeated

NATIVE = "AsyncioThreadLoop"
CALLER_RUNS = "AsyncioThreadLoop, caller_runs"
ON_STANDARD = "AsyncioThreadLoop, standard loop"
ON_UVLOOP = "AsyncioThreadLoop, uvloop"
STANDARD = "run_coroutine_threadsafe"
UVLOOP = "run_coroutine_threadsafe, uvloop"
RLOOP = "run_coroutine_threadsafe, rloop"
ANYIO = "anyio portal"
ANYIO_UVLOOP = "anyio portal, uvloop"
ASGIREF = "asgiref async_to_sync"
FSSPEC = "fsspec sync"
SYNCHRONICITY = "synchronicity"
RUNNER = "asyncio.Runner"
POOL = "ThreadPoolExecutor, plain function"

OURS = (NATIVE, CALLER_RUNS, ON_STANDARD, ON_UVLOOP)

#: The modes something is required of.
MODES = {"default": NATIVE, "caller_runs": CALLER_RUNS}


class Work(NamedTuple):
    """What is called."""

    coroutine: Callable[[], Coroutine[Any, Any, Any]]
    #: The same, blocking: for what can't run coroutines.
    plain: Callable[[], object]


async def trivial() -> int:
    return 42


def plain_trivial() -> int:
    return 42


TRIVIAL = Work(trivial, plain_trivial)


class Bridge(Protocol):
    """A way that is open. Those that give out futures also have `submit`, which makes what submits the work."""

    def call(self, work: Work) -> Callable[[], object]:
        """Makes what does the work and waits for it."""
        ...


class LoopBridge:
    """What takes coroutines: `evaluate` waits, `submit` doesn't."""

    def __init__(self, loop: AsyncioThreadLoop | StandardWay) -> None:
        self.loop = loop

    def call(self, work: Work) -> Callable[[], object]:
        evaluate, make = self.loop.evaluate, work.coroutine
        return lambda: evaluate(make())

    def submit(self, work: Work) -> Callable[[], Future]:
        submit, make = self.loop.submit, work.coroutine
        return lambda: submit(make())


class StandardWay:
    """What one writes without this library: a thread that runs a loop, and `run_coroutine_threadsafe`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def submit(self, coro) -> Future:
        return asyncio.run_coroutine_threadsafe(coro, self._loop)

    def evaluate(self, coro):
        return self.submit(coro).result()


@contextmanager
def standard_way(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[StandardWay]:
    loop = loop_factory()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield StandardWay(loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


# Ours


@contextmanager
def ours(loop_factory=None, **options) -> Iterator[LoopBridge]:
    with AsyncioThreadLoop(loop_factory=loop_factory, **options) as loop:
        yield LoopBridge(loop)


@contextmanager
def ours_on_uvloop() -> Iterator[LoopBridge]:
    import uvloop

    with ours(uvloop.new_event_loop) as bridge:
        yield bridge


# Peers


@contextmanager
def standard(module: str = "asyncio", name: str = "SelectorEventLoop") -> Iterator[LoopBridge]:
    with standard_way(getattr(__import__(module), name)) as loop:
        yield LoopBridge(loop)


class AnyioPortal:
    def __init__(self, portal) -> None:
        self._portal = portal

    def call(self, work: Work) -> Callable[[], object]:
        return partial(self._portal.call, work.coroutine)

    def submit(self, work: Work) -> Callable[[], Future]:
        return partial(self._portal.start_task_soon, work.coroutine)


@contextmanager
def anyio_portal(**backend_options) -> Iterator[AnyioPortal]:
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal("asyncio", backend_options) as portal:
        yield AnyioPortal(portal)


class Asgiref:
    """In a program without a loop of its own, each call gets a new thread and a new loop."""

    def __init__(self, async_to_sync) -> None:
        self._async_to_sync = async_to_sync

    def call(self, work: Work) -> Callable[[], object]:
        return self._async_to_sync(work.coroutine)


@contextmanager
def asgiref() -> Iterator[Asgiref]:
    from asgiref.sync import async_to_sync

    yield Asgiref(async_to_sync)


class Fsspec:
    def __init__(self, sync, loop) -> None:
        self._sync, self._loop = sync, loop

    def call(self, work: Work) -> Callable[[], object]:
        return partial(self._sync, self._loop, work.coroutine)


@contextmanager
def fsspec() -> Iterator[Fsspec]:
    from fsspec.asyn import get_loop, sync

    yield Fsspec(sync, get_loop())


class Synchronicity:
    def __init__(self, synchronizer) -> None:
        self._wrap = synchronizer.wrap

    def call(self, work: Work) -> Callable[[], object]:
        return self._wrap(work.coroutine)

    def submit(self, work: Work) -> Callable[[], Future]:
        return partial(self._wrap(work.coroutine), _future=True)


@contextmanager
def synchronicity() -> Iterator[Synchronicity]:
    from synchronicity import Synchronizer

    yield Synchronicity(Synchronizer())


class Runner:
    """A loop in the calling thread, which runs only while it is called. Each thread has its own."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._local = threading.local()

    def call(self, work: Work) -> Callable[[], object]:
        local, make = self._local, work.coroutine
        if not hasattr(local, "run"):
            local.run = self._stack.enter_context(asyncio.Runner()).run
        run = local.run
        return lambda: run(make())


@contextmanager
def runner() -> Iterator[Runner]:
    with ExitStack() as stack:
        yield Runner(stack)


class Pool:
    """No coroutines at all: a thread for each call that waits."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor

    def call(self, work: Work) -> Callable[[], object]:
        submit, function = self._executor.submit, work.plain
        return lambda: submit(function).result()

    def submit(self, work: Work) -> Callable[[], Future]:
        return partial(self._executor.submit, work.plain)


@contextmanager
def pool() -> Iterator[Pool]:
    with ThreadPoolExecutor() as executor:
        yield Pool(executor)


# All of them

WAYS: dict[str, Callable[[], AbstractContextManager[Bridge]]] = {
    NATIVE: ours,
    CALLER_RUNS: partial(ours, caller_runs=True),
    ON_STANDARD: partial(ours, asyncio.SelectorEventLoop),
    ON_UVLOOP: ours_on_uvloop,
    STANDARD: standard,
    UVLOOP: partial(standard, "uvloop", "new_event_loop"),
    RLOOP: partial(standard, "rloop", "new_event_loop"),
    ANYIO: anyio_portal,
    ANYIO_UVLOOP: partial(anyio_portal, use_uvloop=True),
    ASGIREF: asgiref,
    FSSPEC: fsspec,
    SYNCHRONICITY: synchronicity,
    RUNNER: runner,
    POOL: pool,
}

if "caller_runs" not in inspect.signature(AsyncioThreadLoop).parameters:
    del WAYS[CALLER_RUNS]


@dataclass
class Opened:
    """The ways that could be opened, and why the others couldn't."""

    bridges: dict[str, Bridge] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def calls(
        self, works: Work | Mapping[str, Work], missing: dict[str, str]
    ) -> dict[str, Callable[[], object]]:
        """Each way's call of the work, or of its own of many. Says what is missing for the table it is for."""
        missing |= self.missing
        calls = {}
        for name, bridge in self.bridges.items():
            with reasons(name, missing):
                call = bridge.call(works if isinstance(works, Work) else works[name])
                call()
                calls[name] = call
        return calls

    def calling(self, works: Work | Mapping[str, Work], missing: dict[str, str]) -> dict[str, Way]:
        return {name: repeated(call) for name, call in self.calls(works, missing).items()}


@contextmanager
def all_open(names: Iterable[str] | None = None) -> Iterator[Opened]:
    """Every way at once (or those named): whose turn it isn't is asleep."""
    opened = Opened()
    with ExitStack() as stack:
        for name in WAYS if names is None else names:
            with reasons(name, opened.missing):
                bridge = stack.enter_context(WAYS[name]())
                bridge.call(TRIVIAL)()
                opened.bridges[name] = bridge
        yield opened


@contextmanager
def reasons(name: str, missing: dict[str, str]) -> Iterator[None]:
    """A peer that can't be used is missing, for a reason. We can be."""
    with nullcontext() if name in OURS else suppress(Exception):
        try:
            yield
        except Exception as error:
            missing[name] = f"not available: {type(error).__name__}: {error}"
            raise


# What is required


def faster(turns: Mapping[str, Turns], than: str, **bounds: float) -> list[Required]:
    """Each mode is to be at least so many times faster than something."""
    return [
        Required(
            f"times faster than {than} ({mode})", turns[than].times(turns[MODES[mode]]), "at least", bound
        )
        for mode, bound in bounds.items()
        if than in turns and MODES[mode] in turns
    ]


def near(turns: Mapping[str, Turns], limit: str, **bounds: float) -> list[Required]:
    """Each mode is to take at most so many times as long as something nobody can be faster than."""
    return [
        Required(f"times {limit} ({mode})", turns[MODES[mode]].times(turns[limit]), "at most", bound)
        for mode, bound in bounds.items()
        if limit in turns and MODES[mode] in turns
    ]


def fastest(turns: Mapping[str, Turns]) -> list[Required]:
    """Each mode is to be no slower than any peer."""
    peers = [name for name in turns if name in WAYS and name not in OURS]
    first = min(peers, key=lambda name: turns[name].microseconds)
    return near(turns, first, default=1, caller_runs=1)
