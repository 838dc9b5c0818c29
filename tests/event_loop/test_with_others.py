"""`asyncio.Runner`, policies, task factories, anyio and the bridge on this loop."""

import asyncio
import sys
import time

import anyio
import pytest

from asyncio_thread_loop import AsyncioThreadLoop, EventLoop

from .conftest import WAIT


def test_a_runner_runs_on_it():
    async def main():
        return type(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        assert runner.run(main()) is EventLoop
        loop = runner.get_loop()
    assert loop.is_closed()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run takes a loop_factory since 3.12")
def test_asyncio_run_takes_it_as_loop_factory():
    async def main():
        return type(asyncio.get_running_loop())

    assert asyncio.run(main(), loop_factory=EventLoop) is EventLoop


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="policies are deprecated since 3.14")
def test_a_policy_can_make_it():
    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self):
            return EventLoop()

    async def main():
        return type(asyncio.get_running_loop())

    asyncio.set_event_loop_policy(Policy())
    try:
        assert asyncio.run(main()) is EventLoop
    finally:
        asyncio.set_event_loop_policy(None)


def test_it_is_a_selector_event_loop(loop):
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert isinstance(loop, asyncio.AbstractEventLoop)


def test_a_task_factory_makes_the_tasks(loop):
    made = []

    def factory(loop, coroutine, **options):
        made.append(asyncio.Task(coroutine, loop=loop, **options))
        return made[-1]

    async def main():
        return asyncio.current_task()

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    assert loop.run_until_complete(main()) is made[0]
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None
    with pytest.raises(TypeError):
        loop.set_task_factory("no factory")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks exist since 3.12")
def test_eager_tasks_work(loop):
    loop.set_task_factory(asyncio.eager_task_factory)
    steps = []

    async def child(name):
        steps.append(f"{name} begins")
        await asyncio.sleep(0)
        steps.append(f"{name} ends")

    async def main():
        one = asyncio.create_task(child("one"))
        steps.append("made one")
        two = asyncio.create_task(child("two"))
        await asyncio.gather(one, two)

    loop.run_until_complete(main())
    assert steps == ["one begins", "made one", "two begins", "one ends", "two ends"]


def test_task_groups_work(run):
    async def main():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0.001 * number, number)) for number in range(10)]
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.Event().wait())
                group.create_task(asyncio.wait_for(asyncio.Event().wait(), 0.001))
        return [task.result() for task in tasks]

    assert run(main()) == list(range(10))


def test_anyio_runs_on_it():
    async def main():
        assert isinstance(asyncio.get_running_loop(), EventLoop)
        done = []

        async def child(delay):
            await anyio.sleep(delay)
            done.append(delay)

        async with anyio.create_task_group() as group:
            group.start_soon(child, 0.002)
            group.start_soon(child, 0.001)
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep(WAIT)
        assert await anyio.to_thread.run_sync(anyio.from_thread.run_sync, len, "four") == 4
        send, receive = anyio.create_memory_object_stream(0)
        async with send, receive, anyio.create_task_group() as group:
            group.start_soon(send.send, "item")
            done.append(await receive.receive())
        process = await anyio.run_process(["echo", "hello"])
        done.append(process.stdout)
        return done

    assert anyio.run(main, backend_options={"loop_factory": EventLoop}) == [0.001, 0.002, "item", b"hello\n"]


def test_a_slow_completion_of_a_bridge_in_debug_mode_is_named(caplog):
    """A future of the bridge ends on the loop without a handle of its own, and its callbacks run there."""

    async def answer():
        await asyncio.sleep(0)
        return 42

    with AsyncioThreadLoop(WAIT, debug=True) as bridge:
        bridge.loop.slow_callback_duration = 0.01
        future = bridge.submit(answer)
        future.add_done_callback(lambda _: time.sleep(0.02))
        assert future.result(WAIT) == 42
        assert bridge.evaluate(answer(), WAIT) == 42
    assert "Executing <Future " in caplog.text
