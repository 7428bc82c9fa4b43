"""The TCP connections below HTTP: whether a client is still connected, and how to reset its connection."""

from __future__ import annotations

import asyncio
import socket
import struct

from uvicorn.protocols.http.h11_impl import H11Protocol

Address = tuple[str, int]

# The value of SO_LINGER: on, 0 seconds. Closing then sends RST instead of FIN, and drops what was not sent yet.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Connections:
    """The open connections, found by the client's address, which is all that an ASGI application learns of them."""

    def __init__(self) -> None:
        self._transports: dict[Address, asyncio.Transport] = {}
        self._are_over = False

    def find(self, client: Address) -> asyncio.Transport:
        """The transport of the connection that comes from this address."""
        return self._transports[client]

    def end(self) -> None:
        """Close every connection at once, without sending what is not sent yet, and each that is made from now on."""
        self._are_over = True
        for transport in list(self._transports.values()):
            transport.abort()

    def enter(self, client: Address, transport: asyncio.Transport) -> None:
        """Enter the connection that a client has made."""
        self._transports[client] = transport
        if self._are_over:
            transport.abort()

    def remove(self, client: Address, transport: asyncio.Transport) -> None:
        """Remove a connection that is closed, unless a new one from the same port has taken its place already."""
        if self._transports.get(client) is transport:
            del self._transports[client]

    def make_protocol(self) -> type[H11Protocol]:
        """A subclass of uvicorn's HTTP protocol that enters each connection here, and removes it when it is closed."""
        connections = self

        class WatchedProtocol(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                # The address from when the connection was accepted: uvicorn asks the socket, which does not know it any
                # more if the client has gone already.
                self.client = transport.get_extra_info("peername")[:2]
                connections.enter(self.client, transport)

            def connection_lost(self, exc: Exception | None) -> None:
                if self.client:
                    connections.remove(self.client, self.transport)
                super().connection_lost(exc)

        return WatchedProtocol


def reset(transport: asyncio.Transport) -> None:
    """Reset a connection, so that the client sees ECONNRESET and not an end of file."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
