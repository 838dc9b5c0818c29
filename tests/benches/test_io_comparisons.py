"""What `just bench-io` makes of what it measures: ratios, verdicts, and peers that fail."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PRELUDE = """
import os, sys
from benches.io.cases import CASES, Case
from benches.io.comparison import Comparison, compare
from benches.io.loops import AIOFASTNET_UVLOOP, OURS, RLOOP, STANDARD, UVLOOP
from benches.io.programs import Failed, Program
from benches.measuring import Took, Turns


def turns(seconds, processor):
    return Turns(seconds, processor=processor)
"""


def run(script):
    """Run it where the root of the repository only adds `benches`; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script], cwd=ROOT, text=True, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds():
    # In the second round everything took ten times as long, in the third only the processor of ours.
    script = """
ours, its = turns([2.0, 20.0, 2.0], [1.0, 10.0, 9.0]), turns([4.0, 40.0, 4.0], [4.0, 40.0, 4.0])
print(*Comparison(CASES[0], {OURS: ours, UVLOOP: its}, {}, None).ratio(UVLOOP))
"""
    assert run(script) == ["2.0 0.25"]


def test_a_verdict_names_against_whom_the_required_is_missed():
    script = """
def verdict(uvloop=None, aiofastnet=None, **options):
    measured = {UVLOOP: uvloop, AIOFASTNET_UVLOOP: aiofastnet}
    its = {name: turns([each[0]], [each[1]]) for name, each in measured.items() if each}
    case = Case("protocol", "1 KiB", "protocol", **options)
    print(Comparison(case, {OURS: turns([1.0], [1.0]), **its}, {}, None).verdict or "nothing to compare with")

verdict((1.0, 1.0))
verdict((0.9, 1.0))  # a better rate
verdict((1.0, 0.9))  # less processor time
verdict((1.1, 1.1), times=1.2)
verdict((1.2, 1.21), times=1.2)
verdict((1.0, 1.0), (0.9, 1.0))
verdict((1.0, 1.0), (0.9, 1.0), as_aiofastnet=True)
verdict((0.9, 1.0), (0.9, 1.0), as_aiofastnet=True)
verdict()
"""
    assert run(script) == [
        "holds",
        "missed: uvloop",
        "missed: uvloop",
        "missed: uvloop",
        "holds",
        "holds",
        "missed: aiofastnet",
        "missed: uvloop, aiofastnet",
        "nothing to compare with",
    ]


def test_a_peer_that_fails_is_missing_with_its_reason_and_the_others_are_measured():
    script = """
class Programs:
    forgotten = []

    def way(self, case, loop, stack):
        if loop == STANDARD:
            raise Failed(loop, "can't")

        calls = 0

        def way(repetitions):
            nonlocal calls
            calls += 1
            if loop == RLOOP and calls > 2:
                raise Failed(loop, "broke down")
            return Took(0.1 * repetitions, 0, 0, 0.1 * repetitions)

        way.shares = [0.5]
        return way

    def forget(self, loop):
        self.forgotten.append(loop)

done = compare(Programs(), CASES[0], [OURS, STANDARD, UVLOOP, RLOOP], 3, 0.1)
print(*done.turns, done.share)
print(done.missing)
print(Programs.forgotten)
"""
    assert run(script) == [
        "EventLoop uvloop 0.5",
        "{'standard loop': \"not available: can't\", 'rloop': 'not available: broke down'}",
        "['standard loop', 'rloop']",
    ]


def test_that_ours_fails_is_an_error():
    script = """
class Programs:
    def way(self, case, loop, stack):
        raise Failed(loop, "can't")

    def forget(self, loop):
        pass

try:
    compare(Programs(), CASES[0], [OURS, UVLOOP], 3, 0.1)
except Failed as error:
    print(error.loop, error)
"""
    assert run(script) == ["EventLoop can't"]


def test_a_program_that_ends_or_dies_fails_with_its_last_words():
    script = """
cpu = min(os.sched_getaffinity(0))
for code in ("input(); sys.exit('no more')", "input(); 1 / 0", "input(); os._exit(3)", "sys.exit('at once')"):
    with Program("a loop", sys.executable, "-c", f"import os, sys; {code}", cpu=cpu) as program:
        try:
            while True:
                program.ask("hello")
        except Failed as error:
            print(error.loop, error)
"""
    assert run(script) == [
        "a loop no more",
        "a loop ZeroDivisionError: division by zero",
        "a loop it ended with 3",
        "a loop at once",
    ]
