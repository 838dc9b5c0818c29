"""Forks in the middle of everything. The child uses the loops it inherited, reports through a pipe, and goes."""

import asyncio
import faulthandler
import os
import pathlib
import random
import select
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from asyncio_thread_loop import AsyncioThreadLoop, ForkedError, LoopClosedError, run

from .ledger import HANG
from .subjects import factory


def fork(call, subjects, futures, rng):
    """Forks, has the child look around, and waits for its report."""
    raises = [subject.options["on_fork"] == "raise" for subject in subjects]
    done = [future.done() for future in futures]
    read, write = os.pipe()
    try:
        pid = os.fork()
        if pid == 0:
            _be_the_child(write, subjects, raises, futures, done)
        problem = _report(pid, read)
    finally:
        os.close(read)
        os.close(write)
    if problem:
        call.violated(f"in a forked child: {problem}")
    return "accepted"


def _report(pid, pipe):
    """What the child found wrong, or what was wrong with the child."""
    ends = time.monotonic() + HANG + 5
    report = b""
    while time.monotonic() < ends:
        # Others fork as well and keep the pipe open: its end tells nothing.
        if select.select([pipe], [], [], 0.05)[0]:
            report += os.read(pipe, 65536)
        gone, status = os.waitpid(pid, os.WNOHANG)
        if gone:
            while select.select([pipe], [], [], 0)[0]:
                report += os.read(pipe, 65536)
            code = os.waitstatus_to_exitcode(status)
            text = report.decode()
            return None if (code, text) == (0, "fine") else f"exit code {code}, it says: {text}"
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return f"it hangs, its stacks are on stderr; it says: {report.decode()}"


def _be_the_child(pipe, subjects, raises, futures, done):
    try:
        faulthandler.dump_traceback_later(HANG, exit=True)
        for future, was_done in zip(futures, done, strict=True):
            _look_at_inherited(future, was_done)
        for subject, forked_error in zip(subjects, raises, strict=True):
            _use(subject, forked_error)
        os.write(pipe, b"fine")
    except BaseException:
        os.write(pipe, traceback.format_exc().encode())
    finally:
        os._exit(0)


def _look_at_inherited(future, was_done):
    """A future that wasn't done will never be; one that was keeps its result."""
    try:
        future.exception()
    except ForkedError:
        assert not was_done, "a future that was done is a ForkedError"
    except BaseException:
        assert future.done(), "an unfinished future raised something else"


async def _answer():
    return 42


def _use(subject, forked_error):
    """The loop restarts, or says that it won't, or was closed when the process was forked."""
    for _ in range(2):
        try:
            assert subject.loop.evaluate(_answer()) == 42
        except ForkedError:
            assert forked_error, "a ForkedError from a loop that should restart"
        except LoopClosedError:
            pass
        else:
            assert subject.loop.thread is not None
            subject.loop.shutdown(timeout=5)
            try:
                subject.loop.evaluate(_answer())
            except LoopClosedError:
                break
            raise AssertionError("it could be used after its end")


# A program whose children end as programs do, with what they inherited and what they made.


def run_program(call, flavour, seed):
    """Runs it. Its children have to end by themselves."""
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-W",
        "ignore::DeprecationWarning",
        "-m",
        "tests.soak.forks",
    ]
    root = pathlib.Path(__file__).parents[2]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([*command, flavour, str(seed)], cwd=root, stdout=output, stderr=output)
        try:
            code = process.wait(HANG - 1)
        except subprocess.TimeoutExpired:
            code = "a hang"
            process.kill()
            process.wait()
        output.seek(0)
        if (code, said := output.read()) != (0, "fine\n"):
            call.violated(f"a program that forks ended with {code} and said: {said}")
    return "accepted"


def program(flavour, seed):
    rng = random.Random(seed)
    bridge = AsyncioThreadLoop(exit_timeout=HANG / 2, loop_factory=factory(flavour)).start()
    over = threading.Event()
    threads = [threading.Thread(target=_calls, args=(bridge, over)) for _ in range(3)]
    for thread in threads:
        thread.start()
    endless = bridge.submit(asyncio.sleep, 3600)
    for _ in range(rng.randint(1, 3)):
        if os.fork() == 0:
            # Not before the fork: the child would wait for a thread it doesn't have.
            faulthandler.dump_traceback_later(HANG / 2, exit=True)
            if rng.random() < 0.7:
                assert bridge.evaluate(_answer()) == 42
                bridge.submit(asyncio.sleep, 3600)
            if rng.random() < 0.5:
                run(_answer())
            _look_at_inherited(endless, was_done=False)
            return 0
        rng.random()  # the next child draws something else
        code = os.waitstatus_to_exitcode(os.wait()[1])
        assert code == 0, f"a child ended with {code}"
    over.set()
    for thread in threads:
        thread.join()
    assert bridge.evaluate(_answer()) == 42
    print("fine")
    return 0


def _calls(bridge, over):
    while not over.is_set():
        bridge.evaluate(_answer())


if __name__ == "__main__":
    sys.exit(program(*sys.argv[1:]))
