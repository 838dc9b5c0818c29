"""Faces when the loop ends, starts again or is forked, and when something fails."""

import asyncio
import contextlib
import gc
import threading

import pytest

from asyncio_thread_loop import LoopClosedError

from .faces import Resource
from .harness import WAIT, Caller, Sleeper
from .test_tracebacks import frames, submitted_at, test_a_call_leaves_no_garbage

USES = {
    "async method": lambda face: face.get("key"),
    "plain method": lambda face: face.plain_get("key"),
    "property": lambda face: face.property_where,
    "async generator": lambda face: next(face.count(3)),
    "context": lambda face: face.acquire().__enter__(),
    "setting a property": lambda face: setattr(face, "label", 1),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_a_face_that_is_used_after_the_close_says_so(make_loop, use):
    with make_loop() as loop:
        face = loop.to_sync(Resource)()
    with pytest.raises(LoopClosedError):
        use(face)


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_a_face_of_an_earlier_life_of_the_loop_says_so(make_loop, use):
    loop = make_loop()
    with loop:
        face = loop.to_sync(Resource)()
    with loop:
        with pytest.raises(LoopClosedError, match="before it was closed"):
            use(face)
        assert loop.to_sync(Resource)().get("key") == 3
        assert loop.to_sync(face.aio).get("key") == 3


def test_what_is_stored_is_read_after_the_close(make_loop):
    with make_loop() as loop:
        face = loop.to_sync(Resource)("name")
    assert face.name == "name"


def test_class_and_function_faces_go_on_in_the_next_life(make_loop):
    loop = make_loop()
    cls, function = loop.to_sync(Resource), loop.to_sync(Resource.version)
    for refused in (cls, function):
        with pytest.raises(LoopClosedError):
            refused()
    for _ in range(2):
        with loop:
            assert cls().get("key") == 3
            assert function() == 42


def test_closing_never_strands_a_caller_of_a_face(make_loop):
    class Waiting:
        def __init__(self, sleeper):
            self.wait = sleeper

        async def close(self): ...

    loop = make_loop(exit_timeout=5).start()
    sleeper = Sleeper()
    face = loop.to_sync(Waiting)(sleeper)
    caller = Caller(lambda: loop.to_sync(face.aio.wait.__call__)())
    assert sleeper.started.wait(WAIT)
    loop.close()
    assert caller.error() is not None
    assert sleeper.cleaned.is_set()


def test_in_a_forked_child_old_instances_raise_and_classes_and_functions_work(script):
    running = script("""
from multiprocessing import get_context

class Client:
    name = "a name"
    def __init__(self):
        self.stored = 1
    async def get(self):
        return 42
    @property
    def prop(self):
        return 1
    async def __aenter__(self):
        return self
    async def __aexit__(self, *exc_info): ...

async def function():
    return 42

with make_loop() as loop:
    cls, sync_function = loop.to_sync(Client), loop.to_sync(function)
    face, fresh = cls(), loop.to_sync(Client())
    face.get()
    pid = os.fork()
    if not pid:
        for use in (lambda: face.get(), lambda: face.prop, lambda: face.__enter__(), lambda: fresh.get()):
            try:
                use()
            except ForkedError as error:
                say("refused", "make a new one" in str(error))
        say(face.stored, face.name)
        say(cls().get(), sync_function())
        say(loop.to_sync(face.aio).get())
        try:
            face.get()
        except ForkedError:
            say("still refused")
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    say(face.get())
""")
    assert running.finish() == 0, running
    assert running.lines == [*["refused True"] * 4, "1 a name", "42 42", "42", "still refused", "42"]
    assert running.stderr == ""


def test_in_a_child_that_may_not_restart_every_face_raises(script):
    running = script("""
class Client:
    async def get(self):
        return 42

with make_loop(on_fork="raise") as loop:
    cls = loop.to_sync(Client)
    face = cls()
    pid = os.fork()
    if not pid:
        for use in (cls, face.get):
            try:
                use()
            except ForkedError:
                say("refused")
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
""")
    assert running.finish() == 0, running
    assert running.lines == ["refused"] * 2


def test_every_call_works_while_every_other_allocation_starts_a_collection(script):
    running = script("""
import gc

class Client:
    "A client."
    def __init__(self, number=0):
        self.number = number
    async def get(self, plus):
        return self.number + plus
    def plain(self):
        return self.number
    @property
    def prop(self):
        return self.number
    async def items(self):
        yield self
    async def __aenter__(self):
        return self
    async def __aexit__(self, *exc_info): ...
    def on(self, callback):
        return callback
    async def fire(self, callback):
        return await callback(self)

gc.set_threshold(1)
for _ in range(5):
    with make_loop() as loop:
        class Mine(loop.to_sync(Client)):
            def twice(self):
                return 2 * self.get(1)
        mine = Mine(20)
        assert mine.twice() == 42 and mine.plain() == mine.prop == mine.number == 20
        assert list(mine.items()) == [mine]
        mine.other = 1
        with mine as same:
            assert same is mine
        assert mine.on(print) is print
        assert mine.fire(lambda face: face.get(1)) == 21
        async def double(number):
            return 2 * number
        assert loop.to_sync(double)(21) == 42
        assert mine.get.aio and repr(mine.get) and loop.to_sync(Client).get.__name__ == "get"
        del mine, same, Mine
say("done")
""")
    assert running.finish() == 0, running
    assert running.lines == ["done"]
    assert running.stderr == ""


# Errors

FAILURES = {
    "async method": lambda face: face.fail(),
    "plain method": lambda face: face.plain_fail(),
    "property": lambda face: face.failing,
    "setting a property": lambda face: setattr(face, "failing", 1),
    "deleting a property": lambda face: delattr(face, "failing"),
    "constructor": lambda face: type(face)(fails=True),
    "class method": lambda face: face.make_failing(),
    "static method": lambda face: face.static_fail(),
    "async generator": lambda face: next(face.failing_items()),
    "operator": lambda face: face + 1,
    "context": lambda face: face.__enter__(),
    "callback": lambda face: face.call(fail_in_a_callback),
    "next": lambda face: next(face),
    "result": lambda face: face.awaited().result(),
}


def fail():
    raise ZeroDivisionError("of the original")


def fail_in_a_callback():
    fail()


class Failing(Resource):
    """Fails in every way."""

    def __init__(self, fails=False):
        if fails:
            fail()
        super().__init__()

    @property
    def failing(self):
        fail()

    @failing.setter
    def failing(self, value):
        fail()

    @failing.deleter
    def failing(self):
        fail()

    @classmethod
    def make_failing(cls):
        fail()

    @staticmethod
    async def static_fail():
        fail()

    async def failing_items(self):
        fail()
        yield

    def __add__(self, other):
        fail()

    async def __aenter__(self):
        fail()

    async def __aexit__(self, *exc_info): ...

    async def call(self, fn):
        await fn()

    async def __anext__(self):
        fail()

    def awaited(self):
        return FailingWhenAwaited()


class FailingWhenAwaited:
    def __await__(self):
        fail()
        yield

    async def __aenter__(self): ...

    async def __aexit__(self, *exc_info): ...


@pytest.mark.parametrize("way", FAILURES)
def test_errors_show_only_frames_of_the_caller_and_the_original(loop, way):
    face = loop.to_sync(Failing)()
    try:
        FAILURES[way](face)
    except ZeroDivisionError as error:
        shown = frames(error)
        notes = submitted_at(error)
    assert shown[0] == "test_errors_show_only_frames_of_the_caller_and_the_original"
    assert shown[1] == "<lambda>"
    assert shown[-1] in ("fail", "plain_fail")
    assert len(notes) <= 1


@pytest.mark.parametrize("way", FAILURES)
def test_a_face_that_fails_leaves_no_garbage(loop, way):
    face = loop.to_sync(Failing)()

    def call(loop):
        with contextlib.suppress(ZeroDivisionError):
            FAILURES[way](face)

    test_a_call_leaves_no_garbage(loop, call)


def test_a_face_that_is_used_leaves_no_garbage(loop):
    face = loop.to_sync(Resource)()

    def call(loop):
        assert face.get("key") == 3
        assert face.plain_get("key") == 3
        assert list(face.count(2)) == [0, 1]
        with face.acquire() as acquired, face.transaction():
            assert acquired is face
        assert face.task(1).result(WAIT) == 1
        assert loop.to_sync(Resource)("other").name == "other"
        assert face.echo(face, len)[0][0] is face

    test_a_call_leaves_no_garbage(loop, call)


def test_memory_is_flat(script):
    running = script("""
import gc

class Client:
    async def get(self):
        return self
    async def child(self):
        return Client()
    async def items(self):
        yield Client()
    async def call(self, fn):
        return await fn()

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

with make_loop() as loop:
    client = loop.to_sync(Client)()

    def work():
        for _ in range(300):
            client.get().child().child()
            list(client.items())
            client.call(lambda: None)
            class Local(Client):
                pass
            loop.to_sync(Local)().get()
            gc.collect(0)

    for _ in range(6):
        work()
    before = resident()
    for _ in range(4):
        work()
    say(resident() - before)
""")
    assert running.finish() == 0, running
    assert running.stderr == "", running
    assert int(running.lines[0]) < 1_500_000


def test_ctrl_c_in_a_face_cancels_the_call_and_waits_for_its_cleanup(script):
    running = script("""
class Client:
    async def wait(self):
        say_when_waiting("waiting")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            say("cleaned up")

with make_loop() as loop:
    client = loop.to_sync(Client)()
    try:
        client.wait()
    except KeyboardInterrupt:
        say("interrupted")
""")
    running.expect("waiting")
    running.interrupt()
    assert running.finish() == 0, running
    assert running.lines == ["waiting", "cleaned up", "interrupted"]


def test_two_threads_that_ask_for_a_face_at_once_get_the_same(loop):
    for _ in range(30):

        class Local(Resource):
            pass

        original = loop.call(Local)
        barrier = threading.Barrier(4)

        def ask(barrier=barrier, original=original):
            barrier.wait(WAIT)
            return loop.to_sync(original)

        faces = [caller.outcome() for caller in [Caller(ask) for _ in range(4)]]
        assert len({id(face) for face in faces}) == 1
        assert loop.to_sync(Local) is type(faces[0])
    gc.collect()


def test_the_contexts_of_the_caller_are_seen(loop):
    async def give():
        return asyncio.current_task() is not None

    assert loop.to_sync(give)()
