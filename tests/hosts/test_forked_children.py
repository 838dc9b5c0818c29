"""What the children of `multiprocessing` find of a loop that many threads of the parent are calling."""

MAIN = """
import asyncio, concurrent.futures, contextlib, multiprocessing, os, signal, sys, threading
from asyncio_thread_loop import AsyncioThreadLoop, ForkedError, get_default_loop, run

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

async def double(number):
    await asyncio.sleep(0.001)
    return 2 * number

async def hold():
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.01)
        say("cleaned", os.getpid())

# In a forked child it is the parent's and starts again.
loop = AsyncioThreadLoop(name="module").start()

def compute(number):
    return os.getpid(), loop.evaluate(double(number)), run(double(number))

@contextlib.contextmanager
def calling(*loops):
    "Threads of the parent call while the body runs. Each result must be right, before, during and after it."
    stop, counts = threading.Event(), [0] * 4
    def call(thread):
        number = 0
        while not stop.is_set():
            for each in loops:
                assert each.evaluate(double(number)) == 2 * number
            number += 1
            counts[thread] = number
            if number == 3:
                begun.wait()
    begun = threading.Barrier(5)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(call, thread) for thread in range(4)]
        begun.wait()
        try:
            yield
            # Every thread gets further still.
            reached = list(counts)
            while any(now == then for now, then in zip(counts, reached)):
                concurrent.futures.wait(calls, timeout=0.01, return_when="FIRST_EXCEPTION")
                assert not any(call.done() for call in calls)
        finally:
            stop.set()
        for each in calls:
            each.result()

def main():
    context = multiprocessing.get_context("fork")
    run(double(0))
    with AsyncioThreadLoop(name="block") as block, calling(loop, block):
        pending = loop.submit(hold)
        work(context)
        assert not pending.done()
    say("done")

{work}

if __name__ == "__main__":
    main()
"""


def run(program, tmp_path, work):
    main = tmp_path / "main.py"
    main.write_text(MAIN.format(work=work))
    # Python 3.12 and later warn about every fork of a process with threads.
    running = program("-W", "ignore::DeprecationWarning", main)
    running.assert_ended_well()
    return running


def test_threads_of_a_child_that_call_at_the_same_time_all_get_their_results(program, tmp_path):
    # The first call in a forked child starts the loop again: whoever calls meanwhile waits for that.
    running = run(
        program,
        tmp_path,
        """
def child():
    barrier = threading.Barrier(8)
    def call(number):
        barrier.wait()
        return compute(number)[1:] if number % 2 else (get_default_loop().evaluate(double(number)),)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        results = list(threads.map(call, range(8)))
    assert results == [(2 * number,) * (number % 2 + 1) for number in range(8)], results

def work(context):
    for _ in range(5):
        each = context.Process(target=child)
        each.start()
        each.join()
        assert each.exitcode == 0
""",
    )
    assert "done" in running.lines


def test_a_future_of_the_parent_raises_in_its_children(program, tmp_path):
    running = run(
        program,
        tmp_path,
        """
def child(pending, done):
    assert done.result() == 42
    try:
        pending.result()
    except ForkedError:
        say("ForkedError", loop.evaluate(double(4)))

def work(context):
    pending, done = loop.submit(hold), loop.submit(double, 21)
    done.result()
    each = context.Process(target=child, args=(pending, done))
    each.start()
    each.join()
    assert each.exitcode == 0
    assert not pending.done()
""",
    )
    assert "ForkedError 8" in running.lines


def test_tasks_of_the_parent_are_not_cleaned_up_in_its_children(program, tmp_path):
    # A child that lets go of a task would have it collected, and its `finally` blocks run, if nothing else held it.
    running = run(
        program,
        tmp_path,
        """
def child():
    global task
    assert loop.evaluate(double(4)) == 8
    task = None
    gc.collect()

def make_task():
    return asyncio.get_running_loop().create_task(hold())

def work(context):
    global gc, task
    import gc
    task = loop.call(make_task)
    loop.evaluate(double(1))
    each = context.Process(target=child)
    each.start()
    each.join()
    assert each.exitcode == 0
""",
    )
    assert running.found(r"^cleaned (\d+)$") == [str(running.pid)] * 2, running
