"""Why the fleet holds after a failed call, in a sentence for a person. Pure."""

from __future__ import annotations

import math

from worker.pingone.errors import NotDelivered, OutcomeUnknown, RateLimited


def explain_hold(failure: NotDelivered | OutcomeUnknown | RateLimited) -> str:
    """Say why the fleet holds after this failure, as in `PingOne answered 503 and asks for 120 s`."""
    status = failure.answer.status
    if status is None:
        return "PingOne cannot be reached"
    who = "the token endpoint" if isinstance(failure, NotDelivered) else "PingOne"
    asked = (
        "does not say for how long" if failure.retry_after is None else f"asks for {math.ceil(failure.retry_after)} s"
    )
    return f"{who} answered {status} and {asked}"
