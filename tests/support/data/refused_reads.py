"""Recorded answers that any read may get in place of its result, and the error that each of them stands for."""

from __future__ import annotations

from worker.pingone.errors import (
    Forbidden,
    NotFound,
    OutcomeUnknown,
    PingOneError,
    ProtocolFault,
    RateLimited,
    Unauthorized,
)

REFUSED_READS: dict[str, type[PingOneError]] = {
    "activation/insufficient_permissions": Forbidden,
    "activation/license_exceeded": Forbidden,
    "activation/access_failed_as_400": Forbidden,
    "activation/forbidden_without_correlation_id": Forbidden,
    "activation/forbidden_by_proxy": OutcomeUnknown,
    "activation/invalid_access_token": Unauthorized,
    "activation/not_found": NotFound,
    "activation/not_found_without_a_body": NotFound,
    "activation/not_found_by_proxy": OutcomeUnknown,
    "activation/wrong_method": ProtocolFault,
    "activation/rate_limited_for_seconds": RateLimited,
    "activation/rate_limited_by_proxy": RateLimited,
    "activation/rate_limited_as_400": RateLimited,
    "activation/quota_exceeded": RateLimited,
    "activation/unexpected_error": OutcomeUnknown,
    "activation/bad_gateway": OutcomeUnknown,
    "activation/unavailable": OutcomeUnknown,
    "activation/redirect": OutcomeUnknown,
    "activation/no_content": OutcomeUnknown,
    "activation/empty_200": OutcomeUnknown,
    "activation/captive_portal": OutcomeUnknown,
    "activation/half_a_body": OutcomeUnknown,
    "activation/not_utf8": OutcomeUnknown,
    "activation/deep_json": OutcomeUnknown,
    "activation/a_list": OutcomeUnknown,
}
