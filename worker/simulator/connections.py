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

    def find(self, client: Address) -> asyncio.Transport:
        """The transport of the connection that comes from this address."""
        return self._transports[client]

    def abort_all(self) -> None:
        """Close every connection at once, without sending what is not sent yet."""
        for transport in list(self._transports.values()):
            transport.abort()

    def make_protocol(self) -> type[H11Protocol]:
        """A subclass of uvicorn's HTTP protocol that enters each connection here, and removes it when it is closed."""
        transports = self._transports

        class WatchedProtocol(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                # The address from when the connection was accepted: uvicorn asks the socket, which does not know it any
                # more if the client has gone already.
                self.client = transport.get_extra_info("peername")[:2]
                transports[self.client] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                # A new connection from the same port may have taken this one's place already.
                if self.client and transports.get(self.client) is self.transport:
                    del transports[self.client]
                super().connection_lost(exc)

        return WatchedProtocol


def reset(transport: asyncio.Transport) -> None:
    """Reset a connection, so that the client sees ECONNRESET and not an end of file."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
