"""Tests with every end that a test can have, to see that the runner tells each and loses none."""

import asyncio
import atexit
import os
import threading
import unittest


class Ends(unittest.IsolatedAsyncioTestCase):
    async def test_a_passes(self):
        self.assertTrue(asyncio.get_running_loop().is_running())

    async def test_b_fails(self):
        self.fail("planted")

    async def test_c_ends_the_process(self):
        os._exit(7)

    async def test_d_hangs(self):
        threading.Event().wait()

    async def test_e_is_skipped(self):
        self.skipTest("planted")

    @unittest.expectedFailure
    async def test_f_passes_unexpectedly(self):
        pass

    async def test_g_has_a_subtest_that_fails(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertNotEqual(number, 1)

    @unittest.skip("planted")
    async def test_h_is_skipped_by_a_decorator(self):
        pass

    async def test_z_passes_after_all_that(self):
        pass


class Unprepared(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise ValueError("planted")

    def test_it_is_not_lost(self):
        pass


class SkippedAsAWhole(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise unittest.SkipTest("planted")

    def test_it_is_skipped(self):
        pass


class WithoutALoop(unittest.TestCase):
    def test_it_passes(self):
        pass


class ZLeavesATrap(unittest.TestCase):
    def test_the_process_ends_badly_after_the_tests(self):
        atexit.register(os._exit, 7)
