"""Settings every test shares."""

import importlib.util
import sys

import pytest
from hypothesis import settings

# Deadlines measure the machine, not the code; a wait that never ends is caught by the timeout of each test.
settings.register_profile("default", deadline=None, max_examples=100)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--caller-runs",
        action="store_true",
        help="run the whole contract with caller_runs=True as well, instead of chosen files",
    )


def pytest_report_header() -> str:
    uvloop = (
        "with uvloop"
        if importlib.util.find_spec("uvloop")
        else "uvloop is not installed: its variants are skipped"
    )
    return f"asyncio-thread-loop: {sys.implementation.name} {sys.version.split()[0]}, {uvloop}"
