"""CPython's own tests of `concurrent.futures`, of the CPython that runs this, on this library's futures.

    python -m tests.conformance.futures [--loop native|standard|uvloop] [MODULE ...]

prints a table and fails unless every test passes but for the `DIFFERENCES`. Each test module runs in a process of its
own, within a time limit. `cpython_tests` tells where they are taken from.
"""

import argparse
import dataclasses
import faulthandler
import importlib
import os
import subprocess
import sys
import tempfile
import unittest

from . import cpython_tests

LOOPS = ["native", "standard", "uvloop"]

LIMIT = 120.0
"""Seconds after which a test module counts as hanging."""

DIFFERENCES = {
    "ThreadPoolFailingInitializerTest.test_initializer": (
        "an initializer that raises is an exception in the caller who starts the loop, and nothing is left running; "
        "a thread pool is broken from then on"
    ),
    "ThreadPoolShutdownTest.test_submit_after_interpreter_shutdown": (
        "a submit after the close is a LoopClosedError, a RuntimeError in its own words"
    ),
}
"""Tests that fail, and which promise of this library makes them."""

_ONE_THREAD = "it counts a pool's worker threads; an AsyncioThreadLoop has one thread"

INAPPLICABLE = {
    "ThreadPoolExecutorTest.test_idle_thread_reuse": _ONE_THREAD,
    "ThreadPoolExecutorTest.test_saturation": _ONE_THREAD,
    "ThreadPoolShutdownTest.test_threads_terminate": _ONE_THREAD,
}
"""Tests that aren't run, and why."""

_MODULES = ["as_completed", "future", "init", "shutdown", "thread_pool", "wait"]


def modules_with_tests():
    """Names of the modules that have tests of threads and futures; none if they aren't installed."""
    whole = "test.test_concurrent_futures"
    spec = cpython_tests.find("test_concurrent_futures")
    if spec is None:
        return []
    if spec.submodule_search_locations is None:
        return [whole]
    return [f"{whole}.test_{module}" for module in _MODULES]


@dataclasses.dataclass
class Report:
    """What came of the tests of one module."""

    module: str
    passed: list[str] = dataclasses.field(default_factory=list)
    failed: list[str] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)
    exit_code: int | None = None
    output: str = ""

    @property
    def as_expected(self):
        return set(self.failed) & set(DIFFERENCES)

    @property
    def trouble(self):
        """What went otherwise than it should, or an empty string."""
        lines = [f"{name} failed" for name in self.failed if name not in DIFFERENCES]
        lines += [
            f"{name} passes: it is no difference any more" for name in self.passed if name in DIFFERENCES
        ]
        if self.exit_code != 0:
            lines.append(f"the tests broke off with exit code {self.exit_code}")
        if not self.passed:
            lines.append("no test passed")
        return "\n".join([f"{self.module}: {line}" for line in lines] + [self.output] if lines else [])


def run(module, loop="native"):
    """Runs the tests of one module in a process of its own."""
    report = Report(module)
    with tempfile.TemporaryFile("w+") as output:
        command = [sys.executable, "-m", __spec__.name, "--loop", loop, "--inside", module]
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        try:
            # It ends itself before, with the stacks of its threads; if it can't, it is ended.
            ended = subprocess.run(command, cwd=_root(), timeout=LIMIT + 30, **streams)
            report.exit_code = ended.returncode
        except subprocess.TimeoutExpired:
            report.exit_code = "none: it hangs"
        output.seek(0)
        report.output = output.read()
    for line in report.output.splitlines():
        mark, _, rest = line.partition(": ")
        if mark in ("passed", "failed", "skipped"):
            getattr(report, mark).append(rest.partition(":")[0])
    return report


def _root():
    """The folder that the name of this module begins at."""
    root = os.path.abspath(__file__)
    for _ in __spec__.name.split("."):
        root = os.path.dirname(root)
    return root


# Inside the process of one module.


class _Result(unittest.TestResult):
    """Prints one line for each test as soon as it has ended."""

    def startTest(self, case):
        super().startTest(case)
        print(f"running: {_name(case)}", flush=True)

    def _say(self, mark, case, more=""):
        print(f"{mark}: {_name(case)}: {more}", flush=True)

    def addSuccess(self, case):
        self._say("passed", case)

    def addFailure(self, case, error):
        super().addFailure(case, error)
        self._say("failed", case, self.failures[-1][1])

    def addError(self, case, error):
        super().addError(case, error)
        self._say("failed", case, self.errors[-1][1])

    def addSubTest(self, case, subtest, error):
        if error is not None:
            self.addError(case, error)

    def addSkip(self, case, reason):
        self._say("skipped", case, reason)


def _name(case):
    return ".".join(case.id().split(".")[-2:])


def _run_inside(module, loop):
    import test.support

    from .loop_executor import install, plain_futures_are_ours

    test.support.verbose = 0  # else it prints times
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    install(loop)
    with plain_futures_are_ours():
        tests = importlib.import_module(module)
    if hasattr(tests, "assert_python_ok"):
        tests.assert_python_ok = _in_script(tests.assert_python_ok, loop)
    for each in INAPPLICABLE.items():
        _skip(tests, *each)
    suite = unittest.TestSuite(
        unittest.defaultTestLoader.loadTestsFromTestCase(case)
        for name, case in vars(tests).items()
        if name == "FutureTests" or (name.startswith("ThreadPool") and name.endswith(("Test", "Tests")))
    )
    suite.run(_Result())


def _skip(tests, name, reason):
    case_name, _, test_name = name.partition(".")
    case = getattr(tests, case_name, None)
    if case is not None and hasattr(case, test_name):
        setattr(case, test_name, unittest.skip(reason)(getattr(case, test_name)))


def _in_script(assert_python_ok, loop):
    """Scripts that the tests run must have the same executor."""
    import test

    prelude = (
        f"import sys; sys.path[:] = {sys.path!r}; import test; test.__path__[:] = {list(test.__path__)!r}\n"
    )
    prelude += f"from {__package__}.loop_executor import install; install({loop!r})\n"
    return lambda option, code: assert_python_ok(option, prelude + code)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loop", choices=LOOPS, default="native")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("modules", metavar="MODULE", nargs="*")
    arguments = parser.parse_args()
    known = modules_with_tests()
    modules = arguments.modules or known
    if arguments.inside:
        return _run_inside(modules[0], arguments.loop)
    if not modules:
        return f"{sys.executable} has no tests of concurrent.futures"
    print(f"{'passed':>8} {'failed':>8} {'differ':>8} {'skipped':>8}")
    trouble = []
    for module in modules:
        report = run(module, arguments.loop)
        counts = len(report.passed), len(report.failed) - len(report.as_expected), len(report.as_expected)
        print("".join(f"{count:>8} " for count in (*counts, len(report.skipped))) + module, flush=True)
        trouble.append(report.trouble)
    return "\n".join(filter(None, trouble)) or None


if __name__ == "__main__":
    sys.exit(main())
