"""CPython's own tests of `concurrent.futures` hold for the futures of this library."""

import pytest

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
