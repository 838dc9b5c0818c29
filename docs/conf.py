"""Sphinx: `just docs` builds this with -n -W and runs every example."""

from importlib.metadata import version as installed_version

project = "asyncio-thread-loop"
author = "asyncio-thread-loop authors"
copyright = "2026, asyncio-thread-loop authors"
version = release = installed_version("asyncio-thread-loop")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.doctest"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"
default_role = "code"  # docstrings write `name`, as Markdown does

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

# The standard library's names are written plainly: its inventory would need the network at every build.
nitpick_ignore_regex = [
    (r"py:.*", r"(asyncio|collections|concurrent|contextvars|socket|ssl|threading|types|typing)\..*"),
    (r"py:.*", r"asyncio_thread_loop\._.*"),
    (r"py:(class|exc|obj)", r"[A-Za-z]+"),  # builtins and type variables
]

doctest_global_setup = """
import asyncio
import concurrent.futures
import contextlib
import threading
import time
from asyncio_thread_loop import *
"""
