"""Runs one file of tests of asyncio, in this process, on one loop, and writes down what comes of each test.

What it writes is a line of JSON each: first the names of the tests, then, for every test, that it begins and what came
of it. So whoever reads it knows which test it was that ended or held up the process.
"""

import argparse
import faulthandler
import importlib
import json
import signal
import sys
import time
import traceback
import unittest
from fnmatch import fnmatchcase
from pathlib import Path

from . import cpython_tests, loop_in_place, portable


class Recorder(unittest.TestResult):
    """Writes a line when a test begins, and one with what came of it."""

    def __init__(self, report, package, limit):
        super().__init__()
        self._report = report
        self._package = package
        self._limit = limit
        self._unreported = {}
        self._forget()

    def _forget(self):
        # CPython 3.12.0 and 3.12.1 don't say that a test begins which is skipped by a decorator.
        self._outcome = ("passed", "")
        self._began = time.monotonic()
        loop_in_place.made.clear()

    def write(self, **line):
        print(json.dumps(line), file=self._report, flush=True)

    def name(self, test):
        return test.replace(f"{self._package}.", "")

    def begin(self, suite):
        self._unreported = {case.id(): None for case in cases(suite)}
        self.write(tests=[self.name(test) for test in self._unreported])

    def finish(self):
        """Tests that weren't run are what the preparation of their class or file was."""
        for test, outcome in self._unreported.items():
            self.write(test=self.name(test), outcome=outcome or ("failed", "it was not run"))
        self.write(finished=True)

    def startTest(self, case):
        super().startTest(case)
        self.write(begins=self.name(case.id()))
        self._forget()
        faulthandler.dump_traceback_later(self._limit, exit=True)

    def stopTest(self, case):
        super().stopTest(case)
        faulthandler.cancel_dump_traceback_later()
        self._unreported.pop(case.id(), None)
        self.write(
            test=self.name(case.id()),
            outcome=self._outcome,
            seconds=round(time.monotonic() - self._began, 3),
            makes_the_loop=bool(loop_in_place.made),
        )
        self._forget()

    def _note(self, case, *outcome):
        if isinstance(case, unittest.TestCase):
            # The worst that came of a test and its subtests counts.
            if self._outcome[0] == "passed" or outcome[0] == "failed":
                self._outcome = outcome
            return
        # Not a test, but the preparation or the end of a class or file: "setUpClass (test.test_asyncio.test_x.Y)".
        prepared = case.id().partition("(")[2].rstrip(")")
        for test in self._unreported:
            if test.startswith(prepared + "."):
                self._unreported[test] = outcome
        if outcome[0] == "failed":
            self.write(test=self.name(case.id()), outcome=outcome)

    def addFailure(self, case, error):
        self._note(case, "failed", "".join(traceback.format_exception(*error)))

    addError = addFailure

    def addSubTest(self, case, subtest, error):
        if error is not None:
            self.addFailure(case, error)

    def addSkip(self, case, reason):
        self._note(case, "skipped", reason)

    def addUnexpectedSuccess(self, case):
        self._note(case, "failed", "it was expected to fail")


def cases(suite):
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from cases(each)
        else:
            yield each


def pattern(text):
    """As unittest takes it: a part of a name unless it has a star."""
    return text if "*" in text else f"*{text}*"


def tests_of(module, loop):
    """The tests of a file; those that can be are moved onto the loop under test."""
    under_test = loop_in_place.put_in_place(loop)
    tests = importlib.import_module(module)
    portable.move(tests, loop, under_test)
    return unittest.defaultTestLoader.loadTestsFromModule(tests)


def main():
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("package")
    parser.add_argument("file")
    parser.add_argument("--loop", choices=loop_in_place.LOOPS, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--limit", type=float, required=True, help="seconds that one test may take")
    parser.add_argument("--only", type=Path, help="a file with the names of the tests to run, a line each")
    parser.add_argument("-k", dest="patterns", action="append", type=pattern, default=[])
    options = parser.parse_args()

    cpython_tests.find("test_asyncio")
    import test.support

    test.support.verbose = 0
    # A process started in the background may inherit an ignored SIGINT, which some tests send.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with options.report.open("w") as report:
        recorder = Recorder(report, options.package, options.limit)
        try:
            suite = tests_of(f"{options.package}.{options.file}", options.loop)
        except unittest.SkipTest as skipped:
            recorder.write(test=options.file, outcome=("skipped", str(skipped)))
            recorder.write(finished=True)
            return
        wanted = options.only and set(options.only.read_text().splitlines())
        suite = unittest.TestSuite(
            case
            for case in cases(suite)
            if wanted is None or recorder.name(case.id()) in wanted
            if not options.patterns or any(fnmatchcase(case.id(), pattern) for pattern in options.patterns)
        )
        recorder.begin(suite)
        suite.run(recorder)
        recorder.finish()


if __name__ == "__main__":
    sys.exit(main())
