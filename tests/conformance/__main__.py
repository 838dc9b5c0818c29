"""CPython's own tests of asyncio, of the CPython that runs this, on `EventLoop`, beside the standard loop and uvloop.

Run from the root of the repository: `python -m tests.conformance`. Fails unless every test that passes on the standard
loop passes on `EventLoop`, but for the `EXCEPTIONS` in `differences.py`. `cpython_tests.py` tells where the tests come
from.
"""

import argparse
import dataclasses
import json
import os
import platform
import re
import signal
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from . import asyncio_suite, differences, portable
from .cpython_tests import why_skipped
from .loop_in_place import LOOPS

NAMES = {"standard": "standard loop", "uvloop": "uvloop", "native": "EventLoop"}

console = Console(highlight=False, markup=False)
if not console.is_terminal:
    console.width = 110


def main():
    options = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that no process with tests is left
    if not options.files:
        return f"{sys.executable}: {why_skipped('asyncio')}"
    machine = {
        "python": platform.python_version(),
        "loops": options.loops,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": len(os.sched_getaffinity(0)),
    }
    if "uvloop" in options.loops:
        import uvloop

        machine["uvloop"] = uvloop.__version__
    console.print(", ".join(f"{name} {value}" for name, value in machine.items() if name != "loops"))
    runs = {loop: {} for loop in options.loops}
    for run in asyncio_suite.run_all(options.files, options.loops, options.patterns, jobs=options.jobs):
        runs[run.loop][run.file] = run
        console.print(f"{run.file} on {NAMES[run.loop]}: {run.seconds:.0f} s", style="dim")
    console.print()
    tests = {
        loop: {name: test for file in options.files for name, test in files[file].tests.items()}
        for loop, files in runs.items()
    }
    console.print(table(options.files, runs))
    trouble = show(tests)
    if options.json is not None:
        options.json.mkdir(parents=True, exist_ok=True)
        file = options.json / f"cpython-{machine['python']}.json"
        file.write_text(json.dumps(report(machine, runs, trouble), indent=1))
    return 1 if trouble else None


def parsed():
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--loop", dest="loops", action="append", choices=LOOPS, help="repeatable; default: all of them"
    )
    parser.add_argument(
        "--file", dest="files", action="append", metavar="NAME", help="such as test_events; repeatable"
    )
    parser.add_argument(
        "-k", dest="patterns", action="append", metavar="PATTERN", default=[], help="as unittest takes it"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        default=len(os.sched_getaffinity(0)),
        help="files that run at the same time; default: one for each processor",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FOLDER",
        help="write what came of each test there as well, to a file that is named for the CPython",
    )
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    known = asyncio_suite.files()
    for file in options.files or []:
        if file not in known:
            parser.error(f"{file} isn't one of {', '.join(known)}")
    options.files = options.files or known
    options.loops = [loop for loop in LOOPS if loop in (options.loops or LOOPS)]
    return options


def table(files, runs):
    """A line for each file, with what came of its tests on each loop."""
    printed = Table(title="Passed, failed and skipped tests", title_justify="left", show_footer=True)
    printed.add_column("CPython's file", footer="together", no_wrap=True)
    for loop in runs:
        counts = [runs[loop][file].counts() for file in files]
        footer = _cell(map(sum, zip(*counts, strict=True)))
        printed.add_column(NAMES[loop], footer=footer, justify="right", no_wrap=True)
    for file in files:
        printed.add_row(file, *(_cell(runs[loop][file].counts()) for loop in runs))
    return printed


def _cell(counts):
    return "{:>5}{:>5}{:>5}".format(*counts)


def show(tests):
    """Prints what the numbers mean. Returns what is wrong with `EventLoop`, a sentence each."""
    some = next(iter(tests.values()))
    on_the_loop = sum(test.makes_the_loop for test in some.values())
    inside = Counter(filter(None, map(portable.why_not, some)))
    console.print(
        f"{on_the_loop} of these {len(some)} tests make the loop under test. The others test parts of asyncio that "
        f"need none, or the standard loop's own classes, with mocks. {inside.total()} of these are in classes whose "
        f"other tests were moved onto the loop under test:"
    )
    for reason, number in inside.items():
        console.print(f"  {number}: {reason}")
    standard = tests.get("standard")
    for name, test in (standard or {}).items():
        if test.outcome not in ("passed", "skipped"):
            console.print(f"{name}: {test.outcome} on the standard loop too")
    if standard and "uvloop" in tests:
        differing = differences.between(standard, tests["uvloop"])
        console.print(f"uvloop differs in {len(differing)} (--json tells which), most often with:")
        for what, number in Counter(map(_gist, differing)).most_common(5):
            console.print(f"  {number}: {what}")
    if "native" not in tests:
        return []
    native = tests["native"]
    if standard is None:
        standard = {name: asyncio_suite.Outcome("passed") for name in native}
        console.print(
            "Without the standard loop to compare with, what EventLoop fails or skips is a difference."
        )
    found = differences.between(standard, native)
    for each in found:
        console.print(f"{each.test}: {each.outcome}: {each.reason or each.detail}")
    trouble = differences.trouble(standard, native)
    passed = sum(test.outcome == "passed" for test in standard.values())
    excepted = sum(each.reason is not None for each in found)
    but = f", but for {excepted} exceptions" if excepted else ""
    if trouble:
        console.print("\n".join(trouble), style="red")
    else:
        console.print(
            f"holds: EventLoop passes all {passed} that the standard loop passes{but}", style="green"
        )
    return trouble


def _gist(difference):
    """The last line of an error, without the names of tests."""
    last = (difference.detail.strip().splitlines() or [""])[-1]
    return (
        re.sub(r"\w+\.(<locals>\.)?(?=\w)", "", last)
        if difference.outcome == "failed"
        else difference.outcome
    )


def report(machine, runs, trouble):
    return {
        "machine": machine,
        "trouble": trouble,
        # The output of a process that went wrong stands with the test that it was in.
        "runs": [
            {key: value for key, value in dataclasses.asdict(run).items() if key != "output"}
            for files in runs.values()
            for run in files.values()
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
