"""The garbage collector may run whenever an object is made."""

import subprocess
import sys

import pytest

from .harness import WAIT


# Which objects those are differs from one number to the next.
@pytest.mark.parametrize("allocations", range(1, 9))
def test_the_package_is_imported_while_every_few_allocations_start_a_collection(allocations):
    code = f"""
import gc
gc.set_threshold({allocations})
import asyncio_thread_loop
# A full collection empties CPython's store of dictionaries, too: the next one is allocated.
gc.collect()
asyncio_thread_loop._native.boundary(print)
print("imported")
"""
    command = [sys.executable, "-X", "faulthandler", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT)
    assert (done.returncode, done.stdout) == (0, "imported\n"), done.stderr


def test_every_call_works_while_every_other_allocation_starts_a_collection(script):
    running = script("""
import gc

gc.set_threshold(1)

class Loop(AsyncioThreadLoop):
    pass

async def double(number):
    await asyncio.sleep(0)
    return 2 * number

async def tell(task_status):
    task_status.started(21)
    return 42

for _ in range(20):
    with Loop(**LOOP_OPTIONS) as loop:
        loop.name_of_an_attribute = "value"
        assert loop.evaluate(double(21)) == loop.submit(double, 21).result() == loop.call(lambda: 42) == 42
        assert loop.evaluate_many(map(double, range(9)), limit=3) == list(loop.map(double, range(9)))
        assert sum(each.result() for each in loop.as_completed(map(double, range(9)))) == 72
        told, value = loop.start_task(tell)
        assert (told.result(), value) == (42, 21)
        held = loop.submit(asyncio.Event().wait)
        assert loop.dump()
    assert held.cancelled()
    assert run(double(21)) == 42
say("done")
""")
    assert running.finish() == 0, running
    assert running.lines == ["done"]
    assert running.stderr == ""
