"""The public names, and what they are."""

import concurrent.futures
import inspect
import subprocess
import sys

import pytest

import asyncio_thread_loop
from asyncio_thread_loop import AsyncioThreadLoop, DeadlockError, ForkedError, Future, LoopClosedError


@pytest.mark.parametrize(
    "name",
    [
        "AsyncioThreadLoop",
        "SimpleAsyncioThreadLoop",
        "Future",
        "EventLoop",
        "LoopClosedError",
        "DeadlockError",
        "ForkedError",
        "get_default_loop",
        "run",
    ],
)
def test_the_name_is_public(name):
    assert name in asyncio_thread_loop.__all__
    assert hasattr(asyncio_thread_loop, name)


@pytest.mark.parametrize("error", [LoopClosedError, DeadlockError, ForkedError])
def test_the_errors_are_runtime_errors(error):
    assert issubclass(error, RuntimeError)


def test_the_options_are_keywords_with_safe_defaults():
    parameters = inspect.signature(AsyncioThreadLoop).parameters
    assert parameters["exit_timeout"].default is None
    assert parameters["exit_timeout"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    defaults = {
        "loop_factory": None,
        "caller_runs": False,
        "name": None,
        "debug": None,
        "initializer": None,
        "initargs": (),
        "propagate_context": "in",
        "on_fork": "restart",
    }
    for name, default in defaults.items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default == default


def test_a_loop_is_an_executor():
    assert isinstance(AsyncioThreadLoop(), concurrent.futures.Executor)


def test_a_future_is_a_concurrent_future():
    assert issubclass(Future, concurrent.futures.Future)
    assert inspect.isclass(Future[int].__origin__)


def test_the_exit_timeout_is_readable():
    assert AsyncioThreadLoop().exit_timeout is None
    assert AsyncioThreadLoop(3).exit_timeout == 3
    assert AsyncioThreadLoop(exit_timeout=0.5).exit_timeout == 0.5


def test_every_public_name_is_there_when_it_is_asked_for_and_others_are_not():
    code = """
import pickle, sys
import asyncio_thread_loop
assert "asyncio_thread_loop._loop" not in sys.modules  # not before somebody wants it
assert set(asyncio_thread_loop.__all__) <= set(dir(asyncio_thread_loop))
for name in asyncio_thread_loop.__all__:
    found = getattr(asyncio_thread_loop, name)
    assert found is getattr(asyncio_thread_loop, name), name
    assert found.__module__.startswith("asyncio_thread_loop"), name
    if isinstance(found, type) and found.__module__ == "asyncio_thread_loop":
        assert pickle.loads(pickle.dumps(found)) is found, name
try:
    asyncio_thread_loop.nothing
except AttributeError as error:
    assert str(error) == "module 'asyncio_thread_loop' has no attribute 'nothing'"
    print("missed")
from asyncio_thread_loop import *
print(AsyncioThreadLoop, EventLoop)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == [
        "missed",
        "<class 'asyncio_thread_loop.AsyncioThreadLoop'> <class 'asyncio_thread_loop.EventLoop'>",
    ]
