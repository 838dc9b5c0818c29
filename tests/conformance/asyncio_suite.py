"""Runs CPython's own tests of asyncio on a loop: each file in a process of its own, within a time limit.

No test is lost: one that ends its process or hangs is marked so, and those after it run in a further process. None
gets a second chance.
"""

import collections
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from . import asyncio_file, cpython_tests

TEST_LIMIT = 30.0
"""Seconds after which a test counts as hanging. The slowest took five on a busy machine."""

FILE_LIMIT = 600.0
"""Seconds after which a process with tests is ended, whatever it does."""

_PROCESSES = 10  # for one file, if tests end them

NOT_OF_A_LOOP_FOR_UNIX = {"test_proactor_events", "test_windows_events", "test_windows_utils"}
"""Files that are left out: what they test is for Windows."""


@dataclasses.dataclass
class Outcome:
    """What came of one test."""

    outcome: str
    """passed, failed, skipped, hung, ended the process, or not reached."""
    detail: str = ""
    seconds: float = 0.0
    makes_the_loop: bool = False


@dataclasses.dataclass
class FileRun:
    """What came of the tests of one file on one loop."""

    file: str
    loop: str
    tests: dict[str, Outcome] = dataclasses.field(default_factory=dict)
    output: str = ""
    seconds: float = 0.0

    def counts(self):
        """How many tests passed, failed in whatever way, and were skipped."""
        counts = collections.Counter(test.outcome for test in self.tests.values())
        passed, skipped = counts["passed"], counts["skipped"]
        return passed, len(self.tests) - passed - skipped, skipped


def files():
    """The names of CPython's files of asyncio tests, less those for Windows; none if they aren't installed."""
    spec = cpython_tests.find("test_asyncio")
    if spec is None:
        return []
    found = {
        path.stem for folder in spec.submodule_search_locations for path in Path(folder).glob("test_*.py")
    }
    return sorted(found - NOT_OF_A_LOOP_FOR_UNIX)


def run(file, loop, patterns=(), *, package="test.test_asyncio", limit=TEST_LIMIT):
    """Runs the tests of a file, or those that match one of the patterns, as unittest's `-k` takes them."""
    run = FileRun(file, loop)
    began = time.monotonic()
    left = None
    for _ in range(_PROCESSES):
        left = _run_process(run, package, limit, patterns, only=left)
        if not left or _stopping.is_set():
            break
    run.tests |= {test: Outcome("not reached") for test in left}
    run.seconds = time.monotonic() - began
    return run


def run_all(files, loops, *args, jobs=1, **kwargs):
    """Yields the `FileRun` of each file on each loop as soon as it is there, several at the same time."""
    pool = ThreadPoolExecutor(jobs)
    try:
        waiting = [pool.submit(run, file, loop, *args, **kwargs) for file in files for loop in loops]
        for ended in as_completed(waiting):
            yield ended.result()
    finally:
        # Left early, it ends what runs, and what is about to.
        _stopping.set()
        pool.shutdown(cancel_futures=True)
        _stopping.clear()


def _run_process(run, package, limit, patterns, only):
    """Adds what came of the tests. Returns the names of those that weren't reached and may be run by another one."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "work").mkdir()  # tests leave files there
        report = folder / "report"
        command = [sys.executable, "-m", asyncio_file.__name__, package, run.file]
        command += ["--loop", run.loop, "--report", str(report), "--limit", str(limit)]
        command += [f"-k={pattern}" for pattern in patterns]
        if only is not None:
            (folder / "only").write_text("\n".join(only))
            command += ["--only", str(folder / "only")]
        with (folder / "output").open("wb") as output:
            exit_code = _wait(command, folder / "work", output)
        output = (folder / "output").read_text(errors="replace")
        lines = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
    run.output += output
    tests, running, finished = [], None, False
    for line in lines:
        tests = line.get("tests", tests)
        running = line.get("begins", running)
        finished = line.get("finished", False)
        if "test" in line:
            running = None
            test, outcome = line.pop("test"), line.pop("outcome")
            run.tests[test] = Outcome(*outcome, **line)
    if finished:
        if exit_code != 0:
            run.tests[f"{run.file} (end of the process)"] = Outcome("ended the process", output)
        return []
    if running is None:
        # It ended before the first test, or between two: nothing to go on with.
        run.tests[run.file] = Outcome("ended the process", output)
        return []
    in_time = exit_code is not None
    hung = not in_time or _TIMEOUT in output
    run.tests[running] = Outcome("hung" if hung else "ended the process", output)
    left = [test for test in tests if test not in run.tests]
    if not in_time:
        run.tests |= {test: Outcome("not reached") for test in left}
        return []
    return left


def _wait(command, folder, output):
    """The exit code of the process, or None if it had to be ended. Nothing of what it started outlives it."""
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    ends = time.monotonic() + FILE_LIMIT
    in_time = True
    try:
        # Only looked at: once it is waited for, its number may be another group's.
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            in_time = time.monotonic() < ends
            if not in_time or _stopping.is_set():
                break
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        exit_code = process.wait()
    return exit_code if in_time else None


_stopping = threading.Event()
_TIMEOUT = "Timeout ("  # begins what faulthandler says
_ROOT = Path(__file__).parents[len(__name__.split(".")) - 1]
