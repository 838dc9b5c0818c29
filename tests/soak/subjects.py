"""A loop under test: how it is opened and closed, and what its callers may expect of it meanwhile."""

import asyncio
import contextlib
import threading
import weakref

from asyncio_thread_loop import AsyncioThreadLoop, DeadlockError

from .hostile import Planted, raises_planted
from .ledger import HANG

FLAVOURS = ["native", "standard", "uvloop"]


def factory(flavour):
    """What makes the loops of a flavour, as `loop_factory`."""
    if flavour == "native":
        return None
    if flavour == "standard":
        return asyncio.SelectorEventLoop
    import uvloop

    return uvloop.new_event_loop


class Subject:
    """An `AsyncioThreadLoop` with random options, and what is known about it."""

    def __init__(self, name, flavour, rng, hooks):
        self.name = name
        exit_timeout = rng.choice([None, None, 0.0, 0.05, 5.0])
        # Not uvloop's: it asks for the stack of whoever schedules something, which crashes CPython 3.13.0 if that is a
        # destructor of a native object while a Python function returns to C.
        debug = True if flavour != "uvloop" and rng.random() < 0.15 else None
        self.options = {
            "exit_timeout": exit_timeout,
            "loop_factory": factory(flavour),
            "name": name,
            "debug": debug,
            "propagate_context": rng.choice(["in", "both"]),
            "on_fork": rng.choice(["restart", "raise"]),
            # In debug mode a loop describes every callback that takes long: here, every one.
            "initializer": _describes_everything if debug else None,
        }
        self.flavour = flavour
        self.loop = AsyncioThreadLoop(**self.options)
        #: What its coroutines want to outlive them.
        self.kept = []
        #: Opened when those who refuse to end may end.
        self.gate = threading.Event()
        self.generators_begun = self.generators_ended = 0
        self.is_inherited = False
        self._hooks = hooks
        self._changing = threading.Lock()
        self._is_open = False
        self._closing = 0
        self._generation = 0
        self._lives = []

    def __str__(self):
        given = {name: value for name, value in self.options.items() if value is not None and name != "name"}
        return f"{self.name} {given}"

    @property
    def exit_is_bounded(self):
        return self.options["exit_timeout"] is not None and self.options["exit_timeout"] < 1

    @property
    def can_show_anything(self):
        """asyncio's own loops end their run, in debug mode, at a slow callback whose `repr` raises."""
        return self.flavour == "native" or not self.options["debug"]

    @property
    def gave_up(self):
        return self.name in self._hooks.given_up

    # When `LoopClosedError` is a fair answer.

    def moment(self):
        """Something to ask `was_open_since` with later."""
        with self._changing:
            return self._generation if self._is_open and not self._closing else None

    def was_open_since(self, moment):
        """Whether nobody so much as began to close it since then."""
        return moment is not None and moment == self.moment()

    # Opening and closing.

    def open(self):
        self.loop.start()
        with self._changing:
            self._is_open = True
        event_loop, thread = self.loop.loop, self.loop.thread
        if event_loop is not None and thread is not None:
            self._lives.append((weakref.ref(event_loop), thread))

    def reopen(self, call):
        """Enters the same object once more, which is refused as long as it is open."""
        call.may_raise(RuntimeError)
        self.open()

    def close(self, call, *, wait, **options):
        thread = self.loop.thread
        with self._changing:
            self._closing += 1
            self._generation += 1
        try:
            call.note(f"shutdown({wait=}, {options})")
            call.may_raise(SystemExit)  # out of a callback of a future that the exit gives up
            self.loop.shutdown(wait, **options)
        finally:
            with self._changing:
                self._closing -= 1
                self._is_open = False
        if wait and thread is not None and thread.is_alive() and not self.gave_up:
            call.violated("shutdown() returned, the thread lives on, and nobody said that it was given up")

    def close_for_good(self, call):
        """Closes it, lets those who refused to end, and waits for its threads."""
        try:
            self.close(call, wait=True)
        finally:
            self.gate.set()

    # The audit.

    def problems(self):
        for event_loop, thread in self._lives:
            thread.join(HANG)
            if thread.is_alive():
                yield f"a thread of {self.name} lives on"
            event_loop = event_loop()
            if event_loop is None:
                continue
            if not event_loop.is_closed():
                yield f"a loop of {self.name} wasn't closed"
            left = asyncio.all_tasks(event_loop)
            if left:
                yield f"{len(left)} tasks of {self.name} live on"
        if (self.loop.loop, self.loop.thread) != (None, None):
            yield f"{self.name} is closed and shows its loop still"
        if self.generators_begun != self.generators_ended:
            yield f"{self.generators_begun} generators began and {self.generators_ended} ended"


def _describes_everything():
    asyncio.get_running_loop().slow_callback_duration = 0.0


def fail_to_start(call, flavour, rng):
    """A loop that can't start raises what kept it from starting, and leaves nothing behind."""
    make = factory(flavour)
    wrong = rng.choice(
        ["initializer", "factory fails", "factory returns rubbish", "factory returns a closed loop"]
    )
    call.note(wrong)
    options = {"loop_factory": make}
    if wrong == "initializer":
        options["initializer"] = raises_planted
    elif wrong == "factory fails":
        options["loop_factory"] = raises_planted
    elif wrong == "factory returns rubbish":
        options["loop_factory"] = object
    else:
        options["loop_factory"] = _closed_loop
    loop = AsyncioThreadLoop(name=f"never started {call.number}", **options)
    try:
        loop.start()
    except (Planted, TypeError, RuntimeError) as error:
        if isinstance(error, Planted) != (wrong in ("initializer", "factory fails")):
            call.violated(f"{wrong}: another error", error)
    else:
        call.violated(f"{wrong}: it started all the same")
    if loop.loop is not None or loop.thread is not None:
        call.violated(f"{wrong}: it left something behind")
    with contextlib.suppress(DeadlockError):
        loop.close()
    return "refused"


def _closed_loop():
    loop = asyncio.SelectorEventLoop()
    loop.close()
    return loop
