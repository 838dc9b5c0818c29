"""What CPython's own tests of asyncio ask of the standard loop, `EventLoop` does: the short form of `just conformance`.

Left out are the files that take long (test_ssl, test_sslproto, test_subprocess, test_tasks, test_taskgroups), and those
that make no loop. Of test classes that differ only in the selector they hand to the loop, one is run.
"""

import pytest

from . import differences, portable
from .asyncio_suite import FILE_LIMIT, Outcome, files, run, run_all
from .cpython_tests import why_skipped

SHORT = {
    "test_base_events": [],
    "test_buffered_proto": [],
    "test_events": ["EPollEventLoopTests", "GetEventLoop"],
    "test_locks": [],
    "test_pep492": [],
    "test_runners": [],
    "test_sendfile": ["EPollEventLoopTests"],
    "test_server": [],
    "test_sock_lowlevel": ["EPollEventLoopTests"],
    "test_streams": [],
    "test_timeouts": [],
    "test_unix_events": [],
    "test_waitfor": [],
}
"""Files of CPython's tests, and patterns of the tests in them if not all are run."""

installed = pytest.mark.skipif(not files(), reason=why_skipped("asyncio"))


@installed
@pytest.mark.timeout(2 * FILE_LIMIT)  # `run` keeps it, and can tell which test hangs
@pytest.mark.parametrize("file", SHORT)
def test_what_the_standard_loop_passes_our_loop_passes(file):
    native = run(file, "native", SHORT[file])
    assert any(test.makes_the_loop for test in native.tests.values()), native.output
    standard = native
    if native.counts()[0] < len(native.tests):
        standard = run(file, "standard", SHORT[file])
    trouble = differences.trouble(standard.tests, native.tests)
    if trouble:
        details = [each.detail for each in differences.between(standard.tests, native.tests)]
        pytest.fail("\n\n".join([*trouble, *details, native.output]), pytrace=False)


@installed
def test_the_short_form_names_files_that_exist():
    assert set(SHORT) <= set(files())


def test_no_planted_test_is_lost_however_it_ends():
    outcomes = run("planted", "native", package=__package__, limit=3).tests
    assert {name.removeprefix("planted."): test.outcome for name, test in outcomes.items()} == {
        "Ends.test_a_passes": "passed",
        "Ends.test_b_fails": "failed",
        "Ends.test_c_ends_the_process": "ended the process",
        "Ends.test_d_hangs": "hung",
        "Ends.test_e_is_skipped": "skipped",
        "Ends.test_f_passes_unexpectedly": "failed",
        "Ends.test_g_has_a_subtest_that_fails": "failed",
        "Ends.test_h_is_skipped_by_a_decorator": "skipped",
        "Ends.test_z_passes_after_all_that": "passed",
        "setUpClass (planted.Unprepared)": "failed",
        "Unprepared.test_it_is_not_lost": "failed",
        "SkippedAsAWhole.test_it_is_skipped": "skipped",
        "WithoutALoop.test_it_passes": "passed",
        "ZLeavesATrap.test_the_process_ends_badly_after_the_tests": "passed",
        "planted (end of the process)": "ended the process",
    }
    assert "test_d_hangs" in outcomes["planted.Ends.test_d_hangs"].detail
    assert outcomes["planted.Ends.test_a_passes"].makes_the_loop
    assert not outcomes["planted.WithoutALoop.test_it_passes"].makes_the_loop


def test_leaving_early_ends_the_processes_that_still_run():
    options = {"package": __package__, "limit": 600, "jobs": 2}
    runs = run_all(["missing", "planted"], ["native"], ["test_d_hangs"], **options)
    assert next(runs).file == "missing"
    runs.close()


@pytest.fixture
def exceptions(monkeypatch):
    monkeypatch.setattr(differences, "EXCEPTIONS", {})
    return differences.EXCEPTIONS


PASSED, FAILED, SKIPPED, HUNG = map(Outcome, ("passed", "failed", "skipped", "hung"))


@pytest.mark.parametrize("ours", [FAILED, SKIPPED, HUNG, None], ids=repr)
def test_a_test_that_only_the_standard_loop_passes_is_trouble(ours, exceptions):
    native = {"a": PASSED} | ({"b": ours} if ours else {})
    assert differences.trouble({"a": PASSED, "b": PASSED}, native)


@pytest.mark.parametrize("standard", [PASSED, FAILED, SKIPPED], ids=repr)
def test_a_test_that_our_loop_passes_is_no_trouble(standard, exceptions):
    assert not differences.trouble({"a": PASSED, "b": standard}, {"a": PASSED, "b": PASSED})


def test_what_the_standard_loop_fails_too_is_no_trouble(exceptions):
    assert not differences.trouble({"a": PASSED, "b": FAILED}, {"a": PASSED, "b": FAILED})


def test_an_exception_is_no_trouble_until_it_passes(exceptions):
    exceptions["b"] = "planted"
    many = {str(number): PASSED for number in range(100)} | {"b": PASSED}
    assert not differences.trouble(many, many | {"b": FAILED})
    assert differences.trouble(many, many)


def test_more_than_one_exception_in_a_hundred_tests_is_trouble(exceptions):
    exceptions["b"] = "planted"
    few = {str(number): PASSED for number in range(98)} | {"b": PASSED}
    assert differences.trouble(few, few | {"b": FAILED})


@pytest.mark.parametrize("standard", [{}, {"a": SKIPPED}, {"a": PASSED, "b": HUNG}], ids=repr)
def test_nothing_to_compare_with_is_trouble(standard, exceptions):
    assert differences.trouble(standard, {"a": PASSED, "b": PASSED})


def test_every_exception_has_a_reason():
    assert all(differences.EXCEPTIONS.values())
    assert all(portable.INSIDE.values())
