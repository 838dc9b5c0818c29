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
        "--flavours",
        metavar="NAME,...",
        help="run the contract on these of native, caller_runs, standard and uvloop, on each of them whole; "
        "default: on all, with caller_runs only chosen files",
    )
    parser.addoption(
        "--all-flavours",
        action="store_true",
        help="run the whole contract on every flavour, caller_runs included",
    )


def pytest_report_header() -> str:
    uvloop = (
        "with uvloop"
        if importlib.util.find_spec("uvloop")
        else "uvloop is not installed: its variants are skipped"
    )
    return f"asyncio-thread-loop: {sys.implementation.name} {sys.version.split()[0]}, {uvloop}"
