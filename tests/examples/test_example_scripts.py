"""The synchronous scripts, run to their end."""

import re
from pathlib import Path

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


def test_files_are_counted_and_the_report_is_read_line_by_line(tmp_path: Path) -> None:
    for lines in range(30):
        (tmp_path / f"file-{lines}").write_text("line\n" * lines)
    files = [str(tmp_path / f"file-{lines}") for lines in range(30)]
    report = tmp_path / "report"
    done = run_example("aiofiles_lines.py", str(report), *files)
    assert done.stdout == "".join(f"{lines} file-{lines}\n" for lines in range(30))
    assert report.read_text() == done.stdout
