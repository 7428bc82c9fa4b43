"""The connection to the client of one call: how its request is read, and its answer sent, dripped or cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from worker.simulator.answers import Answer
from worker.simulator.connections import reset

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


@dataclass(frozen=True, slots=True)
class ClientConnection:
    """The connection to one client for the time of one call."""

    receive: Receive
    send: Send
    transport: asyncio.Transport

    @property
    def is_closed(self) -> bool:
        """Whether the client has closed the connection, or it was reset."""
        return self.transport.is_closing()

    async def read_body(self) -> bytes:
        """The request's whole body. Raises ClientGone."""
        parts = []
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message["body"])
            if not message["more_body"]:
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def start(self, answer: Answer, correlation_id: str, unix_time: float) -> None:
        """Send the status line and the headers of an answer, dated with the Unix time."""
        headers = [
            (b"date", _http_date(int(unix_time))),
            (b"correlation-id", correlation_id.encode()),
            (b"content-type", answer.content_type),
            *answer.headers,
        ]
        # A 204 has neither a body nor a Content-Length.
        if answer.status != 204:
            headers.append((b"content-length", str(len(answer.body)).encode()))
        await self.send({"type": "http.response.start", "status": answer.status, "headers": headers})

    async def finish(self, body: bytes) -> None:
        """Send the body, or its last part, and end the answer."""
        await self.send({"type": "http.response.body", "body": body})

    async def drip(self, body: bytes, interval: float) -> bool:
        """Send the body byte by byte, `interval` seconds apart; False if the client closed the connection before the
        end."""
        for index in range(len(body)):
            await asyncio.sleep(interval)
            if self.is_closed:
                return False
            await self.send({"type": "http.response.body", "body": body[index : index + 1], "more_body": True})
        await self.finish(b"")
        return True

    async def hang(self) -> None:
        """Send nothing, and return when the client has closed the connection."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def reset(self) -> None:
        """Reset the connection unless the client has closed it already, and wait until it is closed."""
        if not self.is_closed:
            reset(self.transport)
        await self.hang()


@lru_cache(maxsize=4)
def _http_date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
