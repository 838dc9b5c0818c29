"""The short form of `python -m tests.soak.memory_faults`."""

import pytest

from .memory_faults import LENGTHS, SCENARIOS, Case, is_available, run

pytestmark = pytest.mark.skipif(
    not is_available(), reason="this CPython has no _testcapi to take memory away with"
)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_call_without_memory_works_or_says_so(scenario):
    troubles = run(scenario, "native", range(25 * len(LENGTHS)))
    assert not troubles, "\n".join(f"{trouble}\n{trouble.output}" for trouble in troubles)


def test_there_is_a_scenario_for_every_call_of_the_case():
    assert set(SCENARIOS) == {name for name in vars(Case) if not name.startswith("_")}
