"""How an answer reaches the client, or fails to: ASGI messages, and the connection itself."""

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
class Line:
    """The line to one client for the time of one call."""

    receive: Receive
    send: Send
    transport: asyncio.Transport

    @property
    def is_lost(self) -> bool:
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

    async def start(self, answer: Answer, correlation_id: str, wall: float) -> None:
        headers = [
            (b"date", _date(int(wall))),
            (b"correlation-id", correlation_id.encode()),
            (b"content-type", answer.content_type),
            *answer.headers,
        ]
        # A 204 has neither a body nor a length.
        if answer.status != 204:
            headers.append((b"content-length", str(len(answer.body)).encode()))
        await self.send({"type": "http.response.start", "status": answer.status, "headers": headers})

    async def finish(self, body: bytes) -> None:
        await self.send({"type": "http.response.body", "body": body})

    async def drip(self, body: bytes, interval: float) -> bool:
        """Send the body byte by byte, for as long as the client is there; False if it left before the end."""
        for index in range(len(body)):
            await asyncio.sleep(interval)
            if self.is_lost:
                return False
            await self.send({"type": "http.response.body", "body": body[index : index + 1], "more_body": True})
        await self.finish(b"")
        return True

    async def hang(self) -> None:
        """Say nothing until the client goes."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def reset(self) -> None:
        """Reset the connection, unless the client has closed it already."""
        if not self.is_lost:
            reset(self.transport)
        await self.hang()


@lru_cache(maxsize=4)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
