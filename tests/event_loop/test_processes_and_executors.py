"""Subprocesses, pipes and executors."""

import asyncio
import concurrent.futures
import os
import sys
import threading

import pytest


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
