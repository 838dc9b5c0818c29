"""Moves tests of asyncio's base classes onto the loop under test.

They make a `BaseEventLoop` and give it mocks for what it lacks, a selector above all. Most of what they then ask is
what a loop of any kind promises, so they are given the loop under test instead. The rest look into `BaseEventLoop`;
they are run as they are.
"""

import sys

from . import loop_in_place

_TURN = "it calls `_run_once` for one turn of the loop"
_SELECTOR = "it tells what a mocked selector returns, or asks what was asked of it"

INSIDE = {
    "test_base_events.test__run_once": _SELECTOR,
    "test_base_events.test__run_once_cancelled_event_cleanup": _TURN,
    "test_base_events.test__run_once_schedule_handle": _TURN,
    "test_base_events.test_custom_run_forever_integration": _TURN,
    "test_base_events.test_not_implemented": "it asks `BaseEventLoop` what it lacks",
    "test_base_events.test_run_forever_pre_stopped": _SELECTOR,
    "test_base_events.test_set_exc_handler_broken": _TURN,
    "test_base_events.test_set_exc_handler_custom": _TURN,
    "test_base_events.test_single_selecter_event_callback_after_stopping": _SELECTOR,
    "test_tasks.test_log_destroyed_pending_task": _TURN,
}
"""Tests that aren't moved, by their file and method, and what they look into."""


def move(tests, loop, under_test):
    """Changes the classes and scripts of this file of tests so that they make the loop under test."""
    file = tests.__name__.rpartition(".")[2]
    if file == "test_base_events":
        _prepare_with(under_test, tests.BaseEventLoopTests)
    elif file == "test_pep492":
        _prepare_with(under_test, tests.BaseTest)
    elif file == "test_runners":
        tests.BaseTest.new_loop = _new_loop(under_test)
    elif file in ("test_futures", "test_tasks"):
        _make_where_the_clock_is_real(under_test, tests.test_utils.TestCase)
    if hasattr(tests, "assert_python_ok"):
        tests.assert_python_ok = _in_script(tests.assert_python_ok, loop)


def why_not(test):
    """Why a test of this name isn't moved, or None."""
    file, _, method = test.split(".")[-3:]
    return INSIDE.get(f"{file}.{method}")


def _prepare_with(under_test, case):
    as_it_is = case.setUp

    class Loop(under_test):
        def __setattr__(self, name, value):
            # Mocks for what `BaseEventLoop` lacks; this loop does it.
            if name not in ("_process_events", "_write_to_self"):
                super().__setattr__(name, value)

    def setUp(self):
        if why_not(self.id()):
            return as_it_is(self)
        super(case, self).setUp()
        self.loop = Loop()
        self.set_event_loop(self.loop)

    case.setUp = setUp


def _new_loop(under_test):
    def new_loop(self):
        loop = under_test()
        shutdown_asyncgens = loop.shutdown_asyncgens

        async def noted():
            loop.shutdown_ag_run = True
            await shutdown_asyncgens()

        loop.shutdown_ag_run = False
        loop.shutdown_asyncgens = noted
        return loop

    return new_loop


def _make_where_the_clock_is_real(under_test, case):
    with_a_clock = case.new_test_loop

    def new_test_loop(self, gen=None):
        # A generator says how time passes.
        if gen is not None or why_not(self.id()):
            return with_a_clock(self, gen)
        loop = under_test()
        self.set_event_loop(loop)
        return loop

    case.new_test_loop = new_test_loop


def _in_script(assert_python_ok, loop):
    """The scripts that tests run in an interpreter of their own make the loop under test as well."""
    prelude = f"import sys; sys.path[:] = {sys.path!r}\n"
    prelude += f"from {__package__}.loop_in_place import put_in_place; put_in_place({loop!r})\n"

    def run(*args, **env):
        loop_in_place.made.append(loop)
        *options, code = args
        return assert_python_ok(*options, prelude + code, **env)

    return run
