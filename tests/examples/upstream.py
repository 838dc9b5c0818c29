"""An upstream server that misbehaves on request: the name of the file says how.

It is also a language model that says what it is told to.
"""

import asyncio
import json
import socket
from typing import Any

from aiohttp import web

seen: list[str] = []


async def send_file(request: web.Request) -> web.StreamResponse:
    seen.append(request.headers.get("X-Request-ID", ""))
    assert request.transport is not None
    match request.match_info["name"]:
        case "never":
            await asyncio.Event().wait()
        case "broken":
            raise web.HTTPInternalServerError
        case "missing":
            raise web.HTTPNotFound
        case "hangup":
            request.transport.close()
        case "short":
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b"not all of it")
            request.transport.close()
            return response
    return web.Response(text=request.match_info["name"])


async def send_seen(request: web.Request) -> web.Response:
    return web.json_response(seen)


class Model:
    """Answers a question with the words that are posted to it, an empty one being the end."""

    def __init__(self) -> None:
        self.words: asyncio.Queue[str] = asyncio.Queue()
        self.hung_up = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        question = await request.json()
        assert question["stream"], question
        self.hung_up.clear()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            await self.send(response, question, {"role": "assistant", "content": ""}, None)
            while word := await self.words.get():
                await self.send(response, question, {"content": word}, None)
            await self.send(response, question, {}, "stop")
            await response.write(b"data: [DONE]\n\n")
        except asyncio.CancelledError:
            self.hung_up.set()
            raise
        return response

    async def send(
        self, response: web.StreamResponse, question: dict[str, Any], delta: dict[str, str], end: str | None
    ) -> None:
        chunk = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": question["model"],
            "choices": [{"index": 0, "delta": delta, "finish_reason": end}],
        }
        await response.write(b"data: %s\n\n" % json.dumps(chunk).encode())

    async def hear(self, request: web.Request) -> web.Response:
        self.words.put_nowait(str((await request.post())["word"]))
        return web.json_response(None)

    async def wait_until_hung_up(self, request: web.Request) -> web.Response:
        await self.hung_up.wait()
        return web.json_response(None)


model = Model()
app = web.Application()
app.router.add_post("/v1/chat/completions", model.answer)
app.router.add_post("/words", model.hear)
app.router.add_get("/hung-up", model.wait_until_hung_up)
app.router.add_get("/files/{name}", send_file)
app.router.add_get("/seen", send_seen)

listener = socket.create_server(("127.0.0.1", 0))
print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
# A client that has gone cancels its handler, so "never" is not waited for at the end.
web.run_app(app, sock=listener, print=None, access_log=None, handler_cancellation=True)
