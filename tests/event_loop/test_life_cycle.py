"""Closing, what is left after it, and loops nobody closed."""

import asyncio
import gc
import os
import threading
import weakref

import pytest

from asyncio_thread_loop import EventLoop

from .conftest import WAIT


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_closing_twice_is_closing_once():
    loop = EventLoop()
    assert not loop.is_closed()
    loop.close()
    loop.close()
    assert loop.is_closed()


def test_a_running_loop_cannot_be_closed(loop):
    async def close():
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            loop.close()

    loop.run_until_complete(close())
    assert not loop.is_closed()


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("call_soon", [print]),
        ("call_soon_threadsafe", [print]),
        ("call_later", [0, print]),
        ("call_at", [0, print]),
        ("run_forever", []),
        ("run_until_complete", [None]),
        ("run_in_executor", [None, print]),
        ("add_reader", [0, print]),
        ("add_writer", [0, print]),
    ],
)
def test_a_closed_loop_refuses(method, args):
    loop = EventLoop()
    loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        getattr(loop, method)(*args)


def test_a_closed_loop_refuses_coroutines():
    loop = EventLoop()
    loop.close()
    coroutine = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        loop.create_task(coroutine)
    coroutine.close()


def test_on_a_closed_loop_nothing_is_left_to_remove(pair):
    loop = EventLoop()
    loop.add_reader(pair[0], print)
    handle = loop.call_later(60, print)
    loop.close()
    assert loop.remove_reader(pair[0]) is False
    handle.cancel()
    loop.stop()
    assert (loop._ready, loop._scheduled) == ([], [])


def test_threads_that_call_a_loop_that_closes_are_told():
    """Each call either arrives or is refused; none hangs, none crashes."""
    for _ in range(20):
        loop = EventLoop()
        start = threading.Barrier(5)
        unexpected = []

        def send(loop=loop, start=start, unexpected=unexpected):
            start.wait(WAIT)
            try:
                while True:
                    loop.call_soon_threadsafe(int)
            except RuntimeError as error:
                if str(error) != "Event loop is closed":
                    unexpected.append(error)

        senders = [threading.Thread(target=send) for _ in range(4)]
        for sender in senders:
            sender.start()
        start.wait(WAIT)
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        for sender in senders:
            sender.join(WAIT)
            assert not sender.is_alive()
        assert unexpected == []


def test_closing_frees_what_was_scheduled(pair):
    class Callback:
        def __call__(self):
            pass

    loop = EventLoop()
    callbacks = [Callback() for _ in range(5)]
    freed = [weakref.ref(callback) for callback in callbacks]
    loop.call_soon(callbacks[0])
    loop.call_soon_threadsafe(callbacks[1])
    loop.call_later(60, callbacks[2])
    loop.add_reader(pair[0], callbacks[3])
    loop.add_writer(pair[0], callbacks[4])
    callbacks.clear()
    loop.close()
    gc.collect()
    assert [each() for each in freed] == [None] * 5


def test_opening_and_closing_leaves_no_descriptors():
    before = descriptors()
    for _ in range(100):
        EventLoop().close()
    assert descriptors() == before


def test_a_closed_loop_is_no_part_of_a_cycle():
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            loop = weakref.ref(runner.get_loop())
            runner.run(asyncio.sleep(0.001))
        del runner
        assert loop() is None
    finally:
        gc.enable()


def test_a_loop_that_its_own_callbacks_keep_alive_is_collected():
    """Ready queue, timers, readers, exception handler and task factory all know the loop."""
    before = descriptors()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        loop = EventLoop()
        loop.call_soon(loop.stop)
        loop.call_later(60, loop.stop)
        loop.add_reader(loop._csock, loop.stop)
        loop.set_exception_handler(loop.default_exception_handler)
        loop.set_task_factory(loop.create_task)
        freed = weakref.ref(loop)
        del loop
        gc.collect()
    assert freed() is None
    assert descriptors() == before


def test_a_loop_nobody_closed_warns_and_is_closed():
    before = descriptors()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        EventLoop()
        gc.collect()
    assert descriptors() == before


def test_a_loop_whose_sockets_went_before_it_is_closed():
    """The collector may finalize them first, and asyncio's `__del__` closes the loop then."""
    before = descriptors()
    loop = EventLoop()
    loop._ssock.close()
    loop._csock.close()
    loop.close()
    assert loop.is_closed()
    del loop
    gc.collect()
    assert descriptors() == before


def test_a_loop_shows_its_state():
    loop = EventLoop()
    assert repr(loop) == "<EventLoop running=False closed=False debug=False>"
    loop.close()
    assert repr(loop) == "<EventLoop running=False closed=True debug=False>"


def test_a_loop_can_run_in_one_thread_after_another(loop):
    ran_in = []

    def run():
        loop.run_until_complete(asyncio.sleep(0.001))
        ran_in.append(threading.get_ident())

    for _ in range(3):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(WAIT)
    run()
    assert len(ran_in) == 4
    assert ran_in[-1] == threading.get_ident()
