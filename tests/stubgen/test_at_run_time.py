"""The generated modules at work: imported by programs, with the classes that their types promise."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .command import PACKAGES, files, generate

HTTP_SERVER = """
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"you asked for {self.path}".encode())

    def log_message(self, *args):
        pass

logging.getLogger("asyncio_thread_loop").setLevel("ERROR")  # whatever holds the loop up on a busy machine
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}"
"""


def run(directory: Path, program: str) -> list[str]:
    """Runs a program that can import what is in `directory`; gives the lines it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-W", "always::RuntimeWarning", "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(directory), str(PACKAGES), *python_path()])},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def python_path() -> list[str]:
    return [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shop")
    generate(directory, "py", "shop", "shop._client:Items", "shop._client:SpecialClient", "shop._client:Cart")
    return directory


def test_importing_the_module_imports_no_target_and_starts_no_thread(shop: Path) -> None:
    program = "import sys, threading, shop_sync; print('shop' in sys.modules, threading.active_count())"
    assert run(shop, program) == ["False 1"]


def test_classes_and_functions_run_on_the_default_loop(shop: Path) -> None:
    program = """
from asyncio_thread_loop import get_default_loop
from shop_sync import Client, connect
from shop__client_sync import Items

with connect("localhost", port=1) as client:
    print(isinstance(client, Client), client.host, client.fetch("/"))
    print(client.request("/here").result())
    print([type(each).__name__ for each in client.pair()])
    print(client.on_change(lambda connection: len(connection.receive()) + 42))
    client.timeout = 3
    print(client.timeout, Client.parse(""), Client.default_port)
items = Items("all")
print(items.find(1, 2), [item.number for item in items.all()], len(items))
with items.locked(3) as item:
    print(item.number)
print(get_default_loop().loop is not None)
"""
    assert run(shop, program) == [
        "True localhost ",
        "b'/here'",
        "['Connection', 'list']",
        "42",
        "1.0 {} 80",
        "[Item(number=1, name='item', tags=[]), Item(number=2, name='item', tags=[])] [0] 0",
        "3",
        "True",
    ]


def test_a_class_can_be_put_on_another_loop(shop: Path) -> None:
    program = """
from asyncio_thread_loop import AsyncioThreadLoop
import shop
from shop_sync import Client

with AsyncioThreadLoop() as loop:
    Other: type[Client] = loop.to_sync(Client)
    print(Other is Client, Other.aio is Client.aio is shop.Client)
    other = Other("localhost")
    print(other.fetch("/", raw=True), isinstance(other.aio, shop.Client))
"""
    assert run(shop, program) == ["False True", " True"]


def test_bases_signatures_and_docstrings_are_those_of_the_original(shop: Path) -> None:
    program = """
import inspect, shop._client
from shop_sync import Client, connect
from shop__client_sync import SpecialClient

print(issubclass(SpecialClient, Client), Client.__name__, inspect.getdoc(Client.fetch), connect.__doc__)
print(list(inspect.signature(Client.fetch).parameters), list(inspect.signature(connect).parameters))
"""
    assert run(shop, program) == [
        "True Client What is at a path. Connects.",
        "['self', 'path', 'raw'] ['host', 'port']",
    ]


def test_a_name_that_is_not_there_is_an_attribute_error(shop: Path) -> None:
    program = """
import shop_sync
try:
    shop_sync.Nobody
except AttributeError as error:
    print(error)
print([name for name in dir(shop_sync) if not name.startswith("_")], shop_sync.__all__)
"""
    assert run(shop, program) == [
        "module 'shop_sync' has no attribute 'Nobody'",
        "['Client', 'Connection', 'Reply', 'TYPE_CHECKING', 'annotations', 'connect'] ['Client', 'connect']",
    ]


def test_a_package_of_several_modules_can_be_imported(tmp_path: Path) -> None:
    package = tmp_path / "sync"
    package.mkdir()
    (package / "__init__.py").touch()
    generate(package, "py", "shop:Client", "shop._client:Cart")
    program = "from sync.shop_sync import Client; print(type(Client('localhost').cart).__name__)"
    assert run(tmp_path, program) == ["Cart"]


def test_httpx_talks_to_a_server(tmp_path: Path) -> None:
    generate(tmp_path, "py", "httpx:AsyncClient")
    program = f"""{HTTP_SERVER}
from httpx_sync import AsyncClient, Response

with AsyncClient(base_url=address, trust_env=False, verify=False) as client:
    response = client.get("/page")
    print(isinstance(response, Response), response.status_code, response.text)
    with client.stream("GET", "/stream") as streamed:
        print(list(streamed.aiter_lines()))
"""
    assert run(tmp_path, program) == ["True 200 you asked for /page", "['you asked for /stream']"]


def test_aiohttp_talks_to_a_server(tmp_path: Path) -> None:
    generate(tmp_path, "py", "aiohttp:ClientSession")
    program = f"""{HTTP_SERVER}
from aiohttp_sync import ClientSession

with ClientSession(address) as session:
    with session.get("/page") as response:
        print(response.status, response.text(), list(response.content))
    print(session.get("/awaited").result().read())
"""
    assert run(tmp_path, program) == ["200 you asked for /page []", "b'you asked for /awaited'"]


def test_aiofiles_writes_and_reads(tmp_path: Path) -> None:
    generate(tmp_path, "py", "aiofiles")
    program = """
from aiofiles_sync import open

with open("file.txt", "w") as file:
    print(file.write("one\\ntwo\\n"))
with open("file.txt") as file:
    print(list(file))
"""
    assert run(tmp_path, program) == ["8", "['one\\n', 'two\\n']"]


@pytest.mark.timeout(300)
def test_every_member_that_is_promised_is_there_at_run_time(everything: dict[str, Path]) -> None:
    """Of every class in every module, each method, and each attribute that is set on the class."""
    promised = {}
    for name, text in files(everything["py"]).items():
        (guarded,) = (node for node in ast.parse(text).body if isinstance(node, ast.If))
        promised[name.removesuffix(".py")] = {
            node.name: [each.name for each in node.body if isinstance(each, ast.FunctionDef)]
            for node in guarded.body
            if isinstance(node, ast.ClassDef)
        }
    del promised["sqlalchemy_ext_asyncio_sync"]["AsyncTupleResult"]  # exists for type checkers only
    program = f"""
import importlib
checked = 0
for name, classes in {promised}.items():
    module = importlib.import_module("faces_py." + name)
    for class_name in [each for each in dir(module) if each in classes]:
        face = getattr(module, class_name)
        for member in classes[class_name]:
            checked += 1
            if not hasattr(face, member):
                print("missing:", name, class_name, member)
print(checked > 1000)
"""
    assert run(everything["py"].parent, program) == ["True"]
