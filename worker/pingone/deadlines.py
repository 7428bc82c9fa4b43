"""Total deadlines for calls whose time-outs hold for one read at a time only.

A server that sends a byte now and then never trips a time-out per read. So one thread a process shuts the connections
of calls that are past their deadline: the thread that reads from such a connection finds it ended."""

from __future__ import annotations

import math
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from worker.clocks.boot_clock import boot_time

# Seconds between two looks at the deadlines, at the most: a thread's wait stands still while the machine is suspended,
# and deadlines do not.
LONGEST_WAIT = 1.0


class Deadline:
    """When one call ends at the latest, in `boot_time` seconds, and the connection that it uses, once it has one."""

    def __init__(self, ends_at: float, connection: socket.socket | None) -> None:
        self.ends_at = ends_at
        self.connection = connection
        self.is_over = False

    def cut_connection(self) -> None:
        """Shut the connection of a call that is past its deadline."""
        self.is_over = True
        if self.connection is None:
            return
        # Not SSLSocket.shutdown, which first takes the encryption away from under the thread that reads and
        # writes: that thread would read ciphertext as an answer, or write its request in the clear.
        with suppress(OSError):
            socket.socket.shutdown(self.connection, socket.SHUT_RDWR)


class Watchdog:
    """Shuts the connections of calls that are past their deadline, in a thread of its own. Thread-safe."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """Begin without a thread and without deadlines, also after a fork: threads do not survive it, but locks that
        they held do, and stay locked."""
        self._changed = threading.Condition()
        self._deadlines: set[Deadline] = set()
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self, deadline: Deadline) -> Iterator[None]:
        """Shut the call's connection if the deadline passes within this block."""
        with self._changed:
            self._deadlines.add(deadline)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="pingone-deadlines", daemon=True)
                self._thread.start()
            elif deadline.ends_at < self._wakes_at:
                self._changed.notify()
        try:
            yield
        finally:
            self.stop_watching(deadline)

    def stop_watching(self, deadline: Deadline) -> None:
        """Forget this deadline. Call before the connection is closed: afterwards its descriptor may belong to another
        connection."""
        with self._changed:
            self._deadlines.discard(deadline)

    def _watch(self) -> None:
        with self._changed:
            while True:
                now = boot_time()
                for deadline in [each for each in self._deadlines if each.ends_at <= now]:
                    deadline.cut_connection()
                    self._deadlines.discard(deadline)
                self._wakes_at = min((each.ends_at for each in self._deadlines), default=math.inf)
                self._changed.wait(None if self._wakes_at == math.inf else min(self._wakes_at - now, LONGEST_WAIT))


WATCHDOG = Watchdog()
