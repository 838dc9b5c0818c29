"""Hundreds of tests that open loops, in a pytest run of their own, beside plugins that run loops in the same thread."""

import pytest

from .pytest_run import PytestRun

CONFTEST = """\
import asyncio, gc, os, threading, time
import pytest, uvloop
from asyncio_thread_loop import AsyncioThreadLoop

FACTORIES = {"native": None, "standard": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}

def open_loop(flavour):
    return AsyncioThreadLoop(10, loop_factory=FACTORIES[flavour])

async def double(number):
    await asyncio.sleep(0)
    return 2 * number

def descriptors():
    return {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if is_open(name)}

def is_open(name):
    # The listing of the folder has one of its own, which is closed by now.
    return os.path.lexists(f"/proc/self/fd/{name}")

@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session):
    # What Python, and not a loop, opens once and keeps.
    for flavour in FACTORIES:
        with open_loop(flavour) as loop:
            loop.evaluate(double(1))
    gc.collect()
    session.before = set(threading.enumerate()), descriptors()

@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    if session.config.pluginmanager.hasplugin("dsession"):
        return  # xdist's own process, which runs no test and has pipes to those that do
    gc.collect()
    threads, files = session.before
    left = [thread.name for thread in set(threading.enumerate()) - threads]
    more = [file for name, file in descriptors().items() if files.get(name) != file]
    if left or more or len(descriptors()) > len(files):
        session.exitstatus = 3
    with open(f"left-{os.getpid()}", "w") as report:
        print(f"threads {left} descriptors {more}", file=report)

@pytest.fixture(params=list(FACTORIES))
def of_function(request):
    with open_loop(request.param) as loop:
        yield loop

@pytest.fixture(scope="class", params=list(FACTORIES))
def of_class(request):
    with open_loop(request.param) as loop:
        yield loop

@pytest.fixture(scope="module", params=list(FACTORIES))
def of_module(request):
    with open_loop(request.param) as loop:
        yield loop

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""

SYNC = """\
import asyncio, threading
import pytest
from conftest import FACTORIES, double, open_loop

@pytest.mark.parametrize("number", range(60))
@pytest.mark.parametrize("flavour", FACTORIES)
def test_block(flavour, number):
    ended = []

    async def hold():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    with open_loop(flavour) as loop:
        held = loop.submit(hold)
        assert loop.evaluate_many(double(n) for n in range(number)) == [2 * n for n in range(number)]
    assert held.cancelled() and ended == [number]

@pytest.mark.parametrize("number", range(20))
def test_of_function(of_function, number):
    assert of_function.evaluate(double(number)) == 2 * number

class TestOfClass:
    @pytest.mark.parametrize("number", range(10))
    def test_it(self, of_class, number):
        assert of_class.evaluate(double(number)) == 2 * number
        assert of_class.call(threading.get_ident) == of_class.thread.ident

@pytest.mark.parametrize("number", range(10))
def test_of_module(of_module, of_function, number):
    assert of_module.evaluate(double(number)) == of_function.evaluate(double(number))

@pytest.mark.parametrize("flavour", FACTORIES)
def test_fails_on_purpose(flavour):
    with open_loop(flavour) as loop:
        loop.submit(asyncio.Event().wait)
        assert loop.evaluate(double(21)) == 43

@pytest.mark.parametrize("flavour", FACTORIES)
def test_fails_in_a_coroutine(flavour):
    with open_loop(flavour) as loop:
        loop.evaluate(double(None))
"""
SYNC_COUNTS = {
    "test_block": 180,
    "test_of_function": 60,
    "test_it": 30,
    "test_of_module": 90,
}
FAILING = {"test_fails_on_purpose": 3, "test_fails_in_a_coroutine": 3}

ASYNC = """\
import asyncio
import anyio, pytest
from conftest import double

async def use(loop, number):
    assert asyncio.get_running_loop() is not loop.loop
    assert loop.evaluate(double(number)) == 2 * number
    assert await asyncio.wrap_future(loop.submit(double(number))) == 2 * number
    assert await asyncio.to_thread(loop.evaluate, double(number)) == 2 * number

@pytest.mark.parametrize("number", range(10))
def test_sync_before(of_module, of_function, number):
    assert of_module.evaluate(double(number)) == of_function.evaluate(double(number))

@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(10))
async def test_asyncio(of_module, of_function, number):
    await use(of_function, number)
    await use(of_module, number)

@pytest.mark.anyio
@pytest.mark.parametrize("number", range(10))
async def test_anyio(of_module, of_function, number):
    await use(of_function, number)
    async with anyio.create_task_group() as group:
        group.start_soon(use, of_module, number)

@pytest.mark.parametrize("number", range(10))
def test_sync_after(of_module, of_function, number):
    assert of_module.evaluate(double(number)) == of_function.evaluate(double(number))
"""
ASYNC_COUNTS = dict.fromkeys(["test_sync_before", "test_asyncio", "test_anyio", "test_sync_after"], 90)


@pytest.fixture
def run_pytest(program, tmp_path):
    """Run pytest over files; returns the run and how many processes looked for what is left."""

    def run(*options, **files):
        ran = PytestRun(program, tmp_path, *options, files=files)
        left = [report.read_text() for report in tmp_path.glob("left-*")]
        assert set(left) == {"threads [] descriptors []\n"}, ran
        return ran, len(left)

    return run


def test_hundreds_of_loops_are_opened_and_closed_and_nothing_is_left(run_pytest):
    ran, _ = run_pytest(conftest=CONFTEST, test_sync=SYNC)
    assert ran.code == pytest.ExitCode.TESTS_FAILED, ran
    assert ran.outcomes == {"passed": SYNC_COUNTS, "failed": FAILING, "error": {}}, ran
    assert len(ran.found("^E +assert 42 == 43")) == FAILING["test_fails_on_purpose"], ran
    assert len(ran.found("^E +TypeError: unsupported operand")) == FAILING["test_fails_in_a_coroutine"], ran
    assert not ran.found("Warning|Exception ignored|never awaited"), ran


def test_sync_tests_with_loops_run_between_async_ones_of_pytest_asyncio_and_anyio(run_pytest):
    ran, _ = run_pytest(conftest=CONFTEST, test_async=ASYNC)
    assert ran.code == pytest.ExitCode.OK, ran
    assert ran.outcomes == {"passed": ASYNC_COUNTS, "failed": {}, "error": {}}, ran


def test_the_same_holds_in_the_processes_of_pytest_xdist(run_pytest):
    ran, reports = run_pytest("-n", "2", conftest=CONFTEST, test_sync=SYNC, test_async=ASYNC)
    assert ran.code == pytest.ExitCode.TESTS_FAILED, ran
    assert ran.outcomes == {"passed": SYNC_COUNTS | ASYNC_COUNTS, "failed": FAILING, "error": {}}, ran
    assert reports == 2, ran
