"""CPython's own tests of `concurrent.futures` hold for the futures of this library."""

import os
import sys

import pytest
from contract.harness import Script

from .cpython_tests import why_skipped
from .futures import LIMIT, modules_with_tests, run

MODULES = modules_with_tests()

if not MODULES:
    skipped = pytest.mark.skip(reason=why_skipped("concurrent.futures"))
    MODULES = [pytest.param("test.test_concurrent_futures", marks=skipped)]


@pytest.mark.timeout(LIMIT + 60)  # it is kept by `run`, which can tell what hangs
@pytest.mark.parametrize("loop", ["native", "standard"])
@pytest.mark.parametrize("module", MODULES)
def test_futures_pass_the_tests_of_cpython(module, loop):
    report = run(module, loop)
    assert not report.trouble, report.trouble


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_child_forked_in_the_middle_of_a_submit_ends():
    script = Script(
        f"""
import multiprocessing

sys.path[:] = {sys.path!r}
from {__package__}.loop_executor import LoopExecutor

with LoopExecutor(1) as executor:
    with executor._workers._shutdown_lock:  # which `submit` holds
        child = multiprocessing.get_context("fork").Process(target=int)
        child.start()
    child.join()
sys.exit(child.exitcode)
"""
    )
    try:
        assert script.finish() == 0, script
    finally:
        script.kill()
