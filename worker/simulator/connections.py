"""The connections below HTTP: whether a client is still there, and how to reset one in its face."""

from __future__ import annotations

import asyncio
import socket
import struct

from uvicorn.protocols.http.h11_impl import H11Protocol

Address = tuple[str, int]

# SO_LINGER, on, 0 s: closing then sends RST rather than FIN, and drops what was not sent yet.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Connections:
    """The open connections by the client's address, which is what an ASGI application is told of them."""

    def __init__(self) -> None:
        self._transports: dict[Address, asyncio.Transport] = {}

    def of(self, client: Address) -> asyncio.Transport:
        return self._transports[client]

    def abort_all(self) -> None:
        for transport in list(self._transports.values()):
            transport.abort()

    def protocol(self) -> type[H11Protocol]:
        """uvicorn's HTTP protocol, made to keep this register."""
        transports = self._transports

        class WatchedProtocol(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                # As accepted: of a client that has gone already, uvicorn asks the socket in vain.
                self.client = transport.get_extra_info("peername")[:2]
                transports[self.client] = transport

            def connection_lost(self, exc: Exception | None) -> None:
                # A new connection may have come from the same port already.
                if self.client and transports.get(self.client) is self.transport:
                    del transports[self.client]
                super().connection_lost(exc)

        return WatchedProtocol


def reset(transport: asyncio.Transport) -> None:
    """Reset the connection: the client sees ECONNRESET, not an end of file."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
