"""A PingOne environment, and real servers on loopback that behave as badly as a test asks."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.data.recorded_answers import recorded

from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.pace.paces import Paces
from worker.pace.rate_groups import RateGroup
from worker.pingone.clients import Clients

GRANTED = json.dumps({"access_token": "access-token-1"}).encode()
SECRET = "s3cret:with%odd+signs"

# Nothing on loopback takes longer; a test that would wait for more fails instead.
PATIENCE = 10.0


@dataclass(frozen=True)
class Received:
    """A request as it arrived. Header names are in lower case; `connection` counts from 1."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class Conversation:
    """One accepted connection: what a test's server reads from it and writes to it."""

    number: int
    connection: socket.socket
    reader: BufferedReader
    stopped: threading.Event

    def read_request(self) -> Received | None:
        """The next request; None once the client has hung up."""
        line = self.reader.readline().decode("latin-1").split()
        if not line:
            return None
        headers = {}
        while (header := self.reader.readline().decode("latin-1").strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        body = self.reader.read(int(headers.get("content-length", 0)))
        return Received(line[0], line[1], headers, body, self.number)

    def write(self, content: bytes) -> None:
        self.connection.sendall(content)

    def reset(self) -> None:
        """Hang up so that the client sees a reset, not an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.connection.close()


Talk = Callable[[Conversation], None]


@dataclass
class LocalServer:
    """Runs one thread a connection, each saying what `talk` says."""

    talk: Talk
    tls: ssl.SSLContext | None = None
    connections: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    _open: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.02)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.stopped.set()
        self._threads[0].join(PATIENCE)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopped.is_set():
            with suppress(TimeoutError):
                connection, _ = self._listener.accept()
                connection.settimeout(PATIENCE)
                self.connections += 1
                self._open.append(connection)
                self._start(self._serve, connection, self.connections)

    def _serve(self, connection: socket.socket, number: int) -> None:
        with suppress(OSError, ValueError), ExitStack() as stack:
            stack.callback(connection.close)
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
                stack.callback(connection.close)
                self._open.append(connection)
            reader = stack.enter_context(connection.makefile("rb"))
            self.talk(Conversation(number, connection, reader, self.stopped))


Serve = Callable[..., LocalServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that says what `talk` says on every connection."""
    with ExitStack() as stack:

        def start(talk: Talk, tls: ssl.SSLContext | None = None) -> LocalServer:
            server = LocalServer(talk, tls)
            stack.callback(server.stop)
            return server

        yield start


@dataclass
class Script:
    """Answers requests one after the other with `answers`, the last of them for ever; keeps what it received.

    An answer is the bytes of an HTTP response or a function that makes them of the request.
    """

    answers: list[bytes | Callable[[Received], bytes]]
    received: list[Received] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, conversation: Conversation) -> None:
        while (request := conversation.read_request()) is not None:
            with self._lock:
                self.received.append(request)
                answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
            conversation.write(answer if isinstance(answer, bytes) else answer(request))


@pytest.fixture
def script() -> type[Script]:
    return Script


@pytest.fixture
def http() -> Callable[..., bytes]:
    """Makes the bytes of an HTTP response."""

    def response(status: int, body: bytes = b"", **headers: str) -> bytes:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    return response


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for 127.0.0.1 that is its own authority."""

    path: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path)
        return context


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "made up for a test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(signed.public_bytes(pem) + private)
    return Certificate(path)


@dataclass
class Proxy:
    """An HTTP proxy's talk: tunnels CONNECT and forwards anything else; keeps what it was asked for."""

    asked: list[str] = field(default_factory=list)
    refuses: bool = False

    def __call__(self, conversation: Conversation) -> None:
        request = conversation.read_request()
        if request is None:
            return
        self.asked.append(f"{request.method} {request.target}")
        if self.refuses:
            conversation.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        elif request.method == "CONNECT":
            self._tunnel(conversation, request.target)
        else:
            conversation.write(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"by a proxy"')

    def _tunnel(self, conversation: Conversation, target: str) -> None:
        host, _, port = target.partition(":")
        with socket.create_connection((host, int(port)), PATIENCE) as far:
            conversation.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_copy, args=(far, conversation.connection), daemon=True)
            back.start()
            _copy(conversation.connection, far)
            back.join(PATIENCE)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65536):
            sink.sendall(content)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy() -> Proxy:
    return Proxy()


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


MakeEnvironment = Callable[..., Environment]


@pytest.fixture
def make_environment() -> MakeEnvironment:
    """An environment whose URLs lead to the server given, or nowhere."""

    def make(url: str = "http://127.0.0.1:9", **changes: object) -> Environment:
        fields: dict[str, object] = {
            "name": "default",
            "environment_id": "5a5b7c9d-0e1f-4a2b-8c3d-4e5f6a7b8c9d",
            "client_id": "made-up-client",
            "client_secret": SECRET,
            "api_url": f"{url}/v1",
            "token_url": f"{url}/{{env}}/as/token",
        }
        return Environment.model_validate(fields | changes)

    return make


class NoMemory:
    """Remembers no limit."""

    def recall_search(self, license: str, now: float) -> None:
        return None

    def recall_share(self, license: str, rate: float, now: float) -> None:
        return None


@pytest.fixture
def paces(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paces]:
    """Paces that are faster than any test, so that nothing but holds delays a request."""
    monkeypatch.setattr("worker.pace.paces.choose_rates", lambda *_: (100_000.0, 100_000.0))
    with redis.Redis.from_url(valkey_url) as client:
        nobody: Callable[..., None] = lambda *_: None  # noqa: E731
        yield Paces(client, NoMemory(), Settings(), on_alone=nobody, on_lifted=nobody)  # type: ignore[arg-type]


@pytest.fixture
def answer(http: Callable[..., bytes]) -> Callable[[str], bytes]:
    """Makes the bytes of a recorded answer."""

    def make(name: str) -> bytes:
        status, headers, body = recorded(name)
        return http(status, body, **headers)

    return make


# The clients of a process, an environment, and the script of its API.
Connected = tuple[Clients, Environment, Script]


@pytest.fixture
def connect_clients(
    make_environment: MakeEnvironment, serve: Serve, http: Callable[..., bytes], paces: Paces
) -> Iterator[Callable[..., Connected]]:
    """Makes the clients of an environment whose API gives these answers, and whose token endpoint grants."""
    made = []

    def make(*answers: bytes | Callable[[Received], bytes]) -> Connected:
        api = Script(list(answers))
        token_url = f"{serve(Script([http(200, GRANTED)])).url}/as/token"
        environment = make_environment(serve(api).url, token_url=token_url)
        clients = Clients(Settings(), paces)
        made.extend(clients.of(environment, group) for group in RateGroup)
        return clients, environment, api

    yield make
    for client in made:
        client.close()
