"""A few views for servers with a pool of threads: `python web_apps.py waitress|flask`."""

import asyncio
import os
import sys
import threading

from asyncio_thread_loop import AsyncioThreadLoop


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def double(number):
    await asyncio.sleep(0.01)
    return 2 * number


async def hold():
    say("holding")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.05)
        say("cleaned")


loop = AsyncioThreadLoop(name="clients", exit_timeout=5)


def flask_app():
    import flask

    app = flask.Flask(__name__)

    @app.get("/double/<int:number>")
    def double_it(number):
        return {"thread": threading.get_ident(), "result": loop.evaluate(double(number))}

    @app.get("/many/<int:count>")
    def many(count):
        return {"result": loop.evaluate_many((double(number) for number in range(count)), limit=5)}

    @app.get("/wait")
    def wait():
        loop.evaluate(hold())

    return app


def main():
    match sys.argv[1]:
        case "waitress":
            import signal

            import waitress.server

            # Otherwise SIGTERM would end the process on the spot.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit())
            with loop:
                server = waitress.server.create_server(flask_app(), port=0, threads=8)
                say(f"on http://127.0.0.1:{server.effective_port}")
                loop.submit(hold)
                server.run()
        case "flask":
            import signal

            from werkzeug.serving import make_server

            signal.signal(signal.SIGTERM, lambda *_: sys.exit())
            with loop, make_server("127.0.0.1", 0, flask_app(), threaded=True) as server:
                say(f"on http://127.0.0.1:{server.port}")
                loop.submit(hold)
                server.serve_forever()


main()
