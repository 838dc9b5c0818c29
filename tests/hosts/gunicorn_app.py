"""A Flask app that opens and uses its loop when it is imported: with `--preload`, in gunicorn's master."""

import asyncio
import os

from flask import Flask

from asyncio_thread_loop import AsyncioThreadLoop, ForkedError


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


loop = AsyncioThreadLoop(name="app", on_fork=os.environ["ON_FORK"]).start()
finished = loop.submit(double, 21)
say("master", os.getpid(), finished.result())
pending = loop.submit(hold, "background")

app = Flask(__name__)


@app.get("/double/<int:number>")
def double_it(number):
    return {"pid": os.getpid(), "result": loop.evaluate(double(number))}


@app.get("/hold")
def hold_in_the_background():
    loop.submit(hold, "background")
    return {"pid": os.getpid()}


@app.get("/wait")
def wait():
    loop.evaluate(hold("request"))
    return {}


@app.get("/slow")
def slow():
    async def answer_late():
        say("slow")
        await asyncio.sleep(1)
        return "answered"

    return {"result": loop.evaluate(answer_late())}


@app.get("/inherited")
def ask_inherited():
    return {"result": pending.result(), "finished": finished.result()}


@app.errorhandler(ForkedError)
def forked(error):
    return {"error": type(error).__name__, "finished": finished.result()}, 500
