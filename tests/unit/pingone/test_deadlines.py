from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.processes.waiting import wait_until

from worker.pingone import transport
from worker.pingone.transport import Exchange, Watchdog

FORK = """
import os, sys, time, warnings
from worker.pingone.transport import WATCHDOG, Exchange

warnings.simplefilter("ignore")

def is_cut():
    exchange = Exchange(0.05, None)
    with WATCHDOG.watch(exchange):
        patience = time.monotonic() + 5
        while not exchange.is_over and time.monotonic() < patience:
            time.sleep(0.01)
    return exchange.is_over

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
        Exchange(0, encrypted_near).cut_connection()
        assert encrypted_near.recv(1000) in (b"an answer", b"")
        with pytest.raises(OSError, match=r"."):
            encrypted_near.sendall(b"an OTP")


def test_a_released_connection_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(transport, "boot_time", lambda: now)
    monkeypatch.setattr(transport, "LONGEST_WAIT", 0.01)
    near, far = socket.socketpair()
    with near, far:
        watchdog = Watchdog()
        released, watched = Exchange(1, near), Exchange(2, far)
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
        closed, open_one = Exchange(0.05, near), Exchange(0.1, far)
        far.settimeout(10)
        with watchdog.watch(closed), watchdog.watch(open_one):
            far.recv(1)
            wait_until(lambda: open_one.is_over, 30, "the watch goes on")
        assert closed.is_over


def test_deadlines_hold_in_a_process_forked_from_one_that_watches() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=30)
