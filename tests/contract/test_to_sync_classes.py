"""The faces of classes and instances."""

import asyncio
import copy
import gc
import inspect
import pickle
import weakref
from typing import Generic, TypeVar

import pytest

from asyncio_thread_loop import AsyncioThreadLoop, Future

from .faces import Cursor, Emitter, Resource, SpecialResource
from .harness import WAIT


@pytest.fixture
def face(loop):
    return loop.to_sync(Resource)("name")


# Calling


def test_an_async_method_is_called_like_a_plain_one(face):
    assert face.get("key", default=2) == 5


def test_plain_methods_are_called_too(face):
    assert face.plain_get("key") == 3


def test_a_coroutine_that_a_plain_method_returns_is_awaited(face):
    assert face.lazy_get("key") == 3


def test_it_is_awaited_in_the_same_task(loop):
    class Tasks:
        def get(self):
            return self.compare(asyncio.current_task())

        async def compare(self, before):
            return before is asyncio.current_task()

    assert loop.to_sync(Tasks)().get()
    assert loop.to_sync(Tasks().get)()


def test_class_methods_make_faces(loop, face):
    cls = loop.to_sync(Resource)
    for made in (cls.named("other"), cls.opened("other"), face.named("other")):
        assert type(made) is cls
        assert made.name == "other"


def test_class_methods_of_a_subclass_make_faces_of_the_subclass(loop):
    cls = loop.to_sync(SpecialResource)
    assert type(cls.named("other")) is cls


def test_static_methods_are_called_on_class_and_instance(loop, face):
    assert loop.to_sync(Resource).version() == face.version() == 42


def test_a_method_can_be_taken_from_the_class(loop, face):
    assert loop.to_sync(Resource).get(face, "key") == 3


def test_a_method_that_the_instance_has_of_its_own_is_used(loop):
    original = Resource()

    async def other(key):
        return "other"

    original.get = other
    assert loop.to_sync(original).get("key") == "other"


def test_a_method_that_is_replaced_later_is_used(loop, face, monkeypatch):
    async def other(self, key):
        return "other"

    monkeypatch.setattr(Resource, "get", other)
    assert face.get("key") == "other"


def test_a_method_that_is_stored_in_the_instance_is_callable(loop):
    original = Resource()
    original.fetch = original.get
    assert loop.to_sync(original).fetch("key") == 3


def test_getattr_of_the_original_gives_what_it_gives(loop):
    class Proxy:
        def __init__(self, target):
            self._target = target

        async def close(self): ...

        def __getattr__(self, name):
            return getattr(self._target, name)

    face = loop.to_sync(Proxy(Resource("inner")))
    assert face.name == "inner"
    assert face.get("key") == 3
    assert face.plain_where() == loop.thread.ident
    with pytest.raises(AttributeError):
        face.missing  # noqa: B018


def test_an_instance_that_is_called_asynchronously(loop):
    class Double:
        async def __call__(self, number):
            return 2 * number

    assert loop.to_sync(Double)()(21) == 42


def test_operators_are_those_of_the_original(loop):
    class Bag:
        def __init__(self, *items):
            self.items = list(items)

        async def load(self): ...

        def __len__(self):
            return len(self.items)

        def __getitem__(self, index):
            return self.items[index]

        def __setitem__(self, index, value):
            self.items[index] = value

        def __delitem__(self, index):
            del self.items[index]

        def __contains__(self, item):
            return item in self.items

        def __add__(self, other):
            return Bag(*self.items, *other.items)

        def __lt__(self, other):
            return len(self) < len(other)

        def __eq__(self, other):
            return isinstance(other, Bag) and self.items == other.items

        def __hash__(self):
            return 42

        def __iter__(self):
            yield from self.items

        def __str__(self):
            return "a bag"

    cls = loop.to_sync(Bag)
    bag = cls(1, 2, 3)
    assert len(bag) == 3 and bag[0] == 1 and 2 in bag and 9 not in bag
    bag[0] = 10
    del bag[1]
    assert list(bag) == [10, 3]
    assert list(bag + cls(5)) == [10, 3, 5]
    assert cls(1) < bag
    assert cls(1) == cls(1) and cls(1) != cls(2) and bag == bag.aio
    assert hash(bag) == 42
    assert str(bag) == "a bag"
    assert cls() == Bag() and not cls()


def test_awaiting_an_instance_is_its_result(loop):
    class Later:
        async def close(self): ...

        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return 42

        async def __aenter__(self):
            return self

        async def __aexit__(self, *exc_info): ...

    assert loop.to_sync(Later)().result() == 42
    assert loop.to_sync(Later)().result(timeout=WAIT) == 42


def test_a_class_with_a_result_of_its_own_keeps_it(loop):
    class Later:
        def __await__(self):
            yield

        def result(self):
            return "mine"

    assert loop.to_sync(Later)().result() == "mine"


# Attributes


def test_attributes_are_read_written_and_deleted(face):
    assert face.name == "name"
    face.name = "other"
    assert face.aio.name == "other"
    face.added = 1
    assert face.aio.added == 1
    del face.added
    assert not hasattr(face, "added")


def test_properties_are_read_written_and_deleted_on_the_loop(loop, face):
    face.label = "written"
    del face.label
    assert face.events == [("written", loop.thread.ident), ("deleted", loop.thread.ident)]
    assert face.label == ("deleted", loop.thread.ident)


def test_an_async_property_gives_its_value(face):
    assert face.eventual == "at last"


def test_slots_are_attributes(loop):
    class Slotted:
        __slots__ = ("value",)

        async def close(self): ...

    face = loop.to_sync(Slotted)()
    face.value = 1
    assert face.value == face.aio.value == 1
    del face.value
    with pytest.raises(AttributeError):
        face.value  # noqa: B018


def test_attributes_of_the_class_are_those_of_its_face(loop, face):
    assert loop.to_sync(Resource).kind == face.kind == "resource"
    face.kind = "mine"
    assert face.kind == "mine"
    assert loop.to_sync(Resource).kind == "resource"


def test_what_the_class_gets_later_is_there(loop, face, monkeypatch):
    monkeypatch.setattr(Resource, "later", 1, raising=False)
    assert face.later == loop.to_sync(Resource).later == 1


def test_an_attribute_that_is_not_there_is_an_attribute_error(face):
    with pytest.raises(AttributeError, match="'Resource' object has no attribute 'missing'"):
        face.missing  # noqa: B018


def test_a_face_that_is_stored_becomes_its_original(loop, face):
    other = loop.to_sync(Resource)("other")
    face.friend = other
    assert face.aio.friend is other.aio
    assert face.friend is other


def test_dir_lists_what_there_is(face):
    names = dir(face)
    assert {"get", "name", "kind", "label", "aio"} <= set(names)
    assert not {"__aenter__", "__await__", "__aiter__"} & set(names)


# What it is


def test_is_an_instance_of_its_face_and_of_the_faces_of_the_bases(loop):
    special = loop.to_sync(SpecialResource)("name")
    assert type(special) is loop.to_sync(SpecialResource)
    assert isinstance(special, loop.to_sync(Resource))
    assert issubclass(loop.to_sync(SpecialResource), loop.to_sync(Resource))
    assert not isinstance(special, Resource)
    assert not isinstance(loop.to_sync(Resource)(), loop.to_sync(SpecialResource))


def test_overridden_methods_are_found_as_in_the_original(loop):
    special = loop.to_sync(SpecialResource)("name")
    assert special.get("key") == 103
    assert special.extra() == "extra"
    assert special.plain_get("key") == 3
    assert loop.to_sync(Resource).get(special, "key") == 3


def test_generic_and_multiple_bases(loop):
    T = TypeVar("T")

    class Closing:
        async def close(self):
            return "closed"

    class Box(Closing, Generic[T]):
        def __init__(self, value):
            self.value = value

        async def get(self):
            return self.value

    class Both(Box[int], Resource):
        def __init__(self):
            Box.__init__(self, 1)
            Resource.__init__(self)

    face = loop.to_sync(Both)()
    assert face.get() == 1 and face.close() == "closed" and face.lazy_get == face.lazy_get
    assert loop.to_sync(Box)[int]("x").get() == "x"
    assert isinstance(face, loop.to_sync(Closing))


def test_name_docstring_and_signature_of_class_and_methods_are_kept(loop, face):
    cls = loop.to_sync(Resource)
    assert (cls.__name__, cls.__qualname__, cls.__module__) == ("Resource", "Resource", Resource.__module__)
    assert cls.__doc__ == Resource.__doc__
    assert inspect.signature(cls) == inspect.signature(Resource)
    for method in (face.get, cls.get):
        assert method.__name__ == "get"
        assert method.__qualname__ == "Resource.get"
        assert method.__module__ == Resource.__module__
        assert method.__doc__ == "Get a value."
    assert inspect.signature(face.get) == inspect.signature(Resource().get)
    assert inspect.signature(cls.get) == inspect.signature(Resource.get)
    assert cls.named.__doc__ == "Make one by its name."


def test_the_originals_are_its_aio(loop, face):
    assert loop.to_sync(Resource).aio is Resource
    assert isinstance(face.aio, Resource)
    assert face.get.aio == face.aio.get
    assert face.get.__self__ is face


def test_methods_are_equal_when_they_are_the_same(face):
    assert face.get == face.get and hash(face.get) == hash(face.get)
    assert face.get != face.where


def test_repr_shows_the_original(loop, face):
    assert repr(face) == f"<synchronous face of {face.aio!r}>"
    assert repr(loop.to_sync(Resource)) == f"<synchronous face of {Resource!r}>"
    assert repr(face.aio) in repr(face.get)


def test_repr_does_not_wait_for_a_loop_that_is_closed(make_loop):
    class Described:
        async def close(self): ...

        def __repr__(self):
            return "described"

    with make_loop() as loop:
        face = loop.to_sync(Described)()
        assert repr(face) == "<synchronous face of described>"
    assert "Described object at" in repr(face)


def test_equal_by_the_original(loop, face):
    assert face == face.aio
    assert face == loop.to_sync(face.aio)
    assert face != loop.to_sync(Resource)("name")
    assert len({face, loop.to_sync(face.aio), face.aio}) == 1


@pytest.mark.parametrize("copying", [pickle.dumps, copy.copy, copy.deepcopy])
def test_faces_are_not_pickled_or_copied(loop, face, copying):
    for each in (face, face.get, loop.to_sync(Resource.version)):
        with pytest.raises(TypeError, match=r"cannot pickle or copy .*face"):
            copying(each)


# The same


def test_the_same_class_has_the_same_face(loop):
    cls = loop.to_sync(Resource)
    assert loop.to_sync(Resource) is cls
    assert loop.to_sync(cls) is cls


def test_the_same_instance_has_the_same_face(loop, face):
    assert loop.to_sync(face) is face
    assert loop.to_sync(face.aio) is face
    assert face.myself() is face
    assert face.pair()[0] is face
    with face.transaction() as inside:
        assert inside is face


def test_two_loops_have_two_faces(loop, face, make_loop):
    with make_loop() as other:
        assert other.to_sync(loop.to_sync(Resource)) is other.to_sync(Resource)
        assert other.to_sync(Resource) is not loop.to_sync(Resource)
        with pytest.raises(ValueError, match="another loop"):
            other.to_sync(face)
        with pytest.raises(ValueError, match="another loop"):
            other.to_sync(Resource)().same(face)


def test_faces_keep_their_loop_and_let_go_of_everything_else(make_loop):
    class Local:
        async def close(self): ...

        async def myself(self):
            return self

    async def function(): ...

    loop = make_loop()
    with loop:
        face = loop.to_sync(Local)()
        assert face.myself() is face
        loop.to_sync(function)()
        original = weakref.ref(face.aio)
        del face
        loop.evaluate(asyncio.sleep(0))
        assert original() is None
        gone = [weakref.ref(Local), weakref.ref(function)]
        del Local, function
        gc.collect()
        assert [each() for each in gone] == [None, None]


def test_faces_keep_the_loop_alive():
    loop = AsyncioThreadLoop().start()
    reference = weakref.ref(loop)
    face = loop.to_sync(Resource)
    thread = loop.thread
    del loop
    gc.collect()
    assert face().get("key") == 3
    reference().close()
    thread.join(WAIT)
    del face
    gc.collect()
    assert reference() is None


# Deriving


def test_a_class_derives_from_a_face(loop):
    class Mine(loop.to_sync(Resource)):
        """Mine."""

        def __init__(self, name, extra):
            super().__init__(name, size=1)
            self.extra = extra

        def get(self, key):
            return super().get(key) + self.extra

        def twice(self, key):
            return 2 * self.get(key)

    mine = Mine("name", 10)
    assert isinstance(mine, loop.to_sync(Resource))
    assert mine.twice("key") == 26
    assert (mine.name, mine.size, mine.extra) == ("name", 1, 10)
    assert vars(mine) == {"extra": 10}
    mine.size = 2
    assert mine.aio.size == 2
    assert mine.myself() is mine
    assert list(inspect.signature(Mine).parameters) == ["name", "extra"]


def test_a_class_that_derives_has_to_call_the_init_of_the_face(loop):
    class Mine(loop.to_sync(Resource)):
        def __init__(self):
            pass

    with pytest.raises(RuntimeError, match="super"):
        Mine().get("key")
    assert "isn't there yet" in repr(Mine())


def test_a_class_without_anything_asynchronous_is_refused(loop):
    class Plain:
        def get(self):
            return 42

    for bad in (Plain, int, Plain()):
        with pytest.raises(TypeError, match="nothing asynchronous"):
            loop.to_sync(bad)


def test_an_instance_of_a_factory_of_asynchronous_things_has_a_face(loop):
    class Factory:
        def __call__(self) -> Resource:
            return Resource("made")

    face = loop.to_sync(Factory())
    assert type(face()) is loop.to_sync(Resource)


def test_a_class_whose_new_makes_something_else(loop):
    class Maker:
        def __new__(cls):
            return Cursor(None)

        async def close(self): ...

    class PlainMaker:
        def __new__(cls):
            return 42

        async def close(self): ...

    assert type(loop.to_sync(Maker)()) is loop.to_sync(Cursor)
    assert loop.to_sync(PlainMaker)() == 42


def test_an_error_of_the_constructor_is_raised(loop):
    class Refusing:
        def __init__(self):
            raise ZeroDivisionError

        async def close(self): ...

    with pytest.raises(ZeroDivisionError):
        loop.to_sync(Refusing)()


def test_faces_are_made_for_an_open_loop_and_before(make_loop):
    loop = make_loop()
    face = loop.to_sync(Resource("name"))
    with loop:
        assert face.get("key") == 3
        assert isinstance(loop.submit(face.aio.get, "key"), Future)


def test_classes_of_c_code_have_faces(loop):
    queue = loop.to_sync(asyncio.Queue)(maxsize=1)
    queue.put(1)
    assert queue.full() and queue.get() == 1 and queue.empty()
    assert loop.to_sync(Emitter)().callbacks == []
