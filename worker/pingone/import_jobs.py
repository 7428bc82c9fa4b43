"""Jobs on the inventory: many tokens imported, or revoked, with one request. Builds the requests, and reads what became
of the job. Pure.

https://developer.pingidentity.com/pingone-api/mfa/oath-tokens.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from worker.config.environment import Environment
from worker.pingone.addresses import build_url
from worker.pingone.answer_errors import choose_error
from worker.pingone.envelope import find_header, make_printable, open_envelope, read_word
from worker.pingone.errors import Answer, OtherDevice, OutcomeUnknown
from worker.pingone.json_fields import find_part, read_count, read_id, read_plain_id
from worker.pingone.list_errors import choose_list_error
from worker.pingone.wire import Request, build_headers
from worker.vault.seed import HashAlgorithm, OtpType, Secret

# Both jobs share one path and method: these media types tell them apart.
IMPORT_MEDIA_TYPE = "application/vnd.pingidentity.job.oathtokens.create+json"
REVOCATION_MEDIA_TYPE = "application/vnd.pingidentity.job.oathtokens.revoke+json"

# Our names for PingOne's hash algorithms.
_HASH_WORDS = {"sha1": "HmacSHA1", "sha256": "HmacSHA256", "sha512": "HmacSHA512"}
# How a job's address ends. In its answer about a job PingOne itself writes `jobs`.
_JOB_PATH = re.compile(r"/(?:oathJobs|jobs)/([^/]+)\Z", re.IGNORECASE)


class JobState(StrEnum):
    """How far a job is. Every word that we do not know stands for a job that runs: a time cap is the caller's."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


# PingOne prints DONE and FAILED; its sibling product says `failure`.
_ENDED = {"DONE": JobState.DONE, "FAILED": JobState.FAILED, "FAILURE": JobState.FAILED}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token to be imported. `time_step` is in seconds, None for HOTP; `counter` is None for TOTP, and where PingOne
    is to begin at 0. `row_number` is the row of the file that it stands in."""

    serial_number: str
    secret: Secret
    otp_type: OtpType
    digits: int
    hash_algorithm: HashAlgorithm
    time_step: int | None = None
    counter: int | None = None
    row_number: int


@dataclass(frozen=True)
class ImportJob:
    """A job on the inventory, of either kind. None: not told.

    DONE does not say that all tokens were made. Those that the inventory had already are left as they are there, and
    named in `duplicates`; what cannot be read there is missing, and `created` and `duplicates` do not add up."""

    id: str
    state: JobState
    answer: Answer
    created: int | None = None
    # Their serial numbers.
    duplicates: tuple[str, ...] = ()
    revoked: int | None = None
    # Why a job failed: short printable text without secrets.
    reason: str | None = None

    @property
    def has_made_nothing(self) -> bool:
        """Whether an import made no token, and none of them was there: it was refused, whatever its status says."""
        return self.state is JobState.FAILED or (self.created == 0 and not self.duplicates)


def build_import_request(
    environment: Environment, tokens: Sequence[NewToken], *, session_id: str, transaction_id: str
) -> Request:
    """Build the request that imports tokens. Raises ValueError if there is none, if one has no serial number, and if
    two have the same: what PingOne makes of those is not published.
    https://developer.pingidentity.com/pingone-api/mfa/oath-tokens/create_multiple_oath_tokens.html"""
    _check_list([token.serial_number for token in tokens])
    fields = {"type": "CREATE_OATH_TOKENS", "tokens": [_describe_token(token) for token in tokens]}
    return _build_request(environment, IMPORT_MEDIA_TYPE, fields, session_id, transaction_id)


def build_revocation_request(
    environment: Environment, token_ids: Sequence[str], *, session_id: str, transaction_id: str
) -> Request:
    """Build the request that revokes tokens that are not paired: none is unpaired by it. Raises ValueError if there is
    no id, an empty one, or one twice.
    https://developer.pingidentity.com/pingone-api/mfa/oath-tokens.html"""
    _check_list(token_ids)
    fields = {"type": "REVOKE_OATH_TOKENS", "async": True, "forceUnpair": False, "tokenIds": list(token_ids)}
    return _build_request(environment, REVOCATION_MEDIA_TYPE, fields, session_id, transaction_id)


def build_job_url(environment: Environment, job_id: str) -> str:
    """Build the address of a job. PingOne's own link to it leads to another path, and is not followed. Raises
    ValueError for an empty id."""
    return build_url(environment, "oathJobs", job_id)


def parse_started_job(status: int, headers: Mapping[str, str], body: bytes, *, count: int) -> str:
    """Read the id of the job that was started for a list of so many tokens: from the body, or else from the end of the
    `Location`. Raises OutcomeUnknown where there is none: the tokens have to be looked for.

    Whether it is answered with 201 or 202 is not published."""
    envelope = open_envelope(status, headers, body)
    if not 200 <= status < 300:
        raise choose_list_error(envelope, count)
    told = (envelope.fields or {}).get("id")
    job_id = read_plain_id(told) if told else _find_id_in_location(headers)
    if job_id is None:
        raise OutcomeUnknown(replace(envelope.answer, message="no readable id of a job in the answer"))
    return job_id


def parse_job(status: int, headers: Mapping[str, str], body: bytes, *, job_id: str) -> ImportJob:
    """Read from an answer how far the job with this id is. Raises NotFound for a job that PingOne has cleaned up, as it
    does with those that ended."""
    envelope = open_envelope(status, headers, body)
    fields = envelope.fields or {}
    told, word = fields.get("id"), read_word(fields.get("status"))
    if not 200 <= status < 300 or (word is None and not isinstance(told, str)):
        raise choose_error(envelope)
    if isinstance(told, str) and told.lower() != job_id.lower():
        raise OtherDevice(replace(envelope.answer, message="the answer is about another job"))
    return ImportJob(
        id=job_id,
        state=_ENDED.get((word or "").upper(), JobState.RUNNING),
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
    described: dict[str, Any] = {
        "serialNumber": token.serial_number,
        "secret": token.secret.reveal().hex().upper(),
        "type": token.otp_type.upper(),
        "otpLength": token.digits,
        "hashAlgorithm": _HASH_WORDS[token.hash_algorithm],
        "rowNumber": token.row_number,
    }
    if token.otp_type == "totp":
        described["totp"] = {"timeStep": token.time_step}
    elif token.counter is not None:
        described["hotp"] = {"counter": token.counter}
    return described


def _build_request(
    environment: Environment, media_type: str, fields: dict[str, Any], session_id: str, transaction_id: str
) -> Request:
    headers = build_headers(session_id, transaction_id) | {"Content-Type": media_type}
    return Request("POST", build_url(environment, "oathJobs"), headers, json.dumps(fields).encode())


def _find_id_in_location(headers: Mapping[str, str]) -> str | None:
    try:
        path = urlsplit(find_header(headers, "location") or "").path
    except ValueError:
        return None
    found = _JOB_PATH.search(path)
    return read_plain_id(found[1]) if found else None


def _read_duplicates(value: object) -> tuple[str, ...]:
    """Read the serial numbers of duplicates. What PingOne shows of their secrets is left where it is."""
    listed = value if isinstance(value, list) else []
    return tuple(filter(None, (read_id(find_part(each, "serialNumber")) for each in listed)))
