"""`wrap_async_context_manager`: enter and exit in one task, with the body in between on the calling thread."""

import asyncio
import contextlib
import contextvars
import inspect
import threading
import traceback
from concurrent.futures import CancelledError

import anyio
import pytest

from asyncio_thread_loop import DeadlockError, LoopClosedError, SyncContextManager

from .harness import WAIT, Caller, Sleeper, answer, eager, needs_eager_tasks, until


class Context:
    """An async context manager that tells what it saw."""

    def __init__(self, suppress=False, enter=None, leave=None):
        self.suppress = suppress
        self.enter_error, self.leave_error = enter, leave
        self.tasks, self.threads, self.seen = [], [], []
        self.left = threading.Event()

    async def __aenter__(self):
        await asyncio.sleep(0)
        self.note()
        if self.enter_error is not None:
            raise self.enter_error
        return "value"

    async def __aexit__(self, kind, error, trace):
        self.seen.append((kind, error, trace))
        await asyncio.sleep(0)
        self.note()
        self.left.set()
        if self.leave_error is not None:
            raise self.leave_error
        return self.suppress

    def note(self):
        self.tasks.append(asyncio.current_task())
        self.threads.append(threading.current_thread())


@pytest.fixture
def reported(loop):
    """What the loop's exception handler is told."""
    told = []
    loop.loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    return told


def tasks_left(loop):
    async def others():
        return len(asyncio.all_tasks()) - 1

    return loop.evaluate(others())


def test_it_gives_the_value_and_leaves_in_the_same_task(loop):
    context = Context()
    with loop.wrap_async_context_manager(context) as value:
        assert value == "value"
        assert not context.left.is_set()
    assert context.left.is_set()
    assert context.tasks[0] is context.tasks[1]
    assert context.threads == [loop.thread] * 2
    assert context.seen == [(None, None, None)]
    until(lambda: tasks_left(loop) == 0)


def test_it_is_a_context_manager(loop):
    wrapped = loop.wrap_async_context_manager(Context())
    assert type(wrapped) is SyncContextManager
    assert isinstance(wrapped, contextlib.AbstractContextManager)
    with contextlib.ExitStack() as stack:
        assert stack.enter_context(wrapped) == "value"


# What the body raises


def test_what_the_body_raises_reaches_aexit_and_goes_on(loop):
    context, error = Context(), ZeroDivisionError("of the body")
    with pytest.raises(ZeroDivisionError) as caught, loop.wrap_async_context_manager(context):
        raise error
    assert caught.value is error
    [(kind, seen, trace)] = context.seen
    assert (kind, seen) == (ZeroDivisionError, error)
    assert traceback.extract_tb(trace)[-1].name == "test_what_the_body_raises_reaches_aexit_and_goes_on"


def test_what_the_body_raises_may_be_suppressed(loop):
    with loop.wrap_async_context_manager(Context(suppress=True)):
        raise ZeroDivisionError


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_every_exception_of_the_body_reaches_aexit(loop, error):
    context = Context()
    with pytest.raises(error), loop.wrap_async_context_manager(context):
        raise error
    assert [type(seen) for _, seen, _ in context.seen] == [error]
    assert loop.evaluate(answer()) == 42


def test_what_the_body_raises_may_be_replaced(loop):
    @contextlib.asynccontextmanager
    async def translate():
        try:
            yield
        except ZeroDivisionError as error:
            raise ValueError("translated") from error

    error = ZeroDivisionError()
    with (
        pytest.raises(ValueError, match="translated") as caught,
        loop.wrap_async_context_manager(translate()),
    ):
        raise error
    assert caught.value.__cause__ is error


def test_the_body_is_thrown_into_a_generator(loop):
    seen = []

    @contextlib.asynccontextmanager
    async def watch():
        try:
            yield 1
        except ZeroDivisionError as error:
            seen.append(error)
            await asyncio.sleep(0)
            raise

    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as caught, loop.wrap_async_context_manager(watch()):
        raise error
    assert caught.value is error
    assert seen == [error]


def raise_in_body(manager):
    with manager:
        raise_here()


def raise_here():
    raise ZeroDivisionError


@contextlib.asynccontextmanager
async def passing():
    await asyncio.sleep(0)
    yield
    await asyncio.sleep(0)


class Raising(Context):
    async def __aexit__(self, kind, error, trace):
        await asyncio.sleep(0)
        raise error


@pytest.mark.parametrize("make", [passing, Context, Raising])
def test_an_exception_that_passes_through_keeps_its_traceback(loop, make):
    with pytest.raises(ZeroDivisionError) as caught:
        raise_in_body(loop.wrap_async_context_manager(make()))
    shown = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    name = "test_an_exception_that_passes_through_keeps_its_traceback"
    assert shown == [name, "raise_in_body", "raise_here"]
    assert caught.value.__context__ is None


# Errors of the context


def test_an_error_while_entering_is_raised_and_nothing_is_left(loop):
    context = Context(enter=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError), loop.wrap_async_context_manager(context):
        raise AssertionError("the body doesn't run")
    assert context.seen == []
    assert tasks_left(loop) == 0


def test_an_error_while_leaving_is_raised(loop):
    with (
        pytest.raises(ZeroDivisionError) as caught,
        loop.wrap_async_context_manager(Context(leave=ZeroDivisionError())),
    ):
        pass
    assert caught.value.__context__ is None


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), CancelledError()])
@pytest.mark.parametrize("when", ["enter", "leave"])
def test_exits_of_the_context_reach_its_caller(loop, error, when):
    with pytest.raises(type(error)), loop.wrap_async_context_manager(Context(**{when: error})):
        pass
    assert loop.evaluate(answer()) == 42
    assert tasks_left(loop) == 0


def test_methods_that_are_no_coroutines_raise_as_others_do(loop, reported):
    class Plain:
        def __aenter__(self):
            raise ZeroDivisionError("entering")

        def __aexit__(self, *body):
            raise ZeroDivisionError("leaving")

    class HalfPlain(Plain):
        async def __aenter__(self):
            pass

    with pytest.raises(ZeroDivisionError, match="entering"), loop.wrap_async_context_manager(Plain()):
        pass
    with pytest.raises(ZeroDivisionError, match="leaving"), loop.wrap_async_context_manager(HalfPlain()):
        pass
    assert tasks_left(loop) == 0
    assert reported == []


# Out of turn


def test_entering_twice_is_an_error_and_disturbs_nothing(loop):
    context = Context()
    wrapped = loop.wrap_async_context_manager(context)
    with wrapped:
        with pytest.raises(RuntimeError, match="has been entered and not been left"), wrapped:
            pass
        assert not context.left.is_set()
    assert context.left.is_set()
    with pytest.raises(RuntimeError, match="has not been entered"):
        wrapped.__exit__(None, None, None)


def test_leaving_what_was_not_entered_is_an_error(loop):
    context = Context()
    wrapped = loop.wrap_async_context_manager(context)
    with pytest.raises(RuntimeError, match="has not been entered"):
        wrapped.__exit__(None, None, None)
    with wrapped:
        pass
    assert len(context.seen) == 1


def test_what_can_be_entered_again_can(loop):
    lock = asyncio.Lock()
    wrapped = loop.wrap_async_context_manager(lock)
    for _ in range(3):
        with wrapped:
            assert lock.locked()
        assert not lock.locked()


def test_what_cannot_be_entered_again_says_so(loop):
    wrapped = loop.wrap_async_context_manager(passing())
    with wrapped:
        pass
    with pytest.raises((RuntimeError, AttributeError)), wrapped:  # as it says it in asynchronous code
        pass
    assert tasks_left(loop) == 0


def test_a_lock_excludes_other_threads(loop):
    lock, inside, most = asyncio.Lock(), 0, 0

    def use():
        nonlocal inside, most
        for _ in range(20):
            with loop.wrap_async_context_manager(lock):
                inside += 1
                most = max(most, inside)
                inside -= 1

    for caller in [Caller(use) for _ in range(4)]:
        caller.outcome()
    assert most == 1


# Scopes that end while the body runs


def in_scope(way, timeout):
    @contextlib.asynccontextmanager
    async def scope():
        if way == "anyio":
            with anyio.fail_after(timeout):
                yield
        else:
            async with asyncio.timeout(timeout):
                yield

    return scope()


@pytest.mark.parametrize("way", ["anyio", "asyncio"])
def test_a_scope_that_lasts_changes_nothing(loop, way):
    with loop.wrap_async_context_manager(in_scope(way, WAIT)):
        assert loop.evaluate(answer()) == 42
    with pytest.raises(ZeroDivisionError), loop.wrap_async_context_manager(in_scope(way, WAIT)):
        raise ZeroDivisionError


@pytest.mark.parametrize("way", ["anyio", "asyncio"])
def test_a_timeout_that_passes_while_the_body_runs_is_raised_at_its_end(loop, way):
    with pytest.raises(TimeoutError), loop.wrap_async_context_manager(in_scope(way, 0.01)):
        until(lambda: tasks_left(loop) == 0)  # It is left at once.


def test_a_scope_that_ends_quietly_while_the_body_runs_changes_nothing(loop):
    @contextlib.asynccontextmanager
    async def scope():
        with anyio.move_on_after(0.01):
            yield

    with loop.wrap_async_context_manager(scope()):
        until(lambda: tasks_left(loop) == 0)
    with pytest.raises(ZeroDivisionError), loop.wrap_async_context_manager(scope()):
        until(lambda: tasks_left(loop) == 0)
        raise ZeroDivisionError  # It isn't the scope's to suppress.


def test_the_error_of_a_scope_and_that_of_the_body_are_both_shown(loop):
    with pytest.raises(ZeroDivisionError) as caught, loop.wrap_async_context_manager(passing()):
        raise ZeroDivisionError
    assert caught.value.__context__ is None
    with pytest.raises(TimeoutError), loop.wrap_async_context_manager(in_scope("asyncio", 0.01)):
        until(lambda: tasks_left(loop) == 0)
        raise ZeroDivisionError


@pytest.mark.parametrize("way", ["anyio", "asyncio"])
def test_a_child_that_fails_while_the_body_runs_ends_the_group(loop, way):
    async def fail():
        raise ZeroDivisionError

    sleeper = Sleeper()
    group = asyncio.TaskGroup() if way == "asyncio" else loop.call(anyio.create_task_group)
    with (
        pytest.raises(ExceptionGroup) as caught,
        loop.wrap_async_context_manager(group) as entered,
    ):
        start = entered.create_task if way == "asyncio" else entered.start_soon
        for work in (sleeper, fail):
            loop.call(start, work() if way == "asyncio" else work)
        until(sleeper.cancelled.is_set)
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
    assert tasks_left(loop) == 0


def test_the_end_of_the_body_waits_for_the_children_of_a_group(loop, gate):
    async def child():
        while not gate.is_set():
            await asyncio.sleep(0.001)
        return "ended"

    with loop.wrap_async_context_manager(asyncio.TaskGroup()) as group:
        task = loop.call(group.create_task, child())
        gate.set()
    assert task.result() == "ended"


# The loop is closed meanwhile


@pytest.mark.parametrize("error", [None, ZeroDivisionError()])
def test_the_loop_closed_while_the_body_runs(make_loop, error):
    loop, context = make_loop(exit_timeout=5).start(), Context()
    with (
        pytest.raises(CancelledError if error is None else ZeroDivisionError),
        loop.wrap_async_context_manager(context),
    ):
        loop.close()
        assert [kind for kind, _, _ in context.seen] == [asyncio.CancelledError]
        if error is not None:
            raise error
    assert len(context.seen) == 1


def test_what_leaving_raises_at_the_exit_of_the_loop_is_raised_at_the_end_of_the_body(make_loop):
    loop = make_loop(exit_timeout=5).start()
    context = Context(leave=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError), loop.wrap_async_context_manager(context):
        loop.close()


class Slow(Context):
    """It takes until the gate is open to leave it, whatever happens."""

    def __init__(self, gate):
        super().__init__()
        self.leaves = threading.Event()
        self._gate = gate

    async def __aexit__(self, *body):
        self.leaves.set()
        while not self._gate.is_set():
            await asyncio.sleep(0.001)
        return await super().__aexit__(*body)


def body_in_a_thread(loop, context):
    """A thread that is in the body, and what ends that."""
    entered, leave = threading.Event(), threading.Event()

    def use():
        with loop.wrap_async_context_manager(context):
            entered.set()
            leave.wait(WAIT)

    user = Caller(use)
    assert entered.wait(WAIT)
    return user, leave


def test_a_thread_whose_body_ends_while_the_loop_closes_waits_for_the_cleanup(make_loop, gate):
    loop, slow = make_loop(exit_timeout=WAIT).start(), Slow(gate)
    user, leave = body_in_a_thread(loop, slow)
    closer = Caller(loop.close)
    assert slow.leaves.wait(WAIT)
    leave.set()
    gate.set()
    closer.outcome()
    assert isinstance(user.error(), CancelledError)
    assert slow.left.is_set()


def test_a_loop_that_gives_up_on_a_context_strands_nobody(make_loop, gate):
    loop, slow = make_loop(exit_timeout=0.1).start(), Slow(gate)
    thread = loop.thread
    user, leave = body_in_a_thread(loop, slow)
    with pytest.warns(RuntimeWarning, match=r"context of .*Slow"):
        loop.close()
    leave.set()
    assert isinstance(user.error(), LoopClosedError)
    gate.set()
    thread.join(WAIT)
    assert not thread.is_alive()


def test_a_loop_entered_again_is_another_one(make_loop):
    loop, context = make_loop(exit_timeout=5), Context()
    wrapped = loop.wrap_async_context_manager(context)
    with loop:
        wrapped.__enter__()
    with loop, pytest.raises(CancelledError):
        wrapped.__exit__(None, None, None)
    assert len(context.seen) == 1
    with loop, wrapped as value:
        assert value == "value"


def test_letting_submitted_work_finish_does_not_wait_for_a_body(make_loop):
    loop, context = make_loop(exit_timeout=WAIT).start(), Context()
    with pytest.raises(CancelledError), loop.wrap_async_context_manager(context):
        loop.shutdown(cancel_futures=False)
        assert context.left.is_set()


# Bad input


@pytest.mark.parametrize("given", [42, None, "text", object(), [], Context, asyncio.Event()])
def test_what_is_no_async_context_manager_is_refused(loop, given):
    with pytest.raises(TypeError, match="async context manager"):
        loop.wrap_async_context_manager(given)
    with pytest.raises(TypeError, match="async context manager"):
        loop.enter_async_context(given)


def test_hints_for_what_was_meant(loop):
    with pytest.raises(TypeError, match="use it as it is"):
        loop.wrap_async_context_manager(threading.Lock())
    with pytest.raises(TypeError, match="call the function"):
        loop.wrap_async_context_manager(passing)
    coroutine = answer()
    with pytest.raises(TypeError, match="evaluate"):
        loop.wrap_async_context_manager(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_a_loop_that_is_not_open_is_refused(make_loop):
    loop = make_loop()
    wrapped = loop.wrap_async_context_manager(Context())
    for _ in range(2):
        with pytest.raises(LoopClosedError), wrapped:
            pass
        with pytest.raises(LoopClosedError):
            loop.enter_async_context(Context())
    with loop, wrapped as value:
        assert value == "value"


def test_the_own_thread_is_refused_by_the_name_of_the_call(loop):
    context = Context()
    wrapped = loop.wrap_async_context_manager(context)

    async def enter():
        with pytest.raises(DeadlockError, match=r"^__enter__\(\)"):
            wrapped.__enter__()
        with pytest.raises(DeadlockError, match=r"^enter_async_context\(\)"):
            loop.enter_async_context(context)

    async def leave():
        with pytest.raises(DeadlockError, match=r"^__exit__\(\)"):
            wrapped.__exit__(None, None, None)

    loop.evaluate(enter())
    assert context.tasks == []
    with wrapped:
        pass
    wrapped.__enter__()
    loop.evaluate(leave())
    wrapped.__exit__(None, None, None)  # The refusal has changed nothing.
    assert len(context.seen) == 2


def test_within_another_running_loop(loop):
    async def use():
        with loop.wrap_async_context_manager(Context()) as value:
            return value

    assert asyncio.run(use()) == "value"


def test_a_thread_of_the_loop_may_enter(loop):
    def use():
        with loop.wrap_async_context_manager(Context()) as value:
            return value

    async def use_a_thread():
        return await asyncio.to_thread(use)

    assert loop.evaluate(use_a_thread()) == "value"


# Context variables

variable = contextvars.ContextVar("variable", default="unset")


@contextlib.asynccontextmanager
async def setting():
    before = variable.get()
    variable.set("of the context")
    yield before
    await asyncio.sleep(0)
    assert variable.get() == "of the context"
    variable.set("left")


def test_context_variables_go_in_and_last_until_the_exit(loop):
    def call():
        variable.set("of the caller")
        with loop.wrap_async_context_manager(setting()) as before:
            assert before == "of the caller"
            assert variable.get() == "of the caller"

    contextvars.copy_context().run(call)


def test_with_both_what_it_changes_comes_back(make_loop):
    def call():
        with make_loop(propagate_context="both", exit_timeout=5) as loop:
            variable.set("of the caller")
            with loop.wrap_async_context_manager(setting()):
                assert variable.get() == "of the context"
            assert variable.get() == "left"
            variable.set("of the caller")
            loop.enter_async_context(setting())
            assert variable.get() == "of the context"

    contextvars.copy_context().run(call)


# Task factories


@needs_eager_tasks
def test_with_eager_tasks(loop):
    loop.loop.set_task_factory(eager)
    test_it_gives_the_value_and_leaves_in_the_same_task(loop)
    test_an_error_while_entering_is_raised_and_nothing_is_left(loop)
    test_what_the_body_raises_may_be_replaced(loop)
    test_a_timeout_that_passes_while_the_body_runs_is_raised_at_its_end(loop, "asyncio")
