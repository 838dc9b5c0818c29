"""Signals, in processes of their own."""


def test_a_signal_handler_is_called_on_the_loop(script):
    assert script("""
async def main():
    loop = asyncio.get_running_loop()
    came = asyncio.Queue()
    loop.add_signal_handler(signal.SIGUSR1, came.put_nowait, "usr1")
    loop.add_signal_handler(signal.SIGTERM, lambda: came.put_nowait(asyncio.get_running_loop() is loop))
    for _ in range(100):
        os.kill(os.getpid(), signal.SIGUSR1)
        assert await came.get() == "usr1"
    os.kill(os.getpid(), signal.SIGTERM)
    say(await came.get())
    say(loop.remove_signal_handler(signal.SIGTERM), loop.remove_signal_handler(signal.SIGTERM))

with asyncio.Runner(loop_factory=EventLoop) as runner:
    runner.run(main())
""") == ["True", "True False"]


def test_a_signal_wakes_a_loop_that_sleeps(script):
    assert script("""
async def main():
    came = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGALRM, came.set)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    await came.wait()
    say("woken")

with asyncio.Runner(loop_factory=EventLoop) as runner:
    runner.run(main())
""") == ["woken"]


def test_a_signal_reaches_a_loop_off_the_main_thread(script):
    assert script("""
loop = EventLoop()
came = threading.Event()
loop.add_signal_handler(signal.SIGUSR1, came.set)
thread = threading.Thread(target=loop.run_forever)
thread.start()
os.kill(os.getpid(), signal.SIGUSR1)
while not came.wait(0.01):
    pass
say("came")
loop.call_soon_threadsafe(loop.stop)
thread.join()
loop.close()
""") == ["came"]


def test_ctrl_c_ends_the_runner_and_cleans_up(script):
    assert script("""
async def main():
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        say("cleaned")

# The timer stands for somebody who presses Ctrl-C while the loop sleeps.
signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
try:
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(main())
except KeyboardInterrupt:
    say("interrupted")
""") == ["cleaned", "interrupted"]


def test_ctrl_c_leaves_run_forever(script):
    assert script("""
loop = EventLoop()
signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    loop.run_forever()
except KeyboardInterrupt:
    say("interrupted", loop.is_running())
loop.run_until_complete(asyncio.sleep(0))
loop.close()
""") == ["interrupted False"]


def test_a_signal_that_comes_while_no_python_code_runs_is_not_slept_over(script):
    """The callback is a C function that holds no GIL while the signal comes, and no Python code follows it."""
    assert script("""
import hashlib
loop = EventLoop()
signal.signal(signal.SIGALRM, lambda *_: loop.stop())
loop.call_soon(signal.setitimer, signal.ITIMER_REAL, 0.02)
loop.call_soon(hashlib.pbkdf2_hmac, "sha256", b"", b"", 500_000)
loop.run_forever()
say("stopped")
loop.close()
""") == ["stopped"]
