"""What a benchmark starts ends with it, so that none of it disturbs the next one, or is left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux to end orphans")


def run(call):
    script = (
        f"import os, time; from benches.measuring import in_fresh_process; print(in_fresh_process({call}))"
    )
    # Without PYTHONPATH the library is the installed one: the root of the repository only adds `benches`.
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, text=True, capture_output=True, timeout=60
    )


def test_what_a_fresh_process_started_ends_with_it(tmp_path):
    fifo = tmp_path / "held"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        # Held open by a process that is running when the call returns, and would go on for long.
        done = run(f"None, os.system, 'exec 3> {fifo}; sleep 1000 > /dev/null 2>&1 &'")
        assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
        os.set_blocking(reading, True)
        assert os.read(reading, 1) == b""
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("None, time.sleep, 1000, timeout=0.5", "TimeoutError: not done within 0.5 s"),
        ("None, time.sleep, -1", "ValueError: sleep length must be non-negative"),
        ("None, os._exit, 3", "RuntimeError: the process ended with 3"),
    ],
    ids=["takes too long", "fails", "dies"],
)
def test_a_fresh_process_without_a_result_says_why(call, error):
    done = run(call)
    assert done.returncode == 1
    assert error in done.stderr
