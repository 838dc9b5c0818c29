"""The fixture `sync_loop`, in pytest runs of its own: what a test leaves is told, and nothing else is."""

import re
import subprocess
import sys

import pytest
from contract.harness import WAIT

from .program import EXAMPLES
from .pytest_run import SETTINGS, PytestRun

FLAVOURS = {
    "native": "",
    "standard": '"loop_factory": asyncio.SelectorEventLoop',
    "uvloop": '"loop_factory": uvloop.new_event_loop',
}

CONFTEST = """\
import asyncio
import pytest, uvloop

@pytest.fixture
def sync_loop_options():
    return {%s}
"""

PRELUDE = """\
import asyncio, concurrent.futures, contextlib, multiprocessing, os, socket, subprocess, sys, threading, time
import pytest
from asyncio_thread_loop import AsyncioThreadLoop, get_default_loop, run

async def double(number):
    await asyncio.sleep(0)
    return 2 * number

async def hold():
    await asyncio.Event().wait()

def starts(sync_loop, coroutine_function):
    "Returns when it has begun."
    async def begin(task_status):
        task_status.started()
        await coroutine_function()
    return sync_loop.start_task(begin)[0]
"""


@pytest.fixture(params=FLAVOURS.values(), ids=FLAVOURS.keys())
def options(request):
    """Arguments for the loop of the flavour under test, as source."""
    return request.param


@pytest.fixture
def run_tests(program, tmp_path):
    """Run pytest over a module of tests."""

    def run(tests, *options, conftest=CONFTEST % "", settings=SETTINGS):
        files = {"conftest": conftest, "test_it": PRELUDE + tests}
        return PytestRun(program, tmp_path, *options, files=files, settings=settings)

    return run


def outcomes(passed=(), failed=(), error=()):
    """Each test once, but for those whose number is given."""
    return {
        "passed": passed if isinstance(passed, dict) else dict.fromkeys(passed, 1),
        "failed": dict.fromkeys(failed, 1),
        "error": dict.fromkeys(error, 1),
    }


def named(source):
    """The tests of a module."""
    return re.findall(r"def (test_\w+)", source)


LEAVE_NOTHING = """
async def numbers(to):
    for number in range(to):
        await asyncio.sleep(0)
        yield number

@contextlib.asynccontextmanager
async def entered():
    async with asyncio.TaskGroup() as group:
        held = group.create_task(hold())
        yield "entered"
        held.cancel()

def test_calls(sync_loop):
    assert sync_loop.evaluate(double(21)) == sync_loop.submit(double, 21).result() == 42
    assert sync_loop.evaluate_many(map(double, range(99)), limit=9)[-1] == 196
    assert list(sync_loop.map(double, [1, 2])) == [2, 4]
    assert sync_loop.call(threading.current_thread).name == "sync_loop"

def test_iterators(sync_loop):
    assert list(sync_loop.iterate(numbers(5))) == list(sync_loop.iterate(numbers(5), prefetch=2)) == [*range(5)]
    for number in sync_loop.iterate(numbers(10**9), prefetch=2):
        if number == 5:
            break

def test_context_managers(sync_loop):
    with sync_loop.wrap_async_context_manager(entered()) as value:
        assert value == "entered"

@pytest.fixture
def client(sync_loop):
    with sync_loop.wrap_async_context_manager(entered()) as value:
        yield value

def test_context_of_a_fixture(client):
    assert client == "entered"

def test_context_left_with_the_loop(sync_loop):
    # What it started ends with it.
    assert sync_loop.enter_async_context(entered()) == "entered"

def test_what_is_cancelled_last(sync_loop):
    async def clean_up_long():
        try:
            await hold()
        finally:
            await asyncio.sleep(0.3)
    starts(sync_loop, clean_up_long).cancel()

def test_what_is_just_ending(sync_loop):
    sync_loop.submit(asyncio.sleep, 0.3)
    threading.Timer(0.3, int).start()

def test_a_task_in_a_cycle(sync_loop):
    # The collector closes it.
    iterator = sync_loop.iterate(numbers(9))
    assert next(iterator) == 0
    cycle = [iterator]
    cycle.append(cycle)

def test_threads_of_the_loop(sync_loop):
    async def ask():
        return await asyncio.to_thread(sync_loop.evaluate, double(21))
    assert sync_loop.evaluate(ask()) == 42

def test_sockets_and_pipes_of_the_loop(sync_loop):
    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def ask():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"echoed\\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return answer + (await process.communicate(b"piped"))[0]

    assert sync_loop.evaluate(ask()) == b"echoed\\npiped"

def test_default_loop(sync_loop):
    # It and what it watches outlive the test.
    async def listen():
        return await asyncio.start_server(hold, "127.0.0.1", 0)

    assert run(double(21)) == 42
    get_default_loop().server = run(listen())
    get_default_loop().submit(hold)

def test_progress(sync_loop):
    # tqdm keeps a thread.
    assert sync_loop.evaluate_many([double(21)], progress=True) == [42]

def test_processes(sync_loop):
    # multiprocessing keeps processes, and pipes to them.
    for method in "spawn", "forkserver":
        process = multiprocessing.get_context(method).Process(target=int)
        process.start()
        process.join()
        process.close()
    assert sync_loop.evaluate(double(21)) == 42

@pytest.fixture(scope="module")
def server():
    with socket.create_server(("127.0.0.1", 0)) as server, AsyncioThreadLoop(name="server"):
        yield server

def test_fixture_of_the_module_that_is_asked_for_late(sync_loop, request):
    assert request.getfixturevalue("server").fileno() > 0

def test_closed_by_itself(sync_loop):
    sync_loop.close()

def test_closed_and_opened_again(sync_loop):
    sync_loop.close()
    sync_loop.start()
    assert sync_loop.evaluate(double(21)) == 42

"""


def test_tests_that_leave_nothing_pass(run_tests, options):
    ran = run_tests(LEAVE_NOTHING, conftest=CONFTEST % options)
    assert ran.outcomes == outcomes(passed=named(LEAVE_NOTHING)), ran
    assert ran.code == pytest.ExitCode.OK, ran


LEAVE_SOMETHING = """
kept = []

async def numbers():
    for number in range(10**9):
        yield number

def test_tasks(sync_loop):
    async def forgotten():
        await hold()
    async def spawn():
        kept.append(asyncio.create_task(hold(), name="spawned"))
    starts(sync_loop, forgotten)
    sync_loop.evaluate(spawn())
    kept.append(sync_loop.iterate(numbers()))
    assert next(kept[-1]) == 0

def test_thread(sync_loop):
    threading.Thread(target=stop_the_thread.wait, name="the worker").start()

def test_thread_is_told_once(sync_loop):
    stop_the_thread.set()

def test_another_loop(sync_loop):
    kept.append(AsyncioThreadLoop(name="another loop").start())

def test_another_loop_is_told_once(sync_loop):
    pass

def test_descriptors(sync_loop, tmp_path):
    kept.append(socket.create_server(("127.0.0.1", 0)))
    kept.append(socket.create_connection(kept[-1].getsockname()))
    kept.append((tmp_path / "the file").open("w"))
    kept.append(os.pipe())

def test_everything(sync_loop):
    starts(sync_loop, hold)
    kept.append(AsyncioThreadLoop(name="yet another loop").start())

def test_skipped(sync_loop):
    starts(sync_loop, hold)
    pytest.skip("as planned")

def test_nothing_more_is_left(sync_loop):
    assert [thread.name for thread in threading.enumerate() if thread.name == "sync_loop"] == ["sync_loop"]

@pytest.fixture(scope="module", autouse=True)
def clean_up():
    yield
    for each in kept:
        if hasattr(each, "close"):
            each.close()

stop_the_thread = threading.Event()
"""
LEAVING = [
    f"test_{what}" for what in ("tasks", "thread", "another_loop", "descriptors", "everything", "skipped")
]


def test_what_a_test_leaves_is_an_error_of_that_test_and_named(run_tests, options):
    ran = run_tests(LEAVE_SOMETHING, conftest=CONFTEST % options)
    others = [test for test in named(LEAVE_SOMETHING) if test not in LEAVING]
    assert ran.outcomes == outcomes(passed=others, error=LEAVING), ran
    assert ran.code == pytest.ExitCode.TESTS_FAILED, ran

    told = dict(ran.found(r"^ERROR \S+::(\S+) - Failed: left behind by the test: (.*)$"))
    assert told["test_tasks"] == "3 tasks"
    assert told["test_thread"] == "1 thread"
    assert told["test_descriptors"] == "5 descriptors"
    assert told["test_everything"].startswith("1 task, 1 thread, "), told

    # Tasks with where they come from and where they are, threads likewise, descriptors with what they point at.
    assert ran.found(r"^task \S+, starts.<locals>.begin: waiting for Future"), ran
    assert ran.found(r'^  submitted at File ".*test_it.py", line \d+, in starts$'), ran
    assert ran.found(r'^  File ".*test_it.py", line \d+, in forgotten$'), ran
    assert ran.found("^task spawned, hold: waiting for Future, made by a coroutine$"), ran
    assert ran.found("^thread 'the worker', in$"), ran
    assert ran.found("^daemon thread 'another loop', in$"), ran
    server, client = ran.found(r"^descriptor \d+: socket:\[\d+\], AF_INET at \('127.0.0.1', (\d+)\)(.*)$")
    assert server[1] == "" and client[1] == f", connected to ('127.0.0.1', {server[0]})"
    assert ran.found(r"^descriptor \d+: /.*/the file$"), ran
    assert len(ran.found(r"^descriptor \d+: pipe:\[\d+\]$")) == 2, ran


FAIL = """
def test_fails(sync_loop):
    starts(sync_loop, hold)
    assert sync_loop.evaluate(double(21)) == 43

@pytest.mark.xfail(strict=True)
def test_fails_as_expected(sync_loop):
    starts(sync_loop, hold)
    assert sync_loop.evaluate(double(21)) == 43

@pytest.fixture
def broken(sync_loop):
    starts(sync_loop, hold)
    raise ZeroDivisionError("of a fixture")

def test_has_no_fixture(broken):
    pass

def test_goes_on(sync_loop):
    assert sync_loop.evaluate(double(21)) == 42
"""


def test_what_a_failed_test_leaves_is_told_with_its_failure(run_tests):
    ran = run_tests(FAIL)
    expected = outcomes(["test_fails_as_expected", "test_goes_on"], ["test_fails"], ["test_has_no_fixture"])
    assert ran.outcomes == expected, ran
    assert ran.found("^FAILED .*::test_fails - assert 42 == 43$"), ran
    assert ran.found("^ERROR .*::test_has_no_fixture - ZeroDivisionError: of a fixture$"), ran
    assert len(ran.found("^-+ Captured sync_loop teardown -+$")) == 1, ran
    assert len(ran.found("^left behind by the test: 1 task$")) == 1, ran


FAIL_FIRST = """
runs = []

def test_it(sync_loop):
    starts(sync_loop, hold)
    runs.append(sync_loop)
    assert len(runs) == 2
"""
RUN_TWICE = """\
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    runtestprotocol(item, nextitem=nextitem, log=False)
"""


def test_a_test_that_is_run_again_and_passes_has_not_failed(run_tests):
    ran = run_tests(FAIL_FIRST, conftest=RUN_TWICE)
    assert ran.outcomes == outcomes(error=["test_it"]), ran


REFUSE = """
def test_refuses(sync_loop):
    async def refuse():
        while not stop.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.001)
    starts(sync_loop, refuse)

def test_blocks(sync_loop):
    async def block():
        stop.wait()
    sync_loop.submit(block)

def test_goes_on(sync_loop):
    assert sync_loop.evaluate(double(21)) == 42

@pytest.fixture(scope="module", autouse=True)
def ends():
    yield
    stop.set()

stop = threading.Event()
"""


def test_a_loop_that_does_not_end_is_left_behind_with_what_is_in_its_way(run_tests, options):
    ran = run_tests(REFUSE, conftest=CONFTEST % f'"exit_timeout": 0.2, {options}')
    assert ran.outcomes == outcomes(
        ["test_refuses", "test_blocks", "test_goes_on"][2:], error=named(REFUSE)[:2]
    ), ran
    assert len(ran.found("^sync_loop didn't end within 0.2 s. In its way:$")) == 2, ran
    assert ran.found('^  File ".*test_it.py", line .*, in refuse$'), ran
    assert ran.found("^its thread, which runs:$"), ran
    assert ran.found('^  File ".*test_it.py", line .*, in block$'), ran
    assert not ran.found("RuntimeWarning"), ran


ENTER = """
@contextlib.asynccontextmanager
async def fails_when_left():
    yield
    raise ZeroDivisionError("of a context")

def test_context_that_fails(sync_loop):
    sync_loop.enter_async_context(fails_when_left())

def test_context_that_fails_and_a_task(sync_loop):
    sync_loop.enter_async_context(fails_when_left())
    starts(sync_loop, hold)
"""


def test_a_context_that_fails_when_it_is_left_is_the_error_of_its_test(run_tests):
    ran = run_tests(ENTER)
    assert ran.outcomes == {"passed": {}, "failed": {}, "error": dict.fromkeys(named(ENTER), 1)}, ran
    assert len(ran.found("^ERROR .* - ZeroDivisionError: of a context$")) == 2, ran
    assert len(ran.found("^left behind by the test: 1 task$")) == 1, ran


CHOOSE = """
@pytest.fixture(params=["one", "two"])
def sync_loop_options(request):
    return {"name": f"loop {request.param}", "initializer": named.append, "initargs": (request.param,)}

named = []

def test_it_is_made_as_chosen(sync_loop):
    assert sync_loop.thread.name == f"loop {named.pop()}"
    assert sync_loop.exit_timeout == 5

class TestOthers:
    @pytest.fixture
    def sync_loop_options(self):
        return {"exit_timeout": 2, "loop_factory": asyncio.SelectorEventLoop}

    def test_it_is_made_otherwise(self, sync_loop):
        assert type(sync_loop.loop) is asyncio.SelectorEventLoop
        assert sync_loop.exit_timeout == 2

class TestWrong:
    @pytest.fixture
    def sync_loop_options(self):
        return {"wrong": 1}

    def test_it_is_not_made(self, sync_loop):
        pass
"""


def test_users_choose_how_the_loop_is_made(run_tests):
    ran = run_tests(CHOOSE)
    passed = {"test_it_is_made_as_chosen": 2, "test_it_is_made_otherwise": 1}
    assert ran.outcomes == outcomes(passed, error=["test_it_is_not_made"]), ran
    assert ran.found("^ERROR .* - TypeError: .*'wrong'"), ran


ALLOW = """
def test_may_leave_threads(sync_loop):
    threading.Thread(target=threading.Event().wait, daemon=True).start()

@pytest.mark.sync_loop_may_leave("tasks", "descriptors")
def test_may_leave_all(sync_loop):
    test_may_leave_threads(sync_loop)
    starts(sync_loop, hold)
    os.pipe()

def test_may_not(sync_loop):
    test_may_leave_all(sync_loop)

@pytest.mark.sync_loop_may_leave("task")
def test_says_nonsense(sync_loop):
    pass
"""


def test_what_a_test_may_leave_is_not_looked_at(run_tests):
    ran = run_tests(ALLOW, settings=SETTINGS + "sync_loop_may_leave = threads\n")
    passed, failing = named(ALLOW)[:2], named(ALLOW)[2:]
    assert ran.outcomes == outcomes(passed, error=failing), ran
    assert ran.found("^ERROR .*::test_may_not - Failed: left behind by the test: 1 task, 2 descriptors$"), ran
    assert ran.found("sync_loop_may_leave: task is none of tasks, threads, descriptors"), ran


FORK = """
@pytest.fixture(autouse=True)
def child_ends(request):
    "The first to be set up and the last to be torn down."
    test_process = os.getpid()
    yield
    if os.getpid() != test_process:
        os._exit(0)

@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("uses_it", [True, False])
@pytest.mark.parametrize("comes_back", [True, False])
def test_forks(sync_loop, uses_it, comes_back):
    held = starts(sync_loop, hold)
    child = os.fork()
    if child == 0:
        # Nobody reads the report of a child.
        pytest.fail = lambda *_, **__: os._exit(1)
        if uses_it:
            assert sync_loop.evaluate(double(21)) == 42
            starts(sync_loop, hold)
        if comes_back:
            return
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sync_loop.evaluate(double(21)) == 42
    held.cancel()

@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forks_processes(sync_loop):
    def work(results):
        results.put(sync_loop.evaluate(double(21)))

    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    process = context.Process(target=work, args=(results,))
    process.start()
    assert results.get() == 42
    process.join()
    assert process.exitcode == 0
    process.close()
    results.close()
"""


def test_tests_that_fork(run_tests, options):
    ran = run_tests(FORK, conftest=CONFTEST % options)
    assert ran.outcomes == outcomes({"test_forks": 4, "test_forks_processes": 1}), ran


ASYNC = """
import anyio

async def ask(sync_loop, number):
    assert asyncio.get_running_loop() is not sync_loop.loop
    assert sync_loop.evaluate(double(number)) == 2 * number
    assert await asyncio.wrap_future(sync_loop.submit(double(number))) == 2 * number
    assert await asyncio.to_thread(sync_loop.evaluate, double(number)) == 2 * number

@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(5))
async def test_asyncio(sync_loop, number):
    await ask(sync_loop, number)

@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("number", range(5))
async def test_asyncio_in_one_loop(sync_loop, number):
    await ask(sync_loop, number)

async def ask_anyio(sync_loop, number):
    await ask(sync_loop, number)
    assert await anyio.to_thread.run_sync(sync_loop.evaluate, double(number)) == 2 * number

@pytest.mark.anyio
@pytest.mark.parametrize("number", range(5))
async def test_anyio(sync_loop, number):
    await ask_anyio(sync_loop, number)

@pytest.fixture(scope="module")
async def keeps_the_loop_open(anyio_backend):
    yield

@pytest.mark.anyio
@pytest.mark.parametrize("number", range(5))
async def test_anyio_in_one_loop(sync_loop, keeps_the_loop_open, number):
    await ask_anyio(sync_loop, number)

@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"

@pytest.mark.parametrize("number", range(5))
def test_sync(sync_loop, number):
    assert sync_loop.evaluate(double(number)) == 2 * number

@pytest.mark.asyncio
async def test_leaves_a_task(sync_loop):
    sync_loop.submit(hold)
"""


@pytest.mark.parametrize("processes", [[], ["-n", "2"]], ids=["one process", "xdist"])
def test_beside_pytest_asyncio_anyio_and_xdist(run_tests, processes):
    ran = run_tests(ASYNC, *processes)
    passed = dict.fromkeys([test for test in named(ASYNC) if test != "test_leaves_a_task"], 5)
    assert ran.outcomes == outcomes(passed, error=["test_leaves_a_task"]), ran
    assert ran.found("^ERROR .*::test_leaves_a_task - Failed: left behind by the test: 1 task$"), ran


USE = """
def test_it(sync_loop):
    assert sync_loop.evaluate(double(21)) == 42
"""


def test_the_plugin_can_be_turned_off(run_tests):
    ran = run_tests(USE, "-p", "no:asyncio_thread_loop", conftest="")
    assert ran.found("fixture 'sync_loop' not found"), ran


def test_it_can_be_turned_on_where_no_plugin_is_found_by_itself(run_tests, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    ran = run_tests(USE, "-p", "asyncio_thread_loop.pytest_plugin", conftest="", settings="[pytest]\n")
    assert ran.outcomes == outcomes(["test_it"]), ran


def test_only_pytest_imports_the_plugin():
    code = "import asyncio_thread_loop, sys; print([name for name in sys.modules if 'pytest' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT)
    assert done.stdout == "[]\n", done.stderr


def test_a_program_that_has_imported_the_package_can_run_pytest(program, tmp_path):
    (tmp_path / "test_it.py").write_text("def test_it(sync_loop): assert sync_loop.call(int) == 0")
    code = "import asyncio_thread_loop, pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
    options = ["-W", "error", "-p", "no:asyncio", "-p", "no:cacheprovider"]
    running = program("-W", "error", "-c", code, *options, "test_it.py")
    assert running.finish() == pytest.ExitCode.OK, running


def test_the_example_passes(program, tmp_path):
    options = [
        "-W",
        "error",
        "-p",
        "no:asyncio",
        "-p",
        "no:cacheprovider",
        "-c",
        "pytest.ini",
        "--rootdir",
        tmp_path,
    ]
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    running = program("-m", "pytest", *options, EXAMPLES / "test_download.py")
    running.assert_ended_well()
    assert running.found("^=+ 2 passed in "), running
