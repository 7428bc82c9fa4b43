"""Finds the home that a command works in, which may be one that a rehearsal left, and shows it to the person. Also
prints which hosts get the client secret and OTPs, and which file says so, before anything is sent."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from shlex import quote
from urllib.parse import urlsplit

from worker.cli.console import error_console, name_program
from worker.config.environment import Environment
from worker.config.settings import DATABASE
from worker.config.sources import CREDENTIALS_DIRECTORY, open_source
from worker.installation.installation import Installation
from worker.reports.facts import has_batch
from worker.reports.stall import Rehearsal

# Added to a home's name to name the directory beside it, which has the homes of rehearsals.
REHEARSALS = "-rehearsals"
# Prefixes of variables that would lead out of a rehearsal's home, to the real database, keys, audit, or PingOne. All
# other settings apply there as in a run.
_LEADING_OUT = (
    "OATHBULK_ENV_FILE",
    "OATHBULK_HOME",
    "OATHBULK_CONFIG",
    "OATHBULK_DATABASE_URL",
    "OATHBULK_REDIS_URL",
    "OATHBULK_ENCRYPTION_KEYS",
    "OATHBULK_AUDIT_",
    "OATHBULK_BACKUP_STAMP",
    "OATHBULK_REPLAY_CRON",
    "OATHBULK_WEBHOOK_",
    "PINGONE_",
    # It may contain any of the secrets above, such as the database's URL.
    CREDENTIALS_DIRECTORY,
)
# The settings that name PingOne's hosts.
_URLS = ("PINGONE_API_URL", "PINGONE_TOKEN_URL")


def print_home(installation: Installation) -> None:
    """Print which home this is, unless the database is elsewhere."""
    if installation.settings.is_embedded_database:
        error_console.print(f"Home: {installation.settings.home}", style="dim", soft_wrap=True)


def is_own_home(installation: Installation) -> bool:
    """Whether the installation's home is that of this process's settings, not a rehearsal's, which was named on
    stderr."""
    return installation.settings.home == Installation().settings.home


def find_rehearsals_home(home: Path) -> Path:
    """The directory with the homes of rehearsals, beside the home."""
    return home.absolute().with_name(home.absolute().name + REHEARSALS)


def is_rehearsals(home: Path) -> bool:
    """Whether this is the home of a rehearsal."""
    return home.absolute().parent.name.endswith(REHEARSALS)


def find_rehearsal(installation: Installation) -> Rehearsal | None:
    """The rehearsal whose home this is; None if it is a person's own."""
    home = installation.settings.home
    return Rehearsal(home, name_program()) if is_rehearsals(home) else None


def lead_into_rehearsal(variables: Mapping[str, str], home: Path) -> dict[str, str]:
    """Make the variables of a rehearsal in this home from those of this process, without any that lead elsewhere."""
    kept = {name: value for name, value in variables.items() if not name.startswith(_LEADING_OUT)}
    return kept | {"OATHBULK_HOME": str(home)}


def open_installation_with(batch: str | None) -> Installation:
    """Open the installation that has this batch, or any batch if None: the one of this process's settings; otherwise
    the latest rehearsal, named on stderr. So commands that change nothing can read what `oathbulk rehearse` has left.
    Without a batch, an existing home is read, however empty."""
    here = Installation()
    if is_rehearsals(here.settings.home):
        # The person named this home, and other settings here lead elsewhere.
        return Installation(lead_into_rehearsal(here.variables, here.settings.home))
    is_meant = batch is None and here.has_home
    if not here.settings.is_embedded_database or is_meant or _has(here, batch):
        return here
    for home in _list_rehearsals(here.settings.home):
        rehearsal = Installation(lead_into_rehearsal(here.variables, home))
        if _has(rehearsal, batch):
            print_home(rehearsal)
            return rehearsal
    return here


def describe_empty_home(installation: Installation, command: str) -> str:
    """Say that nothing has been loaded into the home yet; and where the latest rehearsal's home is, if there is one.
    Commands that look at settings do not open that home by themselves: their findings would not apply to a run."""
    home = installation.settings.home.absolute()
    said = f"{home}: nothing has been loaded into it yet"
    for rehearsal in _list_rehearsals(home)[:1]:
        said += "; the latest rehearsal has another home:"
        said += f" OATHBULK_HOME={quote(str(rehearsal))} {name_program()} {command}"
    return said


def _has(installation: Installation, batch: str | None) -> bool:
    """Whether this batch, or any batch, has been loaded there."""
    return installation.has_home and has_batch(installation.database, batch)


def _list_rehearsals(home: Path) -> list[Path]:
    """The homes of rehearsals, the latest first."""
    databases = find_rehearsals_home(home).glob(f"*/{DATABASE}")
    return [path.parent for path in sorted(databases, key=lambda path: -path.stat().st_mtime)]


def print_hosts(installation: Installation, name: str) -> None:
    """Print on stderr which hosts are called: `--json` prints on stdout. Raises ConfigError."""
    for line in describe_hosts(installation, name):
        error_console.print(line)


def describe_hosts(installation: Installation, name: str) -> list[str]:
    """Name the hosts that are called for the environment with this name; then, if a file names a host and the client
    secret is elsewhere, both places. Raises ConfigError."""
    return [_name_hosts(installation.environment(name)), *_warn_of_split_source(installation, name)]


def print_unread_env_file(installation: Installation) -> None:
    """Print a note if the working directory has a `.env`, which is not read: somebody may rely on it."""
    if (read := installation.env_file) is None:
        return
    with suppress(OSError):
        here = Path(".env").stat()
        if not (read.path.exists() and os.path.samestat(here, read.path.stat())):
            error_console.print(f"./.env is not read: settings come from {read.path}; use --env-file .env")


def _name_hosts(environment: Environment) -> str:
    """Name the hosts of the API and the token endpoint, and the proxies on the way, in a sentence."""
    # Not at the top: `status` names no hosts, and importing httpx takes longer than everything else that it does.
    from worker.pingone.transport import find_proxy_host

    api, tokens = (urlsplit(url).hostname for url in (environment.api_url, environment.token_url))
    proxies = sorted({proxy for url in (environment.api_url, environment.token_url) if (proxy := find_proxy_host(url))})
    through = f", through the proxy {' and '.join(proxies)}" if proxies else ""
    return f"PingOne's API is called at {api}, and access tokens come from {tokens}{through}."


def _warn_of_split_source(installation: Installation, name: str) -> Iterator[str]:
    """Warn if a file gives PingOne's URLs while the client secret comes from elsewhere."""
    source = open_source(installation.settings, name, installation.variables, installation.env_file)
    has_key = installation.environment(name).client_auth == "private_key_jwt"
    secret = "PINGONE_PRIVATE_KEY" if has_key else "PINGONE_CLIENT_SECRET"
    file = source.file
    if file is None or file.values.get(secret):
        return
    urls = [url for url in _URLS if file.values.get(url) or file.values.get(f"{url}_FILE")]
    if not urls:
        return
    place = source.places.get(secret, "the process environment")
    yield (
        f"{' and '.join(urls)} {'come' if len(urls) > 1 else 'comes'} from {file.path}, {secret} from {place}: make "
        f"sure that these hosts may get that secret."
    )
