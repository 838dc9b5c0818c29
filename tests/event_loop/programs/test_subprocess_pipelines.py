"""Real processes that feed one another, as a shell joins them."""

import asyncio
import contextlib
import os
import signal
import sys

import pytest

from .conftest import digest

PIPE = asyncio.subprocess.PIPE


@contextlib.asynccontextmanager
async def pipeline(*commands, **options):
    """Start `a | b | c`: the standard output of each is the standard input of the next. Gives the processes.

    They are to end by themselves: to kill one that has just ended would take its exit status from asyncio.
    """
    processes = []
    source = PIPE
    try:
        for number, command in enumerate(commands):
            if number < len(commands) - 1:
                reading, target = os.pipe()
            else:
                reading, target = None, PIPE
            process = asyncio.create_subprocess_exec(*command, stdin=source, stdout=target, **options)
            try:
                processes.append(await process)
            finally:
                for end in (source, target):
                    if end is not PIPE:
                        os.close(end)
            source = reading
        yield processes
    except BaseException:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        raise
    finally:
        await asyncio.gather(*(process.wait() for process in processes))


async def feed(process, data):
    """Write it all, and no more. A process that has heard enough is no error."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for start in range(0, len(data), 100_000):
            process.stdin.write(data[start : start + 100_000])
            await process.stdin.drain()
    process.stdin.close()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await process.stdin.wait_closed()


def test_much_data_goes_through_three_processes_unchanged(run, noise):
    data = noise(20_000_000)

    async def main():
        async with pipeline(["gzip", "-1"], ["cat"], ["gunzip"]) as processes:
            feeding = asyncio.create_task(feed(processes[0], data))
            out = await processes[-1].stdout.read()
            await feeding
            return digest(out), [await process.wait() for process in processes]

    assert run(main()) == (digest(data), [0, 0, 0])


def test_processes_sort_and_count_what_they_are_fed(run):
    words = [f"word {number % 1000}" for number in range(50_000)]

    async def main():
        async with pipeline(
            ["sort"], ["uniq", "-c"], ["wc", "-l"], env={**os.environ, "LC_ALL": "C"}
        ) as processes:
            await feed(processes[0], "\n".join(words).encode() + b"\n")
            return int(await processes[-1].stdout.read())

    assert run(main()) == 1000


def test_a_reader_that_ends_early_ends_those_before_it(run):
    async def main():
        async with pipeline(["yes"], ["cat"], ["head", "-n", "3"]) as processes:
            out = await processes[-1].stdout.read()
            return out, [await process.wait() for process in processes]

    assert run(main()) == (b"y\ny\ny\n", [-signal.SIGPIPE, -signal.SIGPIPE, 0])


def test_writing_to_a_process_that_has_ended_is_an_error_and_no_hang(run):
    async def main():
        process = await asyncio.create_subprocess_exec("true", stdin=PIPE)
        assert await process.wait() == 0
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                process.stdin.write(b"x" * 100_000)
                await process.stdin.drain()
        # What it was given is dropped, without a word.
        other = await asyncio.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
        return await other.communicate(b"x" * 1_000_000), other.returncode

    assert run(main()) == ((b"", None), 0)


def test_killing_the_first_ends_the_rest(run):
    async def main():
        async with pipeline(["sleep", "600"], ["cat"], ["cat"]) as processes:
            reading = asyncio.create_task(processes[-1].stdout.read())
            await asyncio.sleep(0)
            assert not reading.done()
            processes[0].kill()
            return await reading, [await process.wait() for process in processes]

    assert run(main()) == (b"", [-signal.SIGKILL, 0, 0])


def test_a_process_is_killed_while_much_data_is_on_its_way(run):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        feeding = asyncio.create_task(feed(process, b"x" * 50_000_000))
        assert await process.stdout.readexactly(1_000_000) == b"x" * 1_000_000
        process.kill()
        rest = await process.stdout.read()
        await feeding
        return await process.wait(), len(rest) < 49_000_000, set(rest) <= {ord("x")}

    assert run(main()) == (-signal.SIGKILL, True, True)


def test_a_conversation_goes_line_by_line(run):
    code = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)\nprint('end', file=sys.stderr)"

    async def main():
        command = [sys.executable, "-c", code]
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        for number in range(200):
            process.stdin.write(b"line %d\n" % number)
            assert await process.stdout.readline() == f"line {number}"[::-1].encode() + b"\n"
        return await process.communicate(b"the last\n"), process.returncode

    assert run(main()) == ((b"tsal eht\n", b"end\n"), 0)


def test_both_outputs_are_read_however_much_comes_on_either(run):
    code = "import os\nfor _ in range(200): os.write(1, b'o' * 50_000); os.write(2, b'e' * 50_000)"

    async def main():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=PIPE, stderr=PIPE)
        return await process.communicate()

    assert run(main()) == (b"o" * 10_000_000, b"e" * 10_000_000)


def test_a_process_that_takes_too_long_is_terminated(run):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(process.stdout.read(), 0.05)
        assert process.returncode is None
        process.terminate()
        return await process.communicate(), process.returncode

    assert run(main()) == ((b"", None), -signal.SIGTERM)


def test_many_pipelines_at_once_are_kept_apart(run):
    async def one(number):
        async with pipeline(["cat"], ["tr", "a-z", "A-Z"]) as processes:
            await feed(processes[0], f"pipeline {number}".encode() * 1000)
            return await processes[-1].stdout.read()

    async def main():
        return await asyncio.gather(*map(one, range(20)))

    assert run(main()) == [f"PIPELINE {number}".encode() * 1000 for number in range(20)]
