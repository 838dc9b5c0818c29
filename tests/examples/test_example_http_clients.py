"""The examples with HTTP and WebSocket clients, against servers in processes of their own."""

import os
import re
from pathlib import Path
from urllib.request import Request

import pytest
from running_examples import DIRECT, SECONDS, http, run_example, running_example


def send_to_feed(server: str, line: bytes | None) -> None:
    """One more line, or the end."""
    request = Request(f"{server}/feed", line, method="DELETE" if line is None else "POST")
    with DIRECT.open(request, timeout=SECONDS) as response:
        assert response.read() == b'{"readers": 1}'


@pytest.mark.parametrize(
    ("example", "error"),
    [("httpx_client.py", "ReadTimeout"), ("aiohttp_client.py", "SocketTimeoutError")],
)
def test_an_http_client_downloads_uploads_times_out_and_reads_a_stream_as_it_comes(
    example: str, error: str, server: str, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(3_000_000))
    with running_example(example, server, str(large)) as client:
        client.expect(r"downloaded 100 files of \d+ bytes")
        client.expect("uploaded 3000000 bytes, checksum matches: True")
        client.expect(f"gave up: {error}")
        client.expect("still usable: True")
        client.expect("following the feed")
        # The server gets the next line only when the client has printed this one.
        for number in range(5):
            send_to_feed(server, b"line %d" % number)
            client.expect(f"feed: line {number}\n")
        send_to_feed(server, None)
        client.expect("the feed has ended")


def test_a_thousand_websocket_messages_come_back_and_the_servers_close_ends_the_loop(server: str) -> None:
    done = run_example("websockets_client.py", re.sub("^http", "ws", server) + "/echo")
    assert done.stdout == "1001 echoes, in order: True\nclosed by the server: 1000\n"


@pytest.fixture
def model(upstream: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": f"{upstream}/v1", "OPENAI_API_KEY": "none"}


def test_the_words_of_a_language_model_are_printed_one_by_one(upstream: str, model: dict[str, str]) -> None:
    with running_example("openai_stream.py", "Why is the sky blue?", **model) as example:
        # The model knows the next word only when this one has been printed.
        for word in ["Because ", "blue ", "light ", "is ", "scattered."]:
            http(f"{upstream}/words", form={"word": word})
            example.expect(re.escape(word))
        http(f"{upstream}/words", form={"word": ""})
    assert example.stdout == "Because blue light is scattered.\n"


def test_an_answer_that_is_left_early_hangs_up(upstream: str, model: dict[str, str]) -> None:
    with running_example("openai_stream.py", "Why?", "--at-most", "3", **model) as example:
        for word in ["Because ", "blue "]:
            http(f"{upstream}/words", form={"word": word})
            example.expect(word)
        http(f"{upstream}/hung-up")
    assert example.stdout == "Because blue \n"
