"""Addresses in an environment's API: builds them, and checks those that PingOne's answers name. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from worker.config.environment import Environment

# What an address in an answer may consist of: printable ASCII, but no backslash, which some programs read as a slash.
# PingOne's cursors have a few hundred characters.
_ADDRESS = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,8000}")
_DEFAULT_PORTS = {"https": ":443", "http": ":80"}


def build_url(environment: Environment, *segments: str, query: Mapping[str, str] | None = None) -> str:
    """Build the address of what lies under the environment by these segments of a path.

    Raises ValueError where a segment is empty, or would lead elsewhere: without the last id, a path names all of a
    kind."""
    if any(segment in ("", ".", "..") for segment in segments):
        raise ValueError("an id is empty, or would lead to another path")
    path = "/".join(quote(segment, safe="") for segment in ("environments", environment.environment_id, *segments))
    # What PingOne's own examples leave as it is stays readable, and short: a request header holds 6 KB in all.
    found = f"?{urlencode(query, quote_via=quote, safe='()@')}" if query else ""
    return f"{environment.api_url}/{path}{found}"


def is_in_environment(environment: Environment, url: str) -> bool:
    """Whether an address that an answer names lies in this environment, on the API's own host: our access token may go
    there, and nowhere else."""
    if not _ADDRESS.fullmatch(url):
        return False
    try:
        ours, theirs = urlsplit(build_url(environment)), urlsplit(url)
    except ValueError:
        return False
    segments = unquote(theirs.path).split("/")
    return (
        _parse_origin(theirs) == _parse_origin(ours)
        and theirs.path.lower().startswith(f"{ours.path.lower()}/")
        and not theirs.fragment
        and not {".", ".."} & {*segments}
        and "\\" not in unquote(theirs.path)
    )


def _parse_origin(parts: SplitResult) -> tuple[str, str]:
    scheme = parts.scheme.lower()
    return scheme, parts.netloc.lower().removesuffix(_DEFAULT_PORTS.get(scheme, ""))
