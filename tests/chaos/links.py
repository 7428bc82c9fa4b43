"""The network between a program and a server: connections that pass on what comes, at once or after a delay, until they
are cut or stalled."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self

from worker.embedded.valkey import HOST, find_free_port

TIMEOUT = 30.0
PIECE = 65536
# SO_LINGER, on, 0 s: closing then sends RST, and drops what was not sent yet.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Network:
    """All links of a test, in one thread; they are gone when it is left."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._links: list[Link] = []

    def link(self, port: int, round_trip: float = 0.0) -> Link:
        """A new way to the server on this port of this machine, of so many seconds there and back."""
        link = Link(self, port, round_trip / 2)
        link.heal()
        self._links.append(link)
        return link

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for link in self._links:
            link.cut()
        self.run(_let_arrive())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT)
        self._loop.close()


class Link:
    """One way to one server. Its port stays the same, whatever happens to it. `delay`: seconds that whatever is sent is
    on its way."""

    def __init__(self, network: Network, target: int, delay: float = 0.0) -> None:
        self.port = find_free_port()
        self._network = network
        self._target = target
        self._delay = delay
        self._server: asyncio.Server | None = None
        self._is_passing = asyncio.Event()
        self._hangs_up = False
        self._tasks: set[asyncio.Task[None]] = set()
        # Ends of connections, and those that are closed already as soon as all was delivered.
        self._ends: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Connections are reset, new ones refused."""
        self._network.run(self._cut())

    def hang_up(self) -> None:
        """Connections are reset; new ones are accepted, read and closed without an answer."""
        self._hangs_up = True
        self.cut()
        self._network.run(self._heal())

    def stall(self) -> None:
        """Nothing passes. What was sent waits, unless its sender resets the connection meanwhile."""
        self._network.run(self._stall())

    def heal(self) -> None:
        self._hangs_up = False
        self._network.run(self._heal())

    async def _cut(self) -> None:
        if self._server is not None:
            # A connection that was accepted before its server is closed, and entered after that, is lost in asyncio.
            for listener in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listener.fileno())
            await _let_arrive()
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for end in self._ends:
            _reset(end)
        self._ends.clear()

    async def _stall(self) -> None:
        self._is_passing.clear()

    async def _heal(self) -> None:
        self._is_passing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, HOST, self.port)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Enter a connection at once: a task that is cancelled before it begins could not close it."""
        self._ends.add(writer)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            await self._is_passing.wait()
            if self._hangs_up:
                await reader.read(PIECE)
                writer.close()
                return
            their_reader, their_writer = await asyncio.open_connection(HOST, self._target)
            ends.append(their_writer)
            self._ends.add(their_writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, writer, their_writer))
                both.create_task(self._pass_on(their_reader, their_writer, writer))
            for end in ends:
                end.close()
        except (asyncio.CancelledError, OSError, ExceptionGroup):
            for end in ends:
                _reset(end)

    async def _pass_on(
        self, reader: asyncio.StreamReader, sender: asyncio.StreamWriter, receiver: asyncio.StreamWriter
    ) -> None:
        """Until the sender's orderly end. Raises OSError when either side is reset: that overtakes what was held."""
        while piece := await reader.read(PIECE):
            await self._is_passing.wait()
            _check(sender)
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, receiver.write, piece)
            else:
                receiver.write(piece)
                await receiver.drain()
        await asyncio.sleep(self._delay)
        await self._is_passing.wait()
        _check(sender)
        with suppress(OSError):
            receiver.write_eof()


async def _let_arrive() -> None:
    """Let connections that came before a cut be entered, and those that were reset be closed."""
    for _ in range(10):
        await asyncio.sleep(0)


def _check(sender: asyncio.StreamWriter) -> None:
    """Raises OSError if it reset the connection, even after its orderly end."""
    sender.get_extra_info("socket").getpeername()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    # Closed already, if it is none.
    with suppress(OSError, AttributeError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
