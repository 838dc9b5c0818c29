"""Synchronous faces of asynchronous functions, classes and instances: what `AsyncioThreadLoop.to_sync` gives.

| module | what it holds |
|---|---|
| `faces` | the faces of one loop: which there are, and what gets one |
| `classes`, `members`, `attributes` | the faces of classes and instances |
| `functions` | the faces of functions |
| `arguments`, `callbacks` | what an original gets for the arguments of a call |
| `results` | what a caller gets for what comes back |
| `calls` | what runs on the loop's thread |
| `kinds`, `evidence` | what is asynchronous about an object |
| `signatures`, `annotations` | what is written down about functions |
| `addresses` | how a function is found again |

What is done at every call is native: `crates/native/src/faces`.
"""

from .faces import Faces as Faces
from .faces import faces_of as faces_of
from .functions import SyncFunction as SyncFunction

__all__ = ["Faces", "SyncFunction", "faces_of"]
