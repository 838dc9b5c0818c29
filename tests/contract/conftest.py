"""Every promise is tested on the native loop, on the same run by its callers, on asyncio's own and on uvloop."""

import asyncio
import re
import threading

import pytest

from asyncio_thread_loop import AsyncioThreadLoop

from .harness import WAIT, Script, no_thread_left

FLAVOURS = ["native", "caller_runs", "standard", "uvloop"]

#: What `caller_runs=True` changes, and the tests it changes: each has its counterpart in `test_caller_runs`.
CHANGED_BY_CALLER_RUNS = {
    "Steps run on whichever thread waits, not on the loop's own.": [
        "test_call_runs_on_the_loop_thread",
        "test_coroutines_of_several_callers_run_side_by_side",
        "test_coroutines_run_on_the_loop_and_its_thread",
        "test_it_gives_the_value_and_leaves_in_the_same_task",
        "test_with_eager_tasks",
        "test_nothing_runs_on_the_calling_thread",
        "test_a_generator_that_is_left_early_cleans_up_on_the_loop_at_once",
        "test_it_runs_on_the_thread_of_the_loop",
        "test_code_of_the_original_runs_on_the_thread_of_the_loop",
        "test_getattribute_of_the_original_runs_on_the_thread_of_the_loop",
        "test_getattr_of_the_original_gives_what_it_gives",
        "test_properties_are_read_written_and_deleted_on_the_loop",
        "test_a_plain_factory_of_something_asynchronous_gives_a_face",
        "test_a_plain_iterator_is_iterated_over_with_next",
        "test_an_asynchronous_callback_runs_on_the_loop_with_originals",
        "test_a_callback_whose_value_is_needed_at_once_is_called_where_it_is_needed",
        "test_faces_are_used_from_many_threads_and_inside_other_loops",
    ],
    "An error of a step leads to the frames of whoever ran the loop (`f_back`), and they to the iterator: an error in "
    "its buffer keeps it until the garbage collector comes.": [
        "test_an_error_made_ahead_that_nobody_takes_is_reported"
    ],
    "A signal that arrives in a step of the caller's own coroutine has its handler run there, so KeyboardInterrupt is "
    "raised there, too.": [
        "test_ctrl_c_before_the_wait_began_is_not_lost",
        "test_ctrl_c_is_raised_while_the_loop_thread_is_blocked",
        "test_in_a_signal_handler_while_the_main_thread_waits.*evaluate",
    ],
    "A caller that is in the middle of a step of others that blocks is released when the step ends.": [
        "test_ctrl_c_is_raised_while_another_coroutine_blocks_the_loop_thread",
        "test_every_kind_of_wait_ends_when_the_exit_gives_up",
    ],
}


#: The files that run with `caller_runs` when no flavours are chosen. All of them add a third to the contract's time.
ALWAYS_WITH_CALLER_RUNS = {
    "test_closing_races",
    "test_ctrl_c",
    "test_deadlock",
    "test_evaluate",
    "test_exits_in_coroutines",
    "test_fork",
    "test_state_machines",
}


def pytest_collection_modifyitems(config, items):
    everything = config.getoption("all_flavours")
    names = config.getoption("flavours")
    chosen = names.split(",") if names and not everything else None
    if chosen and not set(chosen) <= set(FLAVOURS):
        raise pytest.UsageError(f"--flavours {names}: there are {', '.join(FLAVOURS)}")
    deselected = []
    for item in items:
        callspec = getattr(item, "callspec", None)
        flavour = callspec and callspec.params.get("flavour")
        if flavour is None:
            continue
        if chosen is not None:
            runs = flavour in chosen
        else:
            file = item.module.__name__.rpartition(".")[2]
            runs = everything or flavour != "caller_runs" or file in ALWAYS_WITH_CALLER_RUNS
        if not runs:
            deselected.append(item)
        if flavour == "caller_runs":
            for reason, patterns in CHANGED_BY_CALLER_RUNS.items():
                if any(re.match(rf"{pattern}\b", item.name) for pattern in patterns):
                    item.add_marker(pytest.mark.skip(reason=reason))
    config.hook.pytest_deselected(items=deselected)
    items[:] = [item for item in items if item not in set(deselected)]


@pytest.fixture(params=FLAVOURS)
def flavour(request):
    if request.param == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed")
    return request.param


@pytest.fixture
def loop_factory(flavour):
    if flavour in ("native", "caller_runs"):
        return None
    if flavour == "standard":
        return asyncio.SelectorEventLoop
    import uvloop

    return uvloop.new_event_loop


@pytest.fixture
def loop_options(flavour, loop_factory):
    """The arguments that make an `AsyncioThreadLoop` of the flavour under test."""
    return {"loop_factory": loop_factory, "caller_runs": flavour == "caller_runs"}


@pytest.fixture
def make_loop(loop_options):
    """Make an `AsyncioThreadLoop` of the flavour under test; what is left open is closed after the test."""
    made = []

    def make(exit_timeout=None, **options):
        loop = AsyncioThreadLoop(exit_timeout, **loop_options, **options)
        made.append(loop)
        return loop

    yield make
    for loop in made:
        loop.shutdown(timeout=WAIT)


@pytest.fixture
def loop(make_loop):
    """An open loop of the flavour under test."""
    with make_loop(exit_timeout=5) as loop:
        yield loop


@pytest.fixture
def gate():
    """A `threading.Event` that is set after the test, so that nothing waits for it for ever."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def script(flavour):
    """Start scripts on the flavour under test."""
    started = []

    def start(code):
        started.append(Script(code, flavour))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture(autouse=True)
def no_thread_is_left():
    with no_thread_left():
        yield
