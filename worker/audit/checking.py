"""Checks each line of the audit against its hash and its HMAC, which no longer match if the line was changed."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from models.authenticated import AuditKeys, UnknownKey
from worker.audit.lines import FIELDS, GENESIS, encode_content, hash_content, read


@dataclass(frozen=True, slots=True)
class BrokenLine:
    """The first line that is not what it was when it was written."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check of the audit came to. `lines`: how many are unchanged, from the first on. `authenticated_from`: the
    first of them that has an HMAC, if any has. `has_keys`: whether there were audit keys to check the HMACs with."""

    lines: int
    authenticated_from: int | None
    broken: BrokenLine | None
    has_keys: bool


def check(connection: Connection, keys: AuditKeys | None = None) -> CheckResult:
    """Compute every hash and HMAC again, up to the first that does not match.

    This does not notice that lines were cut off at the end: `noted_heads` compares with what was noted elsewhere.
    """
    former, sound, authenticated_from, broken = GENESIS, 0, None, None
    try:
        with closing(read(connection)) as lines:
            for line in lines:
                why = _find_fault(line, sound + 1, former, keys, must_be_authenticated=authenticated_from is not None)
                if why is not None:
                    broken = BrokenLine(sound + 1, why)
                    break
                if line.mac is not None and authenticated_from is None:
                    authenticated_from = line.id
                former, sound = line.hash, line.id
    except (ValueError, TypeError):
        # SQLite stores any value in any column: a time may be no time, and facts no JSON.
        broken = BrokenLine(sound + 1, "the line cannot be read")
    return CheckResult(sound, authenticated_from, broken, has_keys=keys is not None)


def _find_fault(
    line: Row[*tuple[Any, ...]], expected_id: int, former: str, keys: AuditKeys | None, *, must_be_authenticated: bool
) -> str | None:
    """What is wrong with a line; None if nothing is."""
    if line.id != expected_id:
        return "the line is missing"
    content = encode_content(former, {name: getattr(line, name) for name in FIELDS})
    if hash_content(content) != line.hash:
        return "the line, or the one before it, was changed"
    if line.mac is None:
        return "it is not authenticated, although an earlier line is" if must_be_authenticated else None
    try:
        if keys is not None and not keys.is_genuine(str(line.mac), content):
            return "it was not written under the audit key"
    except UnknownKey:
        return (
            "it was authenticated under a key that is not among the audit keys: "
            "add that key to OATHBULK_AUDIT_KEY behind the first, unless it is a forger's"
        )
    return None
