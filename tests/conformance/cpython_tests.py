"""Where the tests of CPython itself are: the package `test` of the installation that runs this.

Where that lacks them (Debian has them in a package of their own, some releases forgot to install a part),
`CPYTHON_TESTS` may name a folder that has them, such as the `Lib/test` of CPython's sources.
"""

import importlib.util
import os


def find(name):
    """The spec of a module or package within `test`; None if it isn't installed."""
    try:
        import test.support
    except ImportError:
        return None
    elsewhere = os.environ.get("CPYTHON_TESTS")
    if elsewhere is not None and elsewhere not in test.__path__:
        test.__path__.append(elsewhere)
    return importlib.util.find_spec(f"test.{name}")


def why_skipped(tested):
    """What to say of tests that aren't there."""
    return f"this Python comes without the tests of {tested}; CPYTHON_TESTS names no folder that has them"
