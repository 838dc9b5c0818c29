"""What a loop does otherwise than the standard one, and what of that is meant to be.

The rule: every test that passes on the standard loop, in the same run, passes on `EventLoop` or stands in `EXCEPTIONS`.
"""

import dataclasses

EXCEPTIONS = {}
"""Tests that `EventLoop` fails though the standard loop passes them, and why that is right, for users to read."""

SHARE = 0.01
"""At most this part of the tests that pass on the standard loop may be exceptions."""


@dataclasses.dataclass
class Difference:
    """A test that passes on the standard loop and not on another."""

    test: str
    outcome: str
    detail: str
    reason: str | None
    """Why it is right, or None."""


def between(standard, other):
    """The differences between two runs, each a dict of `Outcome`s."""
    return [
        Difference(test, other[test].outcome, other[test].detail, EXCEPTIONS.get(test))
        if test in other
        else Difference(test, "not run", "", EXCEPTIONS.get(test))
        for test, outcome in standard.items()
        if outcome.outcome == "passed" and (test not in other or other[test].outcome != "passed")
    ]


def trouble(standard, native):
    """What breaks the rule, a sentence each."""
    found = between(standard, native)
    lines = [
        f"{each.test}: {each.outcome}, but passes on the standard loop" for each in found if not each.reason
    ]
    # A test that only the other loop knows of is the end of a class or file that failed.
    lines += [
        f"{test}: {outcome.outcome}, and there is no such test on the standard loop"
        for test, outcome in native.items()
        if test not in standard and outcome.outcome not in ("passed", "skipped")
    ]
    lines += [
        f"{test}: passes; it is no exception any more"
        for test in EXCEPTIONS
        if test in native and native[test].outcome == "passed"
    ]
    # What the standard loop doesn't get to can't be compared.
    lines += [
        f"{test}: {outcome.outcome} on the standard loop"
        for test, outcome in standard.items()
        if outcome.outcome not in ("passed", "failed", "skipped")
    ]
    passed = sum(outcome.outcome == "passed" for outcome in standard.values())
    if not passed:
        lines.append("no test passes on the standard loop")
    excepted = sum(each.reason is not None for each in found)
    if excepted > SHARE * passed:
        lines.append(f"{excepted} exceptions are more than {SHARE:.0%} of {passed} tests")
    return lines
