"""The network of the chaos tests: it passes on, is cut, stalls and heals."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest
from chaos.links import Link, Network

PATIENCE = 10.0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


@pytest.fixture
def link(listener: socket.socket) -> Iterator[Link]:
    with Network() as network:
        yield network.link(listener.getsockname()[1])


def connect(link: Link) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=PATIENCE)


def accept(listener: socket.socket) -> socket.socket:
    connection, _ = listener.accept()
    connection.settimeout(PATIENCE)
    return connection


def test_what_is_said_passes_both_ways_and_so_does_an_orderly_end(link: Link, listener: socket.socket) -> None:
    with connect(link) as client, accept(listener) as server:
        client.sendall(b"ping")
        assert server.recv(10) == b"ping"
        server.sendall(b"pong")
        assert client.recv(10) == b"pong"
        client.shutdown(socket.SHUT_WR)
        assert server.recv(10) == b""


def test_a_cut_resets_who_talks_and_refuses_who_calls_until_it_heals(link: Link, listener: socket.socket) -> None:
    with connect(link) as client, accept(listener) as server:
        client.sendall(b"ping")
        assert server.recv(10) == b"ping"
        link.cut()
        for end in (client, server):
            with pytest.raises(ConnectionResetError):
                end.recv(10)
    with pytest.raises(ConnectionRefusedError):
        connect(link)
    link.heal()
    with connect(link), accept(listener):
        pass


def test_what_is_said_during_a_stall_arrives_when_it_heals(link: Link, listener: socket.socket) -> None:
    with connect(link) as client, accept(listener) as server:
        client.sendall(b"1")
        assert server.recv(10) == b"1"
        link.stall()
        client.sendall(b"2")
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.recv(10)
        link.heal()
        server.settimeout(PATIENCE)
        assert server.recv(10) == b"2"


@pytest.mark.parametrize("is_reset", [False, True])
def test_who_gave_up_during_a_stall_is_still_heard_unless_he_reset_it(
    link: Link, listener: socket.socket, is_reset: bool
) -> None:
    with connect(link) as client, accept(listener) as server:
        client.sendall(b"1")
        assert server.recv(10) == b"1"
        link.stall()
        client.sendall(b"2")
        # As a call that is given up is ended: with an end, and then for good.
        client.shutdown(socket.SHUT_RDWR)
        if is_reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        # The network's thread does one thing after the other: it has seen the end when it has done these.
        for _ in range(3):
            link.stall()
        link.heal()
        heard = b""
        with suppress(ConnectionResetError):
            heard = server.recv(10)
        assert heard == (b"" if is_reset else b"2")
