"""Checks the URLs of database, broker, and web servers. Those of database and broker are checked before a driver reads
them, because its error could quote part of the password. Web servers need TLS."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from sqlalchemy import URL

# Parts of error messages; each follows the name of the setting.
_ENCODE = "in its password write @ as %40, / as %2F, # as %23, ? as %3F, : as %3A and % as %25"
_NO_DATABASE = f"is not a database URL, such as postgresql+psycopg://user:password@host/oathbulk; {_ENCODE}"
_OTHER_DATABASE = "must begin with postgresql+psycopg:// or sqlite:///: other databases and drivers are not supported"
_OTHER_DRIVER = "must name the driver: write postgresql+psycopg:// before user and host"
_NO_FILE = "names no file: write sqlite:////path/of/the/file, or omit it to use the database in the home"
_NO_REDIS = f"is not a URL such as redis://:password@host:6379/0 or rediss://…; {_ENCODE}"
_SHOWN = "has its password among the parameters, where it would be printed: write user:password@ before the host"

# psycopg's own arguments that cannot be text. All others go to libpq, which rejects unknown ones by name.
_OF_PSYCOPG = {"autocommit", "conninfo", "context", "cursor_factory", "row_factory"}
# A DNS name (RFC 1123; also with _, which containers have), or an IPv6 address.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}\.?|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?", re.ASCII)
# Everything but printable ASCII.
_UNFIT = re.compile(r"[^!-~]")


def _is_host(host: str) -> bool:
    """Whether a host name can be looked up: some other texts make the libraries fail."""
    if "xn--" in host:
        # Not at the top: hardly any host has such a name.
        import idna

        try:
            idna.decode(host)
        except idna.IDNAError:
            return False
    return _HOST.fullmatch(host) is not None


def _list_hosts(url: URL) -> list[str]:
    """List the hosts of a database URL; libpq accepts several. Socket directories are left out."""
    found = [url.host or "", *url.normalized_query.get("host", ())]
    hosts = [host for each in found for host in each.split(",")]
    return [host for host in hosts if host and not host.startswith(("/", "@", "%2F"))]


def check_database_url(url: str) -> str:
    """Check a database URL and return it unchanged. Raises ValueError, whose message quotes no part of it."""
    # Not at the top: beat, which needs settings but no database, would start more slowly and use more memory.
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(_NO_DATABASE) from None
    # If the password contains an @, its end would be taken for the start of the host.
    if "@" in (parts.host or "") or not all(map(_is_host, _list_hosts(parts))):
        raise ValueError(_NO_DATABASE)
    if parts.drivername not in ("postgresql+psycopg", "sqlite"):
        is_postgresql = parts.drivername.partition("+")[0] in ("postgresql", "postgres")
        raise ValueError(_OTHER_DRIVER if is_postgresql else _OTHER_DATABASE)
    if parts.drivername == "sqlite" and (
        parts.host or parts.database in (None, "", ":memory:") or "\0" in parts.database
    ):
        raise ValueError(_NO_FILE)
    if "password" in parts.query:
        raise ValueError(_SHOWN)
    if unfit := parts.query.keys() & _OF_PSYCOPG if parts.drivername != "sqlite" else parts.query.keys():
        raise ValueError(f"has a parameter that cannot be set here ({', '.join(sorted(unfit))}): remove it")
    read_prepare_threshold(parts)
    return url


def read_prepare_threshold(url: URL) -> int | None:
    """Read after how many runs psycopg prepares a statement; None: never. Raises ValueError. It is read here because
    psycopg needs a number, but the URL has text."""
    value = url.query.get("prepare_threshold", "5")
    if value == "none":
        return None
    if not isinstance(value, str) or not value.isdecimal():
        raise ValueError("has a prepare_threshold that is neither a whole number nor `none`")
    return int(value)


def check_redis_url(url: str) -> str:
    """Check the URL of a Redis server and return it unchanged. Raises ValueError, whose message quotes no part of
    it."""
    try:
        parts = urlsplit(url)
        # Reading `port` raises ValueError if it is not a port number.
        is_url = (
            url.startswith(("redis://", "rediss://")) and parts.port != 0 and _is_host(parts.hostname or "localhost")
        )
    except ValueError:
        raise ValueError(_NO_REDIS) from None
    # A /, ?, or # in the password ends the URL's host part, so the password's start would be taken for the host.
    if not is_url or "@" in parts.path + parts.query or parts.fragment:
        raise ValueError(_NO_REDIS)
    if not re.fullmatch("/?[0-9]{0,5}", parts.path):
        raise ValueError("must end with the number of a database, as redis://host:6379/0 does")
    if parse_qs(parts.query).keys() & {"password", "username"}:
        raise ValueError(_SHOWN)
    if parts.query:
        _check_redis_parameters(url)
    return url


def _check_redis_parameters(url: str) -> None:
    """Check the parameters of the URL of a Redis server. Raises ValueError, whose message quotes no part of it."""
    # Not at the top: few URLs have parameters.
    from redis import ConnectionPool
    from redis.exceptions import RedisError

    try:
        ConnectionPool.from_url(url).make_connection()
    except (AttributeError, KeyError, TypeError, ValueError, RedisError):
        raise ValueError("has a parameter that redis-py does not know, or a value of the wrong type") from None


def is_loopback(host: str) -> bool:
    """Whether this host name or address can be reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_web_url(url: str) -> str:
    """Check the URL of a web server and return it unchanged. Raises ValueError, whose message quotes no part of it."""
    try:
        parts = urlsplit(url)
        # Reading `port` raises ValueError if it is not a port number.
        is_url = parts.port != 0 and not _UNFIT.search(url) and _is_host(parts.hostname or "")
    except ValueError:
        is_url = False
    if not is_url:
        raise ValueError("must be an https:// URL, such as https://api.pingone.com/v1; in ASCII, without blanks")
    if "@" in parts.netloc:
        raise ValueError("must not contain a user name or password, because the URL is printed")
    is_local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")
    if not is_local and not (parts.scheme == "https" and parts.hostname):
        raise ValueError("must be an https:// URL; http:// is accepted for a loopback address only")
    return url
