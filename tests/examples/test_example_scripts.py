"""The synchronous scripts, run to their end."""

import re

from running_examples import run_example, serve_example


def number(label: str, output: str) -> int:
    found = re.search(rf"^{re.escape(label)}: ([\d,]+)$", output, re.MULTILINE)
    assert found, output
    return int(found[1].replace(",", ""))


def test_the_demo_greets_exactly_twice_and_prints_its_result() -> None:
    done = run_example("hello.py")
    assert sorted(done.stdout.splitlines()) == ["1", "hello world!", "hello world!"]
    assert done.stderr == ""


def test_two_thousand_files_arrive_whole_with_at_most_a_hundred_at_once() -> None:
    done = run_example("download.py")
    assert number("files downloaded and verified", done.stdout) == 2000
    assert number("bytes", done.stdout) > 2000 * 1024
    assert 1 < number("requests at once, as the server saw it", done.stdout) <= 100
    # The bar's last state, drawn by tqdm.
    assert re.search(r"\b2000(/2000|it) \[", done.stderr), done.stderr


def test_the_server_never_sees_more_requests_at_once_than_the_limit() -> None:
    with serve_example("server.py") as url:
        done = run_example("download.py", "--url", url, "--requests", "50", "--limit", "7")
    assert number("files downloaded and verified", done.stdout) == 50
    assert number("requests at once, as the server saw it", done.stdout) <= 7
