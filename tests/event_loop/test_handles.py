"""What `call_soon` and `call_at` give back looks like asyncio's own."""

import asyncio
import gc

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
