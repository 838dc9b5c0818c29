"""A pytest plugin: the fixture `sync_loop` is an open loop, closed after the test and checked for what the test left.

pytest loads it by itself when both are installed.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any

import pytest

from ._leaks import Census, once_settled, unfinished_work
from ._loop import AsyncioThreadLoop

__all__ = ["sync_loop", "sync_loop_options"]

#: Seconds that what is just ending may still take.
_GRACE = 1.0

#: Seconds that the exit may take, unless `sync_loop_options` says otherwise: no test hangs when it is over.
_EXIT_TIMEOUT = 5.0

_KINDS = ("tasks", "threads", "descriptors")

_failed = pytest.StashKey[bool]()

#: Of the tests whose loop is open: one, or none.
_censuses = pytest.StashKey[list[Census]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "sync_loop_may_leave",
        f"what tests with the fixture sync_loop may leave behind: any of {', '.join(_KINDS)}",
        type="args",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_censuses] = []
    config.addinivalue_line(
        "markers",
        "sync_loop_may_leave(*kinds): what this test with the fixture sync_loop may leave behind: any of "
        + ", ".join(_KINDS),
    )


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    if call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
        item.stash[_failed] = True


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """What a fixture of a wider scope brings, when a test asks for it late, isn't left by the test."""
    censuses = request.config.stash[_censuses]
    if not censuses or fixturedef.scope == "function":
        return (yield)
    before = Census()
    try:
        return (yield)
    finally:
        for census in censuses:
            census.leave_out_what_came_since(before)


@pytest.fixture
def sync_loop_options() -> Mapping[str, Any]:
    """The arguments with which `sync_loop` makes its `AsyncioThreadLoop`. Override it to choose them."""
    return {}


@pytest.fixture
def sync_loop(
    request: pytest.FixtureRequest, sync_loop_options: Mapping[str, Any]
) -> Iterator[AsyncioThreadLoop]:
    """An open `AsyncioThreadLoop`, closed after the test.

    It is an error of the test if something that came with it is still there then: tasks on the loop, threads,
    descriptors. What is just ending has 1 second for that. If the test failed, what it left is told with the failure.
    """
    item: pytest.Item = request.node
    item.stash[_failed] = False  # of an earlier run of the same test
    may_leave = _may_leave(item)
    process = os.getpid()
    before = Census()
    loop = AsyncioThreadLoop(
        **{"name": "sync_loop", "exit_timeout": _EXIT_TIMEOUT, **sync_loop_options}
    ).start()
    censuses = request.config.stash[_censuses]
    censuses.append(before)
    yield loop
    censuses.remove(before)
    if os.getpid() != process:
        # A child that the test forked, and that came back out of the test.
        loop.shutdown()
        return
    left, failure = _close_and_look(loop, before, may_leave)
    report = "\n\n".join(left)
    if failure is None and not item.stash[_failed]:
        if left:
            pytest.fail(report, pytrace=False)
        return
    if left:
        item.add_report_section("teardown", "sync_loop", report)
    if failure is not None:
        raise failure


def _close_and_look(
    loop: AsyncioThreadLoop, before: Census, may_leave: Collection[str]
) -> tuple[list[str], Exception | None]:
    """Closes the loop, whatever is on it.

    Returns what was left, in paragraphs of which the first sums it up, and what came of leaving the loop's contexts.
    """
    session = loop._live_session()
    failure = None
    try:
        left = _left(may_leave, tasks=partial(unfinished_work, session)) if session is not None else {}
    finally:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".* didn't end within", RuntimeWarning)  # It is said below.
                loop.shutdown()
        except Exception as error:
            failure = error
    stuck = session is not None and not session.done()
    if not stuck:  # A loop that goes on keeps its thread and its descriptors.
        left |= _left(may_leave, threads=before.new_threads, descriptors=before.new_descriptors)
    counts = [f"{len(found)} {kind if len(found) > 1 else kind[:-1]}" for kind, found in left.items()]
    paragraphs = [f"left behind by the test: {', '.join(counts)}"] if counts else []
    if "tasks" in left:
        paragraphs.append(
            "A task that still ran 1 s after the test is cancelled when the loop is closed. Await what a test starts, "
            "cancel it, or leave that to a context manager."
        )
    paragraphs += chain.from_iterable(left.values())
    if session is not None and stuck:
        paragraphs.append(f"sync_loop didn't end within {loop.exit_timeout:g} s. In its way:")
        paragraphs.append(session.describe_stuck())
    return paragraphs, failure


def _left(may_leave: Collection[str], **looks: Callable[[], list[str]]) -> dict[str, list[str]]:
    return once_settled({kind: look for kind, look in looks.items() if kind not in may_leave}, _GRACE)


def _may_leave(item: pytest.Item) -> set[str]:
    kinds = set(item.config.getini("sync_loop_may_leave"))
    for marker in item.iter_markers("sync_loop_may_leave"):
        kinds.update(marker.args)
    unknown = sorted(map(str, kinds.difference(_KINDS)))
    if unknown:
        pytest.fail(
            f"sync_loop_may_leave: {', '.join(unknown)} is none of {', '.join(_KINDS)}", pytrace=False
        )
    return kinds
