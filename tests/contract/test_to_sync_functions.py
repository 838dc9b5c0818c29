"""The faces of functions."""

import asyncio
import contextlib
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from asyncio_thread_loop import SyncContextManager, SyncFunction, SyncGenerator

from .faces import Resource
from .harness import answer


async def double(number: int, *, plus: int = 0) -> int:
    """Double it."""
    await asyncio.sleep(0)
    return 2 * number + plus


async def count(to):
    for number in range(to):
        yield number


async def iterating() -> AsyncIterator[int]:
    yield 1


@contextlib.asynccontextmanager
async def opened(name):
    yield Resource(name)


def make_resource(name):
    return Resource(name)


def make_annotated(name) -> Resource:
    return globals()["Resource"](name)


def plain():
    return 42


def annotated_plain() -> int:
    return Resource("x").size


def test_an_async_function_is_called_like_a_plain_one(loop):
    assert loop.to_sync(double)(20, plus=2) == 42


def test_it_runs_on_the_thread_of_the_loop(loop):
    async def where():
        return threading.current_thread()

    assert loop.to_sync(where)() is loop.thread


def test_the_original_is_its_aio(loop):
    assert loop.to_sync(double).aio is double


def test_name_docstring_and_signature_are_kept(loop):
    face = loop.to_sync(double)
    assert (face.__name__, face.__qualname__, face.__module__) == ("double", "double", __name__)
    assert face.__doc__ == "Double it."
    assert inspect.signature(face) == inspect.signature(double)
    assert isinstance(face, SyncFunction)
    assert not inspect.iscoroutinefunction(face)


def test_the_signature_says_what_is_returned_to_synchronous_code(loop):
    assert inspect.signature(loop.to_sync(iterating)).return_annotation == Iterator[int]


def test_it_can_be_a_decorator_of_functions_and_methods(loop):
    class Client:
        number = 21

        @loop.to_sync
        async def doubled(self, plus):
            return await double(self.number, plus=plus)

    assert Client().doubled(1) == 43


def test_an_async_generator_function_gives_a_generator(loop):
    numbers = loop.to_sync(count)(3)
    assert isinstance(numbers, SyncGenerator)
    assert list(numbers) == [0, 1, 2]


def test_an_async_context_manager_function_gives_a_context_manager_of_a_face(loop):
    context = loop.to_sync(opened)("name")
    assert isinstance(context, SyncContextManager)
    with context as resource:
        assert resource.get("key") == 3
        assert isinstance(resource, loop.to_sync(Resource))


def test_partials_and_bound_methods_are_functions(loop):
    assert loop.to_sync(functools.partial(double, 20))(plus=2) == 42
    resource = Resource()
    assert loop.to_sync(resource.get)("key") == 3
    assert loop.to_sync(resource.get).aio == resource.get


@pytest.mark.parametrize("factory", [make_resource, make_annotated, lambda name: Resource(name)])
def test_a_plain_factory_of_something_asynchronous_gives_a_face(loop, factory):
    resource = loop.to_sync(factory)("name")
    assert isinstance(resource, loop.to_sync(Resource))
    assert resource.made_on == loop.thread.ident


def test_what_a_plain_factory_returns_may_be_a_coroutine(loop):
    assert loop.to_sync(lambda: double(21))() == 42


def test_the_same_function_has_the_same_face_while_it_is_in_use(loop):
    face = loop.to_sync(double)
    assert loop.to_sync(double) is face
    assert loop.to_sync(face) is face
    resource = Resource()
    method = loop.to_sync(resource.get)
    assert loop.to_sync(resource.get) is method
    assert loop.to_sync(Resource().get) is not method


def test_repr_says_what_it_is(loop):
    assert repr(loop.to_sync(double)) == f"<synchronous face of {double!r}>"


@pytest.mark.parametrize("bad", [plain, annotated_plain, len, lambda: 42, print])
def test_a_function_without_anything_asynchronous_is_refused_naming_call(loop, bad):
    with pytest.raises(TypeError, match=r"not asynchronous.*call\(\)"):
        loop.to_sync(bad)


@pytest.mark.parametrize("bad", [42, "text", None, object(), [answer]])
def test_what_is_no_function_class_or_instance_is_refused(loop, bad):
    with pytest.raises(TypeError, match="has nothing asynchronous"):
        loop.to_sync(bad)


def test_a_coroutine_is_refused_naming_evaluate_and_closed(loop):
    coroutine = answer()
    with pytest.raises(TypeError, match=r"evaluate\(\)"):
        loop.to_sync(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_a_future_is_refused_naming_evaluate(loop):
    async def make():
        return asyncio.get_running_loop().create_future()

    with pytest.raises(TypeError, match=r"evaluate\(\)"):
        loop.to_sync(loop.evaluate(make()))


def test_wrong_arguments_are_the_type_error_of_the_original(loop):
    with pytest.raises(TypeError, match="double"):
        loop.to_sync(double)()
