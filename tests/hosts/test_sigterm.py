"""SIGTERM, as process managers send it: whatever the main thread waits for, what runs is cleaned up once."""

import signal

import pytest

# What the main thread does when the signal comes, and the coroutines that run for it until they are cancelled.
WAITS = {
    "evaluate": ("loop.evaluate(work(1))", [1]),
    "result": ("loop.submit(work, 1).result()", [1]),
    "evaluate_many": ("loop.evaluate_many([work(1), work(2)])", [1, 2]),
    "map": ("list(loop.map(work, [1, 2]))", [1, 2]),
    "as_completed": ("[each.result() for each in loop.as_completed([work(1), work(2)])]", [1, 2]),
    "start_task": ("loop.start_task(work, 1)", [1]),
    "sleep": ("while loop.loop is not None: time.sleep(0.2)", []),
}

# What its handler does, the exit code that follows, and what the main thread says before it.
HANDLERS = {
    "exits": ("sys.exit(143)", 143, []),
    "sets an event": ("stopping.set()", 0, ["told", "end"]),
    "closes": ("loop.close()", 0, ["told", "end"]),
    "begins to close": ("loop.shutdown(wait=False)", 0, ["told", "end"]),
}

PRELUDE = """
async def work(name, task_status=None):
    begun.append(name)
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.05)
        say("cleaned", name)

async def tell_when_the_main_thread_waits(number):
    # It waits when it sleeps and hasn't been woken between two looks.
    look = None
    while len(begun) < number or look != (look := look_at_main_thread()) or "State:\\tS" not in look:
        await asyncio.sleep(0.02)
    say("ready")

def look_at_main_thread():
    with open(f"/proc/self/task/{os.getpid()}/status") as status:
        return "".join(line for line in status if line.startswith(("State", "voluntary")))

begun = []
"""


def terminated(script, code, flavour="native"):
    """Start a script, send it SIGTERM when it is ready, and return it."""
    running = script(PRELUDE + code, flavour)
    running.expect("ready")
    running.signal(signal.SIGTERM)
    return running


MAIN_THREADS = [("native", wait) for wait in WAITS] + [("standard", "evaluate"), ("uvloop", "evaluate")]


@pytest.mark.parametrize(("flavour", "wait"), MAIN_THREADS, ids=map("-".join, MAIN_THREADS))
@pytest.mark.parametrize("handler", HANDLERS)
def test_what_runs_is_cleaned_up_once_and_the_process_ends(script, flavour, wait, handler):
    call, names = WAITS[wait]
    act, code, said = HANDLERS[handler]
    running = terminated(
        script,
        f"""
def on_sigterm(number, frame):
    {act}

def close_when_asked():
    stopping.wait()
    loop.close()

stopping = threading.Event()
threading.Thread(target=close_when_asked, daemon=True).start()
signal.signal(signal.SIGTERM, on_sigterm)
with make_loop() as loop:
    loop.submit(work, "in the background")
    loop.submit(tell_when_the_main_thread_waits, {1 + len(names)})
    try:
        {call}
    except CancelledError:
        say("told")
say("end")
""",
        flavour,
    )
    assert running.finish() == code, running
    cleaned = [line for line in running.lines if line.startswith("cleaned")]
    assert sorted(cleaned) == [*(f"cleaned {name}" for name in names), "cleaned in the background"], running
    assert [line for line in running.lines if line not in cleaned] == [
        "ready",
        *(word for word in said if names or word != "told"),
    ]
    assert running.stderr == ""


@pytest.mark.parametrize("wait", ["evaluate", "result", "sleep"])
def test_without_a_handler_the_process_dies_of_it(script, wait):
    call, names = WAITS[wait]
    running = terminated(
        script,
        f"""
with make_loop() as loop:
    loop.submit(work, "in the background")
    loop.submit(tell_when_the_main_thread_waits, {1 + len(names)})
    {call}
""",
    )
    assert running.finish() == -signal.SIGTERM, running
    assert running.lines == ["ready"]
    assert running.stderr == ""


EXITS = """
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
"""


def test_a_service_without_a_with_block_cleans_up(script):
    running = terminated(
        script,
        EXITS
        + """
loop = make_loop().start()
loop.submit(work, "in the background")
get_default_loop().submit(work, "on the default loop")
loop.submit(tell_when_the_main_thread_waits, 2)
threading.Event().wait()
""",
    )
    assert running.finish() == 143, running
    assert sorted(running.lines) == ["cleaned in the background", "cleaned on the default loop", "ready"]
    assert running.stderr == ""


def test_every_thread_that_waits_is_told(script):
    running = terminated(
        script,
        EXITS
        + """
def wait(call):
    try:
        call()
    except CancelledError:
        say("told")

with make_loop() as loop:
    calls = [
        lambda: loop.evaluate(work(1)),
        lambda: loop.submit(work, 2).result(),
        lambda: loop.evaluate_many([work(3)]),
        lambda: list(loop.map(work, [4])),
        lambda: loop.start_task(work, 5),
    ]
    for call in calls:
        threading.Thread(target=wait, args=(call,)).start()
    loop.submit(tell_when_the_main_thread_waits, 5)
    loop.evaluate(work(6))
""",
    )
    assert running.finish() == 143, running
    assert sorted(running.lines) == [*(f"cleaned {n}" for n in range(1, 7)), "ready", *["told"] * 5]
    assert running.stderr == ""


@pytest.mark.parametrize(
    "wait", ["loop.evaluate(clean_long())", "loop.submit(clean_long).result()", "sleep()"]
)
def test_a_second_sigterm_during_the_cleanup_does_not_lose_it(script, wait):
    # In `evaluate` the second one abandons the wait for the cleanup; leaving the block waits for it all the same.
    # In the others the block is being left already, and what waits then is the end of the interpreter.
    running = terminated(
        script,
        f"""
def sleep():
    loop.submit(clean_long)
    time.sleep(3600)

async def clean_long():
    begun.append(1)
    try:
        await asyncio.sleep(3600)
    finally:
        say("cleaning")
        await released
        say("cleaned")

def release_after_the_second():
    twice.wait()
    loop.loop.call_soon_threadsafe(released.set_result, None)

def on_sigterm(number, frame):
    signals.append(number)
    if len(signals) == 2:
        twice.set()
    sys.exit(142 + len(signals))

signals, twice = [], threading.Event()
signal.signal(signal.SIGTERM, on_sigterm)
threading.Thread(target=release_after_the_second, daemon=True).start()
with make_loop() as loop:
    released = loop.call(loop.loop.create_future)
    loop.submit(tell_when_the_main_thread_waits, 1)
    {wait}
""",
    )
    running.expect("cleaning")
    running.signal(signal.SIGTERM)
    assert running.finish() == 144, running
    assert running.lines == ["ready", "cleaning", "cleaned"]
    assert running.stderr == ""


def test_a_second_sigterm_while_the_interpreter_exits_does_not_lose_the_cleanup(script):
    # The process does already what the second one asks for.
    running = terminated(
        script,
        """
async def clean_long(name):
    begun.append(name)
    try:
        await asyncio.sleep(3600)
    finally:
        if name == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        while len(signals) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        say("cleaned", name)

def on_sigterm(number, frame):
    signals.append(number)
    sys.exit(142 + len(signals))

signals = []
signal.signal(signal.SIGTERM, on_sigterm)
loops = [make_loop().start() for _ in range(2)]
for name, loop in enumerate(loops):
    loop.submit(clean_long, name)
loop.submit(tell_when_the_main_thread_waits, 2)
threading.Event().wait()
""",
    )
    assert running.finish() == 143, running
    assert sorted(running.lines) == ["cleaned 0", "cleaned 1", "ready"]
    assert running.stderr == ""


def test_a_loop_thread_that_is_blocked_keeps_the_process_for_the_exit_timeout_only(script):
    running = terminated(
        script,
        EXITS
        + """
async def block():
    await tell_when_the_main_thread_waits(0)
    time.sleep(3600)

with make_loop(exit_timeout=0.3) as loop:
    loop.evaluate(block())
""",
    )
    assert running.finish() == 143, running
    assert running.lines == ["ready"]
    assert "RuntimeWarning" in running.stderr and "in block" in running.stderr


def test_sigterm_at_any_moment_of_many_calls(script):
    running = script(
        PRELUDE
        + """
class Terminated(BaseException):
    pass

def terminate(number, frame):
    raise Terminated

def send():
    random_moment = len(rounds) % 7 * 0.0007
    time.sleep(random_moment)
    os.kill(os.getpid(), signal.SIGTERM)

async def clean_up(task_status):
    task_status.started()
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)
        rounds.append("cleaned")

rounds = []
calls = [
    lambda: loop.evaluate(answer()),
    lambda: loop.submit(answer).result(),
    lambda: loop.evaluate_many([answer(), answer()]),
    lambda: loop.call(int),
    lambda: loop.evaluate(asyncio.sleep(0.0003)),
]
signal.signal(signal.SIGTERM, terminate)
for number in range(100):
    try:
        with make_loop() as loop:
            loop.start_task(clean_up)
            threading.Thread(target=send).start()
            while True:
                calls[number % len(calls)]()
    except Terminated:
        pass
    assert len(rounds) == number + 1
    assert loop.loop is None
say(len(rounds), threading.active_count())
"""
    )
    assert running.finish() == 0, running
    assert running.lines == ["100 1"], running
    assert running.stderr == ""
