"""Calls of an attempt, for tests that settle one without making any."""

from typing import Any

from models.attempt import CallName, PastCall
from worker.leases.lease import CallSummary
from worker.pingone.errors import Answer


def called(requests: int = 0, rate_limited: int = 0, answer: Answer | None = None, seconds: float = 0.0) -> CallSummary:
    """Make the summary of so many calls, of which the first were answered 429 and the last with `answer`; the first
    took all the `seconds`."""
    calls: list[dict[str, Any]] = [{"call": CallName.OTP1, "resync": False, "milliseconds": 0} for _ in range(requests)]
    for call in calls[:rate_limited]:
        call["status"] = 429
    if calls:
        calls[0]["milliseconds"] = round(seconds * 1000)
        calls[-1] |= write_answer(answer) if answer else {}
    return CallSummary(calls)


def write_answer(answer: Answer) -> PastCall:
    """Write the parts of an answer that a call of the history keeps."""
    parts = {name: getattr(answer, name) for name in ("status", "code", "detail_code", "error_id", "correlation_id")}
    return {name: value for name, value in parts.items() if value is not None}
