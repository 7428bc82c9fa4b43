"""Finds free loopback ports for the servers that we start."""

from __future__ import annotations

import secrets
import socket

# The address that our servers listen at.
HOST = "127.0.0.1"
# Below the ports that Linux (from 32768) and macOS (from 49152) give to outgoing connections. In that range a client
# that calls a server which has ended can be connected to itself, so that the server finds its port taken when it starts
# again.
PORTS = range(20000, 32768)


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now; another process may take it at any time."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers set it: connections of an earlier server that are still in TIME_WAIT do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def find_free_port() -> int:
    """Pick a port at random on which no server listens."""
    while not is_free(port := secrets.choice(PORTS)):
        pass
    return port
