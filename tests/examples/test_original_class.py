"""What the class this package replaces was tested with."""

import asyncio
import unittest

from asyncio_thread_loop import AsyncioThreadLoop


async def get_result() -> int:
    await asyncio.sleep(0)
    return 1


async def run_for_ever() -> None:
    while True:
        await asyncio.sleep(1)


class AsyncioThreadLoopTest(unittest.TestCase):
    def test_evaluates_before_an_endless_coroutine_is_submitted(self) -> None:
        with AsyncioThreadLoop(exit_timeout=3) as loop:
            self.assertEqual(loop.evaluate(get_result()), 1)
            endless = loop.submit(run_for_ever())
        self.assertTrue(endless.cancelled())

    def test_evaluates_after_an_endless_coroutine_was_submitted(self) -> None:
        with AsyncioThreadLoop(exit_timeout=3) as loop:
            endless = loop.submit(run_for_ever())
            self.assertEqual(loop.evaluate(get_result()), 1)
        self.assertTrue(endless.cancelled())
