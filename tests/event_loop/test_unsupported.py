"""What `EventLoop` does not do, it refuses with `NotImplementedError`."""

import gc
import selectors

import pytest

from asyncio_thread_loop import EventLoop


def test_a_selector_is_refused():
    with (
        selectors.DefaultSelector() as selector,
        pytest.raises(NotImplementedError, match="takes no selector"),
    ):
        EventLoop(selector)
    gc.collect()  # the half-made loop neither warns nor fails


@pytest.mark.parametrize("name", ["time", "_run_once", "_process_events", "_add_callback"])
def test_overriding_what_is_native_is_refused(name):
    with pytest.raises(NotImplementedError, match=rf"Custom\.{name}"):
        type("Custom", (EventLoop,), {name: lambda self: None})


def test_other_methods_can_be_overridden():
    reports = []

    class Custom(EventLoop):
        def call_exception_handler(self, context):
            reports.append(context["message"])

    loop = Custom()
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert len(reports) == 1


def test_the_selector_can_only_be_asked(loop, pair):
    for refused in (
        lambda: loop._selector.register(pair[0], selectors.EVENT_READ),
        lambda: loop._selector.modify(pair[0], selectors.EVENT_READ),
        lambda: loop._selector.unregister(pair[0]),
        lambda: loop._selector.select(0),
        lambda: loop._selector.get_map(),
    ):
        with pytest.raises(NotImplementedError):
            refused()
