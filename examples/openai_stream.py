"""A language model's answer word by word, through the AsyncOpenAI client.

    pip install asyncio-thread-loop openai
    OPENAI_API_KEY=... python examples/openai_stream.py 'Why is the sky blue?'

The client reads OPENAI_BASE_URL as well, for other servers that speak the same protocol. `--at-most 20` ends the
answer after so many pieces.
"""

import argparse

from openai import AsyncOpenAI

from asyncio_thread_loop import AsyncioThreadLoop


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a language model.")
    parser.add_argument("question")
    parser.add_argument("--model", default="gpt-4o-mini")
    parser.add_argument("--at-most", type=int, help="pieces of the answer")
    args = parser.parse_args()

    with AsyncioThreadLoop() as loop, loop.to_sync(AsyncOpenAI)() as client:
        messages = [{"role": "user", "content": args.question}]
        # Leaving the block early hangs up: the server need not go on.
        with client.chat.completions.create(model=args.model, messages=messages, stream=True) as answer:
            for number, chunk in enumerate(answer, 1):
                for choice in chunk.choices:
                    print(choice.delta.content or "", end="", flush=True)
                if number == args.at_most:
                    break
    print()


if __name__ == "__main__":
    main()
