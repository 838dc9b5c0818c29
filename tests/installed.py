"""What tests need that pip does not install. Without it they are skipped, but not in CI, where it must be there."""

import os
from typing import NoReturn

import pytest


def not_installed(what: str, package: str) -> NoReturn:
    reason = f"{what} is not installed (Debian: apt-get install {package})"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
