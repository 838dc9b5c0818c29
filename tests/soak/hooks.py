"""What Python says aside: warnings, log records, errors in destructors and threads. Each is planted or a violation."""

import faulthandler
import logging
import os
import sys
import threading
import warnings

from .hostile import is_planted
from .ledger import HANG

_GAVE_UP = " didn't end within"


class Hooks:
    """Listens for the ledger, from now until the process ends."""

    def __init__(self, ledger):
        self._ledger = ledger
        self.planted = 0
        #: Threads of loops whose exit gave up, and said so.
        self.given_up = set()
        warnings.simplefilter("always")
        # Python 3.12 and later warn about every fork of a process with threads.
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork")
        warnings.showwarning = self._warning
        sys.unraisablehook = self._unraisable
        threading.excepthook = self._in_thread
        for name in ["asyncio", "asyncio_thread_loop", "concurrent.futures"]:
            logger = logging.getLogger(name)
            logger.propagate = False
            logger.addHandler(_Listener(self._logged))

    def _heard(self, where, what, error):
        if error is not None and is_planted(error):
            self.planted += 1
        else:
            self._ledger.violated(f"{where}: {what}", error=error)

    def _warning(self, message, category, filename, lineno, file=None, line=None):
        text = str(message)
        if category is RuntimeWarning and _GAVE_UP in text:
            self.given_up.add(text.partition(_GAVE_UP)[0])
        else:
            self._heard("warning", f"{category.__name__} at {filename}:{lineno}: {text}", None)

    def _unraisable(self, unraisable):
        # The object itself is being dropped and must not be kept.
        what = f"{unraisable.err_msg or 'Exception ignored in'} {type(unraisable.object).__name__}"
        self._heard("unraisable", what, unraisable.exc_value)

    def _in_thread(self, args):
        self._heard("thread", args.thread.name if args.thread else "?", args.exc_value)

    def _logged(self, record):
        error = record.exc_info[1] if record.exc_info else None
        # The loop goes by many names; what it couldn't do is a violation even if our own error was the reason.
        if record.name == "asyncio_thread_loop":
            self._ledger.violated(f"log of {record.name}: {record.msg % record.args}", error=error)
        else:
            self._heard(f"log of {record.name}", str(record.msg).partition("\n")[0], error)


class _Listener(logging.Handler):
    def __init__(self, listener):
        super().__init__(logging.ERROR)
        self._listener = listener

    def emit(self, record):
        self._listener(record)


class HangWatch(threading.Thread):
    """Ends the process, with every stack and the history of the call, when something hangs."""

    def __init__(self, ledger, describe):
        super().__init__(name="hang watch", daemon=True)
        self._ledger = ledger
        self._describe = describe
        self._over = threading.Event()

    def run(self):
        while not self._over.wait(1.0):
            call, seconds = self._ledger.longest_running()
            if seconds > HANG:
                fail_hanging(f"{self._describe()}: a call hangs for {seconds:.0f} s\n{call}", self._ledger)

    def stop(self):
        self._over.set()
        self.join()


def fail_hanging(what, ledger):
    """The end of the process: nothing in it can be trusted to end by itself any more."""
    ledger.print_violations()
    print(f"\nHANG: {what}", file=sys.stderr, flush=True)
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    os._exit(1)
