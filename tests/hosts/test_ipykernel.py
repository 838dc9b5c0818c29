"""The cells of a notebook wait on a loop, inside the event loop that the kernel runs in the same thread."""

import os
import queue
import re
import tempfile

import pytest
from contract.harness import WAIT
from jupyter_client import KernelManager

STARTING = 60.0
"""Seconds a kernel may take to start."""

OPENING = """\
import asyncio, threading, time
from asyncio_thread_loop import AsyncioThreadLoop

loop = AsyncioThreadLoop().start()
kernel_loop = asyncio.get_running_loop()
cleaned = threading.Event()

async def double(number):
    await asyncio.sleep(0)
    return 2 * number

async def hold():
    print("holding", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.05)
        cleaned.set()

async def ask_the_kernel():
    asked = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "the kernel answers"), kernel_loop)
    return await asyncio.wrap_future(asked)
"""

DISORDER = re.compile(
    "asyncio_thread_loop|never awaited|never retrieved|was destroyed|Exception ignored|Fatal Python error"
)
"""What a kernel prints that left something behind.

Not every traceback: shut down while a cell waits, ipykernel may close the socket before it sends the cell's reply.
"""


class Kernel:
    """A kernel in a process of its own, that keeps its files in a folder."""

    def __init__(self, folder):
        self._cells = {}
        self._log = folder / "log"
        self._client = None
        # Sockets in a folder, since Jupyter picks ports that others may take before the kernel does. Not in pytest's
        # tmp_path: its name may be too long for a socket.
        self._sockets = tempfile.TemporaryDirectory(prefix="kernel-")
        self._manager = KernelManager(
            transport="ipc",
            connection_file=os.path.join(self._sockets.name, "connection.json"),
            shutdown_wait_time=WAIT,
        )
        home = {name: str(folder) for name in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR")}
        try:
            with self._log.open("wb") as log:
                self._manager.start_kernel(
                    env={**os.environ, **home, "PYTHONFAULTHANDLER": "1"},
                    extra_arguments=["--InteractiveShell.colors=nocolor"],
                    stdout=log,
                    stderr=log,
                )
            self._process = self._manager.provisioner.process
            self._client = self._manager.client()
            self._client.start_channels(hb=False, stdin=False)
            self._client.wait_for_ready(timeout=STARTING)
            self.run(OPENING)
        except BaseException:
            self.close()
            raise

    @property
    def log(self):
        """What the process itself printed, outside of all cells."""
        return self._log.read_text(errors="replace")

    def begin(self, code):
        """Send a cell and don't wait."""
        sent = self._client.execute(code, stop_on_error=False)
        return self._cells.setdefault(sent, Cell(self, code))

    def run(self, code):
        """Run a cell that succeeds, and prints nothing on standard error."""
        cell = self.begin(code).finish()
        assert cell.error is None, cell
        assert cell.stderr == "", cell
        return cell

    def interrupt(self):
        self._manager.interrupt_kernel()

    def shut_down(self):
        """As Jupyter does it: interrupt, ask it to end, wait, and only then kill. Return the exit code."""
        self._manager.shutdown_kernel()
        return self._process.returncode

    def close(self):
        if self._client is not None:
            self._client.stop_channels()
        if self._manager.has_kernel:
            self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()
        self._sockets.cleanup()
        print(self.log)  # pytest shows it where a test fails

    def show_next(self):
        """Take one message and show it below its cell."""
        message = self._client.get_iopub_msg(timeout=WAIT)
        cell = self._cells.get(message["parent_header"].get("msg_id"))
        if cell is not None:
            cell.show(message["msg_type"], message["content"])


class Cell:
    """A cell, with all that is shown below it."""

    def __init__(self, kernel, code):
        self._kernel = kernel
        self.code = code
        self.stdout = ""
        self.stderr = ""
        self.result = None
        self.error = None
        self.traceback = ""
        self.ended = False

    def show(self, kind, content):
        match kind:
            case "stream" if content["name"] == "stdout":
                self.stdout += content["text"]
            case "stream":
                self.stderr += content["text"]
            case "execute_result":
                self.result = content["data"]["text/plain"]
            case "error":
                self.error = content["ename"]
                self.traceback = "\n".join(content["traceback"])
            case "status":
                self.ended = content["execution_state"] == "idle"

    def until(self, condition):
        while not condition(self):
            try:
                self._kernel.show_next()
            except queue.Empty:
                raise AssertionError(f"the kernel is silent; {self}\n{self._kernel.log}") from None
        return self

    def finish(self):
        return self.until(lambda cell: cell.ended)

    def __repr__(self):
        shown = {"stdout": self.stdout, "stderr": self.stderr, "result": self.result, "error": self.error}
        return f"{self.code}\nshows {shown}\n{self.traceback}"


@pytest.fixture(scope="module")
def shared_kernel(tmp_path_factory):
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    yield kernel
    kernel.close()


@pytest.fixture
def kernel(shared_kernel):
    """A kernel with an open loop, which every test finds, and must leave, fit for use."""
    shared_kernel.run("cleaned.clear()")
    yield shared_kernel
    assert shared_kernel.run("loop.evaluate(double(21)), await double(4)").result == "(42, 8)"
    assert shared_kernel.run("asyncio.all_tasks(loop.loop)").result == "set()"
    assert not DISORDER.search(shared_kernel.log), shared_kernel.log


@pytest.fixture
def fresh_kernel(tmp_path):
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.close()


WAYS = {
    "evaluate": ("loop.evaluate(double(21))", "42"),
    "evaluate_many": ("loop.evaluate_many((double(n) for n in range(1000)), limit=10)[-2:]", "[1996, 1998]"),
    "map": ("sum(loop.map(double, range(1000), buffersize=10))", "999000"),
    "submit": ("loop.submit(double, 4).result()", "8"),
    "awaited": ("await asyncio.wrap_future(loop.submit(double(21)))", "42"),
    "in a worker thread": ("await asyncio.to_thread(loop.evaluate, double(21))", "42"),
    "awaited, needs the kernel": (
        "await asyncio.wrap_future(loop.submit(ask_the_kernel()))",
        "'the kernel answers'",
    ),
}


@pytest.mark.parametrize(("code", "result"), WAYS.values(), ids=WAYS.keys())
def test_a_cell_waits_on_the_loop_between_cells_that_await(kernel, code, result):
    assert kernel.run("await double(1)").result == "2"
    assert kernel.run("asyncio.get_running_loop() is kernel_loop is not loop.loop").result == "True"
    assert kernel.run(code).result == result
    assert kernel.run("await double(2)").result == "4"


def test_a_cell_opens_a_loop_awaits_uses_it_and_closes_it(kernel):
    ran = kernel.run("""\
with AsyncioThreadLoop() as other:
    held = other.submit(hold)
    first = await double(1)
    second = other.evaluate(double(first))
    third = await asyncio.wrap_future(other.submit(double, second))
third, held.cancelled(), cleaned.is_set(), loop.evaluate(double(4))""")
    assert ran.result == "(8, True, True, 8)"


def test_what_a_coroutine_prints_later_is_shown_below_the_cell_that_submitted_it(kernel):
    submitting = kernel.run(f"""\
gate = threading.Event()

async def tell():
    await asyncio.to_thread(gate.wait, {WAIT})
    print("told by the coroutine", flush=True)

telling = loop.submit(tell)""")
    other = kernel.run("gate.set(); telling.result(); print('told by the other cell', flush=True)")
    submitting.until(lambda cell: cell.stdout == "told by the coroutine\n")
    assert other.stdout == "told by the other cell\n"


@pytest.mark.parametrize("call", ["loop.evaluate(outer())", "loop.evaluate_many([double(1), outer()])"])
def test_a_failing_coroutine_shows_the_frames_of_the_user_alone(kernel, call):
    kernel.run("""\
async def inner():
    await asyncio.sleep(0)
    raise ZeroDivisionError("of a coroutine")

async def outer():
    await inner()""")
    cell = kernel.begin(call).finish()
    assert cell.error == "ZeroDivisionError", cell
    shown = re.findall(r"^(?:File|Cell) .*?(?:, in (\w+)\(.*)?$", cell.traceback, re.MULTILINE)
    assert shown == ["", "outer", "inner"], cell
    assert "asyncio_thread_loop" not in cell.traceback, cell
    assert re.search("^submitted at .*line 1", cell.traceback, re.MULTILINE), cell
    assert cell.stderr == "", cell


def test_a_cell_that_waits_longer_than_a_second_is_not_commented_on(kernel):
    # The last one needs another thread, but one that is at work: not the kernel's.
    kernel.run("""\
async def set_later():
    event = asyncio.Event()
    loop.loop.call_later(2, event.set)
    await event.wait()

async def work():
    await asyncio.to_thread(time.sleep, 2)

async def wait_long():
    await asyncio.gather(asyncio.sleep(2), set_later(), work())
    return 42""")
    assert kernel.run("loop.evaluate(wait_long())").result == "42"


@pytest.mark.parametrize(
    "call",
    [
        "loop.evaluate(hold())",
        "loop.evaluate(hold(), timeout=100)",
        "loop.evaluate_many([double(1), hold()])",
        "with AsyncioThreadLoop() as other: other.submit(hold).result()",
    ],
)
def test_interrupting_a_waiting_cell_cancels_the_coroutine_and_its_cleanup_runs(kernel, call):
    cell = kernel.begin(call).until(lambda cell: "holding" in cell.stdout)
    kernel.interrupt()
    assert cell.finish().error == "KeyboardInterrupt", cell
    assert kernel.run(f"cleaned.wait({WAIT})").result == "True"


def test_interrupting_an_awaiting_cell_cancels_the_coroutine_and_its_cleanup_runs(kernel):
    cell = kernel.begin("await asyncio.wrap_future(loop.submit(hold))")
    cell.until(lambda cell: "holding" in cell.stdout)
    kernel.interrupt()
    # A kernel that awaits takes note of an interrupt when it gets its next message, loop or no loop.
    following = kernel.begin(f"cleaned.wait({WAIT})")
    assert cell.finish().error == "CancelledError", cell
    assert following.finish().result == "True", following


def test_a_cell_whose_callee_needs_the_kernels_loop_is_warned_of_and_can_be_interrupted(kernel):
    cell = kernel.begin("loop.evaluate(ask_the_kernel())")
    warning = re.compile("MainThread.* runs an event loop and has blocked it.*in ask_the_kernel", re.DOTALL)
    cell.until(lambda cell: warning.search(cell.stderr))
    assert not cell.ended
    kernel.interrupt()
    assert cell.finish().error == "KeyboardInterrupt", cell
    assert cell.stderr.count("has blocked it") == 1, cell


MARKING = """\
from pathlib import Path

async def hold_and_mark(path):
    print("holding", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.05)
        Path(path).write_text("cleaned")
"""


@pytest.mark.parametrize("waiting", [False, True], ids=["idle", "while a cell waits"])
def test_shutting_the_kernel_down_cleans_up_what_runs_on_the_open_loop(fresh_kernel, tmp_path, waiting):
    kernel = fresh_kernel
    kernel.run(MARKING)
    calls = {"background": "held = loop.submit(hold_and_mark, {!r})"}
    if waiting:
        calls["waited for"] = "loop.evaluate(hold_and_mark({!r}))"
    for name, call in calls.items():
        kernel.begin(call.format(str(tmp_path / name))).until(lambda cell: "holding" in cell.stdout)
    assert kernel.shut_down() == 0, kernel.log
    assert {name: (tmp_path / name).read_text() for name in calls} == dict.fromkeys(calls, "cleaned")
    assert not DISORDER.search(kernel.log), kernel.log
