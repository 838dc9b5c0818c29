import signal

import pytest
from contract.harness import Script, no_thread_left

from .program import Program


@pytest.fixture
def program(tmp_path):
    """Start Python programs, by their arguments; whatever still runs after the test is killed."""
    started = []

    def start(*arguments, **options):
        started.append(Program(*arguments, cwd=tmp_path, **options))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        print(each)  # pytest shows it where a test fails


@pytest.fixture
def script():
    """Start scripts on the native loop."""
    started = []

    def start(code, flavour="native"):
        started.append(Script(code, flavour))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_not_ignored():
    """A shell's background jobs ignore SIGINT, and so would the processes started here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    with no_thread_left():
        yield
