"""A package such as users have, with every way to annotate that the generator must cope with."""

from ._client import Client as Client
from ._client import connect as connect

__all__ = ["Client", "connect"]
