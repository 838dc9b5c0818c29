"""What ends the command with a message instead of a file."""

from __future__ import annotations

__all__ = ["StubgenError"]


class StubgenError(Exception):
    """The request can't be met. The message is for the one who typed the command."""
