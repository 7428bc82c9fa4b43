"""The environment's inventory of tokens, and the jobs that import or revoke many tokens at a time: builds the requests,
and reads the answers. Pure.

https://developer.pingidentity.com/pingone-api/mfa/oath-tokens.html
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from worker.config.environment import Environment
from worker.pingone.errors import (
    AlreadyImported,
    Answer,
    BadToken,
    ExpandRefused,
    InventoryFull,
    OtherDevice,
    OutcomeUnknown,
    PingOneError,
    Rejected,
    TooManyTokens,
)
from worker.pingone.wire import (
    Envelope,
    Page,
    Request,
    build_url,
    choose_error,
    find_part,
    make_printable,
    parse_page,
    read_age,
    read_count,
    read_id,
    read_plain_id,
    read_word,
)
from worker.vault.otps import Seed

# Adds the device and the user of a paired token to the answer.
EXPAND_DEVICES = {"expand": "devices"}
# Our names for PingOne's hash algorithms.
_HASH_NAMES = {"HMACSHA1": "sha1", "HMACSHA256": "sha256", "HMACSHA512": "sha512"}


@dataclass(frozen=True)
class InventoryToken:
    """A token in the inventory. None: not known. `device_id` and `user_id` are those of its device: None if it is not
    paired, or if devices were not requested."""

    id: str
    serial_number: str | None = None
    # HOTP, TOTP, or an unknown word.
    type: str | None = None
    digits: int | None = None
    # sha1, sha256, sha512, or PingOne's own word if unknown.
    hash_name: str | None = None
    # Seconds; None for HOTP.
    time_step: int | None = None
    device_id: str | None = None
    user_id: str | None = None
    # How long ago PingOne made it, by its own clock. PingOne's documentation does not say that tokens have a time of
    # creation.
    age: timedelta | None = field(default=None, compare=False)


def parse_tokens(
    envelope: Envelope,
    *,
    environment: Environment,
    is_filtered_with_devices: bool = False,
) -> Page[InventoryToken]:
    """Read a page of tokens from an answer. Raises ExpandRefused if PingOne refuses to combine a filter with
    `expand`."""
    choose = _choose_error_with_expand if is_filtered_with_devices else choose_error
    read = partial(_read_token, now=envelope.date)
    return parse_page(envelope, environment=environment, name="oathTokens", read_item=read, choose=choose)


def parse_token(envelope: Envelope, *, token_id: str) -> InventoryToken:
    """Read the token with this id from an answer. Raises OtherDevice if the answer is about another token."""
    answered_id = read_id(envelope.fields.get("id"))
    if answered_id is None or not envelope.is_success:
        raise choose_error(envelope)
    if answered_id.lower() != token_id.lower():
        raise OtherDevice(replace(envelope.answer, message="the answer is about another token"))
    return _read_token(envelope.fields, now=envelope.date)


def _choose_error_with_expand(envelope: Envelope) -> PingOneError:
    error = choose_error(envelope)
    return ExpandRefused(error.answer) if isinstance(error, Rejected) and error.answer.status == 400 else error


def _read_token(fields: Mapping[str, Any], now: datetime | None) -> InventoryToken:
    hash_name, device = read_word(fields.get("hashAlgorithm")), _find_device(fields)
    return InventoryToken(
        id=fields["id"],
        serial_number=read_id(fields.get("serialNumber")),
        type=read_word(fields.get("type")),
        digits=read_count(fields.get("otpLength")),
        hash_name=_HASH_NAMES.get((hash_name or "").upper(), hash_name),
        time_step=read_count(find_part(fields, "totp", "timeStep")),
        device_id=read_id(find_part(device, "id")),
        user_id=read_id(find_part(device, "user", "id")) or read_id(find_part(device, "userId")),
        age=read_age(fields.get("createdAt"), now),
    )


def _find_device(fields: Mapping[str, Any]) -> object:
    """Find the device that the token is paired as. The form is not published: a list of one device is looked for in the
    token itself, and in `_embedded`, where PingOne puts what other calls expand."""
    for devices in (fields.get("devices"), find_part(fields, "_embedded", "devices")):
        if isinstance(devices, list) and devices:
            return devices[0]
    return None


# Both jobs share one path and method: these media types tell them apart.
IMPORT_MEDIA_TYPE = "application/vnd.pingidentity.job.oathtokens.create+json"
REVOCATION_MEDIA_TYPE = "application/vnd.pingidentity.job.oathtokens.revoke+json"

# Our names for PingOne's hash algorithms.
_HASH_WORDS = {"sha1": "HmacSHA1", "sha256": "HmacSHA256", "sha512": "HmacSHA512"}
# How a job's address ends. PingOne itself writes `jobs` in its answer about a job.
_JOB_PATH = re.compile(r"/(?:oathJobs|jobs)/([^/]+)\Z", re.IGNORECASE)


class JobStatus(StrEnum):
    """How far a job has come. An unknown word counts as running: the caller waits for a limited time."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


# PingOne prints DONE and FAILED; its sibling product says `failure`.
_ENDED = {"DONE": JobStatus.DONE, "FAILED": JobStatus.FAILED, "FAILURE": JobStatus.FAILED}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token to import. `row_number` is its row in the file."""

    serial_number: str
    seed: Seed
    row_number: int


@dataclass(frozen=True)
class ImportJob:
    """A job on the inventory, of either kind. None: not known. DONE does not mean that all tokens were made. Existing
    ones stay unchanged, and are named in `duplicates`, except those with an unreadable serial number, so that `created`
    and `duplicates` do not add up."""

    id: str
    state: JobStatus
    answer: Answer
    created: int | None = None
    # Their serial numbers.
    duplicates: tuple[str, ...] = ()
    revoked: int | None = None
    # Why a job failed: short printable text without secrets.
    reason: str | None = None

    @property
    def has_made_nothing(self) -> bool:
        """Whether an import made no token, and none existed: it was refused, whatever its status says."""
        return self.state is JobStatus.FAILED or (self.created == 0 and not self.duplicates)


def build_import_request(environment: Environment, tokens: Sequence[NewToken]) -> Request:
    """Build the request that imports tokens. Raises ValueError for an empty list, a missing serial number, or a
    repeated one: what PingOne does with those is not published.
    https://developer.pingidentity.com/pingone-api/mfa/oath-tokens/create_multiple_oath_tokens.html"""
    _check_list([token.serial_number for token in tokens])
    fields = {"type": "CREATE_OATH_TOKENS", "tokens": [_describe_token(token) for token in tokens]}
    return _build_request(environment, IMPORT_MEDIA_TYPE, fields)


def build_revocation_request(environment: Environment, token_ids: Sequence[str]) -> Request:
    """Build the request that revokes unpaired tokens; it unpairs none. Raises ValueError for an empty list, and for an
    empty or repeated id. https://developer.pingidentity.com/pingone-api/mfa/oath-tokens.html"""
    _check_list(token_ids)
    fields = {"type": "REVOKE_OATH_TOKENS", "async": True, "forceUnpair": False, "tokenIds": list(token_ids)}
    return _build_request(environment, REVOCATION_MEDIA_TYPE, fields)


def parse_started_job(envelope: Envelope, *, count: int) -> str:
    """Read the id of the job that was started for a list of this many tokens: from the body, or else from the end of
    the `Location`. Raises OutcomeUnknown if there is no id: the caller then looks for the tokens. Whether the answer is
    201 or 202 is not published."""
    if not envelope.is_success:
        raise choose_list_error(envelope, count)
    answered_id = envelope.fields.get("id")
    job_id = read_plain_id(answered_id) if answered_id else _find_id_in_location(envelope)
    if job_id is None:
        raise OutcomeUnknown(replace(envelope.answer, message="no readable job id in the answer"))
    return job_id


def parse_job(envelope: Envelope, *, job_id: str) -> ImportJob:
    """Read how far the job with this id has come. Raises NotFound for a job that PingOne has deleted, as it does with
    ended jobs."""
    fields = envelope.fields
    answered_id, word = fields.get("id"), read_word(fields.get("status"))
    if not envelope.is_success or (word is None and not isinstance(answered_id, str)):
        raise choose_error(envelope)
    if isinstance(answered_id, str) and answered_id.lower() != job_id.lower():
        raise OtherDevice(replace(envelope.answer, message="the answer is about another job"))
    return ImportJob(
        id=job_id,
        state=_ENDED.get((word or "").upper(), JobStatus.RUNNING),
        answer=envelope.answer,
        created=read_count(find_part(fields, "result", "created")),
        duplicates=_read_duplicates(find_part(fields, "result", "duplicates")),
        revoked=read_count(find_part(fields, "result", "revoked")),
        reason=make_printable(fields.get("reason")) or make_printable(find_part(fields, "result", "reason")),
    )


def _check_list(names: Sequence[str]) -> None:
    if not names or not all(names):
        raise ValueError("no token, or one without a name")
    if len(set(names)) < len(names):
        raise ValueError("the same token twice")


def _describe_token(token: NewToken) -> dict[str, Any]:
    """Describe a token in PingOne's words. Its secret is in hexadecimal."""
    seed = token.seed
    return {
        "serialNumber": token.serial_number,
        "secret": seed.secret.reveal().hex().upper(),
        "type": seed.otp_type.upper(),
        "otpLength": seed.digits,
        "hashAlgorithm": _HASH_WORDS[seed.hash_algorithm],
        "rowNumber": token.row_number,
        **({"totp": {"timeStep": seed.time_step}} if seed.time_step else {"hotp": {"counter": seed.counter}}),
    }


def _build_request(environment: Environment, media_type: str, fields: dict[str, Any]) -> Request:
    return Request(
        "POST", build_url(environment, "oathJobs"), {"Content-Type": media_type}, json.dumps(fields).encode()
    )


def _find_id_in_location(envelope: Envelope) -> str | None:
    try:
        path = urlsplit(envelope.headers.get("location", "")).path
    except ValueError:
        return None
    found = _JOB_PATH.search(path)
    return read_plain_id(found[1]) if found else None


def _read_duplicates(value: object) -> tuple[str, ...]:
    """Read the serial numbers of duplicates, but not their secrets."""
    listed = value if isinstance(value, list) else []
    return tuple(filter(None, (read_id(find_part(token, "serialNumber")) for token in listed)))


# What a refusal is about: a place in the list, a field there, or both, such as `tokens[7].secret`.
_TARGET = re.compile(
    r"token(?:s|Ids)(?:[\[.]([0-9]{1,6})\]?)?(?:\.([A-Za-z][A-Za-z.]{0,60}))?"
    r"|(serialNumber|secret|otpLength|hashAlgorithm|rowNumber|(?:hotp\.)?counter|(?:totp\.)?timeStep)"
)


def choose_list_error(envelope: Envelope, count: int) -> PingOneError:
    """Choose the error for an answer that started no job for a list of this many tokens."""
    error, answer = choose_error(envelope), envelope.answer
    if answer.status == 413:
        # A proxy can answer this too: it refuses a request of this length, and passes nothing on.
        return TooManyTokens(answer)
    if not isinstance(error, Rejected):
        return error
    if "LIMIT_EXCEEDED" in envelope.codes:
        return InventoryFull(answer)
    if "UNIQUENESS_VIOLATION" in envelope.codes:
        return AlreadyImported(answer)
    targets = [target for detail in envelope.details if isinstance(target := detail.get("target"), str)]
    matches = [match for target in targets if (match := _TARGET.fullmatch(target))]
    found = next((match for match in matches if match[1]), matches[0] if matches else None)
    index, field = (found[1], found[2] or found[3]) if found else (None, None)
    if "SIZE_LIMIT_EXCEEDED" in envelope.codes and index is None and field is None:
        return TooManyTokens(answer)
    place = int(index) if index is not None and int(index) < count else None
    return BadToken(answer, place, field) if found else error
