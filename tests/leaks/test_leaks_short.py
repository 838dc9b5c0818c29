"""The short form of `python -m benches.leaks`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux's /proc")


def run(*args):
    # Without PYTHONPATH the library is the installed one: the root of the repository only adds `benches`.
    return subprocess.run([sys.executable, *args], cwd=ROOT, text=True, capture_output=True, timeout=100)


def test_many_calls_and_openings_leave_nothing_behind():
    done = run("-W", "default", "-m", "benches.leaks", "calls", "--cycles", "100", "--calls", "50000")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "GREW" not in done.stdout


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command to make a certificate")
def test_connections_that_end_in_every_way_leave_nothing_behind():
    done = run("-W", "default", "-m", "benches.leaks", "connections", "--connections", "6000")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert {line.split("  ")[0] for line in done.stdout.splitlines() if " after " in line} == {
        "3,000 x TCP, streams",
        "3,000 x TCP, protocol and sock_*",
        "1,200 x Unix, streams",
        "300 x TLS, streams",
    }
    assert "GREW" not in done.stdout


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command to make a certificate")
@pytest.mark.parametrize(
    "leak", ["[number]", "os.open(os.devnull, os.O_RDONLY)"], ids=["objects", "descriptors"]
)
def test_a_leak_with_each_tenth_connection_is_found(leak):
    script = f"""
import itertools, os, sys
from benches import connections, leaks
kept, count, end = [], itertools.count(), connections.Serving.end
def leak(serving):
    number = next(count)
    if number % 10 == 0:
        kept.append({leak})
    end(serving)
connections.Serving.end = leak
sys.argv = ["leaks", "connections", "--connections", "1600"]
sys.exit(leaks.main())
"""
    done = run("-c", script)
    assert (done.returncode, done.stderr) == (1, ""), done.stdout
    assert "GREW" in done.stdout


@pytest.mark.parametrize(
    "leak",
    [
        "kept.extend(object() for _ in range(times))",
        "kept.append(bytearray(b'x' * (4 << 20)))",
        "kept.append(os.open(os.devnull, os.O_RDONLY))",
        "threading.Thread(target=gate.wait, daemon=True).start()",
    ],
    ids=["objects", "memory", "descriptors", "threads"],
)
def test_a_planted_leak_is_found(leak):
    script = f"""
import os, sys, threading
from benches.leaks import flat
kept, gate = [], threading.Event()
def work(times):
    {leak}
sys.exit(7 if not flat("planted", work, 1000) else 0)
"""
    done = run("-c", script)
    assert (done.returncode, done.stderr) == (7, ""), done.stdout
    assert "GREW" in done.stdout
