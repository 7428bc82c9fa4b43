"""What every answer has in common (codes, ids, `Retry-After`), read from bytes that anybody may have written.

Nothing here trusts its input: a proxy's page, a half body or a wrong type gives an envelope with less in it, never an
exception. Text that goes on to logs and the database is made printable, short, and free of OTPs and access tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
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

# Where an answer lists several faults, these codes decide, in this order.
VERDICTS_ON_OTPS = (EXTRA_OTP_REQUIRED, INVALID_OTP)

# Seconds. Nobody is asked to wait longer than this at a time: a quota that is reset next month may be raised by an
# administrator today.
LONGEST_RETRY_AFTER = 86_400.0

# Characters of a text that an answer may add to a log line or a record.
LONGEST_LINE = 300

# Said of a body that cannot be read since it is compressed, which is not asked for: nothing is unpacked.
_COMPRESSED = "the body is compressed, perhaps by a proxy, although PingOne is asked not to"

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_ID = re.compile(r"[\x21-\x7e]{1,100}")
_SECONDS = re.compile(r"[0-9]{1,15}(\.[0-9]{1,6})?")
# An OTP that the service repeats, anything long enough to be an access token or client secret (a UUID is shorter), and
# the hexadecimal secret of a token (a UUID has shorter parts).
_SECRETS = re.compile(r"(?<![0-9])[0-9]{6,8}(?![0-9])|[A-Za-z0-9._~+/=-]{40,}|[0-9A-Fa-f]{16,}")


@dataclass(frozen=True)
class Envelope:
    """The readable parts of an answer."""

    answer: Answer
    # `code` and all `details[].code`.
    codes: frozenset[str]
    # The JSON object of the body; None if the body is anything else.
    fields: Mapping[str, Any] | None = field(repr=False)
    # In seconds.
    retry_after: float | None
    quota_reset_at: datetime | None

    @property
    def details(self) -> list[dict[str, Any]]:
        """All that the answer says in `details`."""
        return _read_details(self.fields or {})

    @property
    def is_from_pingone(self) -> bool:
        """Whether PingOne itself answered, as `is_from_pingone` says it; what it has made has an id as well."""
        return is_from_pingone(self.answer) or _match(_ID, (self.fields or {}).get("id")) is not None


def is_from_pingone(answer: Answer) -> bool:
    """Whether PingOne itself answered, and not a proxy or gateway in its place: PingOne's answers carry a
    Correlation-Id, and its errors an id, or a code that it documents."""
    return answer.correlation_id is not None or answer.error_id is not None or answer.code in CODES


def open_envelope(status: int, headers: Mapping[str, str], body: bytes) -> Envelope:
    """Read the parts of any answer.
    https://developer.pingidentity.com/pingone-api/platform/reference/error-codes.html"""
    fields = _parse_json_object(body)
    known = fields or {}
    details = _read_details(known)
    detail = _choose_detail(details)
    # Token endpoints answer with `error` and `error_description` instead (RFC 6749, section 5.2).
    code = read_word(known.get("code")) or read_word(known.get("error"))
    coding = find_header(headers, "content-encoding")
    quota_reset_at = next(filter(None, map(_parse_quota_reset, details)), None)
    return Envelope(
        answer=Answer(
            status=status,
            code=code,
            detail_code=read_word(detail.get("code")),
            error_id=_match(_ID, known.get("id")) if status >= 400 else None,
            correlation_id=_match(_ID, find_header(headers, "correlation-id")),
            message=make_printable(detail.get("message"))
            or make_printable(known.get("message"))
            or make_printable(known.get("error_description"))
            or (_COMPRESSED if fields is None and coding not in (None, "identity") else None),
        ),
        codes=frozenset(filter(None, [code, *(read_word(each.get("code")) for each in details)])),
        fields=fields,
        retry_after=_parse_retry_after(
            find_header(headers, "retry-after"), find_header(headers, "date"), quota_reset_at
        ),
        quota_reset_at=quota_reset_at,
    )


def read_date(headers: Mapping[str, str]) -> datetime | None:
    """Read the time of an answer, by the clock of the server that sent it; None if it does not tell it."""
    return _parse_date(find_header(headers, "date"))


def find_header(headers: Mapping[str, str], name: str) -> str | None:
    """Find the value of a header by its name in lower case; case does not matter (RFC 9110, section 5.1)."""
    return next((value for key, value in headers.items() if key.lower() == name), None)


def read_word(value: object) -> str | None:
    """Return the value if it is a code or status as the vendor writes them; None for anything else."""
    return _match(_CODE, value)


def make_printable(value: object) -> str | None:
    """Make one short line of a text, without control characters, OTPs or access tokens; None if nothing is left."""
    if not isinstance(value, str):
        return None
    # Masked before it is shortened: half an OTP at the end would no longer look like one.
    masked = _SECRETS.sub(MASK, value)[: 10 * LONGEST_LINE]
    line = "".join(character if character.isprintable() else " " for character in masked)
    return " ".join(line.split())[:LONGEST_LINE].strip() or None


def _parse_json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _read_details(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    details = fields.get("details")
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _match(pattern: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _choose_detail(details: list[dict[str, Any]]) -> dict[str, Any]:
    """Choose the fault that decides: what is said of the OTP comes first, then the first that has a code."""
    for code in VERDICTS_ON_OTPS:
        for detail in details:
            if detail.get("code") == code:
                return detail
    return next((detail for detail in details if read_word(detail.get("code"))), {})


def _parse_retry_after(value: str | None, date: str | None, quota_reset_at: datetime | None) -> float | None:
    """Read the seconds of a `Retry-After`: a number (PingOne) or an HTTP date (RFC 9110, section 10.2.3).

    A date is measured against the answer's own `Date`, so that an error of our clock does not matter. Where a quota is
    used up, nothing goes before its reset, whatever the header says."""
    if value is None and quota_reset_at is None:
        return None
    value = (value or "").strip()
    now = _parse_date(date) or datetime.now(UTC)
    seconds = [float(value)] if _SECONDS.fullmatch(value) else []
    seconds += [(until - now).total_seconds() for until in (_parse_date(value), quota_reset_at) if until is not None]
    return min(max(*seconds, 0.0), LONGEST_RETRY_AFTER) if seconds else None


# Of answers that come within the same second only the first is read.
@lru_cache(maxsize=16)
def _parse_date(value: str | None) -> datetime | None:
    try:
        return _to_utc(parsedate_to_datetime(value or ""))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _parse_quota_reset(detail: Mapping[str, Any]) -> datetime | None:
    """Read when a used-up quota is reset, from `innerError.quotaResetTime`. Its form is not published; ISO 8601 and
    Unix time, in s or ms, are understood."""
    inner = detail.get("innerError")
    value = inner.get("quotaResetTime") if isinstance(inner, dict) else None
    try:
        if isinstance(value, str):
            return _to_utc(datetime.fromisoformat(value))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _to_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
