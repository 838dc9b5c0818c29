"""The short form of `python -m tests.soak`, and that it sees what goes wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def run(*args):
    # Without PYTHONPATH the library is the installed one: the root of the repository only adds `tests`.
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", *args], cwd=ROOT, text=True, capture_output=True
    )


@pytest.mark.parametrize("loop", ["native", "standard", "uvloop"])
def test_every_call_comes_to_its_one_proper_end(loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")
    done = run("-m", "tests.soak", "--seconds", "4", "--seed", "11", "--loop", loop)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every accepted call ended exactly once" in done.stdout


def test_a_program_that_forks_and_its_children_end():
    done = run("-W", "ignore::DeprecationWarning", "-m", "tests.soak.forks", "native", "7")
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


PLANTED = {
    "a caller that is never woken": (
        """
tests.soak.hooks.HANG = 2
AsyncioThreadLoop.evaluate = lambda *args: threading.Event().wait()
""",
        "a call hangs",
    ),
    "a callback that is never called": (
        """
adds = Future.add_done_callback
Future.add_done_callback = lambda future, fn: None if "Work._done" in repr(fn) else adds(future, fn)
""",
        "callback was called 0 times",
    ),
    "a callback that is called twice": (
        """
adds = Future.add_done_callback
Future.add_done_callback = lambda future, fn: (adds(future, fn), adds(future, fn))
""",
        "callback was called 2 times",
    ),
    "a coroutine that is forgotten": (
        """
def evaluate(loop, coro, timeout=None):
    raise TimeoutError
AsyncioThreadLoop.evaluate = evaluate
""",
        "its coroutine was left behind, CORO_CREATED",
    ),
    "another result": (
        """
evaluates = AsyncioThreadLoop.evaluate
AsyncioThreadLoop.evaluate = lambda loop, coro, timeout=None: [evaluates(loop, coro, timeout)]
""",
        "gave its caller something else than it returned",
    ),
    "an error of its own": (
        """
def submit(loop, work, *args, **kwargs):
    if not next(count) % 50:
        raise ZeroDivisionError
    return original(loop, work, *args, **kwargs)
AsyncioThreadLoop.submit = submit
""",
        "an error that nothing accounts for",
    ),
    "a descriptor left open": (
        """
start = AsyncioThreadLoop.start
AsyncioThreadLoop.start = lambda loop: (os.dup(0), start(loop))[1]
""",
        "threads and descriptors",
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_fault_is_found_and_named(planted):
    code, found = PLANTED[planted]
    script = f"""
import itertools, os, runpy, sys, threading
from asyncio_thread_loop import AsyncioThreadLoop, Future
import tests.soak.hooks, tests.soak.rounds
count = itertools.count(1)
original = AsyncioThreadLoop.submit
class Late(tests.soak.rounds.Soak):
    "Breaks the library after everything has been prepared."
    def run(self, *args):
{"".join(f"        {line}" + chr(10) for line in code.strip().splitlines())}
        return super().run(*args)
tests.soak.rounds.Soak = Late
sys.argv = ["soak", "--seconds", "3", "--seed", "3", "--loop", "native"]
runpy.run_module("tests.soak", run_name="__main__")
"""
    done = run("-c", script)
    assert done.returncode == 1, done.stdout + done.stderr
    assert found in done.stderr, done.stderr
    assert "--seed 3 --loop native" in done.stderr or "seed 3, round" in done.stderr
