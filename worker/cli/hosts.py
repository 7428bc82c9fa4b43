"""Which hosts get the client secret and OTPs, and which file says so; printed before anything goes out."""

import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from worker.cli.console import error_console
from worker.config.environment import Environment
from worker.config.sources import find_credentials
from worker.installation.installation import Installation
from worker.pingone.transport import find_proxy_host

_URLS = ("PINGONE_API_URL", "PINGONE_TOKEN_URL")
_UNREAD = Path(".env")


def print_hosts(installation: Installation, name: str) -> None:
    """Print which hosts are called, on stderr: on stdout `--json` prints. Raises ConfigError."""
    for line in describe_hosts(installation, name):
        error_console.print(line)


def describe_hosts(installation: Installation, name: str) -> list[str]:
    """Name the hosts that are called for the environment of this name; then, where a file names a host and the client
    secret stands elsewhere, both places. Raises ConfigError."""
    lines = [_name_hosts(installation.environment(name))]
    if warning := _find_split_source(installation, name):
        lines.append(warning)
    return lines


def print_unread_env_file(installation: Installation) -> None:
    """Print a note if there is a `.env` in the working directory, which is not read: somebody may rely on it."""
    if (read := installation.env_file) is None:
        return
    with suppress(OSError):
        here = _UNREAD.stat()
        if not (read.path.exists() and os.path.samestat(here, read.path.stat())):
            error_console.print(f"./.env is not read: settings come from {read.path}; use --env-file .env")


def _name_hosts(environment: Environment) -> str:
    """Name the hosts of API and token endpoint, and the proxies on the way, in a sentence."""
    api, tokens = (urlsplit(url).hostname for url in (environment.api_url, environment.token_url))
    proxies = sorted({proxy for url in (environment.api_url, environment.token_url) if (proxy := find_proxy_host(url))})
    through = f", through the proxy {' and '.join(proxies)}" if proxies else ""
    return f"PingOne's API is called at {api}, access tokens come from {tokens}{through}."


def _find_split_source(installation: Installation, name: str) -> str | None:
    """Warn if a file gives PingOne's URLs while the client secret comes from elsewhere; None if not."""
    file = installation.find_file_of(name)
    has_key = installation.environment(name).client_auth == "private_key_jwt"
    secret = "PINGONE_PRIVATE_KEY" if has_key else "PINGONE_CLIENT_SECRET"
    if file is None or file.values.get(secret):
        return None
    urls = [url for url in _URLS if file.values.get(url) or file.values.get(f"{url}_FILE")]
    if not urls:
        return None
    given = installation.variables | dict(file.values)
    in_file = given.get(f"{secret}_FILE") or find_credentials(installation.variables, name).get(secret)
    place = "the process environment" if given.get(secret) else in_file
    return (
        f"{' and '.join(urls)} {'stand' if len(urls) > 1 else 'stands'} in {file.path}, {secret} in {place}: "
        f"see to it that these hosts may have that secret."
    )
