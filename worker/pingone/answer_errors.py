"""Which error an answer stands for that is not the one hoped for."""

from __future__ import annotations

from worker.pingone.envelope import EXTRA_OTP_REQUIRED, INVALID_OTP, Envelope
from worker.pingone.errors import (
    Forbidden,
    InvalidOtp,
    NotFound,
    OutcomeUnknown,
    PingOneError,
    ProtocolFault,
    RateLimited,
    ResyncRequired,
    Unauthorized,
)
from worker.pingone.refusals import Rejected


def choose_error(envelope: Envelope) -> PingOneError:
    """Choose the error for an answer that is not the one hoped for. Codes come before the status, which the vendor may
    change inside its class:
    https://developer.pingidentity.com/pingone-api/platform/reference/error-codes.html"""
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
        # A proxy's or gateway's page says nothing of the device or of our roles: it is an outage.
        return OutcomeUnknown(answer, envelope.retry_after)
    if error := _choose_access_error(status, codes):
        return error(answer)
    if status == 404 or "NOT_FOUND" in codes:
        return NotFound(answer)
    if status in (405, 415):
        return ProtocolFault(answer)
    # A body that we cannot read may have said EXTRA_OTP_REQUIRED.
    return OutcomeUnknown(answer) if envelope.fields is None else Rejected(answer)


def _choose_access_error(status: int, codes: frozenset[str]) -> type[Unauthorized] | type[Forbidden] | None:
    """Choose the error for a refused access token, or for a missing role; None for anything else. 401 and 403 share
    ACCESS_FAILED and INSUFFICIENT_PERMISSIONS: there the status tells which one is meant."""
    if "INVALID_TOKEN" in codes:
        return Unauthorized
    if "LICENSE_EXCEEDED" in codes or status == 403:
        return Forbidden
    if status == 401:
        return Unauthorized
    return Forbidden if codes & {"ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS"} else None
