"""`call_soon_threadsafe`: nothing is lost, a sleeping loop wakes, order is kept."""

import asyncio
import threading

from .conftest import WAIT


def test_calls_from_many_threads_all_arrive_in_each_threads_order(loop):
    threads, calls = 8, 2_000
    arrived = {number: [] for number in range(threads)}
    left = threads
    start = threading.Barrier(threads)

    def finished():
        nonlocal left
        left -= 1
        if not left:
            loop.stop()

    def send(number):
        start.wait(WAIT)
        for call in range(calls):
            loop.call_soon_threadsafe(arrived[number].append, call)
        loop.call_soon_threadsafe(finished)

    senders = [threading.Thread(target=send, args=(number,)) for number in range(threads)]
    for sender in senders:
        sender.start()
    loop.run_forever()
    for sender in senders:
        sender.join(WAIT)
    assert all(sent == list(range(calls)) for sent in arrived.values())


def test_a_loop_whose_connections_are_gone_has_nothing_to_look_at_any_more(loop):
    """It sleeps without the poller then, which on another thread than the main one is cheaper to wake."""

    async def looks():
        before = loop._polls
        for _ in range(10):
            await asyncio.sleep(0.001)
        return loop._polls - before

    async def main():
        seen = [await looks()]
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        for _ in range(3):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        seen.append(await looks())
        server.close()
        await server.wait_closed()
        return [*seen, await looks()]

    seen = []
    thread = threading.Thread(target=lambda: seen.extend(loop.run_until_complete(main())))
    thread.start()
    thread.join(WAIT)
    before, between, after = seen
    assert before == after == 0 < between


def test_a_sleeping_loop_is_woken_every_time(loop):
    """Ping-pong: each call finds the loop asleep or about to be."""
    ponged = threading.Semaphore(0)
    failed = []

    def ping():
        for _ in range(3_000):
            loop.call_soon_threadsafe(ponged.release)
            if not ponged.acquire(timeout=WAIT):
                failed.append("lost")
                break
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=ping)
    thread.start()
    loop.run_forever()
    thread.join(WAIT)
    assert failed == []


def test_a_loop_off_the_main_thread_is_woken_every_time(loop):
    ponged = threading.Semaphore(0)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        for _ in range(3_000):
            loop.call_soon_threadsafe(ponged.release)
            assert ponged.acquire(timeout=WAIT)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT)
    assert not thread.is_alive()


def test_a_loop_off_the_main_thread_sees_descriptors_that_are_added_later(loop, pair):
    """With nothing to poll it may sleep elsewhere than in the poller, until there is something."""
    ours, theirs = pair
    received = threading.Event()
    watching = threading.Event()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def watch():
        loop.add_reader(ours, lambda: (loop.remove_reader(ours), received.set()))
        watching.set()

    loop.call_soon_threadsafe(watch)
    assert watching.wait(WAIT)
    theirs.send(b"x")
    assert received.wait(WAIT)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(WAIT)


def test_timers_of_a_loop_off_the_main_thread_fire(loop):
    fired = threading.Event()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    loop.call_soon_threadsafe(lambda: loop.call_later(0.001, fired.set))
    assert fired.wait(WAIT)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(WAIT)


def test_calls_made_on_the_loops_thread_keep_their_order_whichever_method_made_them(loop):
    ran = []

    def schedule():
        loop.call_soon(ran.append, 1)
        loop.call_soon_threadsafe(ran.append, 2)
        loop.call_soon(ran.append, 3)
        loop.call_soon(loop.stop)

    schedule()
    loop.run_forever()
    assert ran == [1, 2, 3]
    loop.call_soon(schedule)
    loop.run_forever()
    assert ran == [1, 2, 3] * 2


def test_a_call_from_a_thread_before_the_run_comes_before_later_ones(loop):
    ran = []
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(ran.append, "thread"))
    thread.start()
    thread.join(WAIT)
    loop.call_soon(ran.append, "main")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["thread", "main"]


def test_a_cancelled_call_from_a_thread_does_not_run(loop):
    ran = []
    ready = threading.Event()

    def send():
        loop.call_soon_threadsafe(ran.append, "cancelled").cancel()
        loop.call_soon_threadsafe(loop.stop)
        ready.set()

    # The loop is held up in a callback until the thread has called and cancelled.
    loop.call_soon(lambda: (threading.Thread(target=send).start(), ready.wait(WAIT)))
    loop.run_forever()
    assert ran == []


def test_asyncio_run_coroutine_threadsafe_works(loop):
    async def answer():
        await asyncio.sleep(0)
        return 42

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    assert asyncio.run_coroutine_threadsafe(answer(), loop).result(WAIT) == 42
    loop.call_soon_threadsafe(loop.stop)
    thread.join(WAIT)
