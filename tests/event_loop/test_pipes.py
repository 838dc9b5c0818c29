"""Pipe transports, and that they do what the standard loop's do."""

import asyncio
import gc
import os
import socket
import sys
import warnings

import pytest

from .conftest import Records


@pytest.fixture
def run(run_everywhere):
    """Run a coroutine; what is promised holds on the standard loop, too."""
    return run_everywhere


class Recorder(Records, asyncio.Protocol):
    def connection_made(self, transport):
        self.record("made")

    def data_received(self, data):
        self.record("data", data)

    def eof_received(self):
        self.record("eof")

    def connection_lost(self, exc):
        self.record("lost", type(exc))

    def data(self):
        return b"".join(each[1] for each in self.told if each[0] == "data")

    async def lost(self):
        await self.until(lambda: self.told[-1][0] == "lost")


async def reading(file):
    return await asyncio.get_running_loop().connect_read_pipe(Recorder, file)


async def writing(file):
    return await asyncio.get_running_loop().connect_write_pipe(Recorder, file)


def opened():
    """The two ends of a pipe: to read, to write."""
    read, write = os.pipe()
    return os.fdopen(read, "rb", 0), os.fdopen(write, "wb", 0)


def test_what_is_written_to_a_pipe_is_read_from_it_up_to_its_end(run):
    async def main():
        source, sink = opened()
        reader, received = await reading(source)
        writer, sending = await writing(sink)
        assert isinstance(reader, asyncio.ReadTransport)
        assert reader.get_extra_info("pipe") is source
        writer.write(b"hello ")
        writer.write(bytearray(b"pipe"))
        await received.until(lambda: received.data() == b"hello pipe")
        writer.close()
        await sending.lost()
        await received.lost()
        assert source.closed and sink.closed
        return received.told[-2:], sending.told

    assert run(main()) == ([("eof",), ("lost", type(None))], [("made",), ("lost", type(None))])


@pytest.mark.parametrize("size", [1, 300_000, 3_000_000])
def test_much_goes_through_and_the_writer_is_paused_meanwhile(run, size):
    async def main():
        source, sink = opened()
        writer, sending = await writing(sink)
        data = os.urandom(size)
        writer.write(data)
        is_much = size > 200_000
        assert (("paused",) in sending.told) == is_much
        _, received = await reading(source)
        await received.until(lambda: len(received.data()) == size)
        assert received.data() == data
        if is_much:
            await sending.until(lambda: ("resumed",) in sending.told)
        writer.close()
        await received.lost()
        await sending.lost()

    run(main())


def test_what_is_not_read_yet_stays_in_the_pipe_while_reading_is_paused(run):
    async def main():
        source, sink = opened()
        reader, received = await reading(source)
        reader.pause_reading()
        assert not reader.is_reading()
        sink.write(b"later")
        for _ in range(5):
            await asyncio.sleep(0)
        assert received.data() == b""
        reader.resume_reading()
        await received.until(lambda: received.data() == b"later")
        reader.close()
        await received.lost()
        sink.close()
        return ("eof",) in received.told

    assert run(main()) is False


def test_a_reader_that_goes_away_in_the_middle_of_a_write_ends_the_writer(run):
    async def main():
        source, sink = opened()
        writer, sending = await writing(sink)
        writer.write(b"x" * 1_000_000)
        assert writer.get_write_buffer_size() > 0
        source.close()
        await sending.lost()
        assert writer.is_closing()
        return sending.told[-1]

    assert run(main()) == ("lost", BrokenPipeError)


def test_a_reader_that_goes_away_is_noticed_without_a_write(run):
    async def main():
        source, sink = opened()
        _, sending = await writing(sink)
        source.close()
        await sending.lost()
        return sending.told[-1]

    assert run(main()) == ("lost", type(None))


def test_an_error_of_reading_is_reported_and_ends_the_reader(run):
    async def main():
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        ours, theirs = socket.socketpair()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            ours.close()
            theirs.close()
            ours = socket.create_connection(listening.getsockname())
            theirs, _ = listening.accept()
        _, received = await reading(ours)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        await received.lost()
        (report,) = reports
        return received.told[-1], report["message"], type(report["exception"])

    assert run(main()) == (
        ("lost", ConnectionResetError),
        "Fatal read error on pipe transport",
        ConnectionResetError,
    )


def test_the_end_of_a_terminal_is_the_end(run):
    async def main():
        ours, theirs = os.openpty()
        _, received = await reading(os.fdopen(ours, "rb", 0))
        os.write(theirs, b"typed")
        await received.until(lambda: received.data() == b"typed")
        os.close(theirs)  # EIO for whoever reads
        await received.lost()
        return received.told[-1]

    assert run(main()) == ("lost", OSError)


def test_a_regular_file_is_no_pipe(run, tmp_path):
    async def main():
        refused = pytest.raises(ValueError, match="Pipe transport is for pipes/sockets only")
        with open(tmp_path / "file", "w+b") as file, refused:
            await reading(file)

    run(main())


def test_one_that_is_not_closed_is_warned_of(run):
    async def main():
        source, sink = opened()
        reader, received = await reading(source)
        asyncio.get_running_loop()._remove_reader(source.fileno())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del reader, received
            gc.collect()
        sink.close()
        return [str(each.message) for each in caught]

    assert any(message.startswith("unclosed transport <") for message in run(main()))


def test_debug_mode_tells_of_the_end(run, caplog):
    async def main():
        source, sink = opened()
        _, received = await reading(source)
        sink.close()
        await received.lost()

    caplog.set_level("INFO", "asyncio")
    run(main(), debug=True)
    assert any("was closed by peer" in record.getMessage() for record in caplog.records)


def test_a_pipeline_of_processes_carries_much_both_ways(run):
    async def main():
        program = "import sys, shutil; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"
        options = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        processes = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", program, **options) for _ in range(3)
        ]
        data = os.urandom(1_000_000)

        async def pump(source, sink):
            while chunk := await source.read(65536):
                sink.write(chunk)
                await sink.drain()
            sink.close()

        async def feed(sink):
            sink.write(data)
            await sink.drain()
            sink.close()

        first, second, third = processes
        *_, out = await asyncio.gather(
            feed(first.stdin),
            pump(first.stdout, second.stdin),
            pump(second.stdout, third.stdin),
            third.stdout.read(),
        )
        assert out == data
        return [await process.wait() for process in processes]

    assert run(main()) == [0, 0, 0]
