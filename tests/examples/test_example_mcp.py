"""The MCP client, with a server that it starts itself, and with one that is there."""

import signal

from running_examples import EXAMPLES, run_example, serving

REPORT = """\
tools: count_words longest_word
counted 1 of 3
counted 2 of 3
counted 3 of 3
words: {'one': 1, 'two words': 2, 'and now three words': 4}
longest: one words three
error: Error executing tool longest_word: there is no word in this text
"""


def test_tools_of_a_server_that_the_client_starts() -> None:
    assert run_example("mcp_client.py").stdout == REPORT


def test_tools_of_a_server_that_speaks_http() -> None:
    command = [str(EXAMPLES / "mcp_server.py"), "--port", "0"]
    with serving(command, {}, end=signal.SIGINT) as address:
        assert run_example("mcp_client.py", f"{address}/mcp").stdout == REPORT
