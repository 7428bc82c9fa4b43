from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.processes.waiting import wait_until

from worker.pingone import deadlines
from worker.pingone.deadlines import Deadline, Watchdog

FORK = """
import os, sys, time, warnings
from worker.pingone.deadlines import WATCHDOG, Deadline

warnings.simplefilter("ignore")

def is_cut():
    deadline = Deadline(time.monotonic() + 0.05, None)
    with WATCHDOG.watch(deadline):
        patience = time.monotonic() + 5
        while not deadline.is_over and time.monotonic() < patience:
            time.sleep(0.01)
    return deadline.is_over

assert is_cut()
child = os.fork()
if not child:
    os._exit(0 if is_cut() else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_cut_connection_never_shows_its_reader_what_was_encrypted(certificate: Any) -> None:
    near, far = socket.socketpair()
    with ThreadPoolExecutor(1) as threads:
        accepting = threads.submit(certificate.server_context().wrap_socket, far, server_side=True)
        context = ssl.create_default_context(cafile=certificate.path)
        encrypted_near = context.wrap_socket(near, server_hostname="127.0.0.1")
        encrypted_far = accepting.result(10)
    with encrypted_near, encrypted_far:
        encrypted_far.sendall(b"an answer")
        Deadline(time.monotonic(), encrypted_near).cut_connection()
        assert encrypted_near.recv(1000) in (b"an answer", b"")
        with pytest.raises(OSError, match=r"."):
            encrypted_near.sendall(b"an OTP")


def test_a_released_connection_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(deadlines, "boot_time", lambda: now)
    monkeypatch.setattr(deadlines, "LONGEST_WAIT", 0.01)
    near, far = socket.socketpair()
    with near, far:
        watchdog = Watchdog()
        released, watched = Deadline(101.0, near), Deadline(102.0, far)
        with watchdog.watch(released), watchdog.watch(watched):
            watchdog.stop_watching(released)
            now = 103.0
            near.settimeout(30)
            # The other's deadline ends it.
            assert near.recv(1) == b""
        assert (released.is_over, watched.is_over) == (False, True)


def test_a_closed_connection_does_not_stop_the_watch() -> None:
    near, far = socket.socketpair()
    near.close()
    with far:
        watchdog = Watchdog()
        closed, open_one = Deadline(time.monotonic() + 0.05, near), Deadline(time.monotonic() + 0.1, far)
        far.settimeout(10)
        with watchdog.watch(closed), watchdog.watch(open_one):
            far.recv(1)
            wait_until(lambda: open_one.is_over, 30, "the watch goes on")
        assert closed.is_over


def test_deadlines_hold_in_a_process_forked_from_one_that_watches() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=30)
