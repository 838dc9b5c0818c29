"""Memory that runs out in the middle of a call: the call works or raises `MemoryError`, and the loop lives on.

    python -m tests.soak.memory_faults [--loop native|standard|uvloop] [--until N] [--step N] [SCENARIO ...]

Run from the root of the repository. Makes each call again and again, and has the first, then the second, the third
allocation of Python objects fail within it, or three of them in a row; CPython can do that: `_testcapi.set_nomemory`.
The loop's thread waits in a blocking call meanwhile, so that what fails is the caller's: CPython's own tasks don't
survive a lack of memory. A crash, a hang, a panic of the native code, an error without a `MemoryError`
behind it, or a loop that doesn't work afterwards is trouble.
"""

import argparse
import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import faulthandler
import importlib.util
import inspect
import itertools
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import traceback

from asyncio_thread_loop import AsyncioThreadLoop, LoopClosedError
from asyncio_thread_loop._tls import TlsProtocol

from .subjects import FLAVOURS, factory

#: Seconds after which a call counts as hanging.
HANG = 20

#: How many allocations fail, one after the other. (Without any memory CPython itself doesn't get through a `finally`.)
LENGTHS = [1, 3]

#: Functions of this library in which CPython 3.13 itself crashes: it can't make a generator without memory.
CRASHES_CPYTHON = ["is_async_callable"]

ATTEMPT = "attempt "
TROUBLE = "trouble: "


def is_available():
    """Whether this CPython can have allocations fail."""
    return importlib.util.find_spec("_testcapi") is not None


# The calls. Each is made on a loop that is blocked, returns what there is to look at, and may time out.


async def answer(value=42):
    await asyncio.sleep(0)
    return value


async def fails():
    raise LookupError("planted")


class Deaf(asyncio.DatagramProtocol, asyncio.Protocol):
    """What it is told doesn't matter."""


class Ends:
    """Transports of datagrams and of pipes, with something to be read from each."""

    async def open(self):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)  # what fails is looked at where it is called
        self.datagrams, _ = await loop.create_datagram_endpoint(Deaf, ("127.0.0.1", 0))
        self.address = self.datagrams.get_extra_info("sockname")
        (read, feed), (drain, write) = os.pipe(), os.pipe()
        self.reader, _ = await loop.connect_read_pipe(Deaf, os.fdopen(read, "rb", 0))
        self.writer, _ = await loop.connect_write_pipe(Deaf, os.fdopen(write, "wb", 0))
        self.others = [os.fdopen(feed, "wb", 0), os.fdopen(drain, "rb", 0)]
        for transport in (self.datagrams, self.reader):
            transport.pause_reading()
        self.datagrams.sendto(b"x" * 5000, self.address)
        self.others[0].write(b"x" * 5000)

    async def close(self):
        for transport in (self.datagrams, self.writer):
            transport.abort()
        self.reader.close()
        for file in self.others:
            file.close()


class Over(asyncio.Transport):
    """Below TLS: keeps what it is written."""

    def __init__(self):
        super().__init__()
        self.written = bytearray()

    def write(self, data):
        self.written += data

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def close(self):
        pass

    def abort(self):
        pass

    def _force_close(self, exc):
        pass


class Tls:
    """A connection over TLS of which nothing goes over a socket, with a message that has come."""

    def __init__(self, loop, make_protocol):
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        for context in (server, client):
            context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose ciphers may do without a certificate
            context.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        other = server.wrap_bio(incoming, outgoing, server_side=True)
        below = Over()
        self.protocol = TlsProtocol(loop, make_protocol(), client, None)
        self.protocol.connection_made(below)
        while self.protocol._app_protocol.transport is None:
            incoming.write(bytes(below.written))
            below.written.clear()
            with contextlib.suppress(ssl.SSLWantReadError):
                other.do_handshake()
            self._come(outgoing.read())
        self.transport = self.protocol._app_transport
        for _ in range(3):
            other.write(b"x" * 10_000)
        self.message = outgoing.read()

    def _come(self, data):
        self.protocol.get_buffer(-1)[: len(data)] = data
        self.protocol.buffer_updated(len(data))

    def read(self):
        self._come(self.message)

    def write(self):
        self.transport.write(b"x" * 20_000)
        self.transport.writelines([b"y", b"z"])


class Application(asyncio.Protocol):
    transport = None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class BufferedApplication(asyncio.BufferedProtocol):
    transport = None

    def connection_made(self, transport):
        self.transport = transport
        self.memory = memoryview(bytearray(25_000))

    def get_buffer(self, sizehint):
        return self.memory

    def buffer_updated(self, nbytes):
        self.transport.write(self.memory[:nbytes])


async def over_tls(make_protocol):
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)  # it is told of each connection that ended
    return Tls(loop, make_protocol)


class Case:
    """One call to be made without memory: what it needs is made before, what came of it is looked at afterwards."""

    def __init__(self, bridge, failed, ends, tls):
        self.bridge = bridge
        self.ends = ends
        self.coroutine = answer()
        self.coroutines = [self.coroutine]
        self.function = answer
        self.pending = bridge.submit(answer)
        self.called_back = []
        self.unfinished = type(self.pending)()
        self.dropped = [failed]
        self.tls = tls

    def submit(self):
        return self.bridge.submit(self.coroutine)

    def submit_function(self):
        return self.bridge.submit(self.function, 42)

    def evaluate(self):
        return self.bridge.evaluate(self.coroutine, 0.001)

    def submit_many(self):
        return self.bridge.submit_many(self.coroutines)[0]

    def evaluate_many(self):
        return self.bridge.evaluate_many([self.coroutine], 0.001)

    def result(self):
        return self.pending.result(0.001)

    def cancel(self):
        return self.pending.cancel()

    def add_done_callback(self):
        return self.pending.add_done_callback(self.called_back.append)

    def look(self):
        return repr(self.pending), self.pending._state, self.pending._condition, self.pending._waiters

    def make_future(self):
        future = type(self.pending)()
        future.set_exception(LookupError("planted"))
        return future.exception()

    def wrong_timeout(self):
        return self.pending.result("soon")

    def wrong_work(self):
        return self.bridge.submit(int)

    def finish_twice(self):
        self.unfinished.set_result(1)
        self.unfinished.set_result(2)

    def begin_twice(self):
        self.unfinished.set_running_or_notify_cancel()
        self.unfinished.set_running_or_notify_cancel()

    def drop_unretrieved(self):
        self.dropped.clear()

    def send_datagram(self):
        self.ends.datagrams.sendto(bytearray(b"x"), self.ends.address)

    def receive_datagram(self):
        self.ends.datagrams._read_ready()

    def end_a_datagram_transport(self):
        self.ends.datagrams.sendto(b"x")  # to no address

    def write_to_a_pipe(self):
        self.ends.writer.write(bytearray(300_000))

    def read_a_pipe(self):
        self.ends.reader._read_ready()

    def look_at_transports(self):
        return repr(self.ends.datagrams), repr(self.ends.writer), self.ends.writer._buffer

    def read_over_tls(self):
        self.tls.read()

    def read_over_tls_into_memory(self):
        self.tls.read()

    def write_over_tls(self):
        self.tls.write()

    def after_close(self):
        return self.bridge.submit(self.coroutine)


#: What the names of scenarios that need a connection over TLS end with.
OVER_TLS = ("_over_tls", "_over_tls_into_memory")

SCENARIOS = [name for name in vars(Case) if not name.startswith("_")]


def attempt(scenario, make_loop, start, length):
    """Makes the call. Returns what was wrong, as an error or words, or None."""
    import _testcapi

    with make_loop() as bridge:
        entered, gate = threading.Event(), threading.Event()

        async def blocks():
            entered.set()
            gate.wait()

        failed = bridge.submit(fails)
        concurrent.futures.wait([failed])
        if scenario != "drop_unretrieved":
            failed.exception()
        ends = Ends()
        if scenario != "after_close":
            bridge.evaluate(ends.open(), HANG)
        make_protocol = BufferedApplication if scenario == "read_over_tls_into_memory" else Application
        tls = bridge.evaluate(over_tls(make_protocol), HANG) if scenario.endswith(OVER_TLS) else None
        blocking = bridge.submit(blocks)
        entered.wait()
        case = Case(bridge, failed, ends, tls)
        del failed
        if scenario == "after_close":
            bridge.shutdown(wait=False)
        call = getattr(case, scenario)
        result = error = None
        _testcapi.set_nomemory(start, start + length)
        try:
            result = call()
        except BaseException as raised:
            error = raised
        finally:
            _testcapi.remove_mem_hooks()
            gate.set()
        if error is not None and not is_fair(error):
            return error
        if scenario == "after_close":
            case.coroutine.close()
            return None
        try:
            if isinstance(result, asyncio.Future | type(case.pending)) and result.result(HANG) != 42:
                return "another result"
            blocking.result(HANG)
            case.pending.exception(HANG) if not case.pending.cancelled() else None
            if bridge.evaluate(answer(7), HANG) != 7:
                return "the loop gives wrong results afterwards"
            bridge.evaluate(ends.close(), HANG)
        except BaseException as raised:
            return raised
        if scenario in {"submit", "submit_many", "evaluate"} or (
            scenario == "evaluate_many" and error is None
        ):
            # Run, cancelled or refused, but never left behind.
            state = inspect.getcoroutinestate(case.coroutine)
            if state != inspect.CORO_CLOSED:
                return f"its coroutine was left behind, {state}"
        case.coroutine.close()
        if scenario == "add_done_callback" and error is None and len(case.called_back) != 1:
            return f"the callback was called {len(case.called_back)} times"
        return None


#: What the calls raise with memory, too.
CLEAR = (
    TimeoutError,
    LoopClosedError,
    TypeError,
    concurrent.futures.InvalidStateError,
    RuntimeError,
    LookupError,
)


def is_fair(error):
    """Whether it is what the call raises anyway, or has a `MemoryError` behind it."""
    while error is not None:
        if isinstance(error, (MemoryError, *CLEAR)):
            return True
        if isinstance(error, SystemError) and "exception" in str(error) and "without" in str(error):
            return True  # CPython lost the MemoryError
        error = error.__cause__ or error.__context__
    return False


def attempts(scenario, loop, numbers):
    """Makes attempts until one goes wrong, and says so. Runs in a process of its own."""

    def make_loop():
        return AsyncioThreadLoop(exit_timeout=HANG, loop_factory=factory(loop))

    # Once with memory: what is imported and made lazily is there afterwards.
    beyond = 1_000_000
    for each in SCENARIOS:
        attempt(each, make_loop, beyond, 1)
    for number in numbers:
        print(f"{ATTEMPT}{number}", flush=True)
        faulthandler.dump_traceback_later(HANG, exit=True)
        trouble = attempt(scenario, make_loop, number // len(LENGTHS), LENGTHS[number % len(LENGTHS)])
        if trouble is not None:
            if isinstance(trouble, BaseException):
                traceback.print_exception(trouble)
                trouble = f"{type(trouble).__name__}: {trouble}"
            print(TROUBLE + trouble)
            return 1
    return 0


# The processes


@dataclasses.dataclass
class Trouble:
    """What went wrong in one attempt."""

    scenario: str
    number: int
    what: str
    output: str

    @property
    def place(self):
        """Where in the native code it panicked: the innermost frame of ours, and what that called."""
        frames = re.findall(r"^ +\d+: (.*)$", self.output, re.MULTILINE)
        for called, caller in itertools.pairwise(frames):
            if "_native::" in caller and "_native::" not in called:
                return f"{caller} -> {called}"
        return ""

    def __str__(self):
        start, length = self.number // len(LENGTHS), LENGTHS[self.number % len(LENGTHS)]
        return f"{self.scenario}, {length} allocations fail from the {start}th on: {self.what}; {self.place}"


def run(scenario, loop, numbers):
    """Makes attempts in processes of their own: another one after each that went wrong. Returns the troubles."""
    numbers = list(numbers)
    troubles = []
    while numbers:
        command = [
            sys.executable,
            "-X",
            "faulthandler",
            "-m",
            "tests.soak.memory_faults",
            scenario,
            "--loop",
            loop,
        ]
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.run(
                [*command, "--inside", ",".join(map(str, numbers))],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"RUST_BACKTRACE": "1"},
                cwd=os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
            )
            output.seek(0)
            first, *made = output.read().split(ATTEMPT)
        code = process.returncode
        # A destructor may panic and go on.
        panicked = next((one for one in made if "panicked at" in one), None)
        if code == 0 and panicked is None:
            break
        last = panicked or made[-1] if made else first
        number, _, text = last.partition("\n")
        if not number.isdecimal():
            raise RuntimeError(f"it didn't come to the first attempt: {last}")
        if code < 0:
            if any(f"in {function}\n" in text for function in CRASHES_CPYTHON):
                numbers = numbers[numbers.index(int(number)) + 1 :]
                continue
            what = f"it died of {signal.Signals(-code).name}"
        else:
            _, told, rest = text.rpartition(TROUBLE)
            what = rest.partition("\n")[0] if told else f"it ended with {code or 'a panic'}"
        troubles.append(Trouble(scenario, int(number), what, text))
        numbers = numbers[numbers.index(int(number)) + 1 :]
    return troubles


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.soak.memory_faults", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--loop", choices=FLAVOURS, default="native")
    parser.add_argument("--until", type=int, default=400, help="the last allocation to fail (%(default)s)")
    parser.add_argument("--step", type=int, default=1, help="tries only every so-and-so-manyth (%(default)s)")
    parser.add_argument("--verbose", action="store_true", help="shows everything the processes said")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return attempts(options.scenarios[0], options.loop, map(int, options.inside.split(",")))
    if not is_available():
        return "this CPython has no _testcapi: nothing was tried"
    count = 0
    for scenario in options.scenarios or SCENARIOS:
        numbers = range(0, options.until * len(LENGTHS), options.step)
        troubles = run(scenario, options.loop, numbers)
        count += len(troubles)
        print(f"{scenario:<26} {len(numbers):>6} attempts, {len(troubles)} in trouble", flush=True)
        alike = collections.Counter((trouble.what, trouble.place) for trouble in troubles)
        for (what, place), times in alike.items():
            print(f"    {times} times: {what} {place}", flush=True)
        for trouble in troubles if options.verbose else ():
            print(f"\n{trouble}\n{trouble.output}")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
