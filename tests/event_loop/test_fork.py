"""What a forked child does with an inherited loop, the parent never notices."""

IN_CHILD = """
import warnings
# Python 3.12 and later warn about every fork of a process with threads.
warnings.simplefilter("ignore", DeprecationWarning)

def in_child(work):
    "Fork; run the work in the child; say how it ended."
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    say("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""

WATCHING = """
import atexit, socket
ours, theirs = socket.socketpair()
atexit.register(ours.close)
atexit.register(theirs.close)
loop = EventLoop()
def received():
    say("received", ours.recv(10).decode())
    loop.stop()
loop.add_reader(ours, received)
"""


def test_closing_it_in_the_child_leaves_the_parents_registrations_alone(script):
    assert script(
        IN_CHILD
        + WATCHING
        + """
in_child(loop.close)
theirs.send(b"x")
loop.run_forever()
loop.close()
"""
    ) == ["child 0", "received x"]


def test_removing_a_reader_in_the_child_leaves_the_parents_alone(script):
    assert script(
        IN_CHILD
        + WATCHING
        + """
def work():
    assert loop.remove_reader(ours)
    assert not loop.remove_reader(ours)
in_child(work)
theirs.send(b"x")
loop.run_forever()
loop.close()
"""
    ) == ["child 0", "received x"]


def test_it_can_run_in_the_child(script):
    """As a server does that makes its loop before it forks its workers."""
    assert script(
        IN_CHILD
        + WATCHING
        + """
def work():
    reading, writing = os.pipe()
    loop.add_reader(reading, lambda: (os.read(reading, 1), loop.stop()))
    os.write(writing, b"x")
    loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0.001))
    theirs.send(b"child")
    loop.run_forever()
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    threading.Timer(0.01, loop.call_soon_threadsafe, [loop.stop]).start()
    loop.run_forever()
    loop.close()
in_child(work)
theirs.send(b"parent")
loop.run_forever()
loop.close()
"""
    ) == ["received child", "child 0", "received parent"]


def test_a_child_that_runs_it_takes_no_wake_up_from_the_parent(script):
    assert script(
        IN_CHILD
        + """
loop = EventLoop()
reading, writing = os.pipe()
pid = os.fork()
if pid == 0:
    # The child runs the loop until the parent has been woken many times.
    loop.add_reader(reading, loop.stop)
    loop.run_forever()
    os._exit(0)

def ping():
    for _ in range(2000):
        ponged = threading.Event()
        loop.call_soon_threadsafe(ponged.set)
        if not ponged.wait(10):
            say("lost")
            break
    loop.call_soon_threadsafe(loop.stop)

thread = threading.Thread(target=ping)
thread.start()
loop.run_forever()
thread.join()
os.write(writing, b"x")
say("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
loop.close()
"""
    ) == ["child 0"]


def test_a_fork_inside_a_callback_can_go_on_in_both_processes(script):
    assert sorted(
        script(
            IN_CHILD
            + """
async def main():
    pid = os.fork()
    # The child is inside the loop as well; asyncio forgets the running loop at a fork.
    asyncio._set_running_loop(loop)
    await asyncio.sleep(0.001)
    reader, writer = os.pipe()
    readable = asyncio.Event()
    loop.add_reader(reader, readable.set)
    os.write(writer, b"x")
    await readable.wait()
    loop.remove_reader(reader)
    if pid == 0:
        say("in the child")
        os._exit(0)
    os.waitpid(pid, 0)
    say("in the parent")

loop = EventLoop()
loop.run_until_complete(main())
loop.close()
"""
        )
    ) == ["in the child", "in the parent"]
