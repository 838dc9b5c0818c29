"""What the original gets: faces are unwrapped, synchronous callbacks run in worker threads."""

import asyncio
import contextvars
import functools
import gc
import threading

import pytest

from .faces import Emitter, Resource
from .harness import WAIT


@pytest.fixture
def face(loop):
    return loop.to_sync(Resource)("name")


@pytest.fixture
def emitter(loop):
    return loop.to_sync(Emitter)()


# Faces


def test_faces_given_as_arguments_are_unwrapped(loop, face):
    cls = loop.to_sync(Resource)
    assert face.same(face)
    assert face.types(face, cls, other=face) == [Resource, type, Resource]
    args, kwargs = face.echo(face.get, loop.to_sync(Resource.version), key=cls)
    assert args == (face.aio.get, Resource.version)
    assert kwargs == {"key": Resource}


def test_containers_are_passed_as_they_are(face):
    given = [face]
    args, _ = face.echo(given, {"face": face})
    assert args[0] is given and args[1]["face"] is face


def test_classes_and_callable_objects_are_passed_as_they_are(face):
    class Callable:
        def __call__(self):
            return 42

    given = (Callable, Callable(), int)
    args, _ = face.echo(*given)
    assert args == given


def test_the_class_that_a_user_derived_becomes_the_original_class(loop, face):
    class Mine(loop.to_sync(Resource)):
        pass

    assert face.echo(Mine)[0] == (Resource,)
    assert face.types(Mine("name")) == [Resource]


# Callbacks


def test_a_callback_runs_off_the_thread_of_the_loop_and_is_awaited(loop, emitter):
    emitter.add(lambda value: (value, threading.current_thread()))
    [(value, thread)] = emitter.emit(42)
    assert value == 42
    assert thread not in (loop.thread, threading.main_thread())


def test_a_callback_gets_faces_and_may_use_them(loop, emitter, face):
    cls = loop.to_sync(Resource)
    emitter.add(lambda resource: (resource is face, resource.get("key"), cls("inner").get("four")))
    assert emitter.emit(face) == [(True, 3, 4)]


def test_a_face_that_a_callback_returns_is_unwrapped(emitter, face):
    emitter.add(lambda: face)
    [returned] = emitter.emit()
    assert returned is face.aio


def test_an_asynchronous_callback_runs_on_the_loop_with_originals(loop, emitter, face):
    async def callback(resource):
        return type(resource), threading.current_thread()

    emitter.add(callback)
    assert emitter.emit(face) == [(Resource, loop.thread)]


def test_a_callback_sees_the_context_of_the_call(emitter):
    variable = contextvars.ContextVar("variable", default="none")
    emitter.add(variable.get)
    variable.set("mine")
    assert emitter.emit() == ["mine"]


def test_an_error_of_a_callback_is_raised_where_it_is_awaited(emitter):
    def fail():
        raise ZeroDivisionError("of a callback")

    emitter.add(fail)
    with pytest.raises(ZeroDivisionError, match="of a callback"):
        emitter.emit()


def test_an_error_that_nobody_awaits_is_reported_by_the_exception_handler(loop, emitter):
    reported = []
    told = threading.Event()

    def report(event_loop, context):
        reported.append(context)
        told.set()

    loop.call(loop.loop.set_exception_handler, report)
    ran = threading.Event()

    def fail():
        ran.set()
        raise ZeroDivisionError("of a callback")

    emitter.add(fail)
    emitter.emit_without_waiting()
    assert ran.wait(WAIT)
    while not told.is_set():
        loop.evaluate(asyncio.sleep(0.001))
        gc.collect()
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]


def test_a_callback_that_nobody_awaits_runs_all_the_same(emitter):
    ran = threading.Event()
    emitter.add(ran.set)
    emitter.emit_without_waiting()
    assert ran.wait(WAIT)


def test_the_same_callback_is_the_same_when_it_is_removed(emitter):
    class Listener:
        def on_event(self): ...

    listener, items = Listener(), []
    for make in (
        lambda: listener.on_event,
        lambda: items.append,
        lambda: test_the_same_callback_is_the_same_when_it_is_removed,
    ):
        emitter.add(make())
        emitter.remove(make())
        assert emitter.callbacks == []
    emitter.add(listener.on_event)
    with pytest.raises(ValueError):
        emitter.remove(Listener().on_event)


def test_a_callback_that_comes_back_is_the_callback(emitter):
    def callback(): ...

    assert emitter.add(callback) is callback


def test_a_callback_given_to_the_constructor_is_one_too(loop):
    emitter = loop.to_sync(Emitter)(on_event=lambda: threading.current_thread())
    assert emitter.emit() != [loop.thread]


def test_partials_and_builtins_are_callbacks(emitter):
    received = []
    emitter.add(functools.partial(received.append, 1))
    emitter.emit()
    emitter.add(received.append)
    assert received == [1]


def test_a_method_of_a_derived_class_is_a_callback_that_may_use_the_face(loop, emitter):
    class Mine(loop.to_sync(Resource)):
        def on_event(self, key):
            return self.get(key)

    mine = Mine("name")
    emitter.add(mine.on_event)
    assert emitter.emit("key") == [3]


def test_a_callback_whose_value_is_needed_at_once_is_called_where_it_is_needed(loop, emitter):
    called_on = []

    def encode(value):
        called_on.append(threading.current_thread())
        return str(value)

    assert emitter.dump(42, encode) == "dumped 42"
    assert emitter.dump(42, encode=encode) == "dumped 42"
    assert called_on == [loop.thread] * 2


def test_a_callback_whose_annotation_allows_waiting_runs_in_a_worker_thread(loop, emitter):
    assert emitter.notify(lambda text: threading.current_thread(), "x") != loop.thread


def test_a_callback_whose_annotation_cannot_be_resolved_runs_in_a_worker_thread(loop, emitter):
    assert emitter.transform(lambda value: threading.current_thread(), 1) != loop.thread


def test_callbacks_leave_no_garbage_and_are_let_go(loop, emitter):
    class Listener:
        def on_event(self): ...

    import weakref

    listener = Listener()
    gone = weakref.ref(listener)
    emitter.add(listener.on_event)
    emitter.emit()
    emitter.remove(listener.on_event)
    del listener
    loop.evaluate(asyncio.sleep(0))
    gc.collect()
    assert gone() is None


ANNOTATIONS = {
    "Callable[[int], str]": True,
    "Callable[..., bool]": True,
    "Callable[..., T]": True,
    "Optional[Callable[[Any], str]]": True,
    "Callable[..., Optional[str]]": True,
    "Encode": True,
    "Callable[..., Awaitable[str]]": False,
    "Callable[..., Coroutine[Any, Any, str]]": False,
    "Callable[..., Union[str, Awaitable[str]]]": False,
    "Callable[..., str | Awaitable[str]]": False,
    "Callable[..., None]": False,
    "Callable[..., Any]": False,
    "Callable[..., object]": False,
    "Callable": False,
    "Any": False,
    "Unknown": False,
    "Callable[[Unknown], str]": True,
    "Callable[[str], Unknown]": False,
    "Callable[..., str] | Callable[..., Awaitable[str]]": False,
    "AwaitedProtocol": False,
    "ValueProtocol": True,
    "F": True,
    "int": False,
}


@pytest.mark.parametrize("annotation", ANNOTATIONS)
@pytest.mark.parametrize("is_string", [True, False])
def test_what_annotations_say_about_callbacks(loop, annotation, is_string):
    from collections.abc import Callable  # the unannotated `Callable` comes from the fallback for strings

    source = f"""
{"from __future__ import annotations" if is_string else ""}
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Optional, Protocol, TypeVar, Union
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., str])
Encode = Callable[[Any], str]
{"" if is_string else "Unknown = Any"}
class AwaitedProtocol(Protocol):
    async def __call__(self): ...
class ValueProtocol(Protocol):
    def __call__(self) -> str: ...
async def takes(fn: {annotation}, *rest, **named: {annotation}): return type(fn)
"""
    if not is_string and annotation.startswith("Callable[[Unknown]"):
        pytest.skip("an unquoted annotation has no unknown names")
    names = {}
    exec(source, names)
    takes = loop.to_sync(names["takes"])
    kind = takes(lambda: None)
    assert (kind is type(lambda: None)) == ANNOTATIONS[annotation]
    assert callable(kind) and Callable


def test_a_callback_that_is_called_in_a_worker_thread_is_just_called(loop):
    class Threaded:
        async def work(self, fn):
            return await asyncio.to_thread(fn, "key")

    assert loop.to_sync(Threaded)().work(lambda key: len(key)) == 3
