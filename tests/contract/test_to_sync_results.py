"""What comes back from the original: what wants a face gets one."""

import asyncio
import contextlib
import threading

import pytest

from asyncio_thread_loop import Future, SyncContextManager, SyncGenerator

from .faces import Acquiring, Cursor, Resource, Row
from .harness import WAIT, Caller, until


@pytest.fixture
def face(loop):
    return loop.to_sync(Resource)("name")


# Objects


def test_an_instance_of_a_class_with_async_members_comes_back_as_its_face(loop, face):
    row = next(iter(face.cursor()))
    assert type(row) is loop.to_sync(Row)
    assert row.reload() == row.number


def test_tuples_have_their_elements_looked_at(loop):
    class Maker:
        async def make(self):
            return Resource("a"), 1, Resource("b")

        async def plain(self):
            return self.pair

        pair = (1, 2)

    first, number, second = loop.to_sync(Maker)().make()
    assert (first.name, number, second.name) == ("a", 1, "b")
    assert loop.to_sync(Maker)().plain() is Maker.pair


def test_lists_come_back_as_they_are(face):
    assert [type(each) for each in face.many()] == [Resource, Resource]


@pytest.mark.parametrize("value", [1, "text", None, b"bytes", [1], {"a": 1}, Resource, len, ValueError("x")])
def test_everything_else_comes_back_as_it_is(loop, value):
    class Giver:
        async def give(self):
            return value

        def plain_give(self):
            return value

    giver = loop.to_sync(Giver)()
    assert giver.give() is value
    assert giver.plain_give() is value


def test_the_standard_streams_are_faces(loop):
    received = []

    async def serve(reader, writer):
        received.append(await reader.readline())
        writer.write(b"world\n")
        await writer.drain()
        writer.close()

    with loop.to_sync(asyncio.start_server)(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = loop.to_sync(asyncio.open_connection)("127.0.0.1", port)
        writer.write(b"hello\n")
        writer.drain()
        assert list(reader) == [b"world\n"]
        writer.close()
        writer.wait_closed()
    assert received == [b"hello\n"]


# Work under way


def test_a_task_comes_back_as_a_future(face):
    future = face.task(42)
    assert isinstance(future, Future)
    assert future.result(WAIT) == 42


def test_the_same_task_comes_back_as_the_same_future(loop):
    class Starter:
        async def start(self):
            self.task = asyncio.create_task(asyncio.Event().wait())
            return self.task

    starter = loop.to_sync(Starter)()
    future = starter.start()
    assert starter.task is starter.task is future
    assert future.cancel_and_wait(WAIT)


def test_a_task_is_cancelled_through_its_future(loop):
    class Starter:
        async def close(self): ...

        def start(self):
            self.task = asyncio.create_task(asyncio.Event().wait())
            return self.task

    starter = Starter()
    for _ in range(20):  # sometimes it has begun to wait for the task, sometimes it hasn't
        future = loop.to_sync(starter).start()
        assert future.cancel_and_wait(WAIT)
        until(starter.task.cancelled)


# Iterators


def test_an_async_generator_comes_back_as_a_generator(face):
    numbers = face.count(3)
    assert isinstance(numbers, SyncGenerator)
    assert list(numbers) == [0, 1, 2]
    assert face.events == ["counted"]


def test_leaving_it_early_ends_it(face):
    with contextlib.closing(face.count(1000)) as numbers:
        assert next(numbers) == 0
    assert face.events == ["counted"]


def test_a_plain_generator_comes_back_as_an_iterator(face):
    assert [number for number, _ in face.plain_count(3)] == [0, 1, 2]


def test_an_async_iterable_is_iterated_over_with_for_and_next(loop, face):
    cursor = face.cursor()
    assert isinstance(cursor, loop.to_sync(Cursor))
    assert next(cursor).number == 2
    assert [row.number for row in cursor] == [1, 0]
    assert next(cursor, "end") == "end"


def test_a_plain_iterator_is_iterated_over_with_next(loop):
    class Steps:
        left = 2

        async def close(self): ...

        def __iter__(self):
            return self

        def __next__(self):
            if not self.left:
                raise StopIteration
            self.left -= 1
            return self.left, threading.get_ident()

    steps = loop.to_sync(Steps)()
    assert next(steps) == (1, loop.thread.ident)
    assert list(steps) == [(0, loop.thread.ident)]
    assert next(steps, "end") == "end"


def test_where_a_class_has_both_protocols_the_asynchronous_one_is_used(loop):
    class Both:
        def __iter__(self):
            yield "plain"

        async def __aiter__(self):
            yield "asynchronous"

        def __enter__(self):
            return "plain"

        def __exit__(self, *exc_info): ...

        async def __aenter__(self):
            return "asynchronous"

        async def __aexit__(self, *exc_info): ...

    both = loop.to_sync(Both)()
    assert list(both) == ["asynchronous"]
    with both as entered:
        assert entered == "asynchronous"


# Context managers


def test_entering_is_done_in_the_task_that_leaves(face):
    with face.acquire() as acquired:
        assert acquired is face
    assert face.events == ["acquired", "released"]


def test_what_can_be_awaited_and_entered_is_offered_as_both(loop, face):
    acquiring = face.acquire()
    assert type(acquiring) is loop.to_sync(Acquiring)
    assert acquiring.result() is face


def test_the_error_of_the_body_reaches_the_context(face):
    with pytest.raises(KeyError), face.acquire():
        raise KeyError
    assert face.events == ["acquired", "released by KeyError"]


def test_a_context_may_suppress_the_error_of_the_body(face):
    context = face.transaction()
    assert isinstance(context, SyncContextManager)
    with context as inside:
        assert inside is face
        raise KeyError
    assert face.events == ["begin", "rollback"]


def test_entering_a_face_gives_the_face(loop):
    class Session:
        async def __aenter__(self):
            return self

        async def __aexit__(self, *exc_info):
            self.closed = True

    with loop.to_sync(Session)() as session:
        assert type(session) is loop.to_sync(Session)
    assert session.closed
    with pytest.raises(RuntimeError, match="not been entered"):
        session.__exit__(None, None, None)


def test_several_threads_enter_the_same_face(loop):
    lock = loop.to_sync(asyncio.Lock)()
    inside, order = [], []

    def use(name):
        for _ in range(20):
            with lock:
                inside.append(name)
                order.append(len(inside))
                inside.remove(name)

    callers = [Caller(use, name) for name in range(4)]
    for caller in callers:
        caller.outcome()
    assert set(order) == {1} and len(order) == 80
    assert not lock.locked()


def test_several_threads_are_inside_at_once(loop):
    semaphore = loop.to_sync(asyncio.Semaphore)(4)
    barrier = threading.Barrier(4)

    def use():
        for _ in range(50):
            with semaphore:
                barrier.wait(WAIT)

    for caller in [Caller(use) for _ in range(4)]:
        caller.outcome()
    semaphore.acquire()
    assert not semaphore.locked()


def test_each_thread_leaves_what_it_entered(loop):
    class Shared:
        def __init__(self):
            self.entered = {}
            self.left = []

        async def __aenter__(self):
            self.entered[asyncio.current_task()] = number = len(self.entered)
            return number

        async def __aexit__(self, *exc_info):
            self.left.append(self.entered[asyncio.current_task()])

    shared = loop.to_sync(Shared)()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(shared)
        inside, leave = threading.Event(), threading.Event()

        def use():
            with shared as second:
                inside.set()
                leave.wait(WAIT)
            return second

        caller = Caller(use)
        assert inside.wait(WAIT)
        stack.close()
        assert shared.left == [first]
        leave.set()
        assert caller.outcome() == 1
    assert shared.left == [0, 1]


def test_what_one_thread_entered_another_may_leave(loop):
    lock = loop.to_sync(asyncio.Lock)()
    lock.__enter__()
    Caller(lock.__exit__, None, None, None).outcome()
    assert not lock.locked()


def test_contexts_of_one_face_are_nested(loop):
    class Nested:
        depth = 0

        async def __aenter__(self):
            self.depth += 1
            return self.depth

        async def __aexit__(self, *exc_info):
            self.depth -= 1

    nested = loop.to_sync(Nested)()
    with nested as first, nested as second:
        assert (first, second) == (1, 2)
    assert nested.depth == 0


def test_a_loop_that_is_reached_through_a_face_is_handed_out_as_it_is(loop):
    class Holder:
        def __init__(self):
            self.loop = asyncio.get_running_loop()

        async def close(self): ...

    assert loop.to_sync(Holder)().loop is loop.loop
