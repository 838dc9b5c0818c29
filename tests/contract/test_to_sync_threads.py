"""Every piece of the original's code runs on the loop's thread."""

import asyncio
import threading

import pytest

from asyncio_thread_loop import DeadlockError

from .faces import Resource, here
from .harness import WAIT, until

WAYS = {
    "constructor": lambda face, cls: cls().made_on,
    "async method": lambda face, cls: face.where(),
    "plain method": lambda face, cls: face.plain_where(),
    "property": lambda face, cls: face.property_where,
    "cached property": lambda face, cls: face.cached_where,
    "static method": lambda face, cls: cls.thread(),
    "class method": lambda face, cls: cls.named("x").made_on,
    "plain generator": lambda face, cls: next(face.plain_count(1))[1],
    "__getattr__": lambda face, cls: face.anything,
    "__len__": lambda face, cls: len(face),
    "__getitem__": lambda face, cls: face[0],
    "__contains__": lambda face, cls: 0 in face,
    "__bool__": lambda face, cls: bool(face),
    "__eq__": lambda face, cls: face == 1,
    "__hash__": lambda face, cls: hash(face),
    "__str__": lambda face, cls: str(face),
    "__repr__": lambda face, cls: repr(face),
    "__format__": lambda face, cls: f"{face:x}",
    "__add__": lambda face, cls: face + 1,
    "__radd__": lambda face, cls: 1 + face,
    "__iter__": lambda face, cls: list(face),
    "__setattr__": lambda face, cls: setattr(face, "value", 1),
    "__delattr__": lambda face, cls: delattr(face, "value"),
    "__dir__": lambda face, cls: dir(face),
    "plain __enter__": lambda face, cls: face.__enter__(),
    "plain __exit__": lambda face, cls: face.__exit__(None, None, None),
}


class Watched(Resource):
    """Says who calls it."""

    seen = ()

    def _note(self):
        type(self).seen = (*type(self).seen, here())

    def __getattr__(self, name):
        self._note()
        return here()

    def __len__(self):
        self._note()
        return 1

    def __getitem__(self, index):
        self._note()
        return here()

    def __contains__(self, item):
        self._note()
        return True

    def __bool__(self):
        self._note()
        return True

    def __eq__(self, other):
        self._note()
        return True

    def __hash__(self):
        self._note()
        return 1

    def __str__(self):
        self._note()
        return "str"

    def __repr__(self):
        self._note()
        return "repr"

    def __format__(self, spec):
        self._note()
        return "format"

    def __add__(self, other):
        self._note()
        return 1

    __radd__ = __add__

    def __iter__(self):
        self._note()
        yield 1
        self._note()

    def __setattr__(self, name, value):
        self._note()
        super().__setattr__(name, value)

    def __delattr__(self, name):
        self._note()

    def __dir__(self):
        self._note()
        return []

    def __enter__(self):
        self._note()

    def __exit__(self, *exc_info):
        self._note()


@pytest.mark.parametrize("way", WAYS)
def test_code_of_the_original_runs_on_the_thread_of_the_loop(loop, way):
    class Mine(Watched):
        pass

    face = loop.to_sync(Mine)("name")
    Mine.seen = ()
    thread = WAYS[way](face, type(face))
    if way.removeprefix("plain ").startswith("__"):
        assert set(Mine.seen) == {loop.thread.ident}
    else:
        assert thread == loop.thread.ident


def test_getattribute_of_the_original_runs_on_the_thread_of_the_loop(loop):
    seen = set()

    class Looked:
        async def get(self):
            return 42

        def __getattribute__(self, name):
            seen.add(here())
            return object.__getattribute__(self, name)

    face = loop.to_sync(Looked)()
    face.value = 1
    assert face.get() == 42 and face.value == 1
    assert seen == {loop.thread.ident}


def test_what_is_only_stored_is_read_while_the_loop_is_blocked(loop, gate):
    class Slotted:
        __slots__ = ("value",)

        async def close(self): ...

    face, slotted = loop.to_sync(Resource)("name"), loop.to_sync(Slotted)()
    slotted.value = 1
    blocked = threading.Event()

    async def block():
        blocked.set()
        gate.wait(WAIT)

    loop.submit(block)
    assert blocked.wait(WAIT)
    assert (face.name, face.kind, slotted.value) == ("name", "resource", 1)
    face.name = "other"
    assert face.name == "other"


def test_an_original_that_nobody_has_any_more_is_dropped_on_the_thread_of_the_loop(loop):
    dropped = []

    class Dropped:
        async def close(self): ...

        def __del__(self):
            dropped.append(here())

    face = loop.to_sync(Dropped)()
    face.close()
    del face
    until(lambda: dropped)
    assert dropped == [loop.thread.ident]


ON_THE_LOOP = {
    "async method": lambda face, cls: face.get("key"),
    "plain method": lambda face, cls: face.plain_get("key"),
    "property": lambda face, cls: face.property_where,
    "constructor": lambda face, cls: cls(),
    "context": lambda face, cls: face.transaction(),
    "generator": lambda face, cls: next(face.count(1)),
    "class method": lambda face, cls: cls.named("x"),
}


@pytest.mark.parametrize("way", ON_THE_LOOP)
def test_waiting_for_a_face_on_the_thread_of_the_loop_is_a_deadlock_error(loop, way):
    cls = loop.to_sync(Resource)
    face = cls()

    async def use():
        with pytest.raises(DeadlockError):
            ON_THE_LOOP[way](face, cls)
        return face.name, repr(face)

    assert loop.evaluate(use())[0] == "resource"


def test_the_deadlock_error_names_the_original(loop):
    face = loop.to_sync(Resource)()

    async def use():
        face.get("key")

    with pytest.raises(DeadlockError, match=r"\.aio"):
        loop.evaluate(use())


def test_faces_are_used_from_many_threads_and_inside_other_loops(loop):
    face = loop.to_sync(Resource)()
    results = []
    threads = [threading.Thread(target=lambda: results.append(face.where())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)

    async def elsewhere():
        results.append(face.where())

    asyncio.run(elsewhere())
    assert results == [loop.thread.ident] * 9
