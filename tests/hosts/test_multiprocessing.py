"""Processes, pools and executors of `multiprocessing`, whose parent goes on calling its loop from several threads."""

import signal

import pytest

METHODS = ["fork", "spawn", "forkserver"]

# What parent and children share; the start method is the program's first argument.
SHARED = '''\
import asyncio, concurrent.futures, contextlib, multiprocessing, os, signal, sys, threading, time
from concurrent.futures import CancelledError
from asyncio_thread_loop import AsyncioThreadLoop, ForkedError, get_default_loop, run

METHOD = sys.argv[1]
context = multiprocessing.get_context(METHOD)


def say(*words):
    # One write, so that lines of several processes don't mix.
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())


async def double(number):
    await asyncio.sleep(0)
    return 2 * number


async def hold(what, *, task_status):
    """Runs until it is cancelled."""
    say("holding", what, os.getpid())
    task_status.started()
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.05)
        say("cleaned", what, os.getpid())


@contextlib.contextmanager
def called_by_threads(loop):
    """Three threads call the loop until the block is left, and every answer is right, before, in and after it."""

    def call(thread):
        number = thread
        while not stop.is_set():
            assert loop.evaluate(double(number)) == 2 * number
            number += 3
            answered.add(thread)

    def wait_for_an_answer_in_each_thread():
        answered.clear()
        ends = time.monotonic() + 20
        while len(answered) < 3:
            assert not any(call.done() for call in calls), calls
            assert time.monotonic() < ends, "the parent's calls hang"
            time.sleep(0.001)

    stop, answered = threading.Event(), set()
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(call, thread) for thread in range(3)]
        try:
            wait_for_an_answer_in_each_thread()
            yield
            wait_for_an_answer_in_each_thread()
        finally:
            stop.set()
    for call in calls:
        call.result()


def run_children(work, *args):
    """Three processes do the work at once."""
    children = [context.Process(target=work, args=args) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(20)
        say("code", child.exitcode)


def ask(future):
    """What comes of asking for its result."""
    try:
        return future.result(0)
    except (ForkedError, TimeoutError, CancelledError) as error:
        return type(error).__name__


def use(loop, number):
    """Double the number in every way a child can."""
    ways = {
        loop.evaluate(double(number)),
        loop.submit(double, number).result(),
        run(double(number)),
        get_default_loop().evaluate(double(number)),
    }
    assert len(ways) == 1, ways
    return ways.pop()


def use_often(loop):
    """300 calls, all right."""
    for number in range(50):
        assert use(loop, number) == 2 * number
    assert loop.evaluate_many(map(double, range(100)), limit=10) == list(range(0, 200, 2))
'''

# Opened wherever it is imported: in the parent, and, spawned, in each child.
OPEN = """
loop = AsyncioThreadLoop(name="opened", on_fork="restart").start()
finished = loop.submit(double, 21)
finished.result()
pending, _ = loop.start_task(hold, "opened")
"""


@pytest.fixture
def run_program(program, tmp_path):
    """Run a program to its good end; each of its processes must have cleaned up, once, all that it held."""

    def run(*parts, method="fork", **modules):
        for name, source in modules.items():
            (tmp_path / f"{name}.py").write_text(source)
        path = tmp_path / "main.py"
        path.write_text("\n".join(parts))
        running = program(path, method)
        running.assert_ended_well()
        assert running.found("^holding (.*)$"), running
        assert sorted(running.found("^cleaned (.*)$")) == sorted(running.found("^holding (.*)$")), running
        return running

    return run


@pytest.mark.parametrize("method", METHODS)
def test_processes_use_a_loop_opened_when_their_program_was_imported(run_program, method):
    running = run_program(
        SHARED,
        OPEN,
        """
def work():
    say("inherited", ask(pending), ask(finished))  # before the child has a loop of its own
    use_often(loop)
    loop.start_task(hold, "child")
    get_default_loop().start_task(hold, "default")

if __name__ == "__main__":
    with called_by_threads(loop):
        run_children(work)
        run_children(work)
    say("parent", loop.evaluate(double(21)), ask(pending), ask(finished))
""",
        method=method,
    )
    assert running.found("^code (.*)$") == ["0"] * 6
    # Spawned, the program was imported again, and what it finds is its own.
    found = "ForkedError 42" if method == "fork" else "TimeoutError 42"
    assert running.found("^inherited (.*)$") == [found] * 6
    assert len(running.found("^cleaned child")) == len(running.found("^cleaned default")) == 6
    assert len(running.found("^cleaned opened")) == (1 if method == "fork" else 7)
    assert running.found("^parent (.*)$") == ["42 TimeoutError 42"]


@pytest.mark.parametrize("method", METHODS)
def test_processes_start_inside_a_with_block(run_program, method):
    # A forked child is inside the block, too, on a loop of its own; a spawned one opens its copy of the object.
    running = run_program(
        SHARED,
        """
loop = AsyncioThreadLoop(name="with")

def work():
    with contextlib.nullcontext() if METHOD == "fork" else loop:
        use_often(loop)
        loop.start_task(hold, "child")
    get_default_loop().start_task(hold, "default")

if __name__ == "__main__":
    with loop, called_by_threads(loop):
        pending, _ = loop.start_task(hold, "parent")
        run_children(work)
        say("parent", loop.evaluate(double(21)), run(double(21)), ask(pending))
    say("parent left", ask(pending))
""",
        method=method,
    )
    assert running.found("^code (.*)$") == ["0"] * 3
    assert len(running.found("^cleaned child")) == len(running.found("^cleaned default")) == 3
    assert running.found("^parent (.*)$") == ["42 42 TimeoutError", "left CancelledError"]


POOL_WORK = """
def initialize():
    say("inherited", ask(pending), ask(finished))
    loop.start_task(hold, "worker")

def task(number):
    use_often(loop)
    return os.getpid()
"""


@pytest.mark.parametrize("method", METHODS)
def test_workers_of_a_pool_make_many_calls_and_are_replaced(run_program, method):
    running = run_program(
        SHARED,
        OPEN,
        POOL_WORK,
        """
def run_pool(pool):
    with pool:
        workers = pool.map(task, range(8), chunksize=1)
        pool.close()
        pool.join()
    return workers

if __name__ == "__main__":
    with called_by_threads(loop):
        say("stayed", len(set(run_pool(context.Pool(2, initialize)))))
        workers = run_pool(context.Pool(2, initialize, maxtasksperchild=2))
        say("replaced", *sorted(map(workers.count, set(workers))))
    say("parent", loop.evaluate(double(21)), ask(pending))
""",
        method=method,
    )
    assert running.found("^stayed (.*)$")[0] in ("1", "2")  # one may be quicker than the other starts
    counts = [int(count) for count in running.found("^replaced (.*)$")[0].split()]
    assert sum(counts) == 8 and max(counts) <= 2
    found = "ForkedError 42" if method == "fork" else "TimeoutError 42"
    assert set(running.found("^inherited (.*)$")) == {found}
    assert len(running.found("^cleaned worker")) >= 2 + len(counts)
    assert running.found("^parent (.*)$") == ["42 TimeoutError"]


@pytest.mark.parametrize("method", METHODS)
def test_workers_of_a_process_pool_executor_make_many_calls(run_program, method):
    running = run_program(
        SHARED,
        OPEN,
        POOL_WORK,
        """
def run_executor(**options):
    with concurrent.futures.ProcessPoolExecutor(2, context, initialize, **options) as executor:

        async def ask_worker(number):
            return await asyncio.get_running_loop().run_in_executor(executor, task, number)

        workers = list(executor.map(task, range(4)))
        return workers + loop.evaluate_many(map(ask_worker, range(4)))

if __name__ == "__main__":
    with called_by_threads(loop):
        say("stayed", len(set(run_executor())))
        if METHOD != "fork":  # concurrent.futures replaces no worker that was forked
            workers = run_executor(max_tasks_per_child=2)
            say("replaced", *sorted(map(workers.count, set(workers))))
    say("parent", loop.evaluate(double(21)), ask(pending))
""",
        method=method,
    )
    assert running.found("^stayed (.*)$")[0] in ("1", "2")
    replaced = running.found("^replaced (.*)$")
    assert len(replaced) == (method != "fork")
    counts = [int(count) for line in replaced for count in line.split()]
    assert max(counts, default=2) <= 2
    found = "ForkedError 42" if method == "fork" else "TimeoutError 42"
    assert set(running.found("^inherited (.*)$")) == {found}
    assert len(running.found("^cleaned worker")) >= 1 + len(counts)
    assert running.found("^parent (.*)$") == ["42 TimeoutError"]


@pytest.mark.parametrize("on_fork", ["restart", "raise"])
def test_children_of_a_fork_server_that_has_the_loop_open(run_program, on_fork):
    # The server forks while its own loop runs; when the program ends, it closes that gracefully.
    running = run_program(
        """
from preloaded import *
from preloaded import work

if __name__ == "__main__":
    multiprocessing.set_forkserver_preload(["preloaded"])
    with called_by_threads(loop):
        run_children(work)
    say("parent", loop.evaluate(double(21)), ask(pending))
""",
        method="forkserver",
        preloaded=SHARED.replace("sys.argv[1]", '"forkserver"')  # its server has no such argument
        + OPEN.replace("restart", on_fork)
        + """
def work():
    say("inherited", ask(pending), ask(finished))
    try:
        say("answer", loop.evaluate(double(21)))
    except ForkedError:
        say("answer ForkedError")
    say("default", run(double(21)))
    get_default_loop().start_task(hold, "default")
""",
    )
    assert running.found("^code (.*)$") == ["0"] * 3
    assert running.found("^inherited (.*)$") == ["ForkedError 42"] * 3
    assert running.found("^answer (.*)$") == ["ForkedError" if on_fork == "raise" else "42"] * 3
    assert running.found("^default (.*)$") == ["42"] * 3
    assert running.found("^parent (.*)$") == ["42 TimeoutError"]
    assert len(running.found("^cleaned opened")) == 2  # the parent's and the server's
    assert len(running.found("^cleaned default")) == 3


def test_forked_children_are_told_when_the_loop_may_not_restart(run_program):
    running = run_program(
        SHARED,
        OPEN.replace("restart", "raise"),
        """
def work():
    calls = [
        lambda: loop.evaluate(double(1)),
        lambda: loop.submit(double, 1),
        lambda: loop.evaluate_many([double(1)]),
        pending.result,
        pending.exception,
    ]
    for call in calls:
        try:
            say("told nothing but", call())
        except ForkedError:
            say("told")
    say("default", run(double(21)), ask(finished))
    get_default_loop().start_task(hold, "default")

if __name__ == "__main__":
    with called_by_threads(loop):
        run_children(work)
    say("parent", loop.evaluate(double(21)), ask(pending))
""",
    )
    assert running.found("^code (.*)$") == ["0"] * 3
    assert running.found("^told.*$") == ["told"] * 15
    assert running.found("^default (.*)$") == ["42 42"] * 3
    assert len(running.found("^cleaned default")) == 3
    assert running.found("^parent (.*)$") == ["42 TimeoutError"]


@pytest.mark.parametrize("method", METHODS)
def test_children_that_leave_the_loop_alone_end_at_once(run_program, method):
    running = run_program(
        SHARED,
        OPEN,
        """
if __name__ == "__main__":
    with called_by_threads(loop):
        run_children(say, "child")
""",
        method=method,
    )
    assert running.found("^code (.*)$") == ["0"] * 3
    assert running.found("^child$") == ["child"] * 3


@pytest.mark.parametrize("method", METHODS)
def test_however_a_child_ends_it_cleans_up(run_program, method):
    # The cleanup may use threads and the parent's pipes, which `multiprocessing` closes only afterwards.
    running = run_program(
        SHARED,
        """
loop = AsyncioThreadLoop(name="opened").start()

async def hold_and_report(results, *, task_status):
    try:
        await hold("child", task_status=task_status)
    finally:
        results.put(await asyncio.to_thread(os.getpid))

def work(results, end):
    loop.start_task(hold_and_report, results)
    end()

def fail():
    # Printing the error is multiprocessing's way.
    sys.stderr = open(os.devnull, "w")
    loop.evaluate(double(None))

def asked_to_exit(number, frame):
    sys.exit(4)

def terminated():
    signal.signal(signal.SIGTERM, asked_to_exit)
    os.kill(os.getpid(), signal.SIGTERM)
    loop.evaluate(asyncio.sleep(20))

def exit_with_three():
    sys.exit(3)

def exit_in_a_coroutine():
    async def work():
        sys.exit(5)

    loop.evaluate(work())

if __name__ == "__main__":
    with called_by_threads(loop):
        for end in bool, exit_with_three, exit_in_a_coroutine, fail, terminated:
            results = context.SimpleQueue()
            child = context.Process(target=work, args=(results, end))
            child.start()
            say("ended", end.__name__, results.get() == child.pid, child.join(20), child.exitcode)
""",
        method=method,
    )
    assert running.found("^ended (.*)$") == [
        "bool True None 0",
        "exit_with_three True None 3",
        "exit_in_a_coroutine True None 5",
        "fail True None 1",
        "terminated True None 4",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_a_child_that_is_terminated_does_not_disturb_its_parent(run_program, method):
    running = run_program(
        SHARED,
        OPEN.replace('pending, _ = loop.start_task(hold, "opened")', ""),
        """
def work(ready):
    ready.set()
    loop.evaluate(asyncio.Event().wait())

if __name__ == "__main__":
    loop.start_task(hold, "parent")
    with called_by_threads(loop):
        for end in multiprocessing.Process.terminate, multiprocessing.Process.kill:
            ready = context.Event()
            child = context.Process(target=work, args=(ready,))
            child.start()
            ready.wait(20)
            end(child)
            child.join(20)
            say("code", child.exitcode)

        # A daemon is terminated when the program ends.
        ready = context.Event()
        context.Process(target=work, args=(ready,), daemon=True).start()
        ready.wait(20)
""",
        method=method,
    )
    assert running.found("^code (.*)$") == [str(-signal.SIGTERM), str(-signal.SIGKILL)]


def test_children_of_children_clean_up_each_their_own(run_program):
    running = run_program(
        SHARED,
        OPEN,
        """
def work(generation):
    say("inherited", ask(pending))
    use_often(loop)
    own, _ = loop.start_task(hold, f"generation {generation}")
    if generation < 3:
        with called_by_threads(loop):
            child = context.Process(target=work, args=(generation + 1,))
            child.start()
            child.join(20)
        say("code", child.exitcode, ask(own))

if __name__ == "__main__":
    work(0)
""",
    )
    assert running.found("^inherited (.*)$") == ["TimeoutError"] + ["ForkedError"] * 3
    assert running.found("^code (.*)$") == ["0 TimeoutError"] * 3
    assert len(running.found("^cleaned generation")) == 4


@pytest.mark.parametrize("method", METHODS)
def test_a_child_whose_coroutine_refuses_to_end_ends_within_its_time(program, tmp_path, method):
    path = tmp_path / "main.py"
    path.write_text(
        SHARED
        + """
async def refuse():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            say("refused")

def work():
    loop = AsyncioThreadLoop(0.2, name="stuck").start()
    loop.submit(refuse)
    loop.evaluate(double(21))

if __name__ == "__main__":
    child = context.Process(target=work)
    child.start()
    child.join(20)
    say("code", child.exitcode)
"""
    )
    running = program(path, method)
    assert running.finish() == 0, running
    assert running.found("^code (.*)$") == ["0"], running
    assert running.found("RuntimeWarning: stuck didn't end within"), running
    assert "refused" in running.lines, running
