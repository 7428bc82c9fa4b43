"""When a batch must stop by itself: what went wrong lately is no accident of single records. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.reason import PAUSE_CURES, PauseReason, Reason

# How many of the latest final records are looked at.
LATEST = 100
# Attempts in a row without a usable answer that say, while probing, that the outage lasts.
STILL_OUT_IN_A_ROW = 2
# Records that may be in the window while probing.
PROBES = 2
# Seconds until the first probe, and at most.
FIRST_PROBE = 15.0
LONGEST_PROBE = 300.0

_REFUSED = frozenset({Reason.INVALID_OTP, Reason.RESYNC_FAILED})
_NO_ANSWER = frozenset({"outcome_unknown", "not_delivered"})
# A hold says nothing of whether the service answers, nor does a database that was away.
_SAYS_NOTHING = frozenset({"hold", "not_permitted", "database"})
# What a settled record's reason must be for it to be worth asking.
WATCHED_REASONS = _REFUSED | {Reason.FORBIDDEN}
WATCHED_FAILURES = _NO_ANSWER


@dataclass(frozen=True, slots=True)
class Thresholds:
    """`forbidden` records in a row are a missing role, not a user in another population. `refused` OTPs, being
    `refused_share` of the latest records, are a wrong file and not worn buttons. `unanswered` attempts in a row are an
    outage."""

    forbidden: int = 10
    refused: int = 20
    refused_share: float = 0.5
    unanswered: int = 20


@dataclass(frozen=True, slots=True)
class Trip:
    """Why a batch is to pause, in a word and in a sentence with the cure."""

    reason: PauseReason
    detail: str


def judge(latest: Sequence[str | None], thresholds: Thresholds) -> Trip | None:
    """Whether to pause, from the latest final records, the newest first: their reasons, None for an active one."""
    newest = latest[: thresholds.forbidden]
    if len(newest) == thresholds.forbidden and set(newest) == {Reason.FORBIDDEN}:
        return Trip(PauseReason.PERMISSIONS, PAUSE_CURES[PauseReason.PERMISSIONS])
    refused = sum(reason in _REFUSED for reason in latest)
    if refused >= thresholds.refused and refused >= thresholds.refused_share * len(latest):
        cure = PAUSE_CURES[PauseReason.INVALID_OTPS]
        return Trip(
            PauseReason.INVALID_OTPS, f"{refused} of the last {len(latest)} tokens had their OTP refused. {cure}"
        )
    return None


def is_out(latest: Sequence[str | None], thresholds: Thresholds, *, is_probing: bool) -> bool:
    """Whether PingOne is out, from what stood in the way of the latest attempts, the newest first."""
    telling = [reason for reason in latest if reason not in _SAYS_NOTHING]
    needed = STILL_OUT_IN_A_ROW if is_probing else thresholds.unanswered
    return len(telling) >= needed and set(telling[:needed]) <= _NO_ANSWER


def is_back(latest: Sequence[str | None]) -> bool:
    """Whether any attempt since the probe began was answered."""
    return any(reason not in _NO_ANSWER | _SAYS_NOTHING for reason in latest)


def probe_delay(outages: int) -> float:
    """Seconds until the next probe, after so many outages in a row."""
    return float(min(LONGEST_PROBE, FIRST_PROBE * 2 ** min(outages, 10)))
