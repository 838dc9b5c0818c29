"""Celery tasks that wait on a loop opened at import, in the worker's main process, and on the default loop."""

import asyncio
import os

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import worker_process_shutdown

from asyncio_thread_loop import AsyncioThreadLoop, ForkedError, get_default_loop, run

REDIS = os.environ["CELERY_BROKER_URL"]
app = Celery("celery_tasks", broker=REDIS, backend=REDIS)
app.conf.worker_hijack_root_logger = False


def say(*words):
    # One write, so that lines of several processes don't mix.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def double(number):
    await asyncio.sleep(0.01)
    return 2 * number


async def hold(what):
    """Runs until it is cancelled."""
    say("holding", what, os.getpid())
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.05)
        say("cleaned", what, os.getpid())


loop = AsyncioThreadLoop().start()
assert loop.evaluate(double(21)) == run(double(21)) == 42
inherited = loop.submit(hold, "main")


@worker_process_shutdown.connect
def close_loops(**_):
    loop.close()
    get_default_loop().close()


@app.task
def double_it(number):
    results = [
        loop.evaluate(double(number)),
        run(double(number)),
        get_default_loop().evaluate(double(number)),
    ]
    return os.getpid(), *results


@app.task
def divide(number):
    async def fail():
        await asyncio.sleep(0)
        return number / 0

    loop.evaluate(fail())


@app.task
def ask_inherited():
    try:
        inherited.result()
    except ForkedError:
        return "ForkedError"


@app.task
def hold_in_the_background():
    loop.submit(hold, "background")
    run(asyncio.sleep(0.3))  # the other process has time to take one, too
    return os.getpid()


@app.task(soft_time_limit=1)
def take_too_long():
    try:
        loop.evaluate(hold("too long"))
    except SoftTimeLimitExceeded:
        return os.getpid(), loop.evaluate(double(21))


@app.task
def wait_for_ever():
    loop.evaluate(hold("revoked"))
