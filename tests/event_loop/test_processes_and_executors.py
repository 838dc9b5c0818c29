"""Subprocesses, pipes and executors."""

import asyncio
import concurrent.futures
import contextlib
import gc
import multiprocessing
import os
import sys
import threading
import weakref

import pytest

from asyncio_thread_loop import EventLoop


def test_a_subprocess_talks_through_pipes(run):
    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "import sys; print(sys.stdin.read().upper(), end=''); sys.exit(3)",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate(b"hello" * 50_000)
        return out, process.returncode

    assert run(main()) == (b"HELLO" * 50_000, 3)


def test_a_shell_command_runs(run):
    async def main():
        process = await asyncio.create_subprocess_shell("echo out; echo err >&2", stdout=-1, stderr=-1)
        return await process.communicate()

    assert run(main()) == (b"out\n", b"err\n")


def test_a_subprocess_can_be_killed(run):
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "60")
        process.kill()
        return await process.wait()

    assert run(main()) == -9


def test_many_subprocesses_at_once(run):
    async def one(number):
        process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {number}")
        return await process.wait()

    async def main():
        return await asyncio.gather(*map(one, range(10)))

    assert run(main()) == list(range(10))


def test_pipes_can_be_connected(run):
    async def main():
        loop = asyncio.get_running_loop()
        reading, writing = map(os.fdopen, os.pipe(), ("rb", "wb"))
        reader = asyncio.StreamReader()
        source, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), reading)
        sink, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, writing)
        sink.write(b"through the pipe")
        sink.close()
        data = await reader.read()
        source.close()
        return data

    assert run(main()) == b"through the pipe"


def test_executors_run_in_threads(run):
    async def main():
        loop = asyncio.get_running_loop()
        default = await loop.run_in_executor(None, threading.get_ident)
        assert default != threading.get_ident()
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            own = await loop.run_in_executor(executor, threading.get_ident)
        assert own not in (default, threading.get_ident())
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)

    run(main())


def test_executors_and_the_loop_hand_back_and_forth(run):
    async def main():
        return [await asyncio.to_thread(int, number) for number in range(500)]

    assert run(main()) == list(range(500))


class Inline(concurrent.futures.Executor):
    """An executor of the user's own, whose work has ended when it is submitted."""

    def submit(self, fn, /, *args, **kwargs):
        future = concurrent.futures.Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


EXECUTORS = {
    "default": lambda: contextlib.nullcontext(),
    "threads": lambda: concurrent.futures.ThreadPoolExecutor(2),
    "inline": Inline,
    "processes": lambda: concurrent.futures.ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn")
    ),
}


@pytest.mark.parametrize("kind", EXECUTORS)
def test_every_executor_hands_back_results_and_errors(run, kind):
    async def main():
        loop = asyncio.get_running_loop()
        with EXECUTORS[kind]() as executor:
            for _ in range(2):
                assert await loop.run_in_executor(executor, divmod, 7, 2) == (3, 1)
                with pytest.raises(ZeroDivisionError):
                    await loop.run_in_executor(executor, divmod, 7, 0)
            many = [loop.run_in_executor(executor, pow, number, 2) for number in range(100)]
            assert await asyncio.gather(*many) == [number**2 for number in range(100)]

    run(main())


def test_work_gives_a_future_of_asyncio(run):
    async def main():
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, int)
        future = loop.run_in_executor(None, int)
        assert asyncio.isfuture(future)
        assert future.get_loop() is loop
        called = []
        future.add_done_callback(called.append)
        await future
        await asyncio.sleep(0)
        assert called == [future]

    run(main())


def test_cancelling_the_future_cancels_work_that_waits(run):
    gate, begun, ran = threading.Event(), threading.Event(), []

    def blocks():
        begun.set()
        gate.wait(20)

    async def main():
        loop = asyncio.get_running_loop()
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            blocking = loop.run_in_executor(executor, blocks)
            waiting = loop.run_in_executor(executor, ran.append, "cancelled")
            assert begun.wait(20)
            waiting.cancel()
            blocking.cancel()  # it runs on, and nobody is told what comes of it
            await asyncio.sleep(0)  # the work is told in the next turn
            for future in (waiting, blocking):
                with pytest.raises(asyncio.CancelledError):
                    await future
            gate.set()
        await asyncio.sleep(0)

    run(main())
    assert ran == []


def test_cancelling_the_work_cancels_the_future(run):
    class Waiting(concurrent.futures.Executor):
        def submit(self, fn, /, *args, **kwargs):
            self.work = concurrent.futures.Future()
            return self.work

    async def main():
        executor = Waiting()
        future = asyncio.get_running_loop().run_in_executor(executor, int)
        threading.Thread(target=executor.work.cancel).start()
        with pytest.raises(asyncio.CancelledError):
            await future
        assert future.cancelled()

    run(main())


def test_what_an_executor_submits_that_is_no_future_of_threads_is_taken_as_it_is(run):
    class Own:
        def submit(self, fn, *args):
            return asyncio.ensure_future(asyncio.to_thread(fn, *args))

    class Wrong:
        def submit(self, fn, *args):
            return None

    async def main():
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(Own(), int, "5") == 5
        with pytest.raises(AssertionError):
            loop.run_in_executor(Wrong(), int)

    run(main())


def test_work_that_ends_after_the_loop_is_closed_is_nobodys(loop, caplog):
    gate = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        own = EventLoop()
        future = own.run_in_executor(executor, gate.wait, 20)
        own.close()
        gate.set()
    assert not future.done()
    assert caplog.records == []


def test_a_loop_without_an_executor_any_more_refuses_work(run):
    async def main():
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, int)
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="shutdown"):
            loop.run_in_executor(None, int)

    run(main())
    closed = EventLoop()
    closed.close()
    for executor in (None, Inline()):
        with pytest.raises(RuntimeError, match="closed"):
            closed.run_in_executor(executor, int)


def test_in_debug_mode_a_coroutine_function_is_refused(loop):
    async def coroutine():
        pass

    loop.set_debug(True)
    with pytest.raises(TypeError, match="coroutines"):
        loop.run_in_executor(Inline(), coroutine)


def test_work_leaves_no_garbage(run):
    class Result:
        pass

    async def main():
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, int)
        gc.disable()
        try:
            freed = weakref.ref(await loop.run_in_executor(None, Result))
            while freed() is not None:  # the worker lets go of it in its own time; the collector doesn't come
                await asyncio.sleep(0)
        finally:
            gc.enable()

    run(main())
