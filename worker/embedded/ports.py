"""Loopback ports for servers of our own."""

from __future__ import annotations

import secrets
import socket

HOST = "127.0.0.1"
# Below the ports that Linux (from 32768) and macOS (from 49152) give to outgoing connections: a client that
# calls a dead server inside that range can be connected to itself, and the server then finds its port taken.
PORTS = range(20000, 32768)


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now; somebody else may be quicker."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of the former server that linger in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    while not is_free(port := secrets.choice(PORTS)):
        pass
    return port
