"""The public names, and what they are."""

import concurrent.futures
import inspect

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
