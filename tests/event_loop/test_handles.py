"""What `call_soon` and `call_at` give back looks like asyncio's own."""

import asyncio
import contextvars
import functools
import gc
import weakref

import pytest


def callback(*args):
    pass


def test_handles_are_asyncio_handles(loop):
    soon = loop.call_soon(callback)
    later = loop.call_later(60, callback)
    assert isinstance(soon, asyncio.Handle)
    assert not isinstance(soon, asyncio.TimerHandle)
    assert isinstance(later, asyncio.Handle)
    assert isinstance(later, asyncio.TimerHandle)
    later.cancel()


def test_handles_are_shown_like_those_of_asyncio(loop):
    standard = asyncio.Handle(callback, (1, "x"), loop)
    soon = loop.call_soon(callback, 1, "x")
    assert repr(soon) == repr(standard)
    soon.cancel()
    standard.cancel()
    assert repr(soon) == repr(standard) == "<Handle cancelled>"

    standard = asyncio.TimerHandle(12.5, callback, (), loop)
    later = loop.call_at(12.5, callback)
    assert repr(later) == repr(standard)
    later.cancel()
    standard.cancel()
    assert repr(later) == repr(standard) == "<TimerHandle cancelled when=12.5>"


def test_timers_compare_like_those_of_asyncio(loop):
    def both(when, *args):
        return [loop.call_at(when, callback, *args), asyncio.TimerHandle(when, callback, args, loop)]

    def comparisons(a, b):
        return [a == b, a != b, a < b, a <= b, a > b, a >= b]

    for first in [(1.0,), (2.0,), (2.0, "x")]:
        for second in [(1.0,), (2.0,), (2.0, "x")]:
            ours, standard = zip(both(*first), both(*second), strict=True)
            assert comparisons(*ours) == comparisons(*standard), (first, second)
    ours, standard = both(3.0)
    assert ours == standard
    assert hash(ours) == hash(standard)
    assert ours != 3.0
    with pytest.raises(TypeError):
        assert ours < 3.0


def test_a_handle_can_be_told_by_its_callback_and_arguments(loop):
    handle = loop.call_soon(callback, 1, 2)
    assert (handle._callback, handle._args, handle._cancelled) == (callback, (1, 2), False)
    handle.cancel()
    assert (handle._callback, handle._args, handle._cancelled) == (None, None, True)


def test_the_garbage_collector_knows_every_handle(loop):
    """Those that reuse the memory of earlier ones too: a cycle through a handle must be found."""
    for _ in range(3):
        handles = [loop.call_soon(callback) for _ in range(10)] + [loop.call_later(0, callback)]
        assert all(map(gc.is_tracked, handles))
        handles.clear()
        loop.stop()
        loop.run_forever()


@pytest.mark.parametrize("method", ["call_soon", "call_later"])
def test_a_cycle_through_a_handle_that_reuses_memory_is_found(loop, method):
    def schedule(*args):
        if method == "call_soon":
            return loop.call_soon(*args)
        return loop.call_later(0, *args)

    class Ring:
        def __call__(self):
            pass

    for _ in range(3):
        handles = [schedule(callback, 1) for _ in range(20)]
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
        handles.clear()  # their memory is there for those that follow
        rings = [Ring() for _ in range(20)]
        for ring in rings:
            ring.handle = schedule(ring)
        freed = [weakref.ref(ring) for ring in rings]
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
        del ring, rings
        gc.collect()
        assert [ring() for ring in freed] == [None] * 20


def test_a_handle_starts_as_if_its_memory_were_new(loop):
    seen = []
    context = contextvars.Context()
    for _ in range(3):
        first = loop.call_soon(callback, 1, 2, context=context)
        second = loop.call_later(60, callback, 1)
        told = weakref.ref(first, lambda _: seen.append("gone"))
        first.cancel()
        second.cancel()
        del first, second
        assert told() is not None  # the loop has it yet
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert told() is None
        fresh = loop.call_soon(callback)
        assert (fresh._callback, fresh._args, fresh.cancelled()) == (callback, (), False)
        assert fresh._context is not context
        assert weakref.getweakrefs(fresh) == []
        timer = loop.call_at(12.5, callback, "x")
        assert (timer.when(), timer._args, timer.cancelled()) == (12.5, ("x",), False)
        assert timer._scheduled
        timer.cancel()
        fresh.cancel()
    assert seen == ["gone"] * 3


def test_more_handles_than_are_kept_for_reuse(loop):
    ran = []
    for _ in range(3):
        for number in range(2_000):
            loop.call_soon(ran.append, number)
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert ran == list(range(2_000))
        ran.clear()


def test_what_a_handle_drops_may_schedule(loop):
    """Its memory is not given to others before it is empty."""
    ran = []

    class Last:
        def __del__(self):
            loop.call_soon(ran.append, "from a destructor")

    for _ in range(300):
        loop.call_soon(callback, Last()).cancel()
        loop.call_later(60, callback, Last(), Last()).cancel()
    for _ in range(2):
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert ran == ["from a destructor"] * 900


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_a_callback_gets_what_it_was_scheduled_with(loop, count):
    got = []

    class Method:
        def method(self, *args):
            got.append(args)

    def function(*args):
        got.append(args)

    args = tuple(object() for _ in range(count))
    for target in (function, Method().method, functools.partial(function), lambda *args: got.append(args)):
        assert loop.call_soon(target, *args)._args == args
        loop.call_later(0, target, *args)
        loop.call_soon_threadsafe(target, *args)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert got == [args] * 12


def test_a_callback_that_cancels_itself_still_has_its_arguments(loop):
    got = []

    def cancels_itself(arg):
        handle.cancel()
        got.append(arg)

    handle = loop.call_soon(cancels_itself, ["only here"])
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert got == [["only here"]]
    assert handle.cancelled()


def test_a_cancelled_handle_that_asyncio_made_is_not_scheduled(loop):
    ran = []
    cancelled, kept = (asyncio.Handle(ran.append, (name,), loop) for name in ("cancelled", "kept"))
    cancelled.cancel()
    loop._add_callback(cancelled)
    loop._add_callback(kept)
    assert loop._ready == [kept]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["kept"]
