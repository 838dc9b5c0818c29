"""Types that only type checkers import."""

from __future__ import annotations

from typing import NamedTuple


class Price(NamedTuple):
    amount: int
    currency: str
