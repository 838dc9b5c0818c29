"""One lazy loop for each process, on the native event loop. Each test has a process of its own."""

import pytest


@pytest.fixture
def flavour():
    return "native"


def test_there_is_one_and_it_starts_when_it_is_asked_for(script):
    running = script("""
say(threading.active_count())
loop = get_default_loop()
say(isinstance(loop, AsyncioThreadLoop), get_default_loop() is loop, loop.evaluate(answer()))
""")
    assert running.finish() == 0, running
    assert running.lines == ["1", "True True 42"]
    assert running.stderr == ""


def test_many_threads_get_the_same_one(script):
    running = script("""
barrier = threading.Barrier(16)
loops = []

def ask():
    barrier.wait()
    loops.append(get_default_loop())
    assert loops[-1].evaluate(answer()) == 42

threads = [threading.Thread(target=ask) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
say(len(loops), len(set(loops)))
""")
    assert running.finish() == 0, running
    assert running.lines == ["16 1"]
    assert running.stderr == ""


def test_run_returns_the_result_or_raises(script):
    running = script("""
async def fail():
    raise ZeroDivisionError

say(run(answer()))
try:
    run(fail())
except ZeroDivisionError:
    say("raised")
try:
    run(asyncio.sleep(3600), timeout=0.05)
except TimeoutError:
    say("timed out")
say(run(answer(), 10))
""")
    assert running.finish() == 0, running
    assert running.lines == ["42", "raised", "timed out", "42"]
    assert running.stderr == ""


def test_run_uses_the_default_loop_each_time(script):
    running = script("""
async def where():
    return asyncio.get_running_loop()

say(run(where()) is run(where()) is get_default_loop().loop)
""")
    assert running.finish() == 0, running
    assert running.lines == ["True"]


def test_run_on_the_loop_thread_is_a_deadlock(script):
    running = script("""
async def call():
    try:
        run(answer())
    except DeadlockError:
        return "refused"

say(run(call()))
""")
    assert running.finish() == 0, running
    assert running.lines == ["refused"]
    assert running.stderr == ""


def test_run_works_inside_another_running_loop(script):
    running = script("""
async def main():
    return run(answer())

say(asyncio.run(main()))
""")
    assert running.finish() == 0, running
    assert running.lines == ["42"]


def test_a_child_has_its_own(script):
    running = script("""
say("parent", run(answer()))
pid = os.fork()
if pid == 0:
    say("child", run(answer()))
    sys.exit(0)
say("code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
say("parent", run(answer()))
""")
    assert running.finish() == 0, running
    assert running.lines == ["parent 42", "child 42", "code 0", "parent 42"]
