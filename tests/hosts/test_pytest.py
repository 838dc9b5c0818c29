"""pytest-timeout ends a test that waits in a call, and nothing but that test."""

import pytest


def test_a_test_that_waits_too_long_fails_alone_after_its_cleanup(program, tmp_path):
    # pytest-timeout raises from a signal handler in the main thread while it waits.
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_hanging.py").write_text("""
import asyncio
import pytest
from asyncio_thread_loop import AsyncioThreadLoop, run

loop = AsyncioThreadLoop().start()

async def hang():
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.01)
        cleaned.append(True)

cleaned = []

@pytest.mark.timeout(1)
def test_hangs():
    loop.evaluate(hang())

def test_goes_on():
    assert cleaned
    assert loop.evaluate(asyncio.sleep(0, 42)) == run(asyncio.sleep(0, 42)) == 42
""")
    options = [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        "-W",
        "error",
        "-q",
        "--timeout-method=signal",
    ]
    running = program("-m", "pytest", *options, tmp_path)
    assert running.finish() == pytest.ExitCode.TESTS_FAILED, running
    assert running.found("1 failed, 1 passed"), running
