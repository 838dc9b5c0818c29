"""A process with a group of its own, for its children to be in as well."""

import os
import signal
import subprocess
import time


class ProcessGroup:
    """Signals reach this group and no other, however long ago its processes have ended.

    Whoever waits for a process gives its number back, and the next process may get it. So the first one is only looked
    at; `kill` waits for it, last of all.
    """

    def __init__(self, command, **options):
        self._leader = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )
        self.pid = self._leader.pid
        self.stdout = self._leader.stdout

    def signal(self, number):
        """Send a signal to the first process."""
        os.kill(self.pid, number)

    def signal_all(self, number):
        os.killpg(self.pid, number)

    def wait(self, seconds):
        """Wait until the first process has ended; return its exit code, as `subprocess` has it, or None: it goes on."""
        ends = time.monotonic() + seconds
        while (ended := os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)) is None:
            if time.monotonic() > ends:
                return None
            time.sleep(0.001)
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def kill(self, seconds):
        """End every process of the group."""
        self.signal_all(signal.SIGKILL)
        self._leader.wait(seconds)
