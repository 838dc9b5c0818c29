"""Closing may be asked for anywhere: in callbacks, destructors, signal handlers, other loops. It never hangs."""

import asyncio
import concurrent.futures
import threading

import pytest

from asyncio_thread_loop import DeadlockError, LoopClosedError

from .harness import WAIT, Caller, Sleeper, Stubborn, answer, forever


def in_a_callback(loop, fn):
    """Call `fn` in a done-callback on the loop thread; return what it returned or raised."""
    outcome = concurrent.futures.Future()

    def call(_):
        try:
            outcome.set_result(fn())
        except BaseException as error:
            outcome.set_exception(error)

    released = threading.Event()

    async def wait_for_release():
        while not released.is_set():
            await asyncio.sleep(0.005)

    loop.submit(wait_for_release).add_done_callback(call)
    released.set()
    return outcome.result(WAIT)


def test_in_a_done_callback_waiting_is_a_deadlock(loop):
    with pytest.raises(DeadlockError, match="wait=False"):
        in_a_callback(loop, loop.close)
    assert loop.evaluate(answer()) == 42


def test_in_a_done_callback_not_waiting_closes(make_loop):
    loop = make_loop(exit_timeout=5).start()
    thread = loop.thread
    sleeper = Sleeper()
    loop.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    in_a_callback(loop, lambda: loop.shutdown(wait=False))
    thread.join(WAIT)
    assert not thread.is_alive()
    assert sleeper.cleaned.is_set()
    assert loop.loop is None


class ClosesWhenDropped:
    def __init__(self, loop, told):
        self.loop, self.told = loop, told

    def __del__(self):
        try:
            self.told.append(self.loop.close())
        except BaseException as error:
            self.told.append(type(error))


def test_in_a_destructor(make_loop):
    told = []
    loop = make_loop(exit_timeout=5).start()
    thread = loop.thread

    async def drop_one():
        ClosesWhenDropped(loop, told)

    loop.evaluate(drop_one())
    assert told == [DeadlockError]
    assert loop.evaluate(answer()) == 42
    sleeper = Sleeper()
    loop.submit(sleeper)
    assert sleeper.started.wait(WAIT)
    ClosesWhenDropped(loop, told)
    assert told[1:] == [None]
    assert sleeper.cleaned.is_set()
    assert not thread.is_alive()


def test_on_the_thread_of_another_loop(make_loop):
    first, second = make_loop(exit_timeout=5).start(), make_loop(exit_timeout=5).start()
    thread = first.thread
    sleeper = Sleeper()
    future = first.submit(sleeper)
    assert sleeper.started.wait(WAIT)

    async def close_the_first():
        first.close()

    second.evaluate(close_the_first(), timeout=WAIT)
    assert sleeper.cleaned.is_set()
    assert future.cancelled()
    assert not thread.is_alive()
    assert second.evaluate(answer()) == 42


def test_in_a_worker_thread_of_the_loop_itself(make_loop):
    # The loop waits for this thread, which waits for the loop: only the time limit ends that.
    loop = make_loop(exit_timeout=0.2).start()

    async def close_in_a_thread():
        await asyncio.to_thread(loop.close)

    future = loop.submit(close_in_a_thread)
    with pytest.warns(RuntimeWarning):
        concurrent.futures.wait([future], WAIT)
        loop.close()
    assert future.done()
    assert loop.loop is None


def test_in_the_iterable_of_evaluate_many(make_loop):
    loop = make_loop(exit_timeout=5).start()
    sleeper, late = Sleeper(), answer()

    def coroutines():
        yield sleeper()
        assert sleeper.started.wait(WAIT)
        loop.close()
        yield late

    with pytest.raises((LoopClosedError, concurrent.futures.CancelledError)):
        loop.evaluate_many(coroutines())
    assert sleeper.cleaned.is_set()
    assert late.cr_frame is None  # It was closed.


def test_in_the_middle_of_an_iteration(make_loop):
    loop = make_loop(exit_timeout=5).start()

    async def work(n):
        if n:
            await forever()
        return n

    mapped, completed = loop.map(work, [0, 1]), loop.as_completed([work(0), work(1)])
    assert next(mapped) == 0
    assert next(completed).result() == 0
    loop.close()
    with pytest.raises(concurrent.futures.CancelledError):
        next(mapped)
    assert next(completed).cancelled()
    assert list(completed) == []


def test_two_threads_with_different_patience(make_loop, gate):
    loop = make_loop().start()
    stubborn = Stubborn(gate)
    future = loop.submit(stubborn)
    assert stubborn.started.wait(WAIT)
    patient = Caller(loop.shutdown)
    assert stubborn.refused.wait(WAIT)
    with pytest.warns(RuntimeWarning, match="stubborn"):
        loop.shutdown(timeout=0.05)
    assert isinstance(future.exception(timeout=0), LoopClosedError)
    assert patient.is_alive()  # It said that it would wait for ever.
    with loop:  # A fresh loop, which the patient one leaves alone.
        gate.set()
        patient.outcome()
        assert loop.evaluate(answer()) == 42


@pytest.mark.parametrize("first", [True, False], ids=["finishing first", "cancelling first"])
def test_two_threads_that_want_it_differently(make_loop, gate, first):
    for _ in range(5):
        loop = make_loop(exit_timeout=WAIT).start()
        sleeper = Sleeper()
        future = loop.submit(sleeper)
        assert sleeper.started.wait(WAIT)
        finishing = [lambda loop=loop: loop.shutdown(cancel_futures=False), loop.shutdown]
        callers = [Caller(each) for each in (finishing if first else finishing[::-1])]
        for caller in callers:
            caller.outcome()
        assert future.cancelled()
        assert sleeper.cleaned.is_set()


def test_a_shutdown_that_waits_for_work_can_be_left_with_a_callback_of_that_work(make_loop):
    loop = make_loop(exit_timeout=5).start()
    thread = loop.thread
    future = loop.submit(asyncio.sleep, 0.02, "finished")
    future.add_done_callback(lambda _: loop.shutdown(wait=False))
    loop.shutdown(cancel_futures=False)
    assert future.result(timeout=0) == "finished"
    assert not thread.is_alive()


WAITS = {
    "evaluate": "loop.evaluate(work())",
    "result": "loop.submit(work).result()",
    "evaluate_many": "loop.evaluate_many([work(), asyncio.sleep(3600)])",
    "map": "list(loop.map(lambda_, [1]))",
    "as_completed": "next(loop.as_completed([work()])).result()",
    "start_task": "loop.start_task(never_ready)",
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_in_a_signal_handler_while_the_main_thread_waits(script, wait):
    running = script(f"""
async def work():
    os.kill(os.getpid(), signal.SIGUSR1)
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)
        say("cleaned")

async def lambda_(_):
    await work()

async def never_ready(*, task_status):
    await work()

def close(*_):
    loop.close()
    say("closed")

signal.signal(signal.SIGUSR1, close)
loop = make_loop(exit_timeout=10).start()
try:
    {wait}
except (CancelledError, LoopClosedError):
    say("ended")
say(loop.loop)
""")
    assert running.finish() == 0, running
    assert running.lines == ["cleaned", "closed", "ended", "None"]
    assert running.stderr == ""
