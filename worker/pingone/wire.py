"""The wire format: builds requests, and turns an answer's status, headers, and body into readable parts or an error.
Pure. Nothing here trusts an answer: a proxy's page, half a body, or a wrong type gives an envelope with less in it,
never an exception. Text for logs and the database is made printable, short, and free of OTPs and access tokens."""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Generic, TypeVar
from urllib.parse import SplitResult, quote, unquote, urlencode, urljoin, urlsplit

from models.base import LONGEST_ID
from worker.config.environment import Environment
from worker.pingone.errors import (
    Answer,
    Forbidden,
    ForeignLink,
    InvalidOtp,
    NotFound,
    OutcomeUnknown,
    PingOneError,
    ProtocolFault,
    RateLimited,
    Rejected,
    ResyncRequired,
    Unauthorized,
)
from worker.vault.otps import MASK

T = TypeVar("T")

# The most characters that PingOne accepts in an id that comes back in its audit records.
LONGEST_AUDIT_ID = 100


@dataclass(frozen=True)
class Request:
    """An HTTP request. Its headers and content may contain an OTP, a secret, or an access token: its repr omits
    them."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes = field(default=b"", repr=False)


def authorize(request: Request, access_token: str, session_id: str, transaction_id: str) -> Request:
    """Add what every call carries: the access token, and two ids that come back in PingOne's audit records.
    https://developer.pingidentity.com/pingone-api/platform/reference/external-transaction-and-session-ids.html"""
    common = {
        "Accept": "application/json",
        "Authorization": f"Bearer {access_token}",
        "X-Ping-External-Session-Id": _make_audit_id(session_id),
        "X-Ping-External-Transaction-Id": _make_audit_id(transaction_id),
    }
    return replace(request, headers={**common, **request.headers})


def _make_audit_id(value: str) -> str:
    return re.sub(r"[^\x21-\x7e]", "-", value)[:LONGEST_AUDIT_ID]


# What an address in an answer may consist of: printable ASCII without backslash, which some programs read as a slash.
# PingOne's cursors have a few hundred characters.
_ADDRESS = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,8000}")
_DEFAULT_PORTS = {"https": ":443", "http": ":80"}


def build_url(environment: Environment, *segments: str, query: Mapping[str, str] | None = None) -> str:
    """Build the address below the environment from these path segments. Raises ValueError for a segment that is empty
    or would lead elsewhere: without its last id, a path names all objects of a kind."""
    if any(segment in ("", ".", "..") for segment in segments):
        raise ValueError("an id is empty, or would lead to another path")
    path = "/".join(quote(segment, safe="") for segment in ("environments", environment.environment_id, *segments))
    # Characters that PingOne's own examples leave unencoded stay readable, and short: a request's headers have at most
    # 6 KB in all.
    found = f"?{urlencode(query, quote_via=quote, safe='()@')}" if query else ""
    return f"{environment.api_url}/{path}{found}"


def is_in_environment(environment: Environment, url: str) -> bool:
    """Whether an address from an answer is in this environment, on the API's own host: our access token is sent nowhere
    else."""
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


EXTRA_OTP_REQUIRED = "EXTRA_OTP_REQUIRED"
INVALID_OTP = "INVALID_OTP"

# The codes that PingOne documents: https://developer.pingidentity.com/pingone-api/platform/reference/error-codes.html
# Only PingOne's own answers have them.
CODES = frozenset(
    {
        *("INVALID_DATA", "INVALID_REQUEST", "REQUEST_FAILED", "ACCESS_FAILED", "NOT_FOUND", "REQUEST_LIMITED"),
        *("UNEXPECTED_ERROR", "INVALID_TOKEN", "INSUFFICIENT_PERMISSIONS", "LICENSE_EXCEEDED"),
    }
)

# If an answer lists several faults, the first of these codes decides; if it lists none of them, any other code.
VERDICTS_ON_OTPS = {EXTRA_OTP_REQUIRED: 0, INVALID_OTP: 1}

# Seconds to wait at a time, at most: a quota may not be reset until next month, but an administrator may raise it
# today.
LONGEST_RETRY_AFTER = 86_400.0

# Maximum length of an answer's text in a log line or record, in characters.
LONGEST_LINE = 300

# The message for a compressed body, which is not unpacked.
_COMPRESSED = "the body is compressed, perhaps by a proxy, although PingOne is asked not to"

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_SECONDS = re.compile(r"[0-9]{1,15}(\.[0-9]{1,6})?")
# An OTP that the service repeats, anything as long as an access token or client secret (a UUID is shorter), and a
# token's hexadecimal secret (a UUID has shorter parts).
_SECRETS = re.compile(r"(?<![0-9])[0-9]{6,8}(?![0-9])|[A-Za-z0-9._~+/=-]{40,}|[0-9A-Fa-f]{16,}")


@dataclass(frozen=True)
class Envelope:
    """The readable parts of an answer."""

    answer: Answer
    # `code` and all `details[].code`.
    codes: frozenset[str]
    # Their names are in lower case.
    headers: Mapping[str, str] = field(repr=False)
    # The JSON object of the body; empty if the body is anything else (`is_object`).
    fields: Mapping[str, Any] = field(repr=False)
    is_object: bool
    # Everything that the answer says in `details`.
    details: Sequence[Mapping[str, Any]] = field(repr=False)
    # In seconds.
    retry_after: float | None
    quota_reset_at: datetime | None

    @property
    def is_success(self) -> bool:
        """Whether the status means success (2xx)."""
        return 200 <= (self.answer.status or 0) < 300

    @property
    def is_from_pingone(self) -> bool:
        """Whether PingOne itself answered: as the function `is_from_pingone` decides, or because the answer has the id
        of an object."""
        return is_from_pingone(self.answer) or read_id(self.fields.get("id")) is not None

    @property
    def date(self) -> datetime | None:
        """The time of the answer, by the clock of its server; None if missing."""
        return _parse_date(self.headers.get("date"))


def is_from_pingone(answer: Answer) -> bool:
    """Whether PingOne itself answered, and not a proxy or gateway in its place: PingOne's answers carry a
    Correlation-Id, and its errors an id, or a code that it documents."""
    return answer.correlation_id is not None or answer.error_id is not None or answer.code in CODES


def open_envelope(status: int, headers: Mapping[str, str], body: bytes) -> Envelope:
    """Read the parts of any answer.
    https://developer.pingidentity.com/pingone-api/platform/reference/error-codes.html"""
    parsed = _parse_json_object(body)
    known, headers = parsed or {}, {name.lower(): value for name, value in headers.items()}
    details = _read_details(known)
    detail = _choose_detail(details)
    # Token endpoints answer with `error` and `error_description` instead (RFC 6749, section 5.2).
    code = read_word(known.get("code")) or read_word(known.get("error"))
    is_plain = headers.get("content-encoding", "identity") == "identity"
    quota_reset_at = next(filter(None, map(_parse_quota_reset, details)), None)
    return Envelope(
        answer=Answer(
            status=status,
            code=code,
            detail_code=read_word(detail.get("code")),
            error_id=read_id(known.get("id")) if status >= 400 else None,
            correlation_id=read_id(headers.get("correlation-id")),
            message=make_printable(detail.get("message"))
            or make_printable(known.get("message"))
            or make_printable(known.get("error_description"))
            or (_COMPRESSED if parsed is None and not is_plain else None),
        ),
        codes=frozenset(filter(None, [code, *(read_word(detail.get("code")) for detail in details)])),
        headers=headers,
        fields=known,
        is_object=parsed is not None,
        details=details,
        retry_after=_parse_retry_after(headers.get("retry-after"), headers.get("date"), quota_reset_at),
        quota_reset_at=quota_reset_at,
    )


def read_word(value: object) -> str | None:
    """Return the value if it is a code or status as the vendor writes them; None otherwise."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else None


def make_printable(value: object) -> str | None:
    """Turn a text into one short line, without control characters, OTPs, or access tokens; None if nothing is left."""
    if not isinstance(value, str):
        return None
    # Mask the text before shortening it: half an OTP at the end would no longer look like one.
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


def _choose_detail(details: list[dict[str, Any]]) -> dict[str, Any]:
    """Choose the fault that decides: one about the OTP, otherwise the first with a code."""
    with_code = [detail for detail in details if read_word(detail.get("code"))]
    return min(with_code, key=lambda detail: VERDICTS_ON_OTPS.get(detail["code"], 2), default={})


def _parse_retry_after(value: str | None, date: str | None, quota_reset_at: datetime | None) -> float | None:
    """Read the seconds of a `Retry-After`: a number (PingOne) or an HTTP date (RFC 9110, section 10.2.3).

    A date is measured against the answer's own `Date`, so our clock does not matter. If a quota is used up, nothing is
    sent before its reset, whatever the header says."""
    if value is None and quota_reset_at is None:
        return None
    value = (value or "").strip()
    now = _parse_date(date) or datetime.now(UTC)
    seconds = [float(value)] if _SECONDS.fullmatch(value) else []
    seconds += [(until - now).total_seconds() for until in (_parse_date(value), quota_reset_at) if until is not None]
    return min(max(*seconds, 0.0), LONGEST_RETRY_AFTER) if seconds else None


# Answers within the same second have the same date, so only the first is parsed.
@lru_cache(maxsize=16)
def _parse_date(value: str | None) -> datetime | None:
    try:
        return _to_utc(parsedate_to_datetime(value or ""))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _parse_quota_reset(detail: Mapping[str, Any]) -> datetime | None:
    """Read when a used-up quota is reset, from `innerError.quotaResetTime`. Its form is not published; ISO 8601 and
    Unix time, in s or ms, are understood."""
    value = find_part(detail, "innerError", "quotaResetTime")
    try:
        if isinstance(value, str):
            return read_time(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _to_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def choose_error(envelope: Envelope) -> PingOneError:
    """Choose the error for an unexpected answer. Codes come before the status, which the vendor may change within its
    class: https://developer.pingidentity.com/pingone-api/platform/reference/error-codes.html"""
    answer, codes, status = envelope.answer, envelope.codes, envelope.answer.status or 0
    if EXTRA_OTP_REQUIRED in codes:
        return ResyncRequired(answer)
    if INVALID_OTP in codes:
        return InvalidOtp(answer)
    if not 400 <= status < 500 or status == 408:
        return OutcomeUnknown(answer, envelope.retry_after if status >= 400 else None)
    if status == 429 or "REQUEST_LIMITED" in codes:
        return RateLimited(answer, envelope.retry_after, envelope.quota_reset_at)
    if status in (403, 404) and not envelope.is_from_pingone:
        # A proxy's or gateway's page says nothing about the device or our roles: it is an outage.
        return OutcomeUnknown(answer, envelope.retry_after)
    if error := _choose_access_error(status, codes):
        return error(answer)
    if status == 404 or "NOT_FOUND" in codes:
        return NotFound(answer)
    if status in (405, 415):
        return ProtocolFault(answer)
    # A body that we cannot read may have said EXTRA_OTP_REQUIRED.
    return Rejected(answer) if envelope.is_object else OutcomeUnknown(answer)


def _choose_access_error(status: int, codes: frozenset[str]) -> type[Unauthorized] | type[Forbidden] | None:
    """Choose the error for a refused access token, or for a missing role; None for anything else. ACCESS_FAILED and
    INSUFFICIENT_PERMISSIONS come with 401 and with 403, so for these codes the status decides."""
    if "INVALID_TOKEN" in codes:
        return Unauthorized
    if "LICENSE_EXCEEDED" in codes or status == 403:
        return Forbidden
    if status == 401:
        return Unauthorized
    return Forbidden if codes & {"ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS"} else None


# Ids and serial numbers, as they are written into logs and addresses.
_ID = re.compile(rf"[\x21-\x7e]{{1,{LONGEST_ID}}}")
# Ids that PingOne gave to objects that we created. They are part of the addresses of calls that change something, where
# no server in between may change a character: some servers remove "%2E%2E" and ";x" from a path.
_PLAIN_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST_ID}}}")
# Names of people: anything but control characters and halves of surrogate pairs, which no database accepts. PingOne
# permits 1,024 characters for the longest, the external id.
_TEXT = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,1024}")


def find_part(value: object, *names: str) -> object:
    """Follow these names down into a JSON object; None if one is missing."""
    for name in names:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def read_id(value: object) -> str | None:
    """Read an id or a serial number."""
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def read_plain_id(value: object) -> str | None:
    """Read an id that identifies only one object, even if a server in between rewrites the address."""
    return value if isinstance(value, str) and _PLAIN_ID.fullmatch(value) else None


def read_text(value: object) -> str | None:
    """Read a name as it is, for comparisons: not masked, and not safe for a terminal."""
    return value if isinstance(value, str) and _TEXT.fullmatch(value) else None


def read_truth(value: object) -> bool | None:
    """Read true or false."""
    return value if isinstance(value, bool) else None


def read_count(value: object) -> int | None:
    """Read a whole number of at least 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def read_number(value: object) -> float | None:
    """Read a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        return None
    # No limit or time is larger; a larger integer may not fit into a float.
    return float(value) if value < 1e15 else None


def read_time(value: object) -> datetime | None:
    """Read a time in ISO 8601, as UTC."""
    try:
        return _to_utc(datetime.fromisoformat(value)) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def read_age(value: object, now: datetime | None) -> timedelta | None:
    """Read how long ago a time was, such as that of a creation. `now` is the time of the answer, so our clock does not
    matter."""
    at = read_time(value)
    return now - at if now and at else None


# Lists: pages of items under `_embedded`, and the address of the next page. Neither the size of a page nor a total is
# promised: only whether there is a next page counts.
# https://developer.pingidentity.com/pingone-api/foundations/conventions/pingone-api-responses.html

# Makes an item from its JSON object, which has a readable id.
ReadItem = Callable[[Mapping[str, Any]], T]


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items of a list."""

    items: tuple[T, ...]
    # The address of the next page, as PingOne gave it, plus a host if it was omitted; None on the last page.
    next_url: str | None = field(repr=False)
    answer: Answer


def check_onward(page: Page[T], before: Page[T] | None, known: Collection[str]) -> None:
    """Raise OutcomeUnknown if the pages of a list form a loop: the page leads to an address that was read before
    (`known`), or repeats the items of the previous page and leads on."""
    is_repeated = before is not None and page.items == before.items and bool(page.items and page.next_url)
    if is_repeated or page.next_url in known:
        raise OutcomeUnknown(replace(page.answer, message="the pages of a list lead back to one of them"))


def build_equation(attribute: str, value: str) -> str:
    """Build a term of a filter, such as `username eq "a"`. Raises ValueError for an empty value, which nothing can
    have.
    https://docs.pingidentity.com/pingone/directory/p1_scim_filter_language.html"""
    if not value:
        raise ValueError("an empty name, which nothing can be found by")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{attribute} eq "{escaped}"'


def parse_page(
    envelope: Envelope,
    *,
    environment: Environment,
    name: str,
    read_item: ReadItem[T],
    choose: Callable[[Envelope], PingOneError] = choose_error,
) -> Page[T]:
    """Read a page from an answer: the items under `_embedded` and this name. `choose` chooses the error for an answer
    that is not a page. Also raises ForeignLink."""
    listed = _find_list(envelope, name)
    if listed is None:
        raise choose(envelope)
    if not all(read_id(find_part(item, "id")) for item in listed):
        # If the item were skipped, it would seem not to exist.
        raise OutcomeUnknown(replace(envelope.answer, message="a list with an item that cannot be read"))
    return Page(tuple(map(read_item, listed)), _find_next_url(envelope, environment), envelope.answer)


def _find_list(envelope: Envelope, name: str) -> list[Any] | None:
    """Find the items in a 2xx answer; None if there is no readable list. An empty list may lack `_embedded`, or have an
    empty or null one. The name is not published for every list, so another one is accepted if it is the only one."""
    embedded = envelope.fields.get("_embedded")
    if not (envelope.is_success and isinstance(embedded, dict | None)):
        return None
    parts = {key: value for key, value in (embedded or {}).items() if value is not None}
    if not parts:
        return [] if _is_empty(envelope.fields) else None
    found = [parts[name]] if name in parts else list(parts.values())
    return found[0] if len(found) == 1 and isinstance(found[0], list) else None


def _is_empty(fields: Mapping[str, Any]) -> bool:
    """Whether an answer without items is an empty list: it has the fields of a list, and each of its counts is 0."""
    counts = [count for name in ("count", "size") if (count := fields.get(name)) is not None]
    return all(count == 0 for count in counts) and ("_links" in fields or "_embedded" in fields or bool(counts))


def _find_next_url(envelope: Envelope, environment: Environment) -> str | None:
    """Find the address of the next page. Raises ForeignLink unless it is in this environment, and OutcomeUnknown if it
    is unreadable."""
    link = find_part(envelope.fields, "_links", "next")
    if link is None:
        return None
    url = find_part(link, "href")
    if not isinstance(url, str):
        raise OutcomeUnknown(replace(envelope.answer, message="a next page without an address"))
    if url.startswith("/"):
        url = urljoin(build_url(environment), url)
    if not is_in_environment(environment, url):
        raise ForeignLink(replace(envelope.answer, message="the next page is not in our environment's API"))
    return url
