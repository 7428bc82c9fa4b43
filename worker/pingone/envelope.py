"""pingone: what comes around every answer, read from bytes that anybody may have written.

Nothing here trusts its input: a proxy's page, a half body or a wrong type gives an envelope with less in it,
never an exception. Text that goes on to logs and the database is made printable, short, and free of OTPs and
access tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from worker.pingone.errors import Answer
from worker.vault.otp import MASK

EXTRA_OTP_REQUIRED = "EXTRA_OTP_REQUIRED"
INVALID_OTP = "INVALID_OTP"

# The codes that PingOne documents: https://developer.pingidentity.com/pingone-api/platform/reference/error-codes.html
# Only an answer of PingOne's own has one of them.
CODES = frozenset(
    {
        *("INVALID_DATA", "INVALID_REQUEST", "REQUEST_FAILED", "ACCESS_FAILED", "NOT_FOUND", "REQUEST_LIMITED"),
        *("UNEXPECTED_ERROR", "INVALID_TOKEN", "INSUFFICIENT_PERMISSIONS", "LICENSE_EXCEEDED"),
    }
)

# Where an answer lists several faults, these decide, in this order.
VERDICTS_ON_OTPS = (EXTRA_OTP_REQUIRED, INVALID_OTP)

# Nobody is asked to wait longer than this at a time: a reset "next month" may be lifted by an administrator
# today.
LONGEST_RETRY_AFTER = 86_400.0

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_ID = re.compile(r"[\x21-\x7e]{1,100}")
_SECONDS = re.compile(r"[0-9]{1,15}(\.[0-9]{1,6})?")
# An OTP echoed by the service, and anything long enough to be an access token or client secret (a UUID is
# shorter).
_SECRETS = re.compile(r"(?<![0-9])[0-9]{6,8}(?![0-9])|[A-Za-z0-9._~+/=-]{40,}")


@dataclass(frozen=True)
class Envelope:
    """An answer's readable parts. `fields` is the JSON object of the body, None if the body is anything else;
    `codes` are `code` and all `details[].code`; `retry_after` is in seconds."""

    answer: Answer
    codes: frozenset[str]
    fields: Mapping[str, Any] | None = field(repr=False)
    retry_after: float | None
    quota_reset_at: datetime | None

    @property
    def is_pingones(self) -> bool:
        """Whether PingOne itself answered, and not a proxy or gateway in its place: PingOne's answers carry a
        Correlation-Id, and its errors an id and a code that it documents."""
        known = self.fields or {}
        is_named = _matching(_ID, known.get("id")) is not None
        return self.answer.correlation_id is not None or is_named or word(known.get("code")) in CODES


def open_envelope(status: int, headers: Mapping[str, str], body: bytes) -> Envelope:
    """https://developer.pingidentity.com/pingone-api/platform/reference/error-codes.html"""
    fields = _json_object(body)
    known = fields or {}
    details = [detail for detail in _list(known.get("details")) if isinstance(detail, dict)]
    detail = _deciding(details)
    # Token endpoints answer with `error` and `error_description` instead (RFC 6749, section 5.2).
    code = word(known.get("code")) or word(known.get("error"))
    quota_reset_at = next(filter(None, map(_quota_reset_at, details)), None)
    return Envelope(
        answer=Answer(
            status=status,
            code=code,
            detail_code=word(detail.get("code")),
            error_id=_matching(_ID, known.get("id")) if status >= 400 else None,
            correlation_id=_matching(_ID, header(headers, "correlation-id")),
            message=printable(detail.get("message"))
            or printable(known.get("message"))
            or printable(known.get("error_description")),
        ),
        codes=frozenset(filter(None, [code, *(word(each.get("code")) for each in details)])),
        fields=fields,
        retry_after=_retry_after(header(headers, "retry-after"), header(headers, "date"), quota_reset_at),
        quota_reset_at=quota_reset_at,
    )


def header(headers: Mapping[str, str], name: str) -> str | None:
    """The value of a header, whose name is matched without regard to case (RFC 9110, section 5.1)."""
    return next((value for key, value in headers.items() if key.lower() == name), None)


def word(value: object) -> str | None:
    """A code or status as the vendor writes them; None for anything else."""
    return _matching(_CODE, value)


def printable(value: object, limit: int = 300) -> str | None:
    """One short line of text without control characters, OTPs or access tokens; None if there is none."""
    if not isinstance(value, str):
        return None
    # Masked before it is cut: half an OTP at the cut would no longer look like one.
    masked = _SECRETS.sub(MASK, value)[: 10 * limit]
    line = "".join(character if character.isprintable() else " " for character in masked)
    return " ".join(line.split())[:limit].strip() or None


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _matching(pattern: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _deciding(details: list[dict[str, Any]]) -> dict[str, Any]:
    for code in VERDICTS_ON_OTPS:
        for detail in details:
            if detail.get("code") == code:
                return detail
    return next((detail for detail in details if word(detail.get("code"))), {})


def _retry_after(value: str | None, date: str | None, quota_reset_at: datetime | None) -> float | None:
    """Seconds (PingOne) or an HTTP date (RFC 9110, section 10.2.3). A date is measured against the answer's
    own `Date`, so that an error of our clock does not matter. Where a quota is used up, nothing goes before
    its reset, whatever the header says."""
    if value is None and quota_reset_at is None:
        return None
    value = (value or "").strip()
    now = _date(date) or datetime.now(UTC)
    seconds = [float(value)] if _SECONDS.fullmatch(value) else []
    seconds += [(until - now).total_seconds() for until in (_date(value), quota_reset_at) if until is not None]
    return min(max(*seconds, 0.0), LONGEST_RETRY_AFTER) if seconds else None


def _date(value: str | None) -> datetime | None:
    try:
        return _utc(parsedate_to_datetime(value or ""))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _quota_reset_at(detail: Mapping[str, Any]) -> datetime | None:
    """`innerError.quotaResetTime`: its form is not published; ISO 8601 and Unix time, in s or ms, are
    understood."""
    inner = detail.get("innerError")
    value = inner.get("quotaResetTime") if isinstance(inner, dict) else None
    try:
        if isinstance(value, str):
            return _utc(datetime.fromisoformat(value))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
