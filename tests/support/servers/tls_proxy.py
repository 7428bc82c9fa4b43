"""TLS in front of a server that has none: `python tls.py PORT CERTIFICATE KEY HOST:PORT`. Needs no package of ours."""

import asyncio
import ssl
import sys
from contextlib import suppress


async def serve(port: int, certificate: str, key: str, backend: str) -> None:
    """Until the process is ended."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    host, _, backend_port = backend.rpartition(":")

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(host, int(backend_port))
            await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))
        except OSError:
            writer.close()

    server = await asyncio.start_server(forward, None, port, ssl=context)
    sys.stdout.write("listens\n")
    sys.stdout.flush()
    await server.serve_forever()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), *sys.argv[2:5]))
