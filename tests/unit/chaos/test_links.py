"""The network of the chaos tests: it passes on, is cut, stalls and heals."""

import gc
import socket
from contextlib import ExitStack

import pytest
from chaos.links import Network

PATIENCE = 10.0


def test_a_link_passes_on_what_is_said_unless_it_stalls_or_is_cut_and_heals() -> None:
    with Network() as network, socket.create_server(("127.0.0.1", 0)) as listener:
        link = network.link(listener.getsockname()[1])
        with (
            socket.create_connection(("127.0.0.1", link.port), timeout=PATIENCE) as client,
            listener.accept()[0] as server,
        ):
            server.settimeout(PATIENCE)
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
            link.cut()
            for end in (client, server):
                with pytest.raises(ConnectionResetError):
                    end.recv(10)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", link.port), timeout=PATIENCE)
        link.heal()
        with socket.create_connection(("127.0.0.1", link.port), timeout=PATIENCE), listener.accept()[0]:
            pass


def test_a_network_that_ends_while_connections_come_leaves_none_open() -> None:
    """Python warns of an open one when it is collected, in whatever test that happens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(20):
            with ExitStack() as clients, Network() as network:
                link = network.link(listener.getsockname()[1])
                for _ in range(20):
                    clients.enter_context(socket.create_connection(("127.0.0.1", link.port), timeout=PATIENCE))
                link.cut()
                link.heal()
    gc.collect()
