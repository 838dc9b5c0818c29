"""An upstream server that misbehaves on request: the name of the file says how."""

import asyncio
import socket

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


app = web.Application()
app.router.add_get("/files/{name}", send_file)
app.router.add_get("/seen", send_seen)

listener = socket.create_server(("127.0.0.1", 0))
print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
# A client that has gone cancels its handler, so "never" is not waited for at the end.
web.run_app(app, sock=listener, print=None, access_log=None, handler_cancellation=True)
