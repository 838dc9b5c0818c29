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
        assert isinstance(writer, asyncio.WriteTransport)
        assert writer.get_extra_info("pipe") is sink
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


def test_who_pauses_from_the_beginning_is_told_nothing_before_it_resumes(run):
    class Paused(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def main():
        source, sink = opened()
        sink.write(b"early")
        reader, received = await asyncio.get_running_loop().connect_read_pipe(Paused, source)
        for _ in range(5):
            await asyncio.sleep(0)
        assert received.told == [("made",)]
        reader.resume_reading()
        await received.until(lambda: received.data() == b"early")
        reader.close()
        sink.close()
        await received.lost()

    run(main())


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


def test_a_reader_that_went_away_is_a_broken_pipe_for_who_writes_at_once(run):
    async def main():
        source, sink = opened()
        writer, sending = await writing(sink)
        source.close()
        writer.write(b"x")
        assert writer.is_closing()
        for _ in range(10):
            writer.write(b"into the void")
        assert writer.get_write_buffer_size() == 0
        await sending.lost()
        return sending.told[-1]

    assert run(main()) == ("lost", BrokenPipeError)


def test_writing_into_the_void_is_logged(run, caplog):
    async def main():
        source, sink = opened()
        writer, sending = await writing(sink)
        writer.close()
        for _ in range(6):
            writer.write(b"x")
        await sending.lost()
        source.close()

    run(main())
    assert [record.getMessage() for record in caplog.records] == [
        "pipe closed by peer or os.write(pipe, data) raised exception."
    ]


async def stuffed(data=b"x" * 1_000_000):
    """A reader's file, and a writer to it with more than the pipe takes."""
    source, sink = opened()
    writer, sending = await writing(sink)
    writer.write(data)
    assert writer.get_write_buffer_size() > 0
    return source, writer, sending


@pytest.mark.parametrize("method", ["write_eof", "close"])
def test_what_is_written_before_the_end_arrives(run, method):
    async def main():
        source, writer, sending = await stuffed()
        assert writer.can_write_eof()
        getattr(writer, method)()
        assert writer.is_closing()
        writer.write(b"too late")
        _, received = await reading(source)
        await received.lost()
        await sending.lost()
        return received.data() == b"x" * 1_000_000, sending.told[-1]

    assert run(main()) == (True, ("lost", type(None)))


def test_aborting_drops_what_waits(run):
    async def main():
        source, writer, sending = await stuffed()
        writer.close()
        writer.abort()
        assert writer.get_write_buffer_size() == 0
        await sending.lost()
        _, received = await reading(source)
        await received.lost()
        return 0 < len(received.data()) < 1_000_000, sending.told[-1]

    assert run(main()) == (True, ("lost", type(None)))


def test_what_waits_may_be_changed_by_who_wrote_it(run):
    async def main():
        data = bytearray(b"x" * 1_000_000)
        source, writer, sending = await stuffed(data)
        # Asyncio's own copies, too.
        data[:] = b"y" * len(data)
        data.clear()
        writer.write(memoryview(b"-end"))
        writer.close()
        _, received = await reading(source)
        await received.lost()
        await sending.lost()
        return received.data() == b"x" * 1_000_000 + b"-end"

    assert run(main())


def test_many_small_writes_keep_their_order(run):
    async def main():
        source, writer, sending = await stuffed()
        for number in range(1000):
            writer.write(b"%d," % number)
        writer.writelines([b"and ", bytearray(b"so "), memoryview(b"on")])
        writer.close()
        _, received = await reading(source)
        await received.lost()
        await sending.lost()
        return received.data()[1_000_000:]

    assert run(main()) == b"".join(b"%d," % number for number in range(1000)) + b"and so on"


def test_the_protocol_is_paused_above_the_high_mark_and_resumed_below_the_low_one(run):
    async def main():
        source, sink = opened()
        writer, sending = await writing(sink)
        assert writer.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
        writer.set_write_buffer_limits(high=2000, low=1000)
        writer.write(b"x" * 1_000_000)
        waiting = writer.get_write_buffer_size()
        assert sending.told[-1] == ("paused",)
        writer.set_write_buffer_limits(high=waiting)
        writer.write(b"x")
        assert sending.told.count(("paused",)) == 1
        with pytest.raises(ValueError, match="must be >="):
            writer.set_write_buffer_limits(high=1, low=2)
        _, received = await reading(source)
        await sending.until(lambda: sending.told[-1] == ("resumed",))
        writer.close()
        await received.lost()
        return len(received.data())

    assert run(main()) == 1_000_001


def test_the_protocol_may_write_more_when_it_is_resumed(run):
    class More(Recorder):
        def resume_writing(self):
            super().resume_writing()
            if self.told.count(("resumed",)) < 3:
                self.writer.write(b"x" * 500_000)
            else:
                self.writer.close()

    async def main():
        source, sink = opened()
        writer, sending = await asyncio.get_running_loop().connect_write_pipe(More, sink)
        sending.writer = writer
        writer.write(b"x" * 500_000)
        _, received = await reading(source)
        await received.lost()
        await sending.lost()
        return len(received.data())

    assert run(main()) == 1_500_000


def test_text_is_refused(run):
    async def main():
        source, sink = opened()
        writer, _ = await writing(sink)
        with pytest.raises((TypeError, AssertionError)):
            writer.write("text")
        writer.write(b"")
        writer.close()
        source.close()

    run(main())


def test_a_socket_may_stand_for_a_pipe(run):
    async def main():
        ours, theirs = socket.socketpair()
        writer, sending = await writing(ours)
        writer.write(b"hello")
        assert theirs.recv(100) == b"hello"
        theirs.close()
        await sending.lost()
        return ours.fileno(), sending.told[-1]

    assert run(main()) == (-1, ("lost", type(None)))


def test_a_terminal_may_stand_for_a_pipe(run):
    async def main():
        ours, theirs = os.openpty()
        writer, sending = await writing(os.fdopen(theirs, "wb", 0))
        writer.write(b"hello")
        assert os.read(ours, 100) == b"hello"
        writer.close()
        await sending.lost()
        os.close(ours)
        return sending.told

    assert run(main()) == [("made",), ("lost", type(None))]


def test_what_a_protocol_raises_goes_to_the_exception_handler_and_reading_goes_on(run):
    class Raising(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise LookupError("made")

        def data_received(self, data):
            super().data_received(data)
            raise LookupError("data")

        def eof_received(self):
            super().eof_received()
            raise LookupError("eof")

    async def main():
        loop = asyncio.get_running_loop()
        reports = []
        loop.set_exception_handler(lambda _, context: reports.append(str(context["exception"])))
        source, sink = opened()
        _, received = await loop.connect_read_pipe(Raising, source)
        for data in (b"1", b"2"):
            sink.write(data)
            await received.until(lambda data=data: received.data().endswith(data))
        sink.close()
        await received.lost()
        return reports, received.told[-2:]

    assert run(main()) == (["made", "data", "data", "eof"], [("eof",), ("lost", type(None))])


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
        refused = pytest.raises(ValueError, match="Pipe transport is only for pipes, sockets and character")
        with open(tmp_path / "file", "w+b") as file, refused:
            await writing(file)

    run(main())


@pytest.mark.parametrize("end", [reading, writing])
def test_one_that_is_not_closed_is_warned_of(run, end):
    async def main():
        source, sink = opened()
        mine, other = (source, sink) if end is reading else (sink, source)
        transport, protocol = await end(mine)
        asyncio.get_running_loop()._remove_reader(mine.fileno())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport, protocol
            gc.collect()
        other.close()
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
