"""An MCP client in a plain synchronous script.

    pip install asyncio-thread-loop mcp
    python examples/mcp_client.py

It starts `mcp_server.py` beside it and speaks to it over its stdin and stdout. Given an address, it speaks HTTP:

    python examples/mcp_server.py --port 8000 &
    python examples/mcp_client.py http://127.0.0.1:8000/mcp
"""

import argparse
import sys
from pathlib import Path

from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult

from asyncio_thread_loop import AsyncioThreadLoop

SERVER = StdioServerParameters(command=sys.executable, args=[str(Path(__file__).with_name("mcp_server.py"))])


async def report(progress: float, total: float | None, message: str | None) -> None:
    print(f"counted {progress:g} of {total:g}")


def text_of(answer: CallToolResult) -> str:
    return "".join(block.text for block in answer.content if block.type == "text")


def main() -> None:
    parser = argparse.ArgumentParser(description="Use an MCP server's tools.")
    parser.add_argument("url", nargs="?", help="default: a server of its own")
    args = parser.parse_args()

    with (
        AsyncioThreadLoop() as loop,
        # The client holds a task group and, for a server of its own, a process. It is entered and left in one task,
        # as those require; calls may come from any thread.
        loop.wrap_async_context_manager(Client(args.url or SERVER)) as client,
    ):
        tools = loop.evaluate(client.list_tools()).tools
        print("tools:", *(tool.name for tool in tools))

        texts = ["one", "two words", "and now three words"]
        answer = loop.evaluate(client.call_tool("count_words", {"texts": texts}, progress_callback=report))
        print("words:", answer.structured_content)

        calls = (client.call_tool("longest_word", {"text": text}) for text in texts)
        answers = loop.evaluate_many(calls)
        print("longest:", *(text_of(answer) for answer in answers))

        failed = loop.evaluate(client.call_tool("longest_word", {"text": ""}))
        print("error:" if failed.is_error else "result:", text_of(failed))


if __name__ == "__main__":
    main()
