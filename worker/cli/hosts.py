"""Who is sent the client secret and OTPs, and which file says so: told before anything goes out."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from worker.cli.console import error_console
from worker.config.settings import Environment
from worker.installation.installation import Installation
from worker.pingone.http_client import find_proxy_host

_URLS = ("PINGONE_API_URL", "PINGONE_TOKEN_URL")
_SECRET = "PINGONE_CLIENT_SECRET"  # noqa: S105
_NOT_READ = Path(".env")


def print_hosts(installation: Installation, name: str) -> None:
    """On stderr, which `--json` leaves free. Raises ConfigError."""
    for line in describe_hosts(installation, name):
        error_console.print(line)


def describe_hosts(installation: Installation, name: str) -> list[str]:
    """The hosts that are called for the environment of this name; then, where a file names a host and the client
    secret stands elsewhere, both places. Raises ConfigError."""
    lines = [_hosts(installation.environment(name))]
    if mixed := _mixed_places(installation, name):
        lines.append(mixed)
    return lines


def print_unread_env_file(installation: Installation) -> None:
    """Name a `.env` in the working directory that is not read: somebody may rely on it."""
    read = installation.env_file
    if read is not None and (here := _file_number(_NOT_READ)) and here != _file_number(read.path):
        error_console.print(f"./.env is not read: settings come from {read.path}; use --env-file .env")


def _file_number(path: Path) -> tuple[int, int] | None:
    """What is the same for all names of one file; None where no file can be reached under this name."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return (facts.st_dev, facts.st_ino)


def _hosts(environment: Environment) -> str:
    api, tokens = (urlsplit(url).hostname for url in (environment.api_url, environment.token_url))
    proxies = sorted({proxy for url in (environment.api_url, environment.token_url) if (proxy := find_proxy_host(url))})
    through = f", through the proxy {' and '.join(proxies)}" if proxies else ""
    return f"PingOne's API is called at {api}, access tokens come from {tokens}{through}."


def _mixed_places(installation: Installation, name: str) -> str | None:
    file = installation.file_of(name)
    if file is None or file.values.get(_SECRET):
        return None
    urls = [url for url in _URLS if file.values.get(url) or file.values.get(f"{url}_FILE")]
    if not urls:
        return None
    given = installation.variables | dict(file.values)
    place = "the process environment" if given.get(_SECRET) else given.get(f"{_SECRET}_FILE")
    return (
        f"{' and '.join(urls)} {'stand' if len(urls) > 1 else 'stands'} in {file.path}, {_SECRET} in {place}: "
        f"see to it that these hosts may have that secret."
    )
