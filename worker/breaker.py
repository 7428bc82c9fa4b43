"""When a batch must stop by itself: what went wrong lately is no accident of single records. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from models.reason import PauseReason, Reason

# How many of the latest final records are looked at.
LATEST = 100
# So many records in a row that PingOne forbids are a missing role, not a user in another population.
FORBIDDEN_IN_A_ROW = 10
# So many refused OTPs, being so large a share of the latest records, are a wrong file and not worn buttons.
REFUSED_AT_LEAST = 20
REFUSED_SHARE = 0.5

_REFUSED = frozenset({Reason.INVALID_OTP, Reason.RESYNC_FAILED})
WATCHED = _REFUSED | {Reason.FORBIDDEN}


def judge(latest: Sequence[str | None]) -> PauseReason | None:
    """Whether to pause, from the latest final records, the newest first: their reasons, None for an active one."""
    if len(latest) >= FORBIDDEN_IN_A_ROW and set(latest[:FORBIDDEN_IN_A_ROW]) == {Reason.FORBIDDEN}:
        return PauseReason.PERMISSIONS
    refused = sum(reason in _REFUSED for reason in latest)
    if refused >= REFUSED_AT_LEAST and refused >= REFUSED_SHARE * len(latest):
        return PauseReason.INVALID_OTPS
    return None
