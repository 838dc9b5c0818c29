"""A small MCP server for `mcp_client.py`.

    pip install mcp
    python examples/mcp_server.py --port 8000

It serves http://127.0.0.1:8000/mcp until Ctrl-C. Without `--port` it speaks over its stdin and stdout, to the client
that has started it.
"""

import argparse
import contextlib

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("words")


@server.tool()
async def count_words(texts: list[str], context: Context) -> dict[str, int]:
    """Counts the words of each text, and says how far it has come."""
    counts = {}
    for number, text in enumerate(texts, 1):
        counts[text] = len(text.split())
        await context.report_progress(number, len(texts))
    return counts


@server.tool()
def longest_word(text: str) -> str:
    """The longest word of a text."""
    if not text.split():
        raise ToolError("there is no word in this text")
    return max(text.split(), key=len)


def main() -> None:
    parser = argparse.ArgumentParser(description="Offer tools that look at texts.")
    parser.add_argument("--port", type=int, help="serve over HTTP; 0: any free port")
    args = parser.parse_args()

    if args.port is None:
        server.run()
    else:
        with contextlib.suppress(KeyboardInterrupt):
            server.run("streamable-http", host="127.0.0.1", port=args.port)


if __name__ == "__main__":
    main()
